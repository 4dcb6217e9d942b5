//! The SQS API over HTTP, as JSON: one request at a time on a connection that is kept.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::{Session, broken, number};

const NAME: &str = "the SQS endpoint";

/// Messages of a request at most.
const BATCH_MAX: usize = 10;

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Create,
    Send,
    Receive,
    Delete,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Sqs {
    host: String,
    /// Messages a request; one alone goes by the actions that are not for batches.
    batch: usize,
    queue_url: Option<String>,
    under_way: Option<Action>,
    /// Bodies that are still to be sent, messages still to be received, and what is to be deleted of those before.
    to_send: VecDeque<String>,
    to_receive: usize,
    to_delete: VecDeque<String>,
    received: VecDeque<String>,
    is_waiting: bool,
    /// Whether the last answer said that its connection ends with it.
    is_closed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    queue_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received<'a> {
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message<'a> {
    #[serde(borrow)]
    receipt_handle: std::borrow::Cow<'a, str>,
    body: &'a str,
}

/// Of batches.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcomes {
    #[serde(default)]
    failed: Vec<serde_json::Value>,
}

impl Sqs {
    /// Of an endpoint at this address.
    pub(super) fn new(host: String, batch: usize) -> Self {
        Sqs {
            host,
            batch: batch.clamp(1, BATCH_MAX),
            queue_url: None,
            under_way: None,
            to_send: VecDeque::new(),
            to_receive: 0,
            to_delete: VecDeque::new(),
            received: VecDeque::new(),
            is_waiting: false,
            is_closed: false,
        }
    }

    /// The next request, where none is under way.
    fn next(&mut self, out: &mut Vec<u8>) {
        let (None, Some(url)) = (self.under_way, &self.queue_url) else { return };
        let mut text = format!("{{\"QueueUrl\":\"{url}\"");
        let (action, name) = if !self.to_delete.is_empty() {
            let handles = self.to_delete.drain(..self.batch.min(self.to_delete.len()));
            if self.batch == 1 {
                handles.for_each(|handle| push(&mut text, format_args!(",\"ReceiptHandle\":\"{handle}\"")));
                (Action::Delete, "DeleteMessage")
            } else {
                entries(&mut text, handles, "ReceiptHandle");
                (Action::Delete, "DeleteMessageBatch")
            }
        } else if !self.to_send.is_empty() {
            let bodies = self.to_send.drain(..self.batch.min(self.to_send.len()));
            if self.batch == 1 {
                bodies.for_each(|body| push(&mut text, format_args!(",\"MessageBody\":\"{body}\"")));
                (Action::Send, "SendMessage")
            } else {
                entries(&mut text, bodies, "MessageBody");
                (Action::Send, "SendMessageBatch")
            }
        } else if self.to_receive > 0 {
            let most = self.to_receive.min(self.batch);
            push(&mut text, format_args!(",\"MaxNumberOfMessages\":{most},\"WaitTimeSeconds\":20"));
            (Action::Receive, "ReceiveMessage")
        } else {
            return;
        };
        text.push('}');
        self.request(action, name, &text, out);
    }

    fn request(&mut self, action: Action, name: &str, body: &str, out: &mut Vec<u8>) {
        // Whoever signs nothing is believed by what is measured here, but some read the region in it.
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-amz-json-1.0\r\n\
             X-Amz-Target: AmazonSQS.{name}\r\nX-Amz-Date: 20260101T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/sqs/aws4_request, \
             SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        out.extend_from_slice(request.as_bytes());
        self.under_way = Some(action);
    }

    fn take(&mut self, action: Action, body: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match action {
            Action::Create => {
                let created: Created = serde_json::from_slice(body).map_err(|_| broken(NAME, body))?;
                self.queue_url = Some(created.queue_url);
            }
            Action::Send | Action::Delete => {
                // A single delete is answered with nothing.
                if self.batch > 1 {
                    let outcomes: Outcomes = serde_json::from_slice(body).map_err(|_| broken(NAME, body))?;
                    if !outcomes.failed.is_empty() {
                        return Err(broken(NAME, body));
                    }
                }
            }
            Action::Receive => {
                let received: Received<'_> = serde_json::from_slice(body).map_err(|_| broken(NAME, body))?;
                if !self.is_waiting {
                    self.to_receive = self.to_receive.saturating_sub(received.messages.len());
                }
                for one in received.messages {
                    let bytes = BASE64.decode(one.body).map_err(|_| broken(NAME, one.body.as_bytes()))?;
                    message(&bytes);
                    self.received.push_back(one.receipt_handle.replace('\\', "\\\\").replace('"', "\\\""));
                }
            }
        }
        Ok(())
    }
}

/// The value of a header.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (found, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        found.eq_ignore_ascii_case(name).then(|| value[1..].trim_ascii())
    })
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("texts take anything");
}

/// Entries of a batch that have an id and one field more.
fn entries(text: &mut String, values: impl Iterator<Item = String>, field: &str) {
    text.push_str(",\"Entries\":[");
    for (id, value) in values.enumerate() {
        let comma = if id > 0 { "," } else { "" };
        push(text, format_args!("{comma}{{\"Id\":\"{id}\",\"{field}\":\"{value}\"}}"));
    }
    text.push(']');
}

