//! RabbitMQ over AMQP 0-9-1: publishes with confirms, a consumer with as much prefetch as a round has messages, and
//! one acknowledgement for all of a round.

use std::collections::VecDeque;
use std::io;

use super::{Role, Session, broken};

const NAME: &str = "RabbitMQ";
const QUEUE: &str = "bench";

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
/// Type, channel and length, and the end.
const FRAME_BYTES: usize = 8;
/// Bodies are not longer than this, so that each is one frame.
const FRAME_BYTES_MAX: u32 = 131_072;
/// Messages that a waiting consumer may have before it acknowledges some.
const PREFETCH_OF_CONSUMER: u16 = 100;

/// Class and method.
type Method = (u16, u16);
const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);
const QOS: Method = (60, 10);
const QOS_OK: Method = (60, 11);
const CONSUME: Method = (60, 20);
const CONSUME_OK: Method = (60, 21);
const CANCEL: Method = (60, 30);
const CANCEL_OK: Method = (60, 31);
const PUBLISH: Method = (60, 40);
const DELIVER: Method = (60, 60);
const ACK: Method = (60, 80);
const CONFIRM: Method = (85, 10);
const CONFIRM_OK: Method = (85, 11);

/// How messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// In memory only, as long as there is room.
    Transient,
    /// A classic queue, with messages that are on disk before they are confirmed.
    Durable,
    /// A replicated queue, here with one replica.
    Quorum,
}

/// A connection with one channel.
#[derive(Debug)]
pub(super) struct Amqp {
    queue: Queue,
    role: Role,
    is_ready: bool,
    is_consuming: bool,
    /// What the next answer of the set-up leads to.
    due: Vec<u8>,
    published: u64,
    unconfirmed: VecDeque<u64>,
    /// Messages that were asked for and have not come.
    missing: usize,
    last_tag: u64,
    is_acknowledged: bool,
    /// Bytes of the message's body that are still to come.
    body_left: u64,
}

impl Amqp {
    pub(super) fn new(queue: Queue, role: Role) -> Self {
        Amqp {
            queue,
            role,
            is_ready: false,
            is_consuming: false,
            due: Vec::new(),
            published: 0,
            unconfirmed: VecDeque::new(),
            missing: 0,
            last_tag: 0,
            is_acknowledged: true,
            body_left: 0,
        }
    }

    /// Goes on with the set-up, or takes what the broker says of messages.
    fn take_method(&mut self, method: Method, arguments: &[u8]) -> io::Result<()> {
        let out = &mut self.due;
        match method {
            START => write(out, 0, START_OK, |out| {
                out.extend_from_slice(&[0; 4]);
                short(out, "PLAIN");
                long(out, b"\0guest\0guest");
                short(out, "en_US");
            }),
            TUNE => {
                write(out, 0, TUNE_OK, |out| {
                    out.extend_from_slice(&1_u16.to_be_bytes());
                    out.extend_from_slice(&FRAME_BYTES_MAX.to_be_bytes());
                    out.extend_from_slice(&[0; 2]);
                });
                write(out, 0, OPEN, |out| {
                    short(out, "/");
                    out.extend_from_slice(&[0, 0]);
                });
            }
            OPEN_OK => write(out, 1, CHANNEL_OPEN, |out| short(out, "")),
            CHANNEL_OPEN_OK => write(out, 1, CONFIRM, |out| out.push(0)),
            CONFIRM_OK => self.declare(),
            DECLARE_OK if self.role == Role::Send => self.is_ready = true,
            DECLARE_OK => {
                let prefetch = match self.role {
                    Role::Rounds { messages } => u16::try_from(messages).unwrap_or(u16::MAX),
                    _ => PREFETCH_OF_CONSUMER,
                };
                write(out, 1, QOS, |out| {
                    out.extend_from_slice(&[0; 4]);
                    out.extend_from_slice(&prefetch.to_be_bytes());
                    out.push(0);
                });
            }
            QOS_OK => write(out, 1, CONSUME, |out| {
                out.extend_from_slice(&[0; 2]);
                short(out, QUEUE);
                short(out, "consumer");
                out.extend_from_slice(&[0; 5]);
            }),
            CONSUME_OK => (self.is_consuming, self.is_ready) = (true, true),
            CANCEL_OK => {}
            ACK => self.confirmed(arguments)?,
            DELIVER => {
                // Behind the consumer's name.
                let at = 1 + usize::from(*arguments.first().ok_or_else(|| broken(NAME, arguments))?);
                self.last_tag = number(arguments, at)?;
                self.is_acknowledged = false;
            }
            _ => return Err(broken(NAME, arguments)),
        }
        Ok(())
    }

