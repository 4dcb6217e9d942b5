//! Commands about queues.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_client::{
    AttributeCode, Client, ErrorCode, MoveTask, MoveTaskStatus, Queue, QueueAttributes, StatisticCode,
};

use super::output::{duration, epoch_ms, is_watched, json_line, line, table};
use super::{Common, failure, help, usage};

/// How often a task is asked how far it is.
const POLL: Duration = Duration::from_millis(500);

/// What can be done with queues.
#[derive(Subcommand, Debug)]
pub enum QueueCommand {
    /// Make a queue, or find the one of this name; a name that ends in .fifo makes a FIFO queue.
    ///
    /// Prints the queue as `tenpin queue show` does. Where one of this name is there already, those of its attributes
    /// that are given must be as given.
    #[command(after_help = help::CREATE, after_long_help = help::CREATE_LONG)]
    Create {
        /// Its name.
        name: String,
        /// Attributes by their SQS names, such as VisibilityTimeout=60.
        #[arg(value_name = "ATTRIBUTE=VALUE", value_parser = pair)]
        attributes: Vec<(String, String)>,
        /// A tag of a new queue.
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        tag: Vec<(String, String)>,
    },
    /// List queues with their counts.
    #[command(after_help = help::LIST, after_long_help = help::LIST_LONG)]
    List {
        /// Only those whose names begin so.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Show a queue: counts, attributes, tags.
    #[command(after_help = help::SHOW, after_long_help = help::SHOW_LONG)]
    Show {
        /// Its name.
        name: String,
    },
    /// Change attributes of a queue: all that are given, or none where one is refused.
    #[command(after_help = help::SET, after_long_help = help::SET_LONG)]
    Set {
        /// Its name.
        name: String,
        /// Attributes by their SQS names, such as VisibilityTimeout=60; an empty value resets a policy.
        #[arg(value_name = "ATTRIBUTE=VALUE", value_parser = pair, required = true)]
        attributes: Vec<(String, String)>,
    },
    /// Add tags to a queue, or replace those whose keys it has.
    #[command(after_help = help::TAG, after_long_help = help::TAG_LONG)]
    Tag {
        /// Its name.
        name: String,
        /// Tags, of which a queue has up to 50.
        #[arg(value_name = "KEY=VALUE", value_parser = pair, required = true)]
        tags: Vec<(String, String)>,
    },
    /// Remove tags of a queue.
    #[command(after_help = help::UNTAG, after_long_help = help::UNTAG_LONG)]
    Untag {
        /// Its name.
        name: String,
        /// Keys of tags; one that is not there is no error.
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Delete a queue with all its messages.
    ///
    /// Nothing is asked, and nothing brings them back. Its name is free again after 60 seconds.
    #[command(after_help = help::DELETE_QUEUE, after_long_help = help::DELETE_QUEUE_LONG)]
    Delete {
        /// Its name.
        name: String,
    },
    /// Delete all messages of a queue.
    ///
    /// Nothing is asked, and nothing brings them back. At most once in 60 seconds.
    #[command(after_help = help::PURGE, after_long_help = help::PURGE_LONG)]
    Purge {
        /// Its name.
        name: String,
    },
    /// Move the messages of a dead-letter queue back to where they came from, or to another queue.
    #[command(after_help = help::REDRIVE, after_long_help = help::REDRIVE_LONG)]
    Redrive(RedriveFlags),
}

/// How dead letters are moved.
#[derive(Args, Debug)]
pub struct RedriveFlags {
    /// The dead-letter queue.
    name: String,
    /// Move them to this queue, not back to the ones that they came from.
    #[arg(long, value_name = "QUEUE")]
    to: Option<String>,
    /// Messages a second, 1 to 500; as fast as possible if not given.
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: Option<u32>,
    /// Return once the task is started, not when it has ended.
    #[arg(long)]
    detach: bool,
    /// Show the tasks of this queue, newest first, and start none.
    #[arg(long, conflicts_with_all = ["to", "rate", "detach", "cancel"])]
    status: bool,
    /// Stop the task that runs.
    #[arg(long, conflicts_with_all = ["to", "rate", "detach"])]
    cancel: bool,
}

/// Whose counters are shown.
#[derive(Args, Debug)]
pub struct StatsFlags {
    /// A queue; the whole broker if not given.
    queue: Option<String>,
}

/// Runs a command about queues.
pub async fn run(client: &Client, common: &Common, command: QueueCommand) -> Result<(), Failure> {
    match command {
        QueueCommand::Create { name, attributes, tag } => {
            let mut wanted = parse_attributes(&attributes)?;
            for (key, value) in tag {
                wanted = wanted.tag(key, value);
            }
            let queue = client.create_queue_with(name.as_str(), &wanted).await.map_err(failure)?;
            show(&queue, common).await
        }
        QueueCommand::List { prefix } => list(client, common, &prefix).await,
        QueueCommand::Show { name } => show(&open(client, &name).await?, common).await,
        QueueCommand::Set { name, attributes } => {
            let changes = parse_attributes(&attributes)?;
            open(client, &name).await?.set_attributes(&changes).await.map_err(failure)
        }
        QueueCommand::Tag { name, tags } => {
            let tags: Vec<_> = tags.iter().map(|(key, value)| (&**key, &**value)).collect();
            open(client, &name).await?.tag(&tags).await.map_err(failure)
        }
        QueueCommand::Untag { name, keys } => {
            let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
            open(client, &name).await?.untag(&keys).await.map_err(failure)
        }
        QueueCommand::Delete { name } => open(client, &name).await?.delete_queue().await.map_err(failure),
        QueueCommand::Purge { name } => open(client, &name).await?.purge().await.map_err(failure),
        QueueCommand::Redrive(flags) => redrive(client, common, flags).await,
    }
}

/// Opens a queue by its name.
pub async fn open(client: &Client, name: &str) -> Result<Queue, Failure> {
    client.queue(name).await.map_err(|error| {
        let is_missing = error.code() == Some(ErrorCode::QueueDoesNotExist);
        let Failure { reason, text } = failure(error);
        let hint = if is_missing {
            format!(" None is called {name}: `tenpin queue create {name}` makes it, `tenpin queue list` shows those there are.")
        } else {
            String::new()
        };
        Failure::new(reason, text + &hint)
    })
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("\"{text}\" has no \"=\": give NAME=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_attributes(pairs: &[(String, String)]) -> Result<QueueAttributes, Failure> {
    let mut attributes = QueueAttributes::new();
    for (name, value) in pairs {
        let Some(code) = AttributeCode::from_name(name) else {
            let known: Vec<_> = AttributeCode::ALL
                .iter()
                .filter(|code| !code.is_read_only())
                .map(|code| code.name())
                .collect();
            return Err(usage(format!("no attribute is called {name}; there are {}", known.join(", "))));
        };
        attributes = if code.is_text() {
            attributes.text(code, value.as_str())
        } else {
            let number = match value.as_str() {
                "true" if code.is_switch() => 1,
                "false" if code.is_switch() => 0,
                text => text
                    .parse()
                    .map_err(|_| usage(format!("{name}={value}: {value} is not a whole number")))?,
            };
            attributes.number(code, number)
        };
    }
    Ok(attributes)
}

async fn list(client: &Client, common: &Common, prefix: &str) -> Result<(), Failure> {
    let mut rows = vec![["NAME", "VISIBLE", "IN FLIGHT", "DELAYED"].map(str::to_owned).to_vec()];
    let mut page = None;
    loop {
        let next = client.list_queues(prefix, page.as_ref()).await.map_err(failure)?;
        for name in &next.names {
            let stats = match client.queue(name.clone()).await {
                Ok(queue) => queue.stats().await.map_err(failure)?,
                // It was deleted meanwhile.
                Err(error) if error.code() == Some(ErrorCode::QueueDoesNotExist) => continue,
                Err(error) => return Err(failure(error)),
            };
            let counts = [stats.visible(), stats.in_flight(), stats.delayed()];
            if common.json {
                let [visible, in_flight, delayed] = counts;
                let value = json!({ "name": name.name(), "account": name.account(), "region": name.region(),
                    "visible": visible, "in_flight": in_flight, "delayed": delayed });
                json_line(&value)?;
            } else {
                let mut row = vec![name.name().to_owned()];
                row.extend(counts.iter().map(u64::to_string));
                rows.push(row);
            }
        }
        let has_more = next.has_more();
        page = Some(next);
        if !has_more {
            break;
        }
    }
    if !common.json {
        table(&rows)?;
    }
    Ok(())
}

async fn show(queue: &Queue, common: &Common) -> Result<(), Failure> {
    let stats = queue.stats().await.map_err(failure)?;
    let attributes = queue.attributes().await.map_err(failure)?;
    let tags = queue.tags().await.map_err(failure)?;
    if common.json {
        let attributes: serde_json::Map<String, Value> =
            attributes.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let tags: serde_json::Map<String, Value> =
            tags.into_iter().map(|(key, value)| (key, json!(value))).collect();
        return json_line(&json!({
            "name": queue.name().name(),
            "fifo": queue.is_fifo(),
            "visible": stats.visible(),
            "in_flight": stats.in_flight(),
            "delayed": stats.delayed(),
            "attributes": attributes,
            "tags": tags,
        }));
    }
    let mut rows = vec![vec!["Name".to_owned(), queue.name().name().to_owned()]];
    rows.extend(
        [("Visible", stats.visible()), ("In flight", stats.in_flight()), ("Delayed", stats.delayed())]
            .map(|(name, value)| vec![name.to_owned(), value.to_string()]),
    );
    let oldest = stats.get(StatisticCode::OldestAgeMs);
    if oldest > 0 {
        rows.push(vec!["Oldest".to_owned(), duration(Duration::from_millis(oldest))]);
    }
    let is_count = |name: &str| name.starts_with("ApproximateNumberOfMessages");
    rows.extend(
        attributes
            .iter()
            .filter(|(name, _)| !is_count(name))
            .map(|(name, value)| vec![name.to_owned(), value]),
    );
    rows.extend(tags.into_iter().map(|(key, value)| vec![format!("Tag {key}"), value]));
    table(&rows)
}

/// Shows counters.
pub async fn stats(client: &Client, common: &Common, flags: StatsFlags) -> Result<(), Failure> {
    let stats = match &flags.queue {
        Some(name) => open(client, name).await?.stats().await,
        None => client.stats().await,
    };
    let stats = stats.map_err(failure)?;
    if common.json {
        let counters: serde_json::Map<String, Value> =
            stats.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        return json_line(&Value::Object(counters));
    }
    table(&stats.iter().map(|(name, value)| vec![name.to_owned(), value.to_string()]).collect::<Vec<_>>())
}

async fn redrive(client: &Client, common: &Common, flags: RedriveFlags) -> Result<(), Failure> {
    let queue = open(client, &flags.name).await?;
    if flags.status {
        return print_tasks(&queue.move_tasks().await.map_err(failure)?, common);
    }
    if flags.cancel {
        let tasks = queue.move_tasks().await.map_err(failure)?;
        let Some(handle) = tasks.into_iter().find_map(|task| task.handle) else {
            return Err(failed(format!("no task moves messages out of {}", flags.name)));
        };
        let moved = client.cancel_move_task(&handle).await.map_err(failure)?;
        return if common.json {
            json_line(&json!({ "moved": moved }))
        } else {
            line(&format!("{moved} moved"))
        };
    }
    let destination = match &flags.to {
        Some(name) => Some(open(client, name).await?),
        None => None,
    };
    let started = queue.start_move_task(destination.as_ref(), flags.rate).await.map_err(failure)?;
    if flags.detach {
        return if common.json { json_line(&json!({ "started": true })) } else { line("started") };
    }
    let bar = is_watched().then(|| indicatif::ProgressBar::new(0));
    loop {
        let tasks = queue.move_tasks().await.map_err(failure)?;
        // The newest is ours: only one runs at a time.
        let Some(task) = tasks.into_iter().next() else {
            return Err(failed("the task is not known any more"));
        };
        if let Some(bar) = &bar {
            bar.set_length(task.to_move);
            bar.set_position(task.moved);
        }
        // While it stops it has no handle, and is not over.
        let stops = task.status == Some(MoveTaskStatus::Cancelling);
        if task.handle.as_ref() != Some(&started) && !stops {
            if let Some(bar) = &bar {
                bar.finish_and_clear();
            }
            print_tasks(std::slice::from_ref(&task), common)?;
            return match task.status {
                Some(MoveTaskStatus::Failed) => {
                    Err(failed(task.failure.unwrap_or_else(|| "the task failed".to_owned())))
                }
                _ => Ok(()),
            };
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The broker has taken it on and could not finish it.
fn failed(text: impl Into<String>) -> Failure {
    Failure::new(ExitReason::Refused, text)
}

fn print_tasks(tasks: &[MoveTask], common: &Common) -> Result<(), Failure> {
    let status = |task: &MoveTask| task.status.map_or("?", MoveTaskStatus::name);
    if common.json {
        for task in tasks {
            json_line(&json!({
                "status": status(task), "source": task.source, "destination": task.destination,
                "moved": task.moved, "to_move": task.to_move, "started_at_ms": epoch_ms(task.started_at),
                "failure": task.failure,
            }))?;
        }
        return Ok(());
    }
    let mut rows = vec![["STATUS", "MOVED", "TO MOVE", "DESTINATION", "FAILURE"].map(str::to_owned).to_vec()];
    rows.extend(tasks.iter().map(|task| {
        vec![
            status(task).to_owned(),
            task.moved.to_string(),
            task.to_move.to_string(),
            task.destination.clone().unwrap_or_else(|| "where each came from".to_owned()),
            task.failure.clone().unwrap_or_default(),
        ]
    }));
    table(&rows)
}
