//! What a seed decides before its run begins: the broker's settings, which operations clients use
//! and how, and which faults there are.
//!
//! A run with everything in it finds less than many runs that each leave something out: a fault that
//! ends each run early hides what lies behind it, and deletes hide what only a full queue shows. So
//! each seed turns a random part of the operations and faults off, and draws rates and sizes over
//! wide ranges.

use crate::journal::{Durability, LOG_SEGMENTS_MIN};

use super::moving::{self, MovingPlan};
use super::random::Random;

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000 * MS;

/// How long a request may take at most where disks, threads and networks may take long.
const PATIENCE_NS: u64 = 300 * SECOND;

/// How long one may take where nothing does, and one is asked at a time. A shard looks up by itself after
/// a tenth of a second, when its log has been idle, and once a second where it has a connection.
const PATIENCE_WHEN_QUICK_NS: u64 = 50 * MS;

/// How often a request may meet a shard that gathers, on its way between shards.
const STEPS_OF_A_REQUEST_MAX: u64 = 12;

/// How long shards let requests come together, in seeds where they do: so many steps at most, which is as long as a
/// broker may be told to.
const GATHER_STEPS_MAX: u64 = 200;

/// See above.
const GATHER_STEP_NS: u64 = 50_000;

/// The same where nothing takes long.
const GATHER_NS_MAX_WHEN_QUICK: u64 = MS;

/// How long shards stay awake at most, in seeds where they do.
const BUSY_POLL_NS_MAX: u64 = MS / 2;

/// The least room that the disk has, in segments.
const DISK_SEGMENTS_MIN: u64 = LOG_SEGMENTS_MIN;

/// Mean time between two crashes of a kind where room on the disk is short.
const STARTS_APART_WHEN_SHORT_NS: u64 = 20 * SECOND;

/// How the broker is set up.
#[derive(Debug, Clone)]
pub struct BrokerPlan {
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Size of a segment.
    pub segment_bytes: u32,
    /// How much of the log stays in memory.
    pub hot_bytes_max: u64,
    /// The most that the log may take on disk, where the disk is not the bound.
    pub log_bytes_max: Option<u64>,
    /// The log may grow to this multiple of its live bytes …
    pub growth_factor: u32,
    /// … and this much beyond before it is cleaned.
    pub growth_base_bytes: u64,
    /// How much of a cold segment is read at once.
    pub cold_window_bytes: u32,
    /// How much of what was read is kept.
    pub cold_bytes_max: u64,
    /// How far the log runs ahead of the disk before input waits.
    pub unwritten_bytes_max: u64,
    /// How many messages of a queue may be in flight.
    pub in_flight_max: u32,
    /// As in [`crate::shard::ShardOptions`].
    pub requests_out_max: u32,
    /// Whether a second purge and a queue's second life have to wait a minute.
    pub minute_rules: bool,
    /// As in [`crate::shard::ShardOptions`]; at most one of them is not 0.
    pub gather_ns: u64,
    /// See `gather_ns`.
    pub busy_poll_ns: u64,
}

/// How likely clients choose each operation, against the others.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    /// Sends, of 1 to 10 messages.
    pub send: u32,
    /// Receives that do not wait.
    pub receive: u32,
    /// Receives that do.
    pub long_poll: u32,
    /// Deletes of messages held.
    pub delete: u32,
    /// Deletes of messages deleted before.
    pub delete_again: u32,
    /// Changes of visibility.
    pub change_visibility: u32,
    /// Looks at messages.
    pub peek: u32,
    /// Purges.
    pub purge: u32,
    /// Deletions of whole queues.
    pub delete_queue: u32,
    /// Changes of a queue's attributes.
    pub set_attributes: u32,
    /// Reads of a queue's attributes and counts.
    pub get_attributes: u32,
    /// Lists of queues.
    pub list_queues: u32,
    /// Bytes that are no request.
    pub garbage: u32,
}