    fn declare(&mut self) {
        let (flags, kind) = match self.queue {
            Queue::Transient => (0, "classic"),
            Queue::Durable => (2, "classic"),
            Queue::Quorum => (2, "quorum"),
        };
        write(&mut self.due, 1, DECLARE, |out| {
            out.extend_from_slice(&[0; 2]);
            short(out, QUEUE);
            out.push(flags);
            let mut table = Vec::new();
            short(&mut table, "x-queue-type");
            table.push(b'S');
            long(&mut table, kind.as_bytes());
            long(out, &table);
        });
    }

    fn confirmed(&mut self, arguments: &[u8]) -> io::Result<()> {
        let tag = number(arguments, 0)?;
        if arguments.get(8) == Some(&1) {
            while self.unconfirmed.front().is_some_and(|first| *first <= tag) {
                self.unconfirmed.pop_front();
            }
        } else if let Ok(at) = self.unconfirmed.binary_search(&tag) {
            self.unconfirmed.remove(at);
        }
        Ok(())
    }
}

impl Session for Amqp {
    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"AMQP\0\0\x09\x01");
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn send(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
        let delivery_mode = if self.queue == Queue::Transient { 1 } else { 2 };
        for body in bodies {
            write(out, 1, PUBLISH, |out| {
                out.extend_from_slice(&[0; 2]);
                short(out, "");
                short(out, QUEUE);
                out.push(0);
            });
            frame(out, HEADER, 1, |out| {
                out.extend_from_slice(&[0, 60, 0, 0]);
                out.extend_from_slice(&(body.len() as u64).to_be_bytes());
                // There is a delivery mode, and no other property.
                out.extend_from_slice(&[0x10, 0, delivery_mode]);
            });
            frame(out, BODY, 1, |out| out.extend_from_slice(body));
            self.published += 1;
            self.unconfirmed.push_back(self.published);
        }
    }

    fn receive(&mut self, count: usize, _out: &mut Vec<u8>) {
        // They come by themselves, and no more than the prefetch before some are acknowledged.
        self.missing += count;
    }

    fn delete(&mut self, out: &mut Vec<u8>) {
        if !self.is_acknowledged {
            self.is_acknowledged = true;
            write(out, 1, ACK, |out| {
                out.extend_from_slice(&self.last_tag.to_be_bytes());
                out.push(1);
            });
        }
    }

    fn consume(&mut self, out: &mut Vec<u8>) {
        self.delete(out);
    }

    fn write_round(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
        if bodies.is_empty() && self.is_consuming {
            // Or what others still wait for would come here once there is room.
            self.is_consuming = false;
            write(out, 1, CANCEL, |out| {
                short(out, "consumer");
                out.push(0);
            });
        }
        self.delete(out);
        self.send(bodies, out);
        self.receive(bodies.len(), out);
    }

    fn read(&mut self, input: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut at = 0;
        while let Some((kind, payload)) = next_frame(&input[at..])? {
            at += payload.len() + FRAME_BYTES;
            match kind {
                METHOD if payload.len() >= 4 => {
                    let pair = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
                    self.take_method((pair(0), pair(2)), &payload[4..])?;
                }
                HEADER => self.body_left = number(payload, 4)?,
                BODY if payload.len() as u64 == self.body_left => {
                    self.missing = self.missing.saturating_sub(1);
                    message(payload);
                }
                8 => {}
                _ => return Err(broken(NAME, payload)),
            }
        }
        Ok(at)
    }

    fn is_round_over(&self) -> bool {
        self.unconfirmed.is_empty() && self.missing == 0
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.due);
    }
}

