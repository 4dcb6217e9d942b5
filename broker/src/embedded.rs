//! A broker inside another program, for its tests above all: on a free port, in memory or in a folder, gone
//! when it is dropped. Any number may run in one process.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = tenpin_broker::embedded::Broker::in_memory()?;
//! let client = tenpin_client::Client::connect(broker.address().to_string()).await?;
//! client.create_queue("orders").await?.send("a first order").await?;
//! # Ok(()) }
//! ```
//!
//! It is the same broker as the binary's, over the same drivers. What belongs to a process is left alone: it
//! takes no signals, pins no thread, sets no allocator, never exits, and prints nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use crate::config::{DurabilitySetting, IoSetting};
pub use crate::exit::{ExitReason, Failure};

use crate::config::{Config, SqsListen};
use crate::server::{self, Running, Say};

/// Small segments, so that a new folder costs a test little.
const SEGMENT_BYTES: u32 = 4 << 20;

/// How much of the log stays in memory; without a folder, how large it may become.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// How long [`Broker::stop`] waits for clients to take what is theirs and for the disk, both together.
const STOP_PATIENCE: Duration = Duration::from_secs(35);

/// A broker that runs on threads of this process. Dropping it stops it: clients get what they are owed
/// for a quarter of a second, then whatever is left ends as by a kill, which loses nothing that was acknowledged.
/// When the drop returns, its port and its folder are free.
///
/// Dropping waits, so in async code that shares its thread with clients they can say nothing more meanwhile;
/// they find their connections closed.
#[must_use = "a broker that is dropped stops"]
pub struct Broker {
    running: Running,
}

impl Broker {
    /// Starts one that keeps everything in memory.
    ///
    /// ```
    /// let broker = tenpin_broker::embedded::Broker::in_memory()?;
    /// println!("it listens on {}", broker.address());
    /// # Ok::<(), tenpin_broker::embedded::Failure>(())
    /// ```
    pub fn in_memory() -> Result<Self, Failure> {
        Self::builder().start()
    }

    /// Starts one that keeps its data in a folder, which is made where it is missing. A second broker on the
    /// same folder is refused while the first runs, in this process or another.
    ///
    /// ```
    /// use tenpin_broker::embedded::{Broker, ExitReason};
    /// let folder = tempfile::tempdir()?;
    /// let broker = Broker::in_folder(folder.path())?;
    /// let second = Broker::in_folder(folder.path()).err().expect("the folder is in use");
    /// assert_eq!(second.reason, ExitReason::FolderLocked);
    /// drop(broker);
    /// Broker::in_folder(folder.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_folder(folder: impl AsRef<Path>) -> Result<Self, Failure> {
        Self::builder().folder(folder).start()
    }

    /// Settings for one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// Where its SQS-compatible endpoint listens, if it was asked for one.
    pub fn sqs_address(&self) -> Option<SocketAddr> {
        self.running.sqs_address()
    }

    /// The driver that it took, and why.
    pub fn driver(&self) -> &str {
        &self.running.description().driver
    }

    /// Stops it in good order, however long its clients take within the bounds of every broker (5 seconds for
    /// clients, 30 for the disk), and says whether something had failed.
    ///
    /// ```
    /// let broker = tenpin_broker::embedded::Broker::in_memory()?;
    /// broker.stop()?;
    /// # Ok::<(), tenpin_broker::embedded::Failure>(())
    /// ```
    pub fn stop(self) -> Result<(), Failure> {
        self.running.stop_within(STOP_PATIENCE)
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Broker").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// Settings of an embedded broker. Without any: one shard in memory, on a free port of the loopback address.
///
/// ```
/// use tenpin_broker::embedded::{Broker, DurabilitySetting, IoSetting};
/// let folder = tempfile::tempdir()?;
/// let broker = Broker::builder()
///     .folder(folder.path())
///     .durability(DurabilitySetting::Async)
///     .shards(2)
///     .io(IoSetting::Epoll)
///     .start()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Builder {
    config: Config,
    folder: Option<PathBuf>,
    durability: DurabilitySetting,
    say: Say,
}

