//! One typed configuration: defaults, over them the file, over that the environment, over that the flags.

mod queues;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::address::ListenAddress;
use crate::catalog::{NameDefaults, QueueName};
use crate::exit::{ExitReason, Failure};
use crate::folder::SHARDS_MAX;
use crate::journal::LOG_SEGMENTS_MIN;

pub use queues::{AttributeSetting, QueueSetting};

/// Longest body of a request to the SQS-compatible endpoint, where nothing is said: a batch of 1 MiB whose
/// texts take three times as much in a form or in JSON that escapes all but ASCII, and what is around them.
const SQS_BODY_BYTES_MAX: u32 = 4 << 20;
/// Most of [`Config::gather_us`]: by then nothing is gained any more.
const GATHER_US_MAX: u32 = 10_000;
/// Shortest of the endpoint's timeouts.
const SQS_TIMEOUT_MS_MIN: u32 = 100;
const SQS_BODY_BYTES_MAX_RANGE: std::ops::RangeInclusive<u32> = 64 << 10..=64 << 20;

/// When a request is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilitySetting {
    /// When it is on disk: a power cut loses nothing that was acknowledged.
    Fsync,
    /// When the kernel has it, synced every 100 ms: a power cut loses at most that, a crash of the broker nothing.
    Async,
    /// At once, in memory only: nothing outlives the process.
    Memory,
}

/// How the broker talks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IoSetting {
    /// io_uring where it is offered, else epoll.
    Auto,
    /// io_uring, or refuse to start.
    Uring,
    /// epoll.
    Epoll,
}

/// Where the SQS-compatible endpoint listens, if it does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum SqsListen {
    /// There is none.
    Off,
    /// At this address; port 0 takes a free one.
    At(ListenAddress),
}

impl FromStr for SqsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|problem| format!("{problem}, and not off")),
        }
    }
}

