//! Commands that talk to a running broker: queues, messages, counters.
//!
//! They are a client like any other. Output is for people, or one JSON value a line with `--json`; what
//! goes wrong is one line on standard error and an exit code of its own.

mod lines;
mod messages;
mod output;
mod queues;

use clap::{Args, Subcommand};
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_client::{Client, Error};

/// Heading of the options that only commands to a running broker look at.
const TALKING: &str = "Commands that talk to a running broker";

/// Where the broker is and how to print.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Address of the broker.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "TENPIN_ADDRESS",
        default_value = "127.0.0.1:7010",
        global = true
    )]
    pub address: String,
    /// Print JSON, one value a line.
    #[arg(long, global = true, help_heading = TALKING)]
    pub json: bool,
    /// Give up when the broker has not answered for so long, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, global = true, help_heading = TALKING)]
    pub timeout: u64,
}

const SEND_EXAMPLES: &str = "Examples:
  tenpin send orders 'a first order' 'a second one'
  tenpin send orders --file order.json
  seq 1 1000000 | tenpin send orders --lines
  tenpin send steps.fifo --group customer-17 'a step'

With --json it prints a line with a message_id for each message once it is acknowledged.";

const RECEIVE_EXAMPLES: &str = "Examples:
  tenpin receive orders                     one message and its handle; it is hidden meanwhile
  tenpin receive orders --max 100 --delete
  tenpin receive orders --json | jq -r .body

What is not deleted comes back when its visibility timeout ends.";

const DELETE_EXAMPLES: &str = "Examples:
  tenpin delete orders HANDLE
  tenpin receive orders --json | jq -r .handle | xargs tenpin delete orders";

const PEEK_EXAMPLES: &str = "Examples:
  tenpin peek orders
  tenpin peek orders --max 100 --json

Nothing happens to what is looked at: it is not received and not hidden.";

const STATS_EXAMPLES: &str = "Examples:
  tenpin stats
  tenpin stats orders --json";

/// What a client of a broker can be told on the command line.
#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Make, list, show, change, empty and delete queues.
    #[command(subcommand)]
    Queue(queues::QueueCommand),
    /// Send messages: from arguments, files, or standard input.
    #[command(after_help = SEND_EXAMPLES)]
    Send(messages::SendFlags),
    /// Receive messages; each stays hidden until its visibility timeout ends, or is deleted at once.
    #[command(after_help = RECEIVE_EXAMPLES)]
    Receive(messages::ReceiveFlags),
    /// Delete received messages by their handles.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(messages::DeleteFlags),
    /// Look at messages without receiving them.
    #[command(after_help = PEEK_EXAMPLES)]
    Peek(messages::PeekFlags),
    /// Show counters of the broker, or of a queue.
    #[command(after_help = STATS_EXAMPLES)]
    Stats(queues::StatsFlags),
}

/// Runs a command against a broker.
pub fn run(common: &Common, command: ClientCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitReason::Unexpected, format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let client = connect(common).await?;
        match command {
            ClientCommand::Queue(command) => queues::run(&client, common, command).await,
            ClientCommand::Send(flags) => messages::send(&client, common, flags).await,
            ClientCommand::Receive(flags) => messages::receive(&client, common, flags).await,
            ClientCommand::Delete(flags) => messages::delete(&client, flags).await,
            ClientCommand::Peek(flags) => messages::peek(&client, common, flags).await,
            ClientCommand::Stats(flags) => queues::stats(&client, common, flags).await,
        }
    })
}

async fn connect(common: &Common) -> Result<Client, Failure> {
    Client::builder(&common.address)
        .request_timeout(std::time::Duration::from_secs(common.timeout.max(1)))
        .connect()
        .await
        .map_err(failure)
}

/// The exit code for what a client met.
pub(crate) fn failure(error: Error) -> Failure {
    let reason = match &error {
        Error::Connect { .. } | Error::Disconnected { .. } | Error::TimedOut { .. } => {
            ExitReason::Unreachable
        }
        Error::Refused(_) => ExitReason::Refused,
        Error::Invalid(_) => ExitReason::Usage,
        _ => ExitReason::Unexpected,
    };
    let hint = match &error {
        Error::Connect { .. } => {
            " (start one with `tenpin serve`, or name another with --address or TENPIN_ADDRESS)"
        }
        _ => "",
    };
    Failure::new(reason, format!("{error}{hint}"))
}

/// A mistake in what was typed.
pub(crate) fn usage(text: impl Into<String>) -> Failure {
    Failure::new(ExitReason::Usage, text.into())
}