/// What clients do.
#[derive(Debug, Clone)]
pub struct ClientPlan {
    /// How many there are.
    pub clients: usize,
    /// How many queues they share.
    pub queues: usize,
    /// Whether every other queue is a FIFO queue.
    pub fifo: bool,
    /// Whether the first client takes no messages: its sends may wait for room.
    pub first_only_sends: bool,
    /// How many requests they make in all before the world calms down.
    pub requests: u64,
    /// Mean time between two requests of a client.
    pub think_ns: u64,
    /// Most requests of a client under way.
    pub pipeline: usize,
    /// Whether queues have dead-letter queues, and what is done with these.
    pub moving: Option<MovingPlan>,
    /// What they do.
    pub operations: Operations,
    /// Largest body.
    pub body_bytes_max: u64,
    /// Largest delay of a message, in seconds; 0: none has one.
    pub delay_seconds_max: u64,
    /// Largest visibility timeout.
    pub visibility_seconds_max: u64,
    /// Longest wait of a long poll.
    pub wait_ms_max: u64,
    /// Largest retention period of a queue, in seconds; 60 is the least there is.
    pub retention_seconds_max: u64,
    /// Largest reply that some receives ask for; `None`: they leave it to the broker.
    pub reply_bytes_max: Option<u64>,
    /// Whether a queue is left alone by purges once one of them was cut short, so that what came of it
    /// can be seen.
    pub spares_cut_purges: bool,
    /// How long a request may take beyond its own wait, before the world calms down.
    pub patience_ns: u64,
}

/// What goes wrong, as mean times between two of a kind; 0: never.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The process is killed.
    pub kill_ns: u64,
    /// The machine loses power.
    pub power_cut_ns: u64,
    /// The broker is asked to stop, and started again.
    pub stop_ns: u64,
    /// A write or sync fails: once in so many, 0: never.
    pub failed_writes: u64,
    /// A read fails: once in so many, 0: never. The next one of the same place does not …
    pub failed_reads: u64,
    /// … but once in so many failed reads a place is lost for ever; 0: never.
    pub lost_places: u64,
    /// The disk takes long for one operation: once in so many, 0: never.
    pub slow_operations: u64,
    /// How long such an operation takes at most.
    pub slow_ns_max: u64,
    /// The disk is full for a while.
    pub full_disk_ns: u64,
    /// A bit of a sealed segment flips.
    pub rot_ns: u64,
    /// A link breaks.
    pub break_ns: u64,
    /// A client stops reading for a while.
    pub slow_reader_ns: u64,
    /// The wall clock jumps.
    pub wall_jump_ns: u64,
    /// How far it jumps at most, either way.
    pub wall_jump_ms_max: u64,
    /// The shard's thread does not run for a while.
    pub pause_ns: u64,
    /// How long it does not.
    pub pause_ns_max: u64,
}

/// All that a seed decides beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many shards the broker has.
    pub shards: u16,
    /// How long a parcel between shards travels at most.
    pub mesh_ns_max: u64,
    /// The broker's settings.
    pub broker: BrokerPlan,
    /// The clients' habits.
    pub clients: ClientPlan,
    /// The faults.
    pub faults: Faults,
    /// Room on the disk when it is not full.
    pub disk_bytes: u64,
    /// How long a disk operation takes, mostly.
    pub disk_ns: u64,
    /// How long a piece of bytes travels at most.
    pub travel_ns_max: u64,
    /// The largest piece that bytes travel in.
    pub piece_bytes_max: u64,
    /// How many events a turn is given at most.
    pub events_a_turn_max: u64,
}

