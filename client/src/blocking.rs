//! The same without async: each call waits.
//!
//! A client here has a runtime of its own, on one thread that runs also between calls, so that
//! connections are kept alive. From async code use the types of the crate's root: a call here would
//! stop the thread that it is made on, and panics inside a runtime.

use std::sync::{Arc, mpsc};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::message::{Message, NewMessage, ReceiptHandle, Sent};
use crate::queue::{QueueName, Receive};
use crate::stats::Stats;
use crate::{ClientBuilder, QueueAttributes};

/// A broker, as [`crate::Client`].
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::without_async(|address, _, _| {
/// let client = tenpin_client::blocking::Client::connect(address)?;
/// let queue = client.create_queue("orders")?;
/// queue.send("a first order")?;
/// for message in queue.receive()? {
///     println!("{}", message.text().unwrap_or("not text"));
///     queue.delete(&message)?;
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Thread>,
}

/// A thread that runs a runtime until it is dropped.
#[derive(Debug)]
struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Thread {
    fn start() -> Result<Self> {
        let (give, take) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let unable = |error: std::io::Error| Error::Invalid(format!("no thread for the client: {error}"));
        let thread = std::thread::Builder::new()
            .name("tenpin-client".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let handle = runtime.as_ref().map(Runtime::handle).cloned();
                // Who started the thread waits for this.
                let _ =
                    give.send(handle.map_err(|error| std::io::Error::new(error.kind(), error.to_string())));
                if let Ok(runtime) = runtime {
                    // It ends when the sender is dropped.
                    let _ = runtime.block_on(stopped);
                }
            })
            .map_err(unable)?;
        let handle = take.recv().map_err(|_| Error::Closed)?.map_err(unable)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

impl Client {
    /// Connects to a broker with the default options.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// let client = tenpin_client::blocking::Client::connect(address)?;
    /// client.queue("orders")?;
    /// # Ok(()) });
    /// ```
    pub fn connect(address: impl Into<String>) -> Result<Self> {
        Self::connect_with(crate::Client::builder(address))
    }

    /// Connects with options.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::without_async(|address, client, queue| {
    /// let options = tenpin_client::Client::builder(address).request_timeout(Duration::from_secs(5));
    /// let client = tenpin_client::blocking::Client::connect_with(options)?;
    /// # Ok(()) });
    /// ```
    pub fn connect_with(options: ClientBuilder) -> Result<Self> {
        let runtime = Arc::new(Thread::start()?);
        let client = runtime.handle.block_on(options.connect())?;
        Ok(Self { client, runtime })
    }

    /// Opens a queue that exists.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// client.queue("orders")?.send("a first order")?;
    /// assert!(client.queue("not there").is_err());
    /// # Ok(()) });
    /// ```
    pub fn queue(&self, name: impl Into<QueueName>) -> Result<Queue> {
        let queue = self.runtime.handle.block_on(self.client.queue(name))?;
        Ok(Queue { queue, runtime: Arc::clone(&self.runtime) })
    }

    /// As [`crate::Client::create_queue`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// client.create_queue("invoices")?.send("a first invoice")?;
    /// # Ok(()) });
    /// ```
    pub fn create_queue(&self, name: impl Into<QueueName>) -> Result<Queue> {
        self.create_queue_with(name, &QueueAttributes::new())
    }

    /// As [`crate::Client::create_queue_with`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::without_async(|address, client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().delay(Duration::from_secs(5));
    /// client.create_queue_with("later", &attributes)?.send("in five seconds")?;
    /// # Ok(()) });
    /// ```
    pub fn create_queue_with(
        &self,
        name: impl Into<QueueName>,
        attributes: &QueueAttributes,
    ) -> Result<Queue> {
        let queue = self.runtime.handle.block_on(self.client.create_queue_with(name, attributes))?;
        Ok(Queue { queue, runtime: Arc::clone(&self.runtime) })
    }
}

/// A queue, as [`crate::Queue`].
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::without_async(|address, client, queue| {
/// let queue = client.create_queue("orders")?;
/// queue.send("a first order")?;
/// assert_eq!(queue.receive()?.len(), 1);
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    queue: crate::Queue,
    runtime: Arc<Thread>,
}

impl Queue {
    /// As [`crate::Queue::send`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// println!("stored as {}", queue.send("a first order")?.id);
    /// # Ok(()) });
    /// ```
    pub fn send(&self, message: impl Into<NewMessage>) -> Result<Sent> {
        self.runtime.handle.block_on(self.queue.send(message))
    }

    /// As [`crate::Queue::send_batch`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// for result in queue.send_batch(&["one".into(), "two".into()])? {
    ///     println!("stored as {}", result?.id);
    /// }
    /// # Ok(()) });
    /// ```
    pub fn send_batch(&self, messages: &[NewMessage]) -> Result<Vec<Result<Sent>>> {
        self.runtime.handle.block_on(self.queue.send_batch(messages))
    }

    /// As [`crate::Queue::receive`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// queue.send("a first order")?;
    /// for message in queue.receive()? {
    ///     println!("{}", message.text()?);
    /// }
    /// # Ok(()) });
    /// ```
    pub fn receive(&self) -> Result<Vec<Message>> {
        self.runtime.handle.block_on(self.queue.receive())
    }

    /// As [`crate::Queue::receive_with`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::without_async(|address, client, queue| {
    /// use tenpin_client::Receive;
    /// let messages = queue.receive_with(&Receive::up_to(10).wait(Duration::from_millis(10)))?;
    /// assert!(messages.is_empty());
    /// # Ok(()) });
    /// ```
    pub fn receive_with(&self, asked: &Receive) -> Result<Vec<Message>> {
        self.runtime.handle.block_on(self.queue.receive_with(asked))
    }

    /// As [`crate::Queue::delete`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// queue.send("a first order")?;
    /// for message in queue.receive()? {
    ///     queue.delete(&message)?;
    /// }
    /// # Ok(()) });
    /// ```
    pub fn delete(&self, message: &Message) -> Result<()> {
        self.runtime.handle.block_on(self.queue.delete(message))
    }

    /// As [`crate::Queue::delete_batch`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// queue.send_batch(&["one".into(), "two".into()])?;
    /// let handles: Vec<_> = queue.receive()?.iter().map(|message| message.handle()).collect();
    /// for result in queue.delete_batch(&handles)? {
    ///     result?;
    /// }
    /// # Ok(()) });
    /// ```
    pub fn delete_batch(&self, handles: &[ReceiptHandle]) -> Result<Vec<Result<()>>> {
        self.runtime.handle.block_on(self.queue.delete_batch(handles))
    }

    /// As [`crate::Queue::change_visibility`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::without_async(|address, client, queue| {
    /// queue.send("not now")?;
    /// for message in queue.receive()? {
    ///     queue.change_visibility(&message.handle(), Duration::ZERO)?;
    /// }
    /// assert_eq!(queue.receive()?.len(), 1, "it is there again");
    /// # Ok(()) });
    /// ```
    pub fn change_visibility(&self, handle: &ReceiptHandle, timeout: std::time::Duration) -> Result<()> {
        self.runtime.handle.block_on(self.queue.change_visibility(handle, timeout))
    }

    /// As [`crate::Queue::stats`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// queue.send("a first order")?;
    /// assert_eq!(queue.stats()?.visible(), 1);
    /// # Ok(()) });
    /// ```
    pub fn stats(&self) -> Result<Stats> {
        self.runtime.handle.block_on(self.queue.stats())
    }

    /// As [`crate::Queue::purge`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// queue.send("a first order")?;
    /// queue.purge()?;
    /// assert!(queue.receive()?.is_empty());
    /// # Ok(()) });
    /// ```
    pub fn purge(&self) -> Result<()> {
        self.runtime.handle.block_on(self.queue.purge())
    }

    /// As [`crate::Queue::delete_queue`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// queue.delete_queue()?;
    /// assert!(queue.send("too late").is_err());
    /// # Ok(()) });
    /// ```
    pub fn delete_queue(&self) -> Result<()> {
        self.runtime.handle.block_on(self.queue.delete_queue())
    }

    /// The same queue for async code on another runtime's tasks. Connections that there are stay on the thread
    /// of this client. One that a call there has to make lives on the runtime of that call; where that ends,
    /// the connection ends with it, and is made again by the next call.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::without_async(|address, client, queue| {
    /// let same = queue.as_async().clone();
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// runtime.block_on(async { same.send("from async code").await })?;
    /// assert_eq!(queue.receive()?.len(), 1);
    /// # Ok(()) });
    /// ```
    pub fn as_async(&self) -> &crate::Queue {
        &self.queue
    }
}
