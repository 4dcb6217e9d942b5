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
                self.stop_asked = true;
                self.inbox.push_back(ShardEvent::Woken);
            }
            Fault::FullDisk => {
                let room = self.random.below(2) * u64::from(self.plan.broker.segment_bytes);
                self.disk.set_capacity(self.disk.used_bytes() + room);
                let lasts_ns = self.random.skewed(100 * MS, 60 * SECOND);
                self.schedule(lasts_ns, Happening::DiskHasRoom);
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
            // One that falls into another has no effect of its own.
            Fault::Pause if self.is_paused => {}
            Fault::Pause => {
                self.is_paused = true;
                let lasts_ns = self.random.between(MS, self.plan.faults.pause_ns_max.max(2 * MS));
                self.run_until(self.now_ns + lasts_ns, false);
                self.is_paused = false;
            }
        }
    }

    fn jump_wall(&mut self) {
        let jump_ms = self.random.skewed(1, self.plan.faults.wall_jump_ms_max.max(10));
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
        let files: Vec<_> = self.disk.segments();
        // With durability `async` the log cannot prove at once that what was synced had been.
        let newest = if self.plan.broker.durability == Durability::Fsync { 1 } else { 3 };
        let newest = &self.last_written[..newest.min(self.last_written.len())];
        let sealed: Vec<_> = files
            .iter()
            .filter(|(file, length)| {
                !newest.contains(file) && *length > 0 && !self.disk.is_being_written(*file)
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
            if self.disk.read(file, offset, &mut byte).is_ok() && byte != [0] {
                break;
            }
            offset = self.random.below(length);
        }
        let bits = 1 << self.random.below(8);
        self.note("rot", &[u64::from(file.0), offset]);
        self.disk.rot(file, offset, bits);
        self.rot.push((file, offset, bits));
        self.checker.rot_fell();
        if self.random.chance(1, 3) && self.plan.faults.power_cut_ns > 0 {
            // Only a start looks at all of the log.
            self.fall(Fault::PowerCut);
        }
    }

    /// Whether rot fell in this run.
    pub fn has_rot(&self) -> bool {
        !self.rot.is_empty()
    }

    /// Puts the bits back that rot has flipped, as an operator does from a copy.
    pub fn undo_rot(&mut self) {
        self.note("undo_rot", &[]);
        for (file, offset, bits) in std::mem::take(&mut self.rot) {
            if self.disk.segments().iter().any(|(number, length)| *number == file && *length > offset) {
                self.disk.rot(file, offset, bits);
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
        self.disk.set_capacity(u64::MAX);
        self.calm_since_ns = Some(self.now_ns);
        for id in self.network.ids() {
            self.schedule(0, Happening::ClientReads(id));
        }
    }
}
