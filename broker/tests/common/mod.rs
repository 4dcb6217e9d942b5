//! What the tests over sockets share: brokers on folders of their own, and connections that send
//! bytes which no proper client would.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod http;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tenpin_benches::client::Client;
use tenpin_benches::process::{BrokerCommand, BrokerProcess};
use tenpin_protocol::{FRAME_BYTES_MAX_LEAST, Ping, Request, split_frame};

/// Everything in these tests happens at once or within a second or two; what has not happened after
/// this long does not happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Small segments, so that a broker starts at once.
const CONFIG: &str = "segment_bytes = 4194304\nhot_bytes_max = 67108864\n";

/// Exit code of a broker that was told to use io_uring where it is refused.
const RING_REFUSED: i32 = 9;

/// A broker and its folder, which is removed with it.
pub struct TestBroker {
    pub command: BrokerCommand,
    process: Option<BrokerProcess>,
    folder: tempfile::TempDir,
    shards: usize,
}

/// The binary under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tenpin"))
}

impl TestBroker {
    /// Starts one, with `config` added to the test's configuration, which has one shard where that does
    /// not say otherwise. `None` where io_uring is asked for and this machine refuses it.
    pub fn try_start(io: &str, durability: &str, config: &str) -> Option<TestBroker> {
        Self::try_start_at("127.0.0.1:0", io, durability, config)
    }

    /// The same at a port of the caller's choice.
    pub fn try_start_at(listen: &str, io: &str, durability: &str, config: &str) -> Option<TestBroker> {
        Self::try_start_with(listen, "off", io, durability, config)
    }

    /// Starts one over epoll that has an SQS-compatible endpoint.
    pub fn start_with_sqs(durability: &str, config: &str) -> TestBroker {
        let broker = Self::try_start_with("127.0.0.1:0", "127.0.0.1:0", "epoll", durability, config);
        broker.expect("epoll is always there")
    }

    fn try_start_with(
        listen: &str,
        sqs_listen: &str,
        io: &str,
        durability: &str,
        config: &str,
    ) -> Option<TestBroker> {
        let folder = tempfile::tempdir().unwrap();
        let config_file = folder.path().join("tenpin.toml");
        std::fs::write(&config_file, with_defaults(config)).unwrap();
        let mut command = BrokerCommand::new(program(), &folder.path().join("data"));
        command.io = io.into();
        command.listen = listen.into();
        command.sqs_listen = sqs_listen.into();
        command.durability = durability.into();
        command.arguments = vec!["--config".into(), config_file.to_str().unwrap().into()];
        let process = command.spawn().unwrap();
        match process.wait_until_listening(PATIENCE) {
            Ok(_) => Some(TestBroker { command, process: Some(process), folder, shards: shards_in(config) }),
            Err(error) => {
                let (status, printed) = process.wait(PATIENCE).unwrap();
                assert!(io == "uring" && status.code() == Some(RING_REFUSED), "{error}");
                eprintln!("SKIPPED over io_uring, which this machine refuses: {printed}");
                None
            }
        }
    }

    /// Starts one over epoll, which every machine has.
    pub fn start(durability: &str, config: &str) -> TestBroker {
        Self::try_start("epoll", durability, config).expect("epoll is always there")
    }

    pub fn process(&self) -> &BrokerProcess {
        self.process.as_ref().expect("it runs")
    }