impl Plan {
    /// What a seed decides.
    pub fn draw(random: &mut Random) -> Self {
        let durability = match random.below(10) {
            0 => Durability::Memory,
            1 | 2 => Durability::Async,
            _ => Durability::Fsync,
        };
        let mut broker = draw_broker(random, durability);
        let mut clients = draw_clients(random);
        // In the others a seed decides what it always has.
        clients.fifo = clients.think_ns.is_multiple_of(3);
        clients.first_only_sends = clients.clients > 1 && clients.think_ns % 4 == 1;
        let mut faults = draw_faults(random, durability);
        let mut shards = if random.chance(1, 2) { 1 } else { random.between(2, 5) as u16 };
        set_theme(random, &mut shards, &mut broker, &mut clients, &mut faults);
        let disk_bytes = if random.chance(1, 3) {
            u64::from(broker.segment_bytes) * random.between(DISK_SEGMENTS_MIN, 24)
        } else {
            1 << 30
        };
        if broker.log_bytes_max.is_some() || disk_bytes < 1 << 30 || faults.full_disk_ns > 0 {
            // Each start takes a segment of its own, and cleaning needs time to give one back.
            for mean_ns in [&mut faults.kill_ns, &mut faults.power_cut_ns, &mut faults.stop_ns] {
                if *mean_ns > 0 {
                    *mean_ns = (*mean_ns).max(STARTS_APART_WHEN_SHORT_NS);
                }
            }
        }
        let mut plan = Self {
            shards,
            mesh_ns_max: random.skewed(1_000, 5 * MS),
            broker,
            clients,
            faults,
            disk_bytes,
            disk_ns: random.skewed(20_000, 5 * MS),
            travel_ns_max: random.skewed(10_000, 20 * MS),
            piece_bytes_max: random.skewed(1, 64 << 10).max(8),
            events_a_turn_max: random.skewed(1, 64),
        };
        draw_pauses(random, &mut plan.broker);
        if plan.clients.patience_ns < PATIENCE_NS {
            plan.be_quick();
        }
        plan
    }

    /// Nothing takes long.
    fn be_quick(&mut self) {
        self.disk_bytes = 1 << 30;
        self.mesh_ns_max = self.mesh_ns_max.clamp(50_000, 200_000);
        self.disk_ns = self.disk_ns.min(100_000);
        self.travel_ns_max = self.travel_ns_max.min(50_000);
        self.piece_bytes_max = 64 << 10;
        self.events_a_turn_max = 64;
        self.broker.gather_ns = self.broker.gather_ns.min(GATHER_NS_MAX_WHEN_QUICK);
        self.clients.patience_ns += STEPS_OF_A_REQUEST_MAX * self.broker.gather_ns;
    }

    /// How long what one shard says to another takes to be heard at most, where nothing goes wrong.
    pub fn heard_ns_max(&self) -> u64 {
        self.mesh_ns_max + self.broker.gather_ns
    }
}

