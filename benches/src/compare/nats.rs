//! NATS JetStream: publishes with acknowledgements, pull requests, and acknowledgements of messages.

use std::io;

use super::{Session, broken, line, number};

const NAME: &str = "NATS";

/// Messages that a waiting consumer asks for at once.
const PULL: usize = 100;

/// A connection.
#[derive(Debug)]
pub(super) struct Nats {
    index: usize,
    storage: &'static str,
    /// Answers to requests that set up, acknowledgements of publishes, and messages, which are missing.
    setting_up: usize,
    stored: usize,
    messages: usize,
    replies: Vec<Vec<u8>>,
    is_pinged: bool,
}

impl Nats {
    /// Of a stream that lies in `memory` or in a `file`.
    pub(super) fn new(index: usize, storage: &'static str) -> Self {
        Nats { index, storage, setting_up: 0, stored: 0, messages: 0, replies: Vec::new(), is_pinged: false }
    }

    fn publish(&self, out: &mut Vec<u8>, subject: &str, inbox: &str, payload: &[u8]) {
        let head = format!("PUB {subject} in.{}.{inbox} {}\r\n", self.index, payload.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn take(
        &mut self,
        subject: &[u8],
        reply: Option<&[u8]>,
        payload: &[u8],
        message: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        match reply {
            // Only messages of the stream want an answer.
            Some(reply) => {
                self.replies.push(reply.to_vec());
                self.messages = self.messages.saturating_sub(1);
                message(payload);
            }
            None if subject.ends_with(b".setup") => self.setting_up -= 1,
            None if payload.windows(7).any(|part| part == b"\"error\"") => return Err(broken(NAME, payload)),
            None => self.stored = self.stored.saturating_sub(1),
        }
        Ok(())
    }
}

impl Session for Nats {
    fn greet(&mut self, out: &mut Vec<u8>) {
        let subscribe =
            format!("CONNECT {{\"verbose\":false,\"headers\":false}}\r\nSUB in.{}.* 1\r\n", self.index);
        out.extend_from_slice(subscribe.as_bytes());
        // Who comes second makes what is there already.
        let stream = format!(
            r#"{{"name":"BENCH","subjects":["bench"],"retention":"workqueue","storage":"{}","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"num_replicas":1,"discard":"old"}}"#,
            self.storage
        );
        self.publish(out, "$JS.API.STREAM.CREATE.BENCH", "setup", stream.as_bytes());
        let consumer = br#"{"stream_name":"BENCH","config":{"durable_name":"C","deliver_policy":"all","ack_policy":"explicit","ack_wait":60000000000,"max_ack_pending":100000,"replay_policy":"instant"}}"#;
        self.publish(out, "$JS.API.CONSUMER.DURABLE.CREATE.BENCH.C", "setup", consumer);
        self.setting_up = 2;
    }

    fn is_ready(&self) -> bool {
        self.setting_up == 0
    }

    fn send(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
        bodies.iter().for_each(|body| self.publish(out, "bench", "stored", body));
        self.stored += bodies.len();
    }

    fn receive(&mut self, count: usize, out: &mut Vec<u8>) {
        let pull = format!("{{\"batch\":{count},\"expires\":60000000000}}");
        self.publish(out, "$JS.API.CONSUMER.MSG.NEXT.BENCH.C", "next", pull.as_bytes());
        self.messages += count;
    }

    fn delete(&mut self, out: &mut Vec<u8>) {
        for reply in self.replies.drain(..) {
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(&reply);
            out.extend_from_slice(b" 4\r\n+ACK\r\n");
        }
    }

    fn consume(&mut self, out: &mut Vec<u8>) {
        self.delete(out);
        // The next pull is there before the last one is used up, as in NATS' own clients.
        if self.messages <= PULL / 2 {
            self.receive(PULL, out);
        }
    }

    fn read(&mut self, input: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut at = 0;
        while let Some((head, length)) = line(&input[at..]) {
            let mut words = head.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
            match words.next() {
                Some(b"MSG") => {
                    let words: Vec<&[u8]> = words.collect();
                    let (subject, reply, bytes) = match words[..] {
                        [subject, _, bytes] => (subject, None, bytes),
                        [subject, _, reply, bytes] => (subject, Some(reply), bytes),
                        _ => return Err(broken(NAME, head)),
                    };
                    let bytes = usize::try_from(number(bytes, NAME)?).unwrap_or(0);
                    let begin = at + length;
                    if input.len() < begin + bytes + 2 {
                        break;
                    }
                    self.take(subject, reply, &input[begin..begin + bytes], message)?;
                    at = begin + bytes + 2;
                    continue;
                }
                Some(b"PING") => self.is_pinged = true,
                Some(b"-ERR") => return Err(broken(NAME, head)),
                _ => {}
            }
            at += length;
        }
        Ok(at)
    }

    fn is_round_over(&self) -> bool {
        self.stored == 0 && self.messages == 0
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_pinged) {
            out.extend_from_slice(b"PONG\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_acknowledgements_are_told_apart() {
        let mut peer = Nats::new(3, "memory");
        peer.write_round(&[b"body".to_vec()], &mut Vec::new());
        let input = b"MSG in.3.stored 1 2\r\n{}\r\nMSG bench 1 $JS.ACK.1 4\r\nbody\r\nPING\r\n";
        let mut bodies = Vec::new();
        assert_eq!(peer.read(input, &mut |body| bodies.push(body.to_vec())).unwrap(), input.len());
        assert!(peer.is_round_over() && bodies == [b"body".to_vec()] && peer.is_pinged);
        let mut out = Vec::new();
        peer.write_round(&[], &mut out);
        assert_eq!(out, b"PUB $JS.ACK.1 4\r\n+ACK\r\n");
    }
}