impl TryFrom<String> for SqsListen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SqsListen> for String {
    fn from(listen: SqsListen) -> Self {
        match listen {
            SqsListen::Off => "off".to_owned(),
            SqsListen::At(address) => address.to_string(),
        }
    }
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the data folder is.
    pub data_dir: PathBuf,
    /// Address of the binary protocol; port 0 takes a free one.
    pub listen: ListenAddress,
    /// Address of the SQS-compatible endpoint.
    pub sqs_listen: SqsListen,
    /// What queue URLs begin with; none: the host by which each client came.
    pub sqs_public_url: Option<String>,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-Host` say how a client came.
    pub sqs_trust_forwarded: bool,
    /// Longest body of a request to the SQS-compatible endpoint.
    pub sqs_body_bytes_max: u32,
    /// How long a client of the SQS-compatible endpoint may take for a request's head, and be silent between two.
    pub sqs_head_timeout_ms: u32,
    /// How long it may take for a request's body.
    pub sqs_body_timeout_ms: u32,
    /// How long it may take nothing of a response.
    pub sqs_write_timeout_ms: u32,
    /// Whether a queue that does not exist is made when the SQS-compatible endpoint is asked for it.
    pub sqs_create_queues: bool,
    /// Whether `POST /reset` deletes all queues, for tests.
    pub sqs_reset: bool,
    /// Queues that are there when the broker has started.
    pub queues: Vec<QueueSetting>,
    /// The account of queues whose clients name none: twelve digits.
    pub account: String,
    /// The region of queues whose clients name none.
    pub region: String,
    /// The driver.
    pub io: IoSetting,
    /// When a request is acknowledged.
    pub durability: DurabilitySetting,
    /// How long a new connection may take for its hello.
    pub handshake_timeout_ms: u64,
    /// How long a connection may be silent.
    pub keep_alive_timeout_ms: u64,
    /// How many shards a new folder gets; none: one. Another number than an
    /// existing folder's is refused.
    pub shards: Option<u16>,
    /// Whether each shard's thread stays on a core of its own, where there are enough.
    pub pin_threads: bool,
    /// How long a shard looks for more to do before it sleeps.
    pub busy_poll_us: u32,
    /// How far apart a shard's turns begin at least while clients ask it for something.
    pub gather_us: u32,
    /// Size of the log's segments in a folder that is new.
    pub segment_bytes: u32,
    /// How much of all shards' logs stays in memory; with `durability = "memory"`, how large they may be.
    pub hot_bytes_max: u64,
    /// How large all shards' logs may become on disk; the disk is the bound where this is not set.
    pub log_bytes_max: Option<u64>,
    /// How many times its live bytes the log may grow to before it is cleaned.
    pub log_growth_factor: u32,
    /// Whether a purge may follow another, and a queue its deleted namesake, only after 60 seconds.
    pub minute_rules: bool,
    /// How many messages of a queue may be in flight, on all shards together.
    pub in_flight_max: u32,
    /// How many messages of FIFO queues each shard remembers for deduplication, for five minutes each.
    pub deduplication_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("tenpin-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 7010)).into(),
            sqs_listen: SqsListen::At(SocketAddr::from(([127, 0, 0, 1], 9324)).into()),
            sqs_public_url: None,
            sqs_trust_forwarded: false,
            sqs_body_bytes_max: SQS_BODY_BYTES_MAX,
            sqs_head_timeout_ms: 60_000,
            sqs_body_timeout_ms: 30_000,
            sqs_write_timeout_ms: 30_000,
            sqs_create_queues: false,
            sqs_reset: false,
            queues: Vec::new(),
            account: NameDefaults::default().account.into(),
            region: NameDefaults::default().region.into(),
            io: IoSetting::Auto,
            durability: DurabilitySetting::Fsync,
            handshake_timeout_ms: 10_000,
            keep_alive_timeout_ms: 120_000,
            shards: None,
            pin_threads: true,
            busy_poll_us: 0,
            gather_us: 0,
            segment_bytes: 64 << 20,
            hot_bytes_max: 512 << 20,
            log_bytes_max: None,
            log_growth_factor: 8,
            minute_rules: true,
            in_flight_max: 120_000,
            deduplication_max: 64 << 20,
        }
    }
}

/// What a configuration file or the flags set; what is left out stays as it was.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// See [`Config::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`Config::listen`].
    pub listen: Option<ListenAddress>,
    /// See [`Config::sqs_listen`].
    pub sqs_listen: Option<SqsListen>,
    /// See [`Config::sqs_public_url`].
    pub sqs_public_url: Option<String>,
    /// See [`Config::sqs_trust_forwarded`].
    pub sqs_trust_forwarded: Option<bool>,
    /// See [`Config::sqs_body_bytes_max`].
    pub sqs_body_bytes_max: Option<u32>,
    /// See [`Config::sqs_head_timeout_ms`].
    pub sqs_head_timeout_ms: Option<u32>,
    /// See [`Config::sqs_body_timeout_ms`].
    pub sqs_body_timeout_ms: Option<u32>,
    /// See [`Config::sqs_write_timeout_ms`].
    pub sqs_write_timeout_ms: Option<u32>,
    /// See [`Config::sqs_create_queues`].
    pub sqs_create_queues: Option<bool>,
    /// See [`Config::sqs_reset`].
    pub sqs_reset: Option<bool>,
    /// See [`Config::queues`].
    pub queues: Option<Vec<QueueSetting>>,
    /// See [`Config::account`].
    pub account: Option<String>,
    /// See [`Config::region`].
    pub region: Option<String>,
    /// See [`Config::io`].
    pub io: Option<IoSetting>,
    /// See [`Config::durability`].
    pub durability: Option<DurabilitySetting>,
    /// See [`Config::handshake_timeout_ms`].
    pub handshake_timeout_ms: Option<u64>,
    /// See [`Config::keep_alive_timeout_ms`].
    pub keep_alive_timeout_ms: Option<u64>,
    /// See [`Config::shards`].
    pub shards: Option<u16>,
    /// See [`Config::pin_threads`].
    pub pin_threads: Option<bool>,
    /// See [`Config::busy_poll_us`].
    pub busy_poll_us: Option<u32>,
    /// See [`Config::gather_us`].
    pub gather_us: Option<u32>,
    /// See [`Config::segment_bytes`].
    pub segment_bytes: Option<u32>,
    /// See [`Config::hot_bytes_max`].
    pub hot_bytes_max: Option<u64>,
    /// See [`Config::log_bytes_max`].
    pub log_bytes_max: Option<u64>,
    /// See [`Config::log_growth_factor`].
    pub log_growth_factor: Option<u32>,
    /// See [`Config::minute_rules`].
    pub minute_rules: Option<bool>,
    /// See [`Config::in_flight_max`].
    pub in_flight_max: Option<u32>,
    /// See [`Config::deduplication_max`].
    pub deduplication_max: Option<u32>,
}

