//! Commands about messages.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::json;
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_client::{
    AttributeValue, Client, Message, MessageState, NewMessage, Queue, ReceiptHandle, Receive, Sent,
};

use super::output::{
    attributes_json, body_for_people, distance, epoch_ms, handle_text, json_line, line, parse_handle,
    put_body,
};
use super::queues::open;
use super::{Common, connect, failure, lines, usage};

/// Messages in one receive at most.
const RECEIVE_MAX: usize = 10;

/// What is sent.
#[derive(Args, Debug)]
pub struct SendFlags {
    /// The queue.
    queue: String,
    /// Bodies, each up to 1 MiB with its attributes; standard input is one where neither bodies nor files are given.
    #[arg(value_name = "BODY")]
    bodies: Vec<String>,
    /// A file whose content is a body, or with --lines bodies; - is standard input. May be given again.
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Send each line of the files, or of standard input, as a message of its own, at full speed; empty lines
    /// are left out. The first line that is refused ends it.
    #[arg(long, conflicts_with = "bodies")]
    lines: bool,
    /// Message group, up to 128 characters: needed on FIFO queues, which keep the order of each group.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Deduplication id on FIFO queues, for a single message: one that was sent within five minutes with this id is
    /// not stored again. A fresh one if not given, unless the queue takes bodies for ids.
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    pub deduplication_id: Option<String>,
    /// Seconds for which nobody receives it, 0 to 900; as the queue says if not given. Not on FIFO queues.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=900))]
    pub delay: Option<u64>,
    /// An attribute, up to ten of them; its type, if not String, stands behind its name: count:Number=5.
    #[arg(long, value_name = "NAME[:TYPE]=VALUE", value_parser = attribute)]
    pub attribute: Vec<(String, AttributeValue)>,
}

impl SendFlags {
    /// A message with everything that the flags say beside its body.
    pub fn message(&self, body: Vec<u8>) -> NewMessage {
        let mut message = NewMessage::new(body);
        if let Some(group) = &self.group {
            message = message.group(group.as_str());
        }
        if let Some(id) = &self.deduplication_id {
            message = message.deduplication_id(id.as_str());
        }
        if let Some(delay) = self.delay {
            message = message.delay(Duration::from_secs(delay));
        }
        for (name, value) in &self.attribute {
            message = message.attribute(name.as_str(), value.clone());
        }
        message
    }
}

fn attribute(text: &str) -> Result<(String, AttributeValue), String> {
    let missing = || format!("\"{text}\" has no \"=\": give NAME=VALUE or NAME:TYPE=VALUE");
    let (name, value) = text.split_once('=').ok_or_else(missing)?;
    let Some((name, data_type)) = name.split_once(':') else {
        return Ok((name.to_owned(), AttributeValue::String(value.to_owned())));
    };
    let value = AttributeValue::Labelled { data_type: data_type.to_owned(), value: value.to_owned().into() };
    Ok((name.to_owned(), value))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().map_err(|_| "it is not a whole number".to_owned())?;
    if number > 0 { Ok(number) } else { Err("it must be at least 1".to_owned()) }
}

/// Opens the queue that is sent to.
async fn open_for(common: &Common, flags: &SendFlags) -> Result<Queue, Failure> {
    let queue = open(&connect(common).await?, &flags.queue).await?;
    if queue.is_fifo() && flags.group.is_none() {
        let text = format!("{} is a FIFO queue: say with --group which group's order it keeps", flags.queue);
        return Err(usage(text));
    }
    Ok(queue)
}

/// Sends messages.
pub async fn send(common: &Common, flags: SendFlags) -> Result<(), Failure> {
    if flags.lines {
        let queue = open_for(common, &flags).await?;
        return lines::send(&queue, common, &flags, &flags.file).await;
    }
    let mut bodies: Vec<Vec<u8>> = flags.bodies.iter().map(|body| body.clone().into_bytes()).collect();
    for path in &flags.file {
        bodies.push(read_body(path)?);
    }
    if bodies.is_empty() {
        bodies.push(read_body(&PathBuf::from("-"))?);
    }
    if bodies.len() > 1 && flags.deduplication_id.is_some() {
        return Err(usage("--deduplication-id names one message: send the others by themselves"));
    }
    if let Some(place) = bodies.iter().position(Vec::is_empty) {
        let text =
            format!("body {} of {} is empty: a message has at least one byte", place + 1, bodies.len());
        return Err(usage(text));
    }
    let queue = open_for(common, &flags).await?;
    for body in bodies {
        let sent = queue.send(flags.message(body)).await.map_err(failure)?;
        print_sent(&sent, common)?;
    }
    Ok(())
}

