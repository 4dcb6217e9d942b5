//! What happened in a run, one line an event: hashed always, printed or kept where somebody asked.
//!
//! The hash is how two runs of a seed are compared. Nothing may enter that differs between them:
//! no address, no wall clock of the machine, no order of a hash map.

use std::fmt::{self, Write as _};

use super::random::mix;

/// What becomes of the lines besides being hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TraceMode {
    /// Nothing.
    #[default]
    Hash,
    /// They are kept, for a test to compare.
    Keep,
    /// They go to standard output.
    Print,
}

/// The events of one run.
#[derive(Debug, Default)]
pub struct Trace {
    mode: TraceMode,
    hash: u64,
    lines: u64,
    kept: String,
}

impl Trace {
    /// An empty trace.
    pub fn new(mode: TraceMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Adds an event: what it was, and the numbers that belong to it.
    pub fn event(&mut self, at_ns: u64, name: &'static str, numbers: &[u64]) {
        self.lines += 1;
        let mut hash = mix(self.hash ^ at_ns);
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        for number in numbers {
            hash = mix(hash ^ number);
        }
        self.hash = hash;
        if self.mode != TraceMode::Hash {
            self.show(at_ns, name, &numbers);
        }
    }

    /// Adds a remark for the reader of a trace: not part of the hash, and free where nobody reads.
    pub fn remark(&mut self, at_ns: u64, text: impl FnOnce() -> String) {
        if self.mode != TraceMode::Hash {
            self.show(at_ns, "#", &text());
        }
    }

    /// The hash of everything so far, and how many events it covers.
    pub fn fingerprint(&self) -> (u64, u64) {
        (self.hash, self.lines)
    }

    /// The lines, in [`TraceMode::Keep`].
    pub fn take_kept(&mut self) -> String {
        std::mem::take(&mut self.kept)
    }

    fn show(&mut self, at_ns: u64, name: &str, detail: &dyn fmt::Debug) {
        let millis = at_ns / 1_000_000;
        let micros = at_ns / 1000 % 1000;
        match self.mode {
            TraceMode::Hash => {}
            TraceMode::Keep => {
                let _ = writeln!(self.kept, "{millis}.{micros:03} {name} {detail:?}");
            }
            TraceMode::Print => println!("{millis}.{micros:03} {name} {detail:?}"),
        }
    }
}
