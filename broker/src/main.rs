//! The command line, thin: it reads flags, and leaves the work to the library. Commands that talk to a
//! running broker are in `cli`.

mod cli;
mod serve;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tenpin_broker::address::ListenAddress;
use tenpin_broker::config::{self, Changes, DurabilitySetting, IoSetting, Layers, SqsListen};
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_broker::{reshard, tools};

macro_rules! all_examples {
    () => {
        "Examples:
  tenpin                                    a broker with its defaults
  tenpin queue create orders
  tenpin send orders 'a first order'
  tenpin receive orders --delete
  tenpin help send                          the same as tenpin send --help"
    };
}

macro_rules! serve_examples {
    () => {
        "Examples:
  tenpin serve --data-dir /var/lib/tenpin --listen 0.0.0.0:7010
  tenpin serve --durability memory --sqs-listen off
  tenpin serve --config tenpin.toml"
    };
}

macro_rules! environment {
    () => {
        "

Environment:
  TENPIN_CONFIG    the configuration file, where --config is not given
  TENPIN_DATA_DIR, TENPIN_LISTEN, TENPIN_DURABILITY and so on: any setting of the file by its name in capitals.
                   The file wins over the defaults, the environment over the file, flags over all;
                   `tenpin config show` prints every setting.
  TENPIN_ADDRESS   where commands that talk to a running broker find it"
    };
}

macro_rules! exit_codes {
    () => {
        "

Exit codes:
  0   stopped as asked, or done
  1   something unexpected
  2   the command line is wrong
  3   the configuration is wrong
  4   the address cannot be listened on
  5   another broker has the data folder
  6   the data folder cannot be used
  7   the log is damaged; nothing was changed
  8   the log could not be written
  9   io_uring was asked for and is refused here"
    };
}

macro_rules! talking_codes {
    () => {
        "
  10  no broker answers at the address, or not in time
  11  the broker refused what was asked"
    };
}

macro_rules! config_codes {
    () => {
        "

Exit codes:
  0   the configuration is good
  1   something unexpected, such as standard output being closed
  2   the command line is wrong
  3   the configuration is wrong"
    };
}

macro_rules! journal_codes {
    () => {
        "

The broker of the folder must be stopped.

Exit codes:
  0   done, and nothing is damaged
  1   something unexpected
  2   the command line is wrong
  5   a broker has the folder
  6   the folder cannot be used
  7   the log is damaged; nothing was changed"
    };
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A message broker with the semantics of Amazon SQS: durable, fast, one binary.
///
/// Without a command it serves with its defaults: the binary protocol on 127.0.0.1:7010, data in
/// ./tenpin-data, every acknowledged message on disk.
#[derive(Parser)]
#[command(name = "tenpin", version, after_help = all_examples!(), after_long_help = concat!(all_examples!(), environment!(), exit_codes!(), talking_codes!()))]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker.
    ///
    /// It says on standard output where it listens and how, and serves until SIGTERM or Ctrl-C: then long polls return,
    /// replies leave, and the log is synced. Killed, it recovers from its log at the next start.
    #[command(
        after_help = serve_examples!(),
        after_long_help = concat!(serve_examples!(), environment!(), exit_codes!())
    )]
    Serve(ServeFlags),
    /// Look at the log of a data folder whose broker is stopped.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Check or show the configuration that a broker would have.
    ///
    /// It takes the flags of `tenpin serve`: the defaults, over them the file, over that the environment, over that the
    /// flags.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that completes this command line in a shell.
    #[command(after_help = "Examples:
  source <(tenpin completions bash)
  tenpin completions fish > ~/.config/fish/completions/tenpin.fish")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Client(cli::ClientCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check a configuration file and the environment; say by line what is wrong.
    #[command(
        after_help = "Examples:\n  tenpin config check --config tenpin.toml",
        after_long_help = concat!("Examples:\n  tenpin config check --config tenpin.toml", environment!(), config_codes!())
    )]
    Check(ServeFlags),
    /// Print every setting, its value, and where it comes from: a configuration file that says the same.
    #[command(
        after_help = "Examples:\n  tenpin config show --durability async > tenpin.toml",
        after_long_help =
            concat!("Examples:\n  tenpin config show --durability async > tenpin.toml", environment!(), config_codes!())
    )]
    Show(ServeFlags),
}

