//! What goes wrong in the world, when its time has come, and the calm after it.

use crate::journal::Durability;

use super::{Fault, Happening, Phase, ShardEvent, World};
use crate::simulator::disk::Crash;
use crate::simulator::plan::{Faults, MS, SECOND};

/// Faults.
impl World {
    pub(super) fn fall(&mut self, fault: Fault) {
        self.note("fault", &[fault as u64]);
        match fault {
            Fault::Kill | Fault::PowerCut => {
                let crash = if fault == Fault::Kill { Crash::Kill } else { Crash::PowerCut };
                let steps = self.random.skewed(1, 200);
                self.crash_after.get_or_insert((steps, crash));
            }
            Fault::Stop => {
                self.stop_asked_ns.get_or_insert(self.now_ns);
                self.wake_all();
                if self.plan.faults.wall_jump_ns > 0 {
                    let after_ns = self.random.below(120 * MS);
                    self.schedule(after_ns, Happening::WallJumps);
                }
            }
            Fault::FullDisk => {
                let room = self.random.below(2) * u64::from(self.plan.broker.segment_bytes);
                let shard = self.random_shard();
                let disk = &mut self.places[usize::from(shard)].disk;
                disk.set_capacity(disk.used_bytes() + room);
                let lasts_ns = self.random.skewed(100 * MS, 60 * SECOND);
                self.schedule(lasts_ns, Happening::DiskHasRoom(shard));
            }
            Fault::Rot => self.rot(),
            Fault::Break => {
                if let Some(id) = self.random_link() {
                    self.break_link(id);
                }
            }
            Fault::SlowReader => {
                if let Some(id) = self.random_link() {
                    self.network.link(id).expect("chosen among those there are").client_reads = false;
                    let lasts_ns = self.random.skewed(10 * MS, 20 * SECOND);
                    self.schedule(lasts_ns, Happening::ClientReads(id));
                }
            }
            Fault::WallJump => self.jump_wall(),
            Fault::Pause => {
                let lasts_ns = self.random.between(MS, self.plan.faults.pause_ns_max.max(2 * MS));
                let shard = self.random_shard();
                self.places[usize::from(shard)].paused_until_ns = self.now_ns + lasts_ns;
            }
        }
    }

    /// Has every shard look at whether it is to stop.
    pub fn wake_all(&mut self) {
        for place in &mut self.places {
            place.inbox.push_back(ShardEvent::Woken);
        }
    }

    pub(super) fn random_shard(&mut self) -> u16 {
        if self.plan.shards == 1 { 0 } else { self.random.below(u64::from(self.plan.shards)) as u16 }
    }

    fn jump_wall(&mut self) {
        let jump_ms = self.random.skewed(1, self.plan.faults.wall_jump_ms_max.max(10));
        self.jump_wall_by(jump_ms);
    }

    /// The wall jumps while the broker stops, further than any of its timeouts.
    pub(super) fn jump_wall_far(&mut self) {
        if self.phase == Phase::Chaos && self.stop_asked() {
            let jump_ms = self.random.between(1, self.plan.faults.wall_jump_ms_max.max(10));
            self.jump_wall_by(jump_ms);
        }
    }

    fn jump_wall_by(&mut self, jump_ms: u64) {
        self.note("wall", &[jump_ms]);
        if self.random.chance(1, 2) {
            self.wall_offset_ms += jump_ms;
            self.checker.wall_jumped(self.now_ns, i64::try_from(jump_ms).expect("days at most"));
        } else {
            self.wall_offset_ms -= jump_ms;
            self.checker.wall_jumped(self.now_ns, -i64::try_from(jump_ms).expect("days at most"));
        }
    }

    /// Flips bits in a file that nobody writes to: not in the segment that is being filled, whose
    /// end is what a torn write looks like.
    fn rot(&mut self) {
        let shard = self.random_shard();
        let place = &mut self.places[usize::from(shard)];
        let files: Vec<_> = place.disk.segments();
        // With durability `async` the log cannot prove at once that what was synced had been.
        let newest = if self.plan.broker.durability == Durability::Fsync { 1 } else { 3 };
        // Nor what comes last before a write that has just begun, as nothing behind it says that it was whole.
        let has_begun = place.last_written.first().is_some_and(|file| place.disk.is_being_written(*file));
        let newest = newest + usize::from(has_begun);
        let newest = &place.last_written[..newest.min(place.last_written.len())];
        let sealed: Vec<_> = files
            .iter()
            .filter(|(file, length)| {
                !newest.contains(file) && *length > 0 && !place.disk.is_being_written(*file)
            })
            .collect();
        if sealed.is_empty() {
            return;
        }
        let (file, length) = **self.random.pick(&sealed);
        // Most of a segment may be empty; what is written is likelier to matter.
        let mut offset = self.random.below(length);
        for _ in 0..20 {
            let mut byte = [0];
            if place.disk.read(file, offset, &mut byte).is_ok() && byte != [0] {
                break;
            }
            offset = self.random.below(length);
        }
        let bits = 1 << self.random.below(8);
        self.note("rot", &[u64::from(file.0), offset]);
        let place = &mut self.places[usize::from(shard)];
        place.disk.rot(file, offset, bits);
        place.rot.push((file, offset, bits));
        self.checker.rot_fell();
        if self.random.chance(1, 3) && self.plan.faults.power_cut_ns > 0 {
            // Only a start looks at all of the log.
            self.fall(Fault::PowerCut);
        }
    }

    /// Whether rot fell in this run.
    pub fn has_rot(&self) -> bool {
        self.places.iter().any(|place| !place.rot.is_empty())
    }

    /// Puts the bits back that rot has flipped, as an operator does from a copy.
    pub fn undo_rot(&mut self) {
        self.note("undo_rot", &[]);
        for place in &mut self.places {
            for (file, offset, bits) in std::mem::take(&mut place.rot) {
                if place.disk.segments().iter().any(|(number, length)| *number == file && *length > offset) {
                    place.disk.rot(file, offset, bits);
                }
            }
        }
    }

    /// From here on nothing goes wrong any more.
    pub fn calm_down(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        self.note("calm", &[]);
        self.phase = Phase::Calm;
        self.crash_after = None;
        self.plan.faults = Faults::default();
        for place in &mut self.places {
            place.disk.set_capacity(u64::MAX);
            place.paused_until_ns = 0;
        }
        self.calm_since_ns = Some(self.now_ns);
        for id in self.network.ids() {
            self.schedule(0, Happening::ClientReads(id));
        }
    }
}
