//! Commands that talk to a running broker: queues, messages, counters.
//!
//! They are a client like any other. Output is for people, or one JSON value a line with `--json`; what
//! goes wrong is one line on standard error and an exit code of its own.

mod help;
mod lines;
mod messages;
mod output;
mod queues;

pub use output::print;

use clap::{Args, Subcommand};
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_client::{Client, Error};

/// Where the broker is and how to print.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Broker and output")]
pub struct Common {
    /// Address of the broker: a name or an IP address, and a port.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "TENPIN_ADDRESS",
        default_value = "127.0.0.1:7010",
        value_parser = address,
        global = true
    )]
    pub address: String,
    /// Print JSON, one value a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Give up when the broker has not answered for so many seconds, from 1; a wait for messages comes on top.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=86_400),
        global = true
    )]
    pub timeout: u64,
}

/// Flags of a command, and those that all commands to a broker have.
#[derive(Args, Debug)]
pub struct With<T: Args> {
    #[command(flatten)]
    flags: T,
    #[command(flatten)]
    common: Common,
}

/// Commands about queues, and the flags that all of them have.
#[derive(Args, Debug)]
pub struct QueueCommands {
    #[command(subcommand)]
    command: queues::QueueCommand,
    #[command(flatten)]
    common: Common,
}

fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(text.to_owned())
        }
        _ => Err("give a host and a port, such as 127.0.0.1:7010".to_owned()),
    }
}

/// What a client of a broker can be told on the command line.
#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Make, list, show, change, tag, empty and delete queues.
    #[command(after_long_help = help::QUEUE)]
    Queue(QueueCommands),
    /// Send messages: from arguments, files, or standard input.
    ///
    /// Bodies given as arguments and files are sent one after the other, each acknowledged before the next, and the
    /// id of each is printed. With --lines each line is a message of its own, many are under way at once, and what is
    /// printed is how many were sent; a bar shows the progress where standard error is a terminal.
    #[command(after_help = help::SEND, after_long_help = help::SEND_LONG)]
    Send(With<messages::SendFlags>),
    /// Receive messages; each stays hidden until its visibility timeout ends, or is deleted at once.
    ///
    /// Prints each message, and the handle by which it is deleted. Where there is none, nothing is printed, which
    /// is no error.
    #[command(after_help = help::RECEIVE, after_long_help = help::RECEIVE_LONG)]
    Receive(With<messages::ReceiveFlags>),
    /// Delete received messages by their handles.
    ///
    /// A handle names one delivery of a message. Nothing is printed; deleting what is deleted is no error.
    #[command(after_help = help::DELETE, after_long_help = help::DELETE_LONG)]
    Delete(With<messages::DeleteFlags>),
    /// Change for how long received messages stay hidden.
    ///
    /// The time counts from now. With 0 they are there for the next receive at once; a message is hidden for at most
    /// 12 hours since it was received. Nothing is printed.
    #[command(after_help = help::HIDE, after_long_help = help::HIDE_LONG)]
    Hide(With<messages::HideFlags>),
    /// Look at messages without receiving them.
    ///
    /// Nothing happens to what is looked at: it is not received and not hidden. Messages in every state are shown,
    /// those that are hidden or delayed with when that ends.
    #[command(after_help = help::PEEK, after_long_help = help::PEEK_LONG)]
    Peek(With<messages::PeekFlags>),
    /// Show counters of the broker, or of a queue.
    ///
    /// Counts of messages are those of this moment; what was sent, received and deleted is counted since the broker
    /// was started.
    #[command(after_help = help::STATS, after_long_help = help::STATS_LONG)]
    Stats(With<queues::StatsFlags>),
}

/// Runs a command against a broker.
pub fn run(command: ClientCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitReason::Unexpected, format!("no runtime: {error}")))?;
    runtime.block_on(async {
        match command {
            ClientCommand::Queue(QueueCommands { command, common }) => {
                queues::run(&connect(&common).await?, &common, command).await
            }
            ClientCommand::Send(With { flags, common }) => messages::send(&common, flags).await,
            ClientCommand::Receive(With { flags, common }) => {
                messages::receive(&connect(&common).await?, &common, flags).await
            }
            ClientCommand::Delete(With { flags, common }) => {
                messages::delete(&connect(&common).await?, flags).await
            }
            ClientCommand::Hide(With { flags, common }) => {
                messages::hide(&connect(&common).await?, flags).await
            }
            ClientCommand::Peek(With { flags, common }) => {
                messages::peek(&connect(&common).await?, &common, flags).await
            }
            ClientCommand::Stats(With { flags, common }) => {
                queues::stats(&connect(&common).await?, &common, flags).await
            }
        }
    })
}

async fn connect(common: &Common) -> Result<Client, Failure> {
    Client::builder(&common.address)
        .request_timeout(std::time::Duration::from_secs(common.timeout))
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