/// Some seeds look for what a run at random comes across too seldom.
fn set_theme(
    random: &mut Random,
    shards: &mut u16,
    broker: &mut BrokerPlan,
    clients: &mut ClientPlan,
    faults: &mut Faults,
) {
    let has_files = broker.durability != Durability::Memory;
    match random.below(17) {
        // Messages expire while clients receive, and the shard does not always run in time.
        0 | 1 => {
            clients.retention_seconds_max = 60;
            clients.visibility_seconds_max = 2;
            clients.requests = 1_000;
            clients.think_ns = 150 * MS * clients.clients as u64;
            clients.operations.delete = 1;
            clients.operations.receive = 30;
            clients.operations.purge = 0;
            clients.operations.delete_queue = 0;
            faults.wall_jump_ns = 0;
            faults.pause_ns = SECOND / 2;
            faults.pause_ns_max = SECOND;
        }
        // The disk takes longer than messages are hidden.
        2 | 3 if has_files => {
            clients.visibility_seconds_max = 1;
            clients.wait_ms_max = 20_000;
            clients.operations.receive = 40;
            clients.operations.long_poll = 40;
            clients.operations.delete = 5;
            clients.operations.change_visibility = 0;
            clients.think_ns = clients.think_ns.clamp(20 * MS, 100 * MS);
            clients.clients = clients.clients.max(3);
            clients.pipeline = clients.pipeline.max(6);
            clients.delay_seconds_max = 0;
            *faults = Faults {
                slow_operations: random.between(4, 20),
                slow_ns_max: 6 * SECOND,
                ..Faults::default()
            };
        }
        // Bodies leave memory, and rot before they are read or cannot be.
        theme @ (4 | 5) if has_files => {
            broker.hot_bytes_max = u64::from(broker.segment_bytes);
            broker.growth_factor = 4;
            clients.body_bytes_max = 8_000;
            clients.operations.delete = 2;
            clients.operations.purge = 0;
            clients.operations.delete_queue = 0;
            clients.requests = clients.requests.max(400);
            clients.retention_seconds_max = 345_600;
            if theme == 4 {
                faults.rot_ns = random.skewed(50 * MS, 2 * SECOND);
            } else {
                faults.rot_ns = 0;
                faults.failed_reads = random.between(2, 20);
                faults.lost_places = *random.pick(&[0, 3]);
            }
            faults.kill_ns = 0;
            faults.power_cut_ns = if random.chance(1, 2) { 0 } else { 5 * SECOND };
        }
        // Messages lie on one shard and consumers wait on another, and nothing else goes wrong.
        6..=8 => {
            *shards = random.between(2, 5) as u16;
            *faults = Faults::default();
            broker.in_flight_max = 120_000;
            broker.log_bytes_max = None;
            clients.delay_seconds_max = 0;
            clients.clients = clients.clients.max(4);
            clients.queues = clients.queues.min(2);
            clients.think_ns = clients.think_ns.clamp(5 * MS, 100 * MS);
            clients.operations.send = clients.operations.send.min(20);
            clients.operations.receive = *random.pick(&[0, 5, 40]);
            clients.operations.long_poll = *random.pick(&[0, 20, 60]);
            clients.wait_ms_max = *random.pick(&[1_000, 5_000]);
            if random.chance(1, 3) {
                // Little happens, so that a shard that sleeps is not woken by something else.
                clients.think_ns = random.between(200 * MS, SECOND);
                clients.requests = clients.requests.min(300);
                clients.clients = 3;
            }
        }
        // Processes end while purges are on their way from shard to shard.
        9 if has_files => {
            *shards = random.between(2, 5) as u16;
            *faults = Faults {
                kill_ns: random.between(200 * MS, SECOND),
                slow_operations: 3,
                slow_ns_max: 200 * MS,
                ..Faults::default()
            };
            broker.minute_rules = false;
            broker.log_bytes_max = None;
            clients.queues = clients.queues.min(2);
            clients.clients = clients.clients.max(3);
            clients.requests = clients.requests.max(400);
            clients.think_ns = clients.think_ns.clamp(5 * MS, 50 * MS);
            clients.delay_seconds_max = 0;
            clients.body_bytes_max = 64;
            clients.retention_seconds_max = 345_600;
            clients.operations.delete = 1;
            clients.operations.delete_queue = 0;
            clients.operations.purge = 4;
            clients.operations.send = 60;
            clients.fifo = false;
            clients.spares_cut_purges = true;
        }
        // Messages move between queues and shards, and processes end meanwhile.
        10..=12 if has_files => moving::set_theme(random, shards, broker, clients, faults),
        // One client asks one thing at a time, so that a shard which sleeps through it is woken by nothing
        // else.
        13 => {
            *shards = random.between(3, 5) as u16;
            *faults = Faults::default();
            broker.log_bytes_max = None;
            clients.clients = 1;
            clients.pipeline = 1;
            clients.requests = 300;
            clients.think_ns = random.skewed(50_000, MS);
            clients.patience_ns = PATIENCE_WHEN_QUICK_NS;
            clients.delay_seconds_max = 0;
            clients.operations.get_attributes = 60;
            clients.operations.garbage = 0;
        }
        // Receives come while some of a group's messages are in flight and others were deleted.
        14 => {
            *faults = Faults::default();
            clients.fifo = true;
            clients.clients = clients.clients.max(2);
            clients.queues = clients.queues.max(2);
            clients.requests = clients.requests.max(400);
            clients.visibility_seconds_max = 60;
            clients.delay_seconds_max = 0;
            clients.body_bytes_max = 64;
            clients.reply_bytes_max = None;
            clients.operations.send = 20;
            clients.operations.receive = 40;
            clients.operations.delete = 20;
            clients.operations.purge = 0;
            clients.operations.delete_queue = 0;
        }
        // Processes stop in good order, and the wall clock jumps meanwhile; shards that were not stopped in
        // the same millisecond hear of one another's times.
        15 if has_files => {
            *shards = *random.pick(&[1, 2, 3]);
            clients.operations.set_attributes = clients.operations.set_attributes.max(10);
            clients.operations.receive = clients.operations.receive.max(30);
            clients.operations.delete = 1;
            clients.operations.purge = 0;
            clients.operations.delete_queue = 0;
            clients.operations.change_visibility = 0;
            clients.visibility_seconds_max = 3;
            clients.clients = clients.clients.max(3);
            clients.requests = clients.requests.max(400);
            clients.think_ns = clients.think_ns.clamp(5 * MS, 50 * MS);
            if random.chance(1, 2) {
                broker.durability = Durability::Async;
            }
            broker.log_bytes_max = None;
            faults.full_disk_ns = 0;
            faults.stop_ns = random.between(300 * MS, 3 * SECOND);
            faults.wall_jump_ns = 4 * SECOND;
            faults.wall_jump_ms_max = 10 * 3600 * 1000;
            faults.slow_operations = 5;
            faults.slow_ns_max = 500 * MS;
        }
        // The power fails while queues come and go on several shards.
        16 if has_files && clients.clients > 1 => {
            *shards = random.between(2, 5) as u16;
            *faults = Faults {
                power_cut_ns: random.between(200 * MS, SECOND),
                slow_operations: 4,
                slow_ns_max: 200 * MS,
                ..Faults::default()
            };
            broker.durability = Durability::Async;
            broker.minute_rules = false;
            broker.log_bytes_max = None;
            clients.queues = clients.queues.min(3);
            clients.requests = clients.requests.max(400);
            clients.think_ns = clients.think_ns.clamp(5 * MS, 50 * MS);
            clients.operations.delete_queue = 15;
        }
        _ => {}
    }
}

