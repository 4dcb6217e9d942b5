//! The command line, thin: it reads flags, and leaves the work to the library. Commands that talk to a
//! running broker are in `cli`.

mod cli;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tenpin_broker::config::{self, Changes, DurabilitySetting, IoSetting, Layers, SqsListen};
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_broker::{reshard, tools};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A message broker with the semantics of Amazon SQS: durable, fast, one binary.
///
/// Without a command it serves with its defaults: the binary protocol on 127.0.0.1:7010, data in
/// ./tenpin-data, every acknowledged message on disk.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker.
    #[command(after_help = EXIT_CODES)]
    Serve(ServeFlags),
    /// Look at the log of a data folder whose broker is stopped.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Check or show the configuration that a broker would have.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that completes this command line in a shell.
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
    Check(ServeFlags),
    /// Print every setting, its value, and where it comes from.
    Show(ServeFlags),
}

#[derive(Args, Default)]
struct ServeFlags {
    /// Folder of the data; made if it is not there [default: tenpin-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Address of the binary protocol; port 0 takes a free one [default: 127.0.0.1:7010].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Address of the SQS-compatible endpoint, or off; port 0 takes a free one [default: 127.0.0.1:9324].
    #[arg(long, value_name = "ADDRESS:PORT|off")]
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
    /// Number of shards of a new folder, 1 if not given; an existing folder's stays what it is.
    #[arg(long, value_name = "NUMBER")]
    shards: Option<u16>,
    /// A configuration file (TOML); variables (TENPIN_DATA_DIR …) win over it, and flags over those.
    #[arg(long, value_name = "FILE", env = "TENPIN_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Show what the log consists of: segments, batches, records by kind.
    Inspect(JournalFlags),
    /// Read the whole log and check every checksum in it.
    Verify(JournalFlags),
    /// Spread everything over another number of shards; a crash leaves the old ones or the new ones whole.
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
    /// How many shards there are to be.
    #[arg(long, value_name = "NUMBER")]
    shards: u16,
}

const EXIT_CODES: &str = "Exit codes: 0 stopped as asked, 1 unexpected, 2 usage, 3 configuration, 4 cannot listen, \
5 folder in use, 6 folder unusable, 7 log damaged, 8 log could not be written, 9 io_uring refused, \
10 no broker answers, 11 refused by the broker.";

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
            clap_complete::generate(shell, &mut CommandLine::command(), "tenpin", &mut std::io::stdout());
            Ok(())
        }
        Command::Client(command) => cli::run(&command_line.common, command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tenpin: {failure}");
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
            ..Changes::default()
        };
        Layers::read(self.config.as_deref(), std::env::vars_os().filter_map(config::text_of), changes)
    }
}

fn serve(flags: ServeFlags) -> Result<(), Failure> {
    let config = flags.layers()?.config()?;
    serve::serve(&config).map_err(|failure| match failure.reason {
        ExitReason::RingRefused => Failure::new(failure.reason, format!("{failure}; or use --io auto")),
        _ => failure,
    })
}

fn check_config(flags: ServeFlags) -> Result<(), Failure> {
    let layers = flags.layers()?;
    layers.config()?;
    for name in &layers.unknown_variables {
        eprintln!("tenpin: the variable {name} sets nothing");
    }
    println!("the configuration is good");
    Ok(())
}

fn show_config(flags: ServeFlags) -> Result<(), Failure> {
    print!("{}", flags.layers()?.describe()?);
    Ok(())
}