fn read_body(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(ExitReason::Usage, format!("{} cannot be read: {error}", path.display()))
    };
    if path.as_os_str() != "-" {
        return std::fs::read(path).map_err(unreadable);
    }
    if std::io::stdin().is_terminal() {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "tenpin: reading a body from standard input, up to Ctrl-D");
    }
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body).map_err(unreadable)?;
    Ok(body)
}

/// Says that a message is stored.
pub fn print_sent(sent: &Sent, common: &Common) -> Result<(), Failure> {
    if !common.json {
        return line(&sent.id.to_string());
    }
    let mut value = json!({ "message_id": sent.id.to_string() });
    if let Some(number) = sent.sequence_number {
        value["sequence_number"] = json!(format!("{number:020}"));
    }
    json_line(&value)
}

/// What is received.
#[derive(Args, Debug)]
pub struct ReceiveFlags {
    /// The queue.
    queue: String,
    /// Most messages to receive, from 1.
    #[arg(long, value_name = "MESSAGES", default_value = "1", value_parser = at_least_one)]
    max: usize,
    /// Seconds to wait for a first message, 0 to 20; as the queue says if not given.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=20))]
    wait: Option<u64>,
    /// Seconds for which what is received is hidden, 0 to 43200; as the queue says if not given.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=43_200))]
    visibility: Option<u64>,
    /// Delete each message once it is printed.
    #[arg(long)]
    delete: bool,
}

/// Receives messages.
pub async fn receive(client: &Client, common: &Common, flags: ReceiveFlags) -> Result<(), Failure> {
    let queue = open(client, &flags.queue).await?;
    let mut left = flags.max;
    let mut is_first = true;
    while left > 0 {
        let mut asked = Receive::up_to(left.min(RECEIVE_MAX) as u8);
        if !is_first {
            // Only the first is waited for.
            asked = asked.wait(Duration::ZERO);
        } else if let Some(seconds) = flags.wait {
            asked = asked.wait(Duration::from_secs(seconds));
        }
        if let Some(seconds) = flags.visibility {
            asked = asked.visibility_timeout(Duration::from_secs(seconds));
        }
        let messages = queue.receive_with(&asked).await.map_err(failure)?;
        if messages.is_empty() {
            break;
        }
        is_first = false;
        left -= messages.len().min(left);
        for message in &messages {
            print_message(message, common, flags.delete)?;
        }
        if flags.delete {
            let handles: Vec<_> = messages.iter().map(Message::handle).collect();
            for result in queue.delete_batch(&handles).await.map_err(failure)? {
                result.map_err(failure)?;
            }
        }
    }
    Ok(())
}

fn print_message(message: &Message, common: &Common, deleted: bool) -> Result<(), Failure> {
    if !common.json {
        line(&body_for_people(message.body()))?;
        let mut about = format!("  {}", message.id());
        about += &about_message(message.sent_at(), message.receive_count(), 1, message.group());
        line(&about)?;
        for (name, data_type, value) in message.attributes() {
            print_attribute(name, data_type, value)?;
        }
        return if deleted { Ok(()) } else { line(&format!("  handle {}", handle_text(&message.handle()))) };
    }
    let mut value = json!({
        "message_id": message.id().to_string(),
        "handle": handle_text(&message.handle()),
        "receive_count": message.receive_count(),
        "sent_at_ms": epoch_ms(message.sent_at()),
        "first_received_at_ms": epoch_ms(message.first_received_at()),
        "attributes": attributes_json(message.attributes()),
    });
    put_body(&mut value, message.body());
    if let Some(number) = message.sequence_number() {
        value["sequence_number"] = json!(format!("{number:020}"));
    }
    let texts = [
        ("group", message.group()),
        ("deduplication_id", message.deduplication_id()),
        ("trace_header", message.trace_header()),
        ("dead_letter_source", message.dead_letter_source()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            value[name] = json!(text);
        }
    }
    json_line(&value)
}

/// What is said of a message behind its id; how often it was received where that is more than `usual`.
fn about_message(sent_at: SystemTime, receive_count: u32, usual: u32, group: Option<&str>) -> String {
    let mut about = format!(", sent {}", distance(sent_at));
    match receive_count {
        count if count <= usual => {}
        1 => about += ", received once",
        count => about += &format!(", received {count} times"),
    }
    if let Some(group) = group {
        about += &format!(", group {group}");
    }
    about
}

fn print_attribute(name: &str, data_type: &str, value: &[u8]) -> Result<(), Failure> {
    line(&format!("  {name} ({data_type}): {}", body_for_people(value)))
}