/// The next whole frame's type and payload.
fn next_frame(input: &[u8]) -> io::Result<Option<(u8, &[u8])>> {
    let Some(head) = input.first_chunk::<7>() else { return Ok(None) };
    if head[0] == b'A' {
        return Err(broken(NAME, input));
    }
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    match input.get(7 + length) {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some((head[0], &input[7..7 + length]))),
        Some(_) => Err(broken(NAME, input)),
    }
}

fn number(bytes: &[u8], at: usize) -> io::Result<u64> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk()).ok_or_else(|| broken(NAME, bytes))?;
    Ok(u64::from_be_bytes(*bytes))
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    payload(out);
    let length = (out.len() - begin - 4) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    out.push(FRAME_END);
}

fn write(out: &mut Vec<u8>, channel: u16, method: Method, arguments: impl FnOnce(&mut Vec<u8>)) {
    frame(out, METHOD, channel, |out| {
        out.extend_from_slice(&method.0.to_be_bytes());
        out.extend_from_slice(&method.1.to_be_bytes());
        arguments(out);
    });
}

fn short(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(tag: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, 1, DELIVER, |out| {
            short(out, "consumer");
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(0);
            short(out, "");
            short(out, QUEUE);
        });
        frame(&mut out, HEADER, 1, |out| {
            out.extend_from_slice(&[0, 60, 0, 0]);
            out.extend_from_slice(&(body.len() as u64).to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        });
        frame(&mut out, BODY, 1, |out| out.extend_from_slice(body));
        out
    }

    #[test]
    fn a_round_is_over_when_all_is_confirmed_and_all_has_come() {
        let mut peer = Amqp::new(Queue::Durable, Role::Rounds { messages: 2 });
        let mut out = Vec::new();
        peer.write_round(&[b"one".to_vec(), b"two".to_vec()], &mut out);
        let mut input = delivery(1, b"one");
        input.extend(delivery(2, b"two"));
        let mut bodies = Vec::new();
        let first = delivery(1, b"one").len();
        assert_eq!(peer.read(&input[..first + 3], &mut |body| bodies.push(body.to_vec())).unwrap(), first);
        assert_eq!(
            peer.read(&input[first..], &mut |body| bodies.push(body.to_vec())).unwrap(),
            input.len() - first
        );
        assert_eq!(bodies, [b"one".to_vec(), b"two".to_vec()]);
        assert!(!peer.is_round_over());
        let mut confirm = Vec::new();
        write(&mut confirm, 1, ACK, |out| {
            out.extend_from_slice(&2_u64.to_be_bytes());
            out.push(1);
        });
        peer.read(&confirm, &mut |_| {}).unwrap();
        assert!(peer.is_round_over());
        out.clear();
        peer.delete(&mut out);
        let mut expected = Vec::new();
        write(&mut expected, 1, ACK, |out| {
            out.extend_from_slice(&2_u64.to_be_bytes());
            out.push(1);
        });
        assert_eq!(out, expected);
    }

    #[test]
    fn a_refusal_is_an_error_and_so_is_another_protocol() {
        let mut peer = Amqp::new(Queue::Quorum, Role::Send);
        let mut close = Vec::new();
        write(&mut close, 0, (10, 50), |out| {
            out.extend_from_slice(&530_u16.to_be_bytes());
            short(out, "NOT_ALLOWED");
        });
        assert!(peer.read(&close, &mut |_| {}).unwrap_err().to_string().contains("NOT_ALLOWED"));
        assert!(peer.read(b"AMQP\0\0\x09\x01", &mut |_| {}).is_err());
    }
}
