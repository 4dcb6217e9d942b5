//! The bounds of a shard, each with what happens there.

/// Connections of a shard; one more is told so and closed.
pub const CONNECTIONS_MAX: usize = 20_000;

/// Long polls that may wait on one connection (rule 28); one more is refused with RequestThrottled.
pub const LONG_POLLS_PER_CONNECTION_MAX: u32 = 1_024;

/// Replies that a connection has not taken yet; beyond it, its requests wait until it reads, and its long polls
/// end with nothing.
pub const UNSENT_BYTES_MAX: usize = 4 << 20;

/// What a connection may have unsent once all together hold [`ALL_UNSENT_BYTES_MAX`].
pub const UNSENT_BYTES_WHEN_SHORT: usize = 64 << 10;

/// Replies that all connections of all shards have not taken yet, before each is held shorter; each shard
/// has its part.
pub const ALL_UNSENT_BYTES_MAX: usize = 256 << 20;

/// Replies to long polls come without a new request, so a reader that takes nothing may have many of them in
/// the turn in which it comes to have too much; beyond this its connection is closed.
pub const UNSENT_BYTES_CLOSED_AT: usize = 64 << 20;

/// Requests of one connection that other shards have not answered, receives on FIFO queues that wait for a
/// message left out (rule 28); with more, its requests wait.
pub const ASKED_ELSEWHERE_MAX: u32 = 32;

/// Bytes of requests of one connection on their way to other shards, since it last had none there; with
/// more, its requests wait until all are answered.
pub const ASKED_ELSEWHERE_BYTES_MAX: usize = 4 << 20;

/// Bytes of entries in what a shard answers another, or one message where that is longer: so that the
/// bounds on what is asked of other shards bound what comes back from them.
pub const SIBLING_REPLY_BYTES_MAX: u32 = 256 << 10;

/// Parts of frames that wait for their rest, on all connections together; a connection that needs
/// more is closed with RequestThrottled.
pub const PARTIAL_BYTES_MAX: usize = 512 << 20;

/// What is read of a connection whose send waits for room; with more, it is read no further until then.
pub const READ_AHEAD_BYTES: usize = 64 << 10;

/// A connection's buffers above this are given back once they are empty.
pub const KEPT_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Replies that wait for bodies to be read back from disk; beyond it no request is taken.
pub const PARKED_REPLIES_MAX: usize = 1_024;

/// Bytes of records in such replies; with more, no request is taken either. The last one may go beyond it.
pub const PARKED_BYTES_MAX: usize = 64 << 20;

/// A connection that says nothing for so long gives back its buffers: of ten thousand clients most are
/// silent, and each may have had replies of tens of kilobytes.
pub const SILENT_MS_KEEPS_BUFFERS: u64 = 2_000;

/// How often connections are looked through for those that are silent too long.
pub const SILENCE_CHECK_MS: u64 = 1_000;

/// How long the log must have been idle before its closing mark is written (rule 14).
pub const IDLE_MARK_AFTER_MS: u64 = 100;

/// How long a stopping broker waits for its clients to take what is theirs.
pub const DRAIN_MS_MAX: u64 = 5_000;

/// How much longer it waits for a slow disk to have the log; then it ends all the same, and a restart
/// recovers what is there.
pub const DRAIN_DISK_MS_MAX: u64 = 25_000;

/// Steps of timers and slices that a turn takes before it looks at the sockets again.
pub const ENGINE_STEPS_A_TURN: u32 = 2_048;

/// Queues that a turn looks at where it has to look at all there are: to count, and to carry their records. A
/// hundred thousand at once would take some milliseconds.
pub const QUEUES_A_TURN: u32 = 4_096;

/// Answers of such a count that a turn gives.
pub const COUNTS_TOLD_A_TURN: usize = 256;

/// Bytes of the oldest segment that a turn looks through for what is live.
pub const CLEANING_BYTES_A_TURN: u32 = crate::journal::CLEANING_SLICE_BYTES;

/// Slots that a turn looks at for messages of a damaged segment.
pub const RESCUED_SLOTS_A_TURN: u32 = 16 << 10;
