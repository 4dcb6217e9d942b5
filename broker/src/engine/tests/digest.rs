//! What the digest of a state takes in. Whether a replayed log gives the same state is asked of the digest alone, and
//! so nobody would find what it forgets.

use tenpin_protocol::{ContentFields, write_content};

use super::super::move_records::MovingOut;
use super::super::moves::Outgoing;
use super::super::origins::Origin;
use super::super::rare::Rare;
use super::super::slot::{FLAG_ARRIVED, Slot, State};
use super::*;

/// Where the world below has its messages: one that was received and came from another queue, one that was not, and
/// one of a group.
const RECEIVED: u32 = 0;
const FRESH: u32 = 1;
const GROUPED: u32 = 2;
const SOURCE: u64 = 77;

fn some_of_all() -> World<Sound> {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.create("other");
    world.send(queue, &["a"]);
    world.now_ms += 10;
    world.receive(queue, 1, 30);
    world.send(queue, &["b"]);
    let fields = ContentFields { group: Some("g"), ..ContentFields::default() };
    let mut content = Vec::new();
    write_content(&mut content, b"c", &fields);
    let entry = SendEntry::with_content(&content, 1).expect("just written");
    world.apply(Command::Send { queue, entries: Entries::of(&[entry]) });
    let slot = &mut world.engine.slab[RECEIVED];
    slot.set_flags(slot.flags() | FLAG_ARRIVED);
    // Its record would be longer by that.
    slot.length += 100;
    *world.engine.rares.entry(RECEIVED) =
        Rare { source: SOURCE, receives_before: 3, first_received_at_ms: START_MS, moved_end: 0 };
    world
}

/// Rule 18: a state that differs in anything has another digest.
#[test]
fn each_part_of_the_state_is_in_the_digest() {
    fn received(engine: &mut Engine<Sound>) -> &mut Slot {
        &mut engine.slab[RECEIVED]
    }
    fn group(engine: &mut Engine<Sound>) -> &mut [u64; 2] {
        let place = engine.members.get(GROUPED).group;
        &mut engine.groups[place].key.0
    }
    type Change = fn(&mut Engine<Sound>);
    let changes: &[(&str, Change)] = &[
        ("queue of a message", |engine| engine.slab[FRESH].queue = 1),
        ("sequence", |engine| received(engine).sequence += 1),
        ("when it was sent", |engine| {
            // All else stays when it was.
            let slot = received(engine);
            slot.set_sent(slot.sent_at_ms() + 1, slot.state(), slot.flags());
            slot.first_received_after_ms -= 1;
            slot.list_previous -= 1;
        }),
        ("until when it is hidden", |engine| received(engine).available_at_ms += 1),
        ("receives", |engine| received(engine).receive_count += 1),
        ("first receive", |engine| received(engine).first_received_after_ms += 1),
        ("last receive", |engine| received(engine).list_previous += 1),
        ("group", |engine| group(engine)[0] += 1),
        ("other half of the group", |engine| group(engine)[1] += 1),
        ("damage", |engine| engine.slab[FRESH].set_state(State::Damaged)),
        ("length", |engine| received(engine).length += 1),
        ("where it came from", |engine| engine.rares.entry(RECEIVED).source += 1),
        ("the name of that", |engine| {
            let (name, record) = (engine.queues[0].name.clone(), (Position(0), 0));
            engine.origins.by_incarnation.insert(SOURCE, Origin { name, count: 1, record });
        }),
        ("receives there", |engine| engine.rares.entry(RECEIVED).receives_before += 1),
        ("first receive there", |engine| engine.rares.entry(RECEIVED).first_received_at_ms += 1),
        ("queue", |engine| engine.queues[1].purged_at_ms += 1),
        ("name of a deleted queue", |engine| {
            let name = engine.queues[0].name.clone();
            engine.tombstones.order.push_back((engine.now_ms + 1, name));
        }),
        ("move to another shard", |engine| {
            let record = MovingOut {
                number: 1,
                source: 1,
                target: 2,
                time_ms: START_MS,
                slot: RECEIVED,
                to_shard: 1,
                sequence: 1,
                task: 0,
            };
            engine.moves.outgoing.insert(1, Outgoing { record, position: Position(0), given: false });
        }),
        ("move from another shard", |engine| {
            engine.moves.arrivals.insert((1, 1), Position(0));
        }),
    ];
    for (what, change) in changes {
        let mut world = some_of_all();
        let before = world.engine.digest();
        assert_eq!(some_of_all().engine.digest(), before, "the same state");
        change(&mut world.engine);
        assert_ne!(world.engine.digest(), before, "{what}");
    }
    let mut world = some_of_all();
    let before = world.engine.digest();
    let name = world.engine.queues[0].name.clone();
    world.engine.tombstones.order.push_back((world.now_ms, name));
    assert_eq!(world.engine.digest(), before, "a name that is free again");
    world.restart_recovered();
    assert_ne!(world.engine.digest(), before, "start");
}

/// Rule 18: what a FIFO queue remembers is in the digest as long as it counts.
#[test]
fn what_is_remembered_is_in_the_digest_until_it_is_over() {
    let mut world = world::<Sound>();
    let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
    let queue = world.create_with("q.fifo", &[fifo]);
    let nothing = world.engine.digest();
    let fields = ContentFields { group: Some("g"), deduplication_id: Some("d"), ..ContentFields::default() };
    let mut content = Vec::new();
    write_content(&mut content, b"a", &fields);
    let entry = SendEntry::with_content(&content, 1).expect("just written");
    world.apply(Command::Send { queue, entries: Entries::of(&[entry]) });
    let receive = |attempt_id| Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(0),
        visibility_seconds: Some(1_000),
        reply_bytes_max: u32::MAX,
        attempt_id,
    };
    world.ask(receive(Some("x")));
    let handle = world.out.deliveries[0].handle;
    let attempts = std::mem::replace(&mut world.engine.attempts, super::super::attempts::Attempts::new());
    let without_attempt = world.engine.digest();
    world.engine.attempts = attempts;
    assert_ne!(world.engine.digest(), without_attempt);
    world.now_ms += 6 * 60 * 1_000;
    // Nothing has been cleared away yet.
    world.engine.now_ms = world.now_ms;
    let over = world.engine.digest();
    world.engine.attempts = super::super::attempts::Attempts::new();
    assert_eq!(world.engine.digest(), over, "an attempt that is over");
    world.engine.now_ms = START_MS;
    world.now_ms = START_MS;
    world.delete(queue, &handle).0.expect("it is there");
    assert_ne!(world.engine.digest(), nothing, "a deduplication id");
    world.engine.now_ms += 6 * 60 * 1_000;
    assert_eq!(world.engine.digest(), nothing, "one that is over");
}