impl Session for Sqs {
    fn greet(&mut self, out: &mut Vec<u8>) {
        // Whoever comes second makes what is there already, with the same attributes.
        let body = r#"{"QueueName":"bench","Attributes":{"VisibilityTimeout":"3600"}}"#;
        self.request(Action::Create, "CreateQueue", body, out);
    }

    fn is_ready(&self) -> bool {
        self.queue_url.is_some()
    }

    fn send(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
        self.to_send.extend(bodies.iter().map(|body| BASE64.encode(body)));
        self.next(out);
    }

    fn receive(&mut self, count: usize, out: &mut Vec<u8>) {
        self.to_receive += count;
        self.next(out);
    }

    fn delete(&mut self, out: &mut Vec<u8>) {
        self.to_delete.append(&mut self.received);
        self.next(out);
    }

    fn consume(&mut self, out: &mut Vec<u8>) {
        self.is_waiting = true;
        self.to_receive = self.batch;
        self.delete(out);
    }

    fn read(&mut self, input: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        self.is_closed = false;
        let Some(end) = input.windows(4).position(|part| part == b"\r\n\r\n") else { return Ok(0) };
        let head = &input[..end];
        let status = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let length = header(head, b"content-length").ok_or_else(|| broken(NAME, head))?;
        let length = usize::try_from(number(length, NAME)?).unwrap_or(0);
        let Some(body) = input.get(end + 4..end + 4 + length) else { return Ok(0) };
        self.is_closed =
            header(head, b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        match self.under_way.take() {
            Some(action) if status.starts_with(b"HTTP/1.1 200") => self.take(action, body, message)?,
            _ => return Err(broken(NAME, &[status, b" ", body].concat())),
        }
        Ok(end + 4 + length)
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn is_round_over(&self) -> bool {
        self.under_way.is_none()
            && self.to_send.is_empty()
            && self.to_receive == 0
            && self.to_delete.is_empty()
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        self.next(out);
    }

    fn body_bytes(&self, on_the_wire: usize) -> usize {
        // A body is text: four characters for three bytes.
        (on_the_wire / 4 * 3).max(crate::payload::BODY_BYTES_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(peer: &mut Sqs, body: &str) -> Vec<Vec<u8>> {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut bodies = Vec::new();
        let cut = answer.len() - 1;
        assert_eq!(peer.read(&answer.as_bytes()[..cut], &mut |_| panic!("too early")).unwrap(), 0);
        let count = peer.read(answer.as_bytes(), &mut |body| bodies.push(body.to_vec())).unwrap();
        assert_eq!(count, answer.len());
        bodies
    }

    #[test]
    fn a_round_is_one_request_after_another() {
        let mut peer = Sqs::new("localhost:1".into(), 10);
        let mut out = Vec::new();
        peer.greet(&mut out);
        answered(&mut peer, r#"{"QueueUrl":"http://localhost:1/000000000000/bench"}"#);
        out.clear();
        peer.write_round(&[b"one".to_vec()], &mut out);
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(
            text.contains("AmazonSQS.SendMessageBatch")
                && text.ends_with(r#""Entries":[{"Id":"0","MessageBody":"b25l"}]}"#)
        );
        answered(&mut peer, r#"{"Successful":[{"Id":"0"}]}"#);
        out.clear();
        peer.answer(&mut out);
        assert!(String::from_utf8(out.clone()).unwrap().contains("AmazonSQS.ReceiveMessage"));
        assert!(!peer.is_round_over());
        let bodies = answered(&mut peer, r#"{"Messages":[{"ReceiptHandle":"h","Body":"b25l"}]}"#);
        assert!(peer.is_round_over() && bodies == [b"one".to_vec()]);
        out.clear();
        peer.write_round(&[], &mut out);
        assert!(String::from_utf8(out).unwrap().ends_with(r#""Entries":[{"Id":"0","ReceiptHandle":"h"}]}"#));
    }

    #[test]
    fn a_connection_that_ends_with_an_answer_is_known() {
        let mut peer = Sqs::new("localhost:1".into(), 10);
        for (headers, is_closed) in
            [("Connection: close\r\n", true), ("Connection: keep-alive\r\n", false), ("", false)]
        {
            peer.under_way = Some(Action::Send);
            let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\n{{}}");
            assert_eq!(peer.read(answer.as_bytes(), &mut |_| {}).unwrap(), answer.len());
            assert_eq!(peer.is_closed(), is_closed, "{headers}");
            peer.under_way = Some(Action::Send);
            peer.read(&answer.as_bytes()[..answer.len() - 1], &mut |_| {}).unwrap();
            assert!(!peer.is_closed(), "the next answer is not there yet");
        }
    }

    #[test]
    fn a_failure_in_a_batch_is_an_error() {
        let mut peer = Sqs::new("localhost:1".into(), 10);
        peer.under_way = Some(Action::Send);
        let body = r#"{"Failed":[{"Id":"0"}]}"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert!(peer.read(answer.as_bytes(), &mut |_| {}).is_err());
    }
}