    pub fn address(&self) -> SocketAddr {
        self.process().address()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address()).unwrap()
    }

    /// A client and a new queue.
    pub fn client_and_queue(&self) -> (Client, u64) {
        let mut client = self.client();
        let queue = client.create("tests", &[]).unwrap();
        (client, queue)
    }

    /// How many shards it was started with.
    pub fn shards(&self) -> usize {
        self.shards
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Kills it and starts another one on the same folder.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill().unwrap();
    }

    /// Starts another one on the same folder, once it has ended.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs");
        self.process = Some(self.command.start().unwrap());
    }

    /// Gives the folder another number of shards, once it has ended.
    pub fn reshard(&mut self, shards: usize) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new(program());
        command.args(["journal", "reshard", "--data-dir"]).arg(&self.command.folder);
        let output = command.args(["--shards", &shards.to_string()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let config_file = self.folder.path().join("tenpin.toml");
        let config = std::fs::read_to_string(&config_file).unwrap();
        let line = |shards: usize| format!("shards = {shards}\n");
        std::fs::write(config_file, config.replace(&line(self.shards), &line(shards))).unwrap();
        self.shards = shards;
    }

    /// Stops it with SIGTERM, expects success, and starts another one on the same folder.
    pub fn stop_and_restart(&mut self) {
        self.stop();
        self.restart();
    }

    /// Stops it with SIGTERM, and expects success.
    pub fn stop(&mut self) -> String {
        let (status, printed) = self.process.take().expect("it runs").stop(PATIENCE).unwrap();
        assert!(status.success(), "{status}; it printed:\n{printed}");
        printed
    }

    /// Starts it again after it was stopped, with another configuration.
    pub fn start_again(&mut self, config: &str) {
        std::fs::write(self.folder.path().join("tenpin.toml"), format!("{CONFIG}{config}")).unwrap();
        self.process = Some(self.command.start().unwrap());
    }

    /// Has it refuse to start with another configuration, and gives what it says.
    pub fn fails_to_start(&mut self, config: &str) -> String {
        std::fs::write(self.folder.path().join("tenpin.toml"), format!("{CONFIG}{config}")).unwrap();
        let (status, printed) = self.command.spawn().unwrap().wait(PATIENCE).unwrap();
        assert!(!status.success(), "{printed}");
        printed
    }

    /// Takes the process, to wait for its end.
    pub fn take_process(&mut self) -> BrokerProcess {
        self.process.take().expect("it runs")
    }
}

fn shards_in(config: &str) -> usize {
    let line = config.lines().find_map(|line| line.strip_prefix("shards = "));
    line.map_or(1, |number| number.parse().unwrap())
}

fn with_defaults(config: &str) -> String {
    let shards = if config.contains("shards =") { "" } else { "shards = 1\n" };
    format!("{CONFIG}{shards}{config}")
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    pub operation: u8,
    pub flags: u16,
    pub correlation: u32,
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// The number of the error that an error frame carries: it comes first in the fixed part.
    pub fn error_number(&self) -> u16 {
        assert!(self.flags & tenpin_protocol::FLAG_ERROR != 0, "{self:?} is no error frame");
        u16::from_le_bytes([self.payload[2], self.payload[3]])
    }
}

/// A connection that sends any bytes.
pub struct RawConnection {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl RawConnection {
    pub fn connect(address: SocketAddr) -> RawConnection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        RawConnection { stream, input: Vec::new() }
    }

    /// One that has said hello and may send requests.
    pub fn after_hello(address: SocketAddr) -> RawConnection {
        let mut connection = RawConnection {
            stream: Client::connect(address).unwrap().into_stream().unwrap(),
            input: Vec::new(),
        };
        connection.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        connection.ping();
        connection
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame; `None` at the end of the stream.
    pub fn read_frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some((frame, length)) = split_frame(&self.input, 2 * FRAME_BYTES_MAX_LEAST).unwrap() {
                let raw = RawFrame {
                    operation: frame.operation,
                    flags: frame.flags,
                    correlation: frame.correlation,
                    payload: frame.payload.to_vec(),
                };
                self.input.drain(..length);
                return Some(raw);
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.input.is_empty(), "the stream ends inside a frame");
                    return None;
                }
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                // A close with input that nobody read is a reset; the frames before it came.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Expects an error frame that answers no request, and then the end.
    pub fn expect_closed_with(&mut self, error_number: u16) {
        let frame = self.read_frame().expect("an error frame says why");
        assert_eq!((frame.correlation, frame.error_number()), (0, error_number), "{frame:?}");
        assert_eq!(self.read_frame(), None, "the connection ends behind the error");
    }

    /// Expects that the broker still answers on this connection.
    pub fn ping(&mut self) {
        let bytes = ping_frame(77);
        self.write(&bytes);
        let frame = self.read_frame().expect("the connection is open");
        assert_eq!((frame.correlation, frame.flags), (77, tenpin_protocol::FLAG_REPLY), "{frame:?}");
    }
}

/// A ping.
pub fn ping_frame(correlation: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    Request::Ping(Ping { echo: b"still there?" }).encode(correlation, &mut bytes);
    bytes
}

/// Tries until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}
