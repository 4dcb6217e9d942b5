//! The binary protocol and HTTP are two views of one broker: the same random history of a FIFO queue, with
//! groups, deduplication, attributes of messages and of the queue, and everything that is refused, comes to the
//! same replies.

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::http::{Http, HttpReply};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use tenpin_broker::embedded::Broker;
use tenpin_client::{Client, Error, Message, NewMessage, Queue, QueueAttributes, ReceiptHandle, Receive};
use tenpin_protocol::AttributeCode;
use tokio::runtime::Runtime;

/// A step of a history. What it is about is told by places in what was received.
#[derive(Debug, Clone)]
enum Step {
    Send { group: Option<u8>, id: u8, body: String, delay: bool, attributes: Vec<(String, String)> },
    Receive { max: u8, visibility: u32, attempt: Option<u8> },
    Delete(usize),
    Hide(usize, u32),
    Set(AttributeCode, u64),
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    let attribute = ("[a-c]{1,2}|AWS.x|a b|\\.a", "[0-9]{0,3}");
    let send = (
        prop_oneof![9 => (0u8..3).prop_map(Some), 1 => Just(None)],
        // Always one: where there is none the client makes one of its own, so that it can send again.
        0u8..12,
        "[a-z é<&\"\r\n]{0,20}",
        prop::bool::weighted(0.05),
        prop::collection::vec(attribute, 0..3),
    );
    prop_oneof![
        8 => send.prop_map(|(group, id, body, delay, mut attributes)| {
            // One name twice cannot be said in JSON.
            attributes.sort();
            attributes.dedup_by(|one, other| one.0 == other.0);
            Step::Send { group, id, body, delay, attributes }
        }),
        4 => (1u8..12, prop_oneof![9 => Just(600u32), 1 => Just(43_201)], prop::option::weighted(0.3, 0u8..3))
            .prop_map(|(max, visibility, attempt)| Step::Receive { max, visibility, attempt }),
        3 => any::<usize>().prop_map(Step::Delete),
        3 => (any::<usize>(), prop_oneof![Just(0u32), Just(600), Just(43_201)])
            .prop_map(|(which, seconds)| Step::Hide(which, seconds)),
        1 => (
            prop::sample::select(vec![
                AttributeCode::VisibilityTimeout,
                AttributeCode::MaximumMessageSize,
                AttributeCode::ContentBasedDeduplication,
                AttributeCode::ReceiveMessageWaitTimeSeconds,
                AttributeCode::QueueArn,
            ]),
            prop_oneof![Just(0u64), Just(1), Just(1_024), Just(1 << 40)],
        )
            .prop_map(|(code, value)| Step::Set(code, value)),
        1 => Just(Step::Purge),
    ]
}

/// A message as both fronts show it, but for its id, handle and times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    group: String,
    body: String,
    deduplication_id: String,
    receive_count: String,
    attributes: Vec<(String, String, Vec<u8>)>,
}

/// One queue for each front, and the handles of what was received of both, the same at the same place.
struct Pair {
    runtime: Runtime,
    http: Http,
    url: String,
    here: Vec<String>,
    queue: Queue,
    there: Vec<ReceiptHandle>,
}