/// What is deleted.
#[derive(Args, Debug)]
pub struct DeleteFlags {
    /// The queue.
    queue: String,
    /// Receipt handles, as `tenpin receive` prints them.
    #[arg(required = true, value_name = "HANDLE")]
    handles: Vec<String>,
}

/// Deletes messages.
pub async fn delete(client: &Client, flags: DeleteFlags) -> Result<(), Failure> {
    let queue = open(client, &flags.queue).await?;
    let handles = parse_handles(&flags.handles)?;
    for batch in handles.chunks(RECEIVE_MAX) {
        for result in queue.delete_batch(batch).await.map_err(failure)? {
            result.map_err(failure)?;
        }
    }
    Ok(())
}

fn parse_handles(texts: &[String]) -> Result<Vec<ReceiptHandle>, Failure> {
    texts.iter().map(|text| parse_handle(text)).collect()
}

/// What is hidden for how long.
#[derive(Args, Debug)]
pub struct HideFlags {
    /// The queue.
    queue: String,
    /// Receipt handles, as `tenpin receive` prints them.
    #[arg(required = true, value_name = "HANDLE")]
    handles: Vec<String>,
    /// Seconds from now, 0 to 43200.
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=43_200))]
    seconds: u64,
}

/// Changes for how long messages are hidden.
pub async fn hide(client: &Client, flags: HideFlags) -> Result<(), Failure> {
    let queue = open(client, &flags.queue).await?;
    let handles = parse_handles(&flags.handles)?;
    for batch in handles.chunks(RECEIVE_MAX) {
        let changes: Vec<_> =
            batch.iter().map(|handle| (handle, Duration::from_secs(flags.seconds))).collect();
        for result in queue.change_visibility_batch(&changes).await.map_err(failure)? {
            result.map_err(failure)?;
        }
    }
    Ok(())
}

/// Which messages are looked at.
#[derive(Args, Debug)]
pub struct PeekFlags {
    /// The queue.
    queue: String,
    /// Most messages to look at, from 1.
    #[arg(long, value_name = "MESSAGES", default_value = "10", value_parser = at_least_one)]
    max: usize,
    /// Only those in this state.
    #[arg(long, value_enum)]
    state: Option<StateFlag>,
}

/// States of messages as the command line names them.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum StateFlag {
    /// A receive could take it.
    Visible,
    /// It was received and is hidden.
    InFlight,
    /// Its delay is not over.
    Delayed,
    /// Its stored bytes are damaged.
    Damaged,
}

impl From<StateFlag> for MessageState {
    fn from(flag: StateFlag) -> Self {
        match flag {
            StateFlag::Visible => Self::Visible,
            StateFlag::InFlight => Self::InFlight,
            StateFlag::Delayed => Self::Delayed,
            StateFlag::Damaged => Self::Damaged,
        }
    }
}

fn words_for(state: MessageState) -> &'static str {
    match state {
        MessageState::Visible => "visible",
        MessageState::InFlight => "in flight",
        MessageState::Delayed => "delayed",
        MessageState::Damaged => "damaged",
    }
}

/// Looks at messages.
pub async fn peek(client: &Client, common: &Common, flags: PeekFlags) -> Result<(), Failure> {
    let queue = open(client, &flags.queue).await?;
    let state = flags.state.map(MessageState::from);
    let mut left = flags.max;
    let mut page = None;
    while left > 0 {
        let next = queue.peek(state, page.as_ref()).await.map_err(failure)?;
        for message in next.messages.iter().take(left) {
            if common.json {
                let attributes =
                    message.attributes.iter().map(|(name, kind, value)| (&**name, &**kind, &**value));
                let mut value = json!({
                    "message_id": message.id.to_string(),
                    "state": message.state.map_or("?", MessageState::name),
                    "receive_count": message.receive_count,
                    "sent_at_ms": epoch_ms(message.sent_at),
                    "until_ms": message.until.map(epoch_ms),
                    "attributes": attributes_json(attributes),
                });
                put_body(&mut value, &message.body);
                if let Some(group) = &message.group {
                    value["group"] = json!(group);
                }
                json_line(&value)?;
            } else {
                line(&body_for_people(&message.body))?;
                let state = message.state.map_or("?", words_for);
                let until =
                    message.until.map_or(String::new(), |until| format!(" (ends {})", distance(until)));
                let mut about = format!("  {}, {state}{until}", message.id);
                about += &about_message(message.sent_at, message.receive_count, 0, message.group.as_deref());
                line(&about)?;
                for (name, data_type, value) in &message.attributes {
                    print_attribute(name, data_type, value)?;
                }
            }
        }
        left -= next.messages.len().min(left);
        let has_more = next.has_more();
        page = Some(next);
        if !has_more {
            break;
        }
    }
    Ok(())
}