#[derive(Args, Default)]
struct ServeFlags {
    /// Folder of the data; made if it is not there [default: tenpin-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Address of the binary protocol, or a name; port 0 takes a free one [default: 127.0.0.1:7010].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<ListenAddress>,
    /// Address of the SQS-compatible endpoint, or off; port 0 takes a free one [default: 127.0.0.1:9324].
    #[arg(long, value_name = "HOST:PORT|off")]
    sqs_listen: Option<SqsListen>,
    /// What queue URLs begin with, as `https://queues.example`; the host by which each client came if not given.
    #[arg(long, value_name = "URL")]
    sqs_public_url: Option<String>,
    /// Make a queue when the SQS-compatible endpoint is asked for one that does not exist.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    sqs_create_queues: Option<bool>,
    /// Let POST /reset at the SQS-compatible endpoint delete all queues, for tests.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    sqs_reset: Option<bool>,
    /// Region of queues whose clients name none [default: us-east-1].
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Account of queues whose clients name none: 12 digits [default: 000000000000].
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// How to talk to the kernel [default: auto].
    #[arg(long, value_enum)]
    io: Option<IoSetting>,
    /// When a request is acknowledged [default: fsync].
    #[arg(long, value_enum)]
    durability: Option<DurabilitySetting>,
    /// Number of shards of a new folder, 1 to 128 [default: 1]; an existing folder's stays what it is.
    #[arg(long, value_name = "NUMBER")]
    shards: Option<u16>,
    /// Microseconds for which a shard looks for more to do before it sleeps, which takes its core [default: 0].
    #[arg(long, value_name = "MICROSECONDS")]
    busy_poll_us: Option<u32>,
    /// Microseconds that requests may wait for others to come with them, which saves processor time [default: 0].
    #[arg(long, value_name = "MICROSECONDS")]
    gather_us: Option<u32>,
    /// A configuration file (TOML); variables (TENPIN_DATA_DIR …) win over it, and flags over those.
    #[arg(long, value_name = "FILE", env = "TENPIN_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Show what the log consists of: segments, batches, records by kind.
    #[command(after_help = "Examples:\n  tenpin journal inspect --data-dir tenpin-data", after_long_help =
        concat!("Examples:\n  tenpin journal inspect --data-dir tenpin-data", journal_codes!()))]
    Inspect(JournalFlags),
    /// Read the whole log and check every checksum in it.
    #[command(after_help = "Examples:\n  tenpin journal verify --data-dir tenpin-data", after_long_help =
        concat!("Examples:\n  tenpin journal verify --data-dir tenpin-data", journal_codes!()))]
    Verify(JournalFlags),
    /// Spread everything over another number of shards; a crash leaves the old ones or the new ones whole.
    #[command(after_help = "Examples:\n  tenpin journal reshard --data-dir tenpin-data --shards 4", after_long_help =
        concat!("Examples:\n  tenpin journal reshard --data-dir tenpin-data --shards 4", journal_codes!()))]
    Reshard(ReshardFlags),
}

#[derive(Args)]
struct JournalFlags {
    /// Folder of the data.
    #[arg(long, value_name = "FOLDER", default_value = "tenpin-data")]
    data_dir: PathBuf,
}

#[derive(Args)]
struct ReshardFlags {
    #[command(flatten)]
    journal: JournalFlags,
    /// How many shards there are to be, 1 to 128.
    #[arg(long, value_name = "NUMBER")]
    shards: u16,
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let result = match command_line.command.unwrap_or(Command::Serve(ServeFlags::default())) {
        Command::Serve(flags) => serve(flags),
        Command::Journal(JournalCommand::Inspect(flags)) => tools::inspect(&flags.data_dir),
        Command::Journal(JournalCommand::Verify(flags)) => tools::verify(&flags.data_dir),
        Command::Journal(JournalCommand::Reshard(flags)) => {
            reshard::reshard(&flags.journal.data_dir, flags.shards, &mut |text| eprintln!("tenpin: {text}"))
        }
        Command::Config(ConfigCommand::Check(flags)) => check_config(flags),
        Command::Config(ConfigCommand::Show(flags)) => show_config(flags),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "tenpin", &mut script);
            cli::print(&script)
        }
        Command::Client(command) => cli::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody may be there to read it; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "tenpin: {failure}");
            failure.reason.into()
        }
    }
}

impl ServeFlags {
    fn layers(self) -> Result<Layers, Failure> {
        let changes = Changes {
            data_dir: self.data_dir,
            listen: self.listen,
            sqs_listen: self.sqs_listen,
            sqs_public_url: self.sqs_public_url,
            sqs_create_queues: self.sqs_create_queues,
            sqs_reset: self.sqs_reset,
            region: self.region,
            account: self.account,
            io: self.io,
            durability: self.durability,
            shards: self.shards,
            busy_poll_us: self.busy_poll_us,
            gather_us: self.gather_us,
            ..Changes::default()
        };
        Layers::read(self.config.as_deref(), std::env::vars_os().filter_map(config::text_of), changes)
    }
}

fn serve(flags: ServeFlags) -> Result<(), Failure> {
    let layers = flags.layers()?;
    let config = layers.config()?;
    say_unknown_variables(&layers);
    serve::serve(&config).map_err(|failure| match failure.reason {
        ExitReason::RingRefused => Failure::new(failure.reason, format!("{failure}; or use --io auto")),
        _ => failure,
    })
}

fn check_config(flags: ServeFlags) -> Result<(), Failure> {
    let layers = flags.layers()?;
    layers.config()?;
    say_unknown_variables(&layers);
    cli::print(b"the configuration is good\n")
}

/// Kubernetes sets some such variables for a service of this name, so that they are no error.
fn say_unknown_variables(layers: &Layers) {
    let names = &layers.unknown_variables;
    if !names.is_empty() {
        eprintln!("tenpin: no setting has the name of these variables: {}", names.join(", "));
    }
}

fn show_config(flags: ServeFlags) -> Result<(), Failure> {
    cli::print(flags.layers()?.describe()?.as_bytes())
}