impl Pair {
    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send { group, id, body, delay, attributes } => {
                self.send(group, id, &body, delay, &attributes)
            }
            Step::Receive { max, visibility, attempt } => self.receive(max, visibility, attempt),
            Step::Delete(which) => self.delete(which),
            Step::Hide(which, seconds) => self.hide(which, seconds),
            Step::Set(code, value) => self.set(code, value),
            Step::Purge => {
                let reply = self.http.json("PurgeQueue", json!({"QueueUrl": self.url}));
                alike(&reply, &self.runtime.block_on(self.queue.purge()))
            }
        }
    }

    fn send(
        &mut self,
        group: Option<u8>,
        id: u8,
        body: &str,
        delay: bool,
        attributes: &[(String, String)],
    ) -> Result<(), TestCaseError> {
        let id = format!("id-{id}");
        let mut parameters = json!({"QueueUrl": self.url, "MessageBody": body, "MessageDeduplicationId": id});
        let mut message = NewMessage::new(body.to_owned()).deduplication_id(id);
        if let Some(group) = group {
            parameters["MessageGroupId"] = json!(format!("group-{group}"));
            message = message.group(format!("group-{group}"));
        }
        if delay {
            parameters["DelaySeconds"] = json!(5);
            message = message.delay(Duration::from_secs(5));
        }
        for (name, value) in attributes {
            parameters["MessageAttributes"][name] = json!({"DataType": "String", "StringValue": value});
            message = message.attribute(name.as_str(), value.as_str());
        }
        let reply = self.http.json("SendMessage", parameters);
        let other = self.runtime.block_on(self.queue.send(message));
        alike(&reply, &other)?;
        if let Ok(sent) = other {
            prop_assert_eq!(sent.sequence_number.is_some(), reply.json()["SequenceNumber"].is_string());
        }
        Ok(())
    }

    fn receive(&mut self, max: u8, visibility: u32, attempt: Option<u8>) -> Result<(), TestCaseError> {
        let mut parameters = json!({
            "QueueUrl": self.url, "MaxNumberOfMessages": max, "VisibilityTimeout": visibility, "WaitTimeSeconds": 0,
            "MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"],
        });
        let asked = Receive::up_to(max).wait(Duration::ZERO);
        let mut asked = asked.visibility_timeout(Duration::from_secs(visibility.into()));
        if let Some(attempt) = attempt {
            parameters["ReceiveRequestAttemptId"] = json!(format!("attempt-{attempt}"));
            asked = asked.attempt_id(format!("attempt-{attempt}"));
        }
        let reply = self.http.json("ReceiveMessage", parameters);
        let others = self.runtime.block_on(self.queue.receive_with(&asked));
        alike(&reply, &others)?;
        let Ok(others) = others else { return Ok(()) };
        let json = reply.json();
        let messages = json["Messages"].as_array().cloned().unwrap_or_default();
        let here: Vec<_> = messages.iter().map(shown_by_http).collect();
        let there: Vec<_> = others.iter().map(shown_by_client).collect();
        prop_assert_eq!(here, there);
        self.here.extend(messages.iter().map(|message| text(&message["ReceiptHandle"])));
        self.there.extend(others.iter().map(Message::handle));
        Ok(())
    }

    fn handles(&self, which: usize) -> Option<(&String, &ReceiptHandle)> {
        let place = which % self.here.len().max(1);
        Some((self.here.get(place)?, &self.there[place]))
    }

    fn delete(&mut self, which: usize) -> Result<(), TestCaseError> {
        let Some((here, there)) = self.handles(which) else { return Ok(()) };
        let parameters = json!({"QueueUrl": self.url, "ReceiptHandle": here});
        let other = self.runtime.block_on(self.queue.delete_handle(there));
        alike(&self.http.json("DeleteMessage", parameters), &other)
    }

    fn hide(&mut self, which: usize, seconds: u32) -> Result<(), TestCaseError> {
        let Some((here, there)) = self.handles(which) else { return Ok(()) };
        let parameters = json!({"QueueUrl": self.url, "ReceiptHandle": here, "VisibilityTimeout": seconds});
        let timeout = Duration::from_secs(seconds.into());
        let other = self.runtime.block_on(self.queue.change_visibility(there, timeout));
        alike(&self.http.json("ChangeMessageVisibility", parameters), &other)
    }

    fn set(&mut self, code: AttributeCode, value: u64) -> Result<(), TestCaseError> {
        let is_switch = code == AttributeCode::ContentBasedDeduplication;
        let shown = match value {
            0 if is_switch => "false".to_owned(),
            1 if is_switch => "true".to_owned(),
            value => value.to_string(),
        };
        let attributes = match code.is_text() {
            true => QueueAttributes::new().text(code, &shown),
            false => QueueAttributes::new().number(code, value),
        };
        let parameters = json!({"QueueUrl": self.url, "Attributes": {code.name(): shown}});
        let reply = self.http.json("SetQueueAttributes", parameters);
        alike(&reply, &self.runtime.block_on(self.queue.set_attributes(&attributes)))
    }

    /// All attributes of both queues but what is theirs alone.
    fn compare_attributes(&mut self) -> Result<(), TestCaseError> {
        let parameters = json!({"QueueUrl": self.url, "AttributeNames": ["All"]});
        let reply = self.http.json_ok("GetQueueAttributes", parameters);
        let own = ["QueueArn", "CreatedTimestamp", "LastModifiedTimestamp"];
        let here: BTreeMap<String, String> = reply["Attributes"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| !own.contains(&&name[..]))
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        let attributes = self.runtime.block_on(self.queue.attributes()).unwrap();
        let there = attributes.iter().filter(|(name, _)| !own.contains(name));
        prop_assert_eq!(here, there.map(|(name, value)| (name.to_owned(), value)).collect());
        Ok(())
    }
}