/// What variables of the environment that set something begin with; the rest is the setting's name in
/// capitals, as in `TENPIN_DATA_DIR`.
const VARIABLE_PREFIX: &str = "TENPIN_";

/// Variables that begin so and are no setting of a broker.
const OTHER_VARIABLES: &[&str] = &["TENPIN_ADDRESS", "TENPIN_CONFIG"];

/// Settings that are nothing where nobody sets them.
const WITHOUT_DEFAULT: &[&str] = &["log_bytes_max", "queues", "shards", "sqs_public_url"];

/// Where settings come from, each layer over the one before it.
#[derive(Debug, Default)]
pub struct Layers {
    file: Changes,
    environment: Changes,
    flags: Changes,
    /// Variables that begin like settings and are none.
    pub unknown_variables: Vec<String>,
}

impl Layers {
    /// Reads the file, if there is one, and the environment's variables.
    pub fn read(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: Changes,
    ) -> Result<Self, Failure> {
        let file = file.map_or(Ok(Changes::default()), read_file)?;
        let (environment, unknown_variables) = read_environment(variables)?;
        Ok(Self { file, environment, flags, unknown_variables })
    }

    /// The configuration that they make, checked.
    pub fn config(&self) -> Result<Config, Failure> {
        let mut config = Config::default();
        for layer in [&self.file, &self.environment, &self.flags] {
            config.change(layer.clone());
        }
        config.check()?;
        Ok(config)
    }

    /// Every setting as a line of a configuration file, with where it comes from.
    pub fn describe(&self) -> Result<String, Failure> {
        let config = self.config()?;
        let as_table =
            |changes: &Changes| toml::Table::try_from(changes).expect("settings can be written as TOML");
        let values = as_table(&config.as_changes());
        let layers = [(&self.flags, "flag"), (&self.environment, "environment"), (&self.file, "file")];
        let layers = layers.map(|(layer, name)| (as_table(layer), name));
        let mut text = String::new();
        for (key, value) in &values {
            let source =
                layers.iter().find(|(layer, _)| layer.contains_key(key)).map_or("default", |(_, name)| name);
            text += &format!("{:<44} # {source}\n", format!("{key} = {value}"));
        }
        for key in WITHOUT_DEFAULT.iter().filter(|key| !values.contains_key(**key)) {
            text += &format!("# {key} is not set\n");
        }
        Ok(text)
    }
}

/// The variables that are settings; the names of those that only look like some.
fn read_environment(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(Changes, Vec<String>), Failure> {
    let known = toml::Table::try_from(
        Config {
            log_bytes_max: Some(0),
            shards: Some(0),
            sqs_public_url: Some(String::new()),
            ..Config::default()
        }
        .as_changes(),
    )
    .expect("settings are numbers, texts and switches");
    let mut table = toml::Table::new();
    let mut unknown = Vec::new();
    for (name, text) in variables {
        let Some(key) = name.strip_prefix(VARIABLE_PREFIX).map(str::to_ascii_lowercase) else { continue };
        let Some(example) = known.get(&key) else {
            if !OTHER_VARIABLES.contains(&name.as_str()) {
                unknown.push(name);
            }
            continue;
        };
        let value = match example {
            toml::Value::Integer(_) => text.parse().map(toml::Value::Integer).ok(),
            toml::Value::Boolean(_) => text.parse().map(toml::Value::Boolean).ok(),
            _ => Some(toml::Value::String(text.clone())),
        };
        let wrong = |problem: &str| {
            Failure::new(ExitReason::Configuration, format!("the variable {name}={text} is wrong: {problem}"))
        };
        let value = value.ok_or_else(|| wrong(&format!("it must be {}", kind_of(example))))?;
        let alone: toml::Table = [(key.clone(), value.clone())].into_iter().collect();
        alone.try_into::<Changes>().map_err(|error| wrong(error.message()))?;
        table.insert(key, value);
    }
    let changes = table.try_into().expect("each value was tried alone");
    Ok((changes, unknown))
}

fn kind_of(example: &toml::Value) -> &'static str {
    match example {
        toml::Value::Integer(_) => "a whole number",
        toml::Value::Boolean(_) => "true or false",
        _ => "a text",
    }
}