fn draw_broker(random: &mut Random, durability: Durability) -> BrokerPlan {
    let segment_bytes: u32 = (64 << 10) << random.below(2);
    // Without files this is all the room there is.
    let has_files = durability != Durability::Memory;
    let in_segments = |count: u64| count * u64::from(segment_bytes);
    BrokerPlan {
        durability,
        segment_bytes,
        hot_bytes_max: in_segments(if has_files {
            random.between(1, 6)
        } else {
            random.between(LOG_SEGMENTS_MIN, 24)
        }),
        log_bytes_max: random.chance(1, 4).then(|| in_segments(random.between(LOG_SEGMENTS_MIN, 32))),
        growth_factor: random.between(1, 4) as u32,
        growth_base_bytes: in_segments(random.below(4)),
        cold_window_bytes: 4096 << random.below(5),
        cold_bytes_max: in_segments(random.between(1, 3)),
        unwritten_bytes_max: random.skewed(16 << 10, 4 << 20),
        requests_out_max: if random.chance(1, 4) { random.between(1, 10) as u32 } else { 256 },
        in_flight_max: if random.chance(1, 4) { random.between(1, 50) as u32 } else { 120_000 },
        minute_rules: random.chance(1, 4),
        gather_ns: 0,
        busy_poll_ns: 0,
    }
}