/// Whether both were done, or refused with the same code.
fn alike<T: std::fmt::Debug>(reply: &HttpReply, other: &Result<T, Error>) -> Result<(), TestCaseError> {
    let here = reply.header("x-amzn-query-error").map(|text| text.split(';').next().unwrap().to_owned());
    let there = other.as_ref().err().map(|error| match error.code() {
        Some(code) => code.query_code().to_owned(),
        None => format!("{error:?}"),
    });
    prop_assert_eq!(here, there, "{:?} and {:?}", reply, other);
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn shown_by_http(message: &Value) -> Shown {
    let system = &message["Attributes"];
    let attributes = message["MessageAttributes"].as_object().into_iter().flatten();
    let attributes = attributes.map(|(name, value)| {
        (name.clone(), text(&value["DataType"]), text(&value["StringValue"]).into_bytes())
    });
    let mut attributes: Vec<_> = attributes.collect();
    attributes.sort();
    Shown {
        group: text(&system["MessageGroupId"]),
        body: text(&message["Body"]),
        deduplication_id: text(&system["MessageDeduplicationId"]),
        receive_count: text(&system["ApproximateReceiveCount"]),
        attributes,
    }
}

fn shown_by_client(message: &Message) -> Shown {
    let attributes = message.attributes();
    let attributes =
        attributes.map(|(name, data_type, value)| (name.to_owned(), data_type.to_owned(), value.to_owned()));
    let mut attributes: Vec<_> = attributes.collect();
    attributes.sort();
    Shown {
        group: message.group().unwrap().to_owned(),
        body: message.text().unwrap().to_owned(),
        deduplication_id: message.deduplication_id().unwrap().to_owned(),
        receive_count: message.receive_count().to_string(),
        attributes,
    }
}

/// Groups are served by the times at which their messages became visible, and by their order where that is
/// the same: what one front does in one millisecond and the other in two would come in another order. Engine
/// time is behind the wall by less than one.
fn in_a_later_millisecond() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2) {
        std::thread::yield_now();
    }
}

#[test]
fn both_fronts_answer_a_history_of_a_fifo_queue_alike() {
    let builder = Broker::builder().sqs_listen(([127, 0, 0, 1], 0).into()).minute_rules(false);
    let broker = builder.start().unwrap();
    let number = Cell::new(0);
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |history| {
        number.set(number.get() + 1);
        let name = |front: &str| format!("{front}-{}.fifo", number.get());
        let mut http = Http::connect(broker.sqs_address().unwrap());
        let parameters = json!({"QueueName": name("http"), "Attributes": {"FifoQueue": "true"}});
        let url = text(&http.json_ok("CreateQueue", parameters)["QueueUrl"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let queue = runtime.block_on(async {
            let client = Client::connect(broker.address().to_string()).await?;
            client.create_queue(name("binary")).await
        });
        let (here, there, queue) = (Vec::new(), Vec::new(), queue.unwrap());
        let mut pair = Pair { runtime, http, url, here, queue, there };
        history.into_iter().try_for_each(|step| {
            in_a_later_millisecond();
            pair.take(step)
        })?;
        pair.compare_attributes()
    });
    result.unwrap();
}