impl Config {
    fn as_changes(&self) -> Changes {
        Changes {
            data_dir: Some(self.data_dir.clone()),
            listen: Some(self.listen.clone()),
            sqs_listen: Some(self.sqs_listen.clone()),
            sqs_public_url: self.sqs_public_url.clone(),
            sqs_trust_forwarded: Some(self.sqs_trust_forwarded),
            sqs_body_bytes_max: Some(self.sqs_body_bytes_max),
            sqs_head_timeout_ms: Some(self.sqs_head_timeout_ms),
            sqs_body_timeout_ms: Some(self.sqs_body_timeout_ms),
            sqs_write_timeout_ms: Some(self.sqs_write_timeout_ms),
            sqs_create_queues: Some(self.sqs_create_queues),
            sqs_reset: Some(self.sqs_reset),
            queues: (!self.queues.is_empty()).then(|| self.queues.clone()),
            account: Some(self.account.clone()),
            region: Some(self.region.clone()),
            io: Some(self.io),
            durability: Some(self.durability),
            handshake_timeout_ms: Some(self.handshake_timeout_ms),
            keep_alive_timeout_ms: Some(self.keep_alive_timeout_ms),
            shards: self.shards,
            pin_threads: Some(self.pin_threads),
            busy_poll_us: Some(self.busy_poll_us),
            gather_us: Some(self.gather_us),
            segment_bytes: Some(self.segment_bytes),
            hot_bytes_max: Some(self.hot_bytes_max),
            log_bytes_max: self.log_bytes_max,
            log_growth_factor: Some(self.log_growth_factor),
            minute_rules: Some(self.minute_rules),
            in_flight_max: Some(self.in_flight_max),
            deduplication_max: Some(self.deduplication_max),
        }
    }

    fn change(&mut self, changes: Changes) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut self.data_dir, changes.data_dir);
        set(&mut self.listen, changes.listen);
        set(&mut self.sqs_listen, changes.sqs_listen);
        self.sqs_public_url = changes.sqs_public_url.or(self.sqs_public_url.take());
        set(&mut self.sqs_trust_forwarded, changes.sqs_trust_forwarded);
        set(&mut self.sqs_body_bytes_max, changes.sqs_body_bytes_max);
        set(&mut self.sqs_head_timeout_ms, changes.sqs_head_timeout_ms);
        set(&mut self.sqs_body_timeout_ms, changes.sqs_body_timeout_ms);
        set(&mut self.sqs_write_timeout_ms, changes.sqs_write_timeout_ms);
        set(&mut self.sqs_create_queues, changes.sqs_create_queues);
        set(&mut self.sqs_reset, changes.sqs_reset);
        set(&mut self.queues, changes.queues);
        set(&mut self.account, changes.account);
        set(&mut self.region, changes.region);
        set(&mut self.io, changes.io);
        set(&mut self.durability, changes.durability);
        set(&mut self.handshake_timeout_ms, changes.handshake_timeout_ms);
        set(&mut self.keep_alive_timeout_ms, changes.keep_alive_timeout_ms);
        self.shards = changes.shards.or(self.shards);
        set(&mut self.pin_threads, changes.pin_threads);
        set(&mut self.busy_poll_us, changes.busy_poll_us);
        set(&mut self.gather_us, changes.gather_us);
        set(&mut self.segment_bytes, changes.segment_bytes);
        set(&mut self.hot_bytes_max, changes.hot_bytes_max);
        set(&mut self.log_growth_factor, changes.log_growth_factor);
        set(&mut self.minute_rules, changes.minute_rules);
        set(&mut self.in_flight_max, changes.in_flight_max);
        set(&mut self.deduplication_max, changes.deduplication_max);
        self.log_bytes_max = changes.log_bytes_max.or(self.log_bytes_max);
    }

    /// Whether the values can work, each for itself and together.
    pub fn check(&self) -> Result<(), Failure> {
        let segment_bytes = u64::from(self.segment_bytes);
        let log_segments = |bytes: u64| bytes / segment_bytes.max(1);
        let problem = if !self.segment_bytes.is_power_of_two()
            || !(4 << 20..=1 << 30).contains(&self.segment_bytes)
        {
            format!("segment_bytes is {segment_bytes}: it must be a power of two from 4 MiB to 1 GiB")
        } else if log_segments(self.hot_bytes_max) < 4 {
            format!("hot_bytes_max is {}: it must hold at least four segments", self.hot_bytes_max)
        } else if let Some(bytes) = self.log_bytes_max.filter(|bytes| log_segments(*bytes) < LOG_SEGMENTS_MIN)
        {
            format!(
                "log_bytes_max is {bytes}: it must hold at least {LOG_SEGMENTS_MIN} segments of \
                     {segment_bytes} bytes, or there is no room to clean a full log"
            )
        } else if let Some(shards) = self.shards.filter(|shards| !(1..=SHARDS_MAX).contains(shards)) {
            format!("shards is {shards}: it must be from 1 to {SHARDS_MAX}")
        } else if self.log_growth_factor < 2 {
            "log_growth_factor must be at least 2".to_owned()
        } else if self.in_flight_max == 0 || self.deduplication_max == 0 {
            "in_flight_max and deduplication_max must be over 0".to_owned()
        } else if self.gather_us > GATHER_US_MAX {
            format!("gather_us is {}: it must be {GATHER_US_MAX} at most", self.gather_us)
        } else if self.gather_us > 0 && self.busy_poll_us > 0 {
            "gather_us and busy_poll_us are both set: a shard either waits for requests to come together or \
             looks for them all the time"
                .to_owned()
        } else if let Some(problem) = self.problem_of_endpoint() {
            problem
        } else if let Some(problem) = queues::problem_of(&self.queues, &self.name_defaults()) {
            problem
        } else if self.handshake_timeout_ms == 0 || self.keep_alive_timeout_ms < 1000 {
            "handshake_timeout_ms must be over 0 and keep_alive_timeout_ms at least 1000".to_owned()
        } else {
            return Ok(());
        };
        Err(Failure::new(ExitReason::Configuration, problem))
    }
}