impl Default for Builder {
    fn default() -> Self {
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            sqs_listen: SqsListen::Off,
            pin_threads: false,
            segment_bytes: SEGMENT_BYTES,
            hot_bytes_max: MEMORY_BYTES_MAX,
            ..Config::default()
        };
        Self { config, folder: None, durability: DurabilitySetting::Fsync, say: Arc::new(|_| {}) }
    }
}

impl Builder {
    /// Keeps the data in this folder; without one, in memory.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// When a request is acknowledged, where there is a folder: as soon as it is on disk, if not said
    /// otherwise. `Memory` leaves the folder alone.
    #[must_use]
    pub fn durability(mut self, durability: DurabilitySetting) -> Self {
        self.durability = durability;
        self
    }

    /// How many shards a new broker has (1). A folder that has another number is refused.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.config.shards = Some(shards);
        self
    }

    /// How it talks to the kernel: over io_uring where that is offered, else epoll, if not said otherwise.
    #[must_use]
    pub fn io(mut self, io: IoSetting) -> Self {
        self.config.io = io;
        self
    }

    /// The address that it listens on (a free port of 127.0.0.1).
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.config.listen = address.into();
        self
    }

    /// Has an SQS-compatible endpoint at this address; port 0 takes a free one. Without it there is none.
    ///
    /// ```
    /// let broker = tenpin_broker::embedded::Broker::builder().sqs_listen(([127, 0, 0, 1], 0).into()).start()?;
    /// println!("AWS_ENDPOINT_URL=http://{}", broker.sqs_address().expect("it was asked for"));
    /// # Ok::<(), tenpin_broker::embedded::Failure>(())
    /// ```
    #[must_use]
    pub fn sqs_listen(mut self, address: SocketAddr) -> Self {
        self.config.sqs_listen = SqsListen::At(address.into());
        self
    }

    /// How much of all shards' logs stays in memory (64 MiB); without a folder, how much they may hold.
    #[must_use]
    pub fn memory_bytes_max(mut self, bytes: u64) -> Self {
        self.config.hot_bytes_max = bytes;
        self
    }

    /// Whether a purge may follow another, and a queue its deleted namesake, only after 60 seconds, as in SQS
    /// (it may not before).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = tenpin_broker::embedded::Broker::builder().minute_rules(false).start()?;
    /// let client = tenpin_client::Client::connect(broker.address().to_string()).await?;
    /// client.create_queue("again").await?.delete_queue().await?;
    /// client.create_queue("again").await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn minute_rules(mut self, minute_rules: bool) -> Self {
        self.config.minute_rules = minute_rules;
        self
    }

    /// Has this told, a line at a time and from any thread, what the binary prints for operators: how far
    /// recovery is, what it cut, what is damaged. Nobody is told without it.
    ///
    /// ```
    /// let broker = tenpin_broker::embedded::Broker::builder().on_news(|line| eprintln!("{line}")).start()?;
    /// # Ok::<(), tenpin_broker::embedded::Failure>(())
    /// ```
    #[must_use]
    pub fn on_news(mut self, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.say = Arc::new(say);
        self
    }

    /// Starts it. When this returns it has recovered what the folder holds, and serves.
    pub fn start(self) -> Result<Broker, Failure> {
        let mut config = self.config;
        config.durability = match self.folder {
            Some(folder) => {
                config.data_dir = folder;
                self.durability
            }
            None => DurabilitySetting::Memory,
        };
        config.check()?;
        Ok(Broker { running: server::start(&config, self.say)? })
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { config, folder, durability, say: _ } = self;
        let mut shown = formatter.debug_struct("Builder");
        shown.field("folder", folder).field("durability", durability).field("config", config);
        shown.finish_non_exhaustive()
    }
}
