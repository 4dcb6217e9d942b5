//! How a log is set up, with the bounds that it keeps.

/// The least segment size: small enough for a simulator that cleans all the time.
pub const SEGMENT_BYTES_MIN: u32 = 64 << 10;
/// The greatest segment size; offsets in a segment fit 32 bits with room to spare.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;
/// The segment size of new data folders.
pub const SEGMENT_BYTES_DEFAULT: u32 = 64 << 20;
/// How much of the log is kept in memory by default; older segments are read from disk.
pub const HOT_BYTES_MAX_DEFAULT: u64 = 512 << 20;
/// How much more than its live bytes the log may hold before live messages are copied.
pub const GROWTH_FACTOR_DEFAULT: u32 = 8;
/// What the log may hold in any case before live messages are copied.
pub const GROWTH_BASE_BYTES_DEFAULT: u64 = 1 << 30;
/// How much is read from disk at once where one cold record is asked for.
pub const COLD_WINDOW_BYTES_DEFAULT: u32 = 256 << 10;
/// How much of what was read from disk is kept; the least recently used goes first.
pub const COLD_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// How far appended records may run ahead of the disk; above it the log says that it is backlogged and
/// the shard takes no more input.
pub const UNWRITTEN_BYTES_MAX_DEFAULT: u64 = 32 << 20;

/// Without files a short queue's log had better stay within the processor's cache: it is cut into
/// smaller segments …
const MEMORY_SEGMENT_BYTES: u32 = 4 << 20;
/// … which are cleaned early.
const MEMORY_GROWTH_BASE_BYTES: u64 = 8 << 20;

/// The least number of segments that a log may be bounded to. In the smallest segments of a data folder
/// (4 MiB) and with the longest messages (1 MiB and their attributes) three quarters of each are filled
/// at worst. One segment is the tail; two are kept for cleaning; the largest send takes up to one. Of the
/// four others, messages of two segments fit when copied (2 / 0.75 = 2.7 segments), with the room that
/// copying needs on the way (0.8) and what their deliveries and deletes need: so a quarter of the least
/// log can be used whatever is sent, and more of larger ones.
pub const LOG_SEGMENTS_MIN: u64 = 8;

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// There are no files; memory is the log's only place.
    Memory,
    /// Replies leave when their records are written to the kernel; a sync follows in bounded time.
    Async,
    /// Replies leave when their records are on disk.
    Fsync,
}

/// The settings of one shard's log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Size of a segment: a power of two from [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`], fixed
    /// when the data folder is made.
    pub segment_bytes: u32,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Whether anybody recovers from the log: not without files, unless a test does. What only recovery
    /// needs is not written otherwise.
    pub is_recovered: bool,
    /// How much of the log stays in memory (the segment being filled always does). Without files it
    /// is the most that the log may take, unless `log_bytes_max` says otherwise.
    pub hot_bytes_max: u64,
    /// The most that all segments may take; `None`: what the disk has.
    pub log_bytes_max: Option<u64>,
    /// The log may grow to this multiple of its live bytes …
    pub growth_factor: u32,
    /// … and this much on top before live messages are copied.
    pub growth_base_bytes: u64,
    /// The data folder's random number, which goes into every checksum.
    pub nonce: [u8; 16],
    /// Which shard's log this is.
    pub shard: u16,
    /// How much is read from disk at once; a multiple of the block size.
    pub cold_window_bytes: u32,
    /// How much of what was read is kept.
    pub cold_bytes_max: u64,
    /// How far records may run ahead of the disk before the log is backlogged.
    pub unwritten_bytes_max: u64,
}

impl LogOptions {
    /// The defaults.
    pub fn new(durability: Durability, nonce: [u8; 16], shard: u16) -> Self {
        let (segment_bytes, growth_base_bytes) = match durability {
            Durability::Memory => (MEMORY_SEGMENT_BYTES, MEMORY_GROWTH_BASE_BYTES),
            Durability::Async | Durability::Fsync => (SEGMENT_BYTES_DEFAULT, GROWTH_BASE_BYTES_DEFAULT),
        };
        LogOptions {
            segment_bytes,
            durability,
            is_recovered: durability != Durability::Memory,
            hot_bytes_max: HOT_BYTES_MAX_DEFAULT,
            log_bytes_max: None,
            growth_factor: GROWTH_FACTOR_DEFAULT,
            growth_base_bytes,
            nonce,
            shard,
            cold_window_bytes: COLD_WINDOW_BYTES_DEFAULT,
            cold_bytes_max: COLD_BYTES_MAX_DEFAULT,
            unwritten_bytes_max: UNWRITTEN_BYTES_MAX_DEFAULT,
        }
    }

    /// Whether the log has files.
    pub fn has_files(&self) -> bool {
        self.durability != Durability::Memory
    }

    /// Says what is wrong with the settings, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let segment = self.segment_bytes;
        if !segment.is_power_of_two() || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment) {
            return Err(format!(
                "segment size {segment}: must be a power of two from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            ));
        }
        if self.cold_window_bytes == 0
            || !(self.cold_window_bytes as usize).is_multiple_of(super::BLOCK_BYTES)
        {
            return Err(format!("cold window {}: must be a multiple of 4096", self.cold_window_bytes));
        }
        if self.log_segments_max().is_some_and(|segments| segments < LOG_SEGMENTS_MIN) {
            return Err(format!(
                "log_bytes_max (hot_bytes_max without files) must hold at least {LOG_SEGMENTS_MIN} segments of \
                 {segment} bytes, or there is no room to clean a full log"
            ));
        }
        Ok(())
    }

    /// How many segments the log may have, where that is set.
    pub(super) fn log_segments_max(&self) -> Option<u64> {
        let bytes = match self.log_bytes_max {
            None if !self.has_files() => Some(self.hot_bytes_max),
            set => set,
        };
        bytes.map(|bytes| bytes >> self.segment_bytes.trailing_zeros())
    }
}