impl Config {
    /// The account and the region of queues whose clients name none.
    pub(crate) fn name_defaults(&self) -> NameDefaults {
        NameDefaults { account: self.account.as_str().into(), region: self.region.as_str().into() }
    }

    fn problem_of_endpoint(&self) -> Option<String> {
        if let Err(error) = QueueName::parse_scope(&self.account, &self.region, &NameDefaults::default()) {
            return Some(format!("account is {:?} and region {:?}: {error}", self.account, self.region));
        }
        if self.account.is_empty() || self.region.is_empty() {
            return Some("account and region must not be empty".to_owned());
        }
        if !(SQS_BODY_BYTES_MAX_RANGE).contains(&self.sqs_body_bytes_max) {
            let (least, most) = (SQS_BODY_BYTES_MAX_RANGE.start(), SQS_BODY_BYTES_MAX_RANGE.end());
            let bytes = self.sqs_body_bytes_max;
            return Some(format!("sqs_body_bytes_max is {bytes}: it must be from {least} to {most}"));
        }
        let timeouts = [self.sqs_head_timeout_ms, self.sqs_body_timeout_ms, self.sqs_write_timeout_ms];
        if timeouts.iter().any(|timeout| *timeout < SQS_TIMEOUT_MS_MIN) {
            return Some(format!(
                "sqs_head_timeout_ms, sqs_body_timeout_ms and sqs_write_timeout_ms must be at least {SQS_TIMEOUT_MS_MIN}"
            ));
        }
        let url = self.sqs_public_url.as_deref()?;
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace)) {
            return None;
        }
        Some(format!("sqs_public_url is {url:?}: it must begin with http:// or https:// and name a host"))
    }
}