/// How shards pause between turns. Drawn last, so that in other seeds nothing else is as it would not be without.
fn draw_pauses(random: &mut Random, broker: &mut BrokerPlan) {
    match random.below(8) {
        0 | 1 => broker.gather_ns = random.skewed(1, GATHER_STEPS_MAX) * GATHER_STEP_NS,
        2 => broker.busy_poll_ns = random.skewed(BUSY_POLL_NS_MAX / 100, BUSY_POLL_NS_MAX),
        _ => {}
    }
}

fn draw_clients(random: &mut Random) -> ClientPlan {
    let mut weight = |most: u64, off_in_ten: u64| {
        if random.chance(off_in_ten, 10) { 0 } else { random.between(1, most) as u32 }
    };
    let operations = Operations {
        send: weight(60, 0).max(5),
        receive: weight(40, 2),
        long_poll: weight(20, 3),
        delete: weight(60, 2),
        delete_again: weight(20, 3),
        change_visibility: weight(20, 4),
        peek: weight(5, 6),
        purge: weight(2, 7),
        delete_queue: weight(2, 7),
        set_attributes: weight(4, 5),
        get_attributes: weight(5, 4),
        list_queues: weight(2, 6),
        garbage: weight(2, 7),
    };
    ClientPlan {
        clients: random.between(1, 6) as usize,
        queues: random.between(1, 4) as usize,
        requests: random.skewed(50, 1_200),
        fifo: false,
        first_only_sends: false,
        moving: None,
        think_ns: random.skewed(50_000, 500 * MS),
        pipeline: random.skewed(1, 24) as usize,
        operations,
        body_bytes_max: *random.pick(&[64, 64, 300, 2_000, 8_000, 20_000]),
        delay_seconds_max: *random.pick(&[0, 0, 1, 5, 30]),
        visibility_seconds_max: *random.pick(&[1, 2, 10, 60]),
        wait_ms_max: *random.pick(&[200, 2_000, 20_000]),
        retention_seconds_max: *random.pick(&[60, 70, 120, 345_600, 345_600, 345_600]),
        reply_bytes_max: random.chance(1, 4).then(|| random.skewed(1_000, 60_000)),
        spares_cut_purges: false,
        patience_ns: PATIENCE_NS,
    }
}

fn draw_faults(random: &mut Random, durability: Durability) -> Faults {
    if random.chance(1, 10) {
        return Faults::default();
    }
    let mut mean = |on_in_ten: u64, least_ns: u64, most_ns: u64| {
        if random.chance(on_in_ten, 10) { random.skewed(least_ns, most_ns) } else { 0 }
    };
    let has_files = durability != Durability::Memory;
    let when_files = |mean: u64| if has_files { mean } else { 0 };
    Faults {
        kill_ns: when_files(mean(4, 300 * MS, 60 * SECOND)),
        power_cut_ns: when_files(mean(5, 300 * MS, 60 * SECOND)),
        stop_ns: when_files(mean(2, SECOND, 60 * SECOND)),
        failed_writes: mean(2, 20, 1_000),
        failed_reads: 0,
        lost_places: 0,
        slow_operations: mean(4, 5, 500),
        slow_ns_max: mean(10, 5 * MS, 6 * SECOND),
        full_disk_ns: mean(2, 2 * SECOND, 60 * SECOND),
        rot_ns: when_files(mean(2, SECOND, 30 * SECOND)),
        break_ns: mean(4, 200 * MS, 30 * SECOND),
        slow_reader_ns: mean(3, 500 * MS, 30 * SECOND),
        wall_jump_ns: mean(2, SECOND, 60 * SECOND),
        wall_jump_ms_max: mean(10, 10, 3 * 24 * 3600 * 1000),
        pause_ns: mean(3, 100 * MS, 20 * SECOND),
        pause_ns_max: mean(10, MS, 3 * SECOND),
    }
}
