//! The same work by other brokers: messages sent, received and deleted in pipelined rounds, each peer in its
//! best idiomatic way, started here on a free port and in turn with Tenpin.
//!
//! A connection has one round under way: the deletion of what it received before, the sends of the next
//! messages, and a receive of as many, written together. A round has as many messages as Tenpin's client has
//! in all rounds of a connection, so that each peer may batch as it likes.

mod beanstalk;
mod nats;
mod peers;
mod redis;
mod rounds;

pub mod command;

use std::io;

/// One connection's side of a peer's protocol.
trait Session {
    /// Appends what has to be said first.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Whether all answers to that have come.
    fn is_ready(&self) -> bool;

    /// Appends the deletion of what was received before, and with bodies their sends and a receive of as many.
    fn write_round(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>);

    /// Reads what has come, and tells the body of each message; gives how many bytes are done with.
    fn read(&mut self, input: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<usize>;

    /// Whether everything that the round asked for has been answered.
    fn is_round_over(&self) -> bool;

    /// Appends answers that a peer's own questions are due, if it has asked.
    fn answer(&mut self, _out: &mut Vec<u8>) {}
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