/// Variables that are no text set nothing.
pub fn text_of((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn read_file(path: &Path) -> Result<Changes, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let text = format!("the configuration file {} cannot be read: {error}", path.display());
        Failure::new(ExitReason::Configuration, text)
    })?;
    toml::from_str(&text).map_err(|error| {
        let text =
            format!("the configuration file {} is wrong: {}", path.display(), error.to_string().trim_end());
        Failure::new(ExitReason::Configuration, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("writable");
        file
    }

    fn load(file: Option<&Path>, flags: Changes) -> Result<Config, Failure> {
        Layers::read(file, [], flags)?.config()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file_with("durability = \"async\"\nlisten = \"127.0.0.1:1\"\n");
        let flags = Changes { listen: Some("localhost:2".parse().expect("valid")), ..Changes::default() };
        let config = load(Some(file.path()), flags).expect("valid");
        assert_eq!(config.durability, DurabilitySetting::Async);
        assert_eq!(config.listen.to_string(), "localhost:2");
        assert_eq!(config.io, IoSetting::Auto);
    }

    #[test]
    fn the_environment_stands_between_the_file_and_the_flags() {
        let file = file_with("durability = \"async\"\nlog_growth_factor = 3\nsegment_bytes = 8388608\n");
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let variables = [
            variable("TENPIN_LOG_GROWTH_FACTOR", "4"),
            variable("TENPIN_DURABILITY", "memory"),
            variable("TENPIN_ADDRESS", "elsewhere:1"),
            variable("TENPIN_PORT", "tcp://10.0.0.1:7010"),
            variable("HOME", "/"),
        ];
        let flags = Changes { durability: Some(DurabilitySetting::Fsync), ..Changes::default() };
        let layers = Layers::read(Some(file.path()), variables, flags).expect("valid");
        let config = layers.config().expect("valid");
        assert_eq!(config.log_growth_factor, 4);
        assert_eq!(config.durability, DurabilitySetting::Fsync);
        assert_eq!(layers.unknown_variables, ["TENPIN_PORT"]);
        let text = layers.describe().expect("valid");
        for (key, source) in [
            ("segment_bytes", "file"),
            ("log_growth_factor", "environment"),
            ("durability", "flag"),
            ("io", "default"),
        ] {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{key} =")))
                .expect("every setting is shown");
            assert!(line.ends_with(&format!("# {source}")), "{line}");
        }
        let all = toml::Table::try_from(Changes {
            queues: Some(Vec::new()),
            log_bytes_max: Some(0),
            shards: Some(0),
            sqs_public_url: Some(String::new()),
            ..config.as_changes()
        });
        for key in all.expect("settings can be written").keys() {
            assert!(
                text.contains(&format!("{key} = ")) || text.contains(&format!("# {key} is not set")),
                "{key}"
            );
        }
        let again = file_with(&text);
        assert_eq!(
            Layers::read(Some(again.path()), [], Changes::default()).unwrap().config().unwrap(),
            config
        );
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value) in [
            ("TENPIN_HOT_BYTES_MAX", "much"),
            ("TENPIN_IO", "carrier pigeon"),
            ("TENPIN_MINUTE_RULES", "perhaps"),
        ] {
            let failure = Layers::read(None, [(name.to_owned(), value.to_owned())], Changes::default())
                .expect_err("a wrong value");
            assert_eq!(failure.reason, ExitReason::Configuration);
            assert!(failure.text.contains(name) && failure.text.contains(value), "{}", failure.text);
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let file = file_with("listen = \"127.0.0.1:1\"\ndurabilty = \"fsync\"\n");
        let failure = load(Some(file.path()), Changes::default()).expect_err("a typing error");
        assert_eq!(failure.reason, ExitReason::Configuration);
        assert!(failure.text.contains("line 2") && failure.text.contains("durabilty"), "{}", failure.text);
    }

    #[test]
    fn the_least_log_is_taken() {
        let file = file_with("segment_bytes = 4194304\nlog_bytes_max = 33554432");
        assert!(load(Some(file.path()), Changes::default()).is_ok());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for text in [
            "segment_bytes = 5000000",
            "hot_bytes_max = 1",
            "log_growth_factor = 1",
            "segment_bytes = 4194304\nlog_bytes_max = 33554431",
            "handshake_timeout_ms = 0",
            "in_flight_max = 0",
            "deduplication_max = 0",
            "gather_us = 10001",
            "gather_us = 100\nbusy_poll_us = 100",
        ] {
            let file = file_with(text);
            assert!(load(Some(file.path()), Changes::default()).is_err(), "{text}");
        }
    }
}
