//! The same work by other brokers: messages sent, received and deleted in pipelined rounds, each peer in its
//! best idiomatic way, started here on a free port and in turn with Tenpin.
//!
//! A connection has one round under way: the deletion of what it received before, the sends of the next
//! messages, and a receive of as many, written together. A round has as many messages as Tenpin's client has
//! in all rounds of a connection, so that each peer may batch as it likes.

mod amqp;
mod beanstalk;
mod connection;
mod latency;
mod nats;
mod peers;
mod redis;
mod rounds;
mod sqs;
mod start;

pub mod command;

use std::io;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Rounds of sends and receives.
    Rounds {
        /// Messages of a round.
        messages: usize,
    },
    /// Only sends.
    Send,
    /// Only receives and deletes.
    Receive,
}

/// One connection's side of a peer's protocol.
trait Session {
    /// Appends what has to be said first.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Whether all answers to that have come.
    fn is_ready(&self) -> bool;

    /// Appends the sends of messages.
    fn send(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>);

    /// Appends a receive of so many.
    fn receive(&mut self, count: usize, out: &mut Vec<u8>);

    /// Appends the deletion of what was received.
    fn delete(&mut self, out: &mut Vec<u8>);

    /// Appends what a waiting consumer asks for after each answer: the deletion of what came, and to be told
    /// of the next message as soon as there is one.
    fn consume(&mut self, out: &mut Vec<u8>);

    /// Appends the deletion of what was received before, and with bodies their sends and a receive of as many.
    fn write_round(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
        self.delete(out);
        if !bodies.is_empty() {
            self.send(bodies, out);
            self.receive(bodies.len(), out);
        }
    }

    /// Reads what has come, and tells the body of each message; gives how many bytes are done with.
    fn read(&mut self, input: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<usize>;

    /// Whether the peer closes the connection behind what was read last, so that the next request needs another one.
    fn is_closed(&self) -> bool {
        false
    }

    /// Whether everything that was asked for has been answered.
    fn is_round_over(&self) -> bool;

    /// Appends what is due after what was read: answers to a peer's own questions, and the next request where
    /// only one may be under way.
    fn answer(&mut self, _out: &mut Vec<u8>) {}

    /// How many bytes of a body are made, so that on the wire it has as many as were asked for.
    fn body_bytes(&self, on_the_wire: usize) -> usize {
        on_the_wire
    }
}

/// The place behind the next line, and the line without its end.
fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&input[..end], end + 2))
}

/// A number as text; an error says which peer broke its protocol.
fn number(text: &[u8], peer: &str) -> io::Result<i64> {
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| broken(peer, text))
}

fn broken(peer: &str, what: &[u8]) -> io::Error {
    let what = String::from_utf8_lossy(&what[..what.len().min(200)]);
    io::Error::other(format!("{peer} answered {what:?}"))
}
