//! The first thing to try: one message through its whole life, told step by step.

use std::io::{self, Write};
use std::net::SocketAddr;

use crate::client::{Client, Outgoing, Receive};

/// What the message says.
const TEXT: &[u8] = b"Hello, pins!";

/// Sends a message to `queue`, receives it, deletes it, and writes to `out` what happens.
pub fn run(address: SocketAddr, queue_name: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "connecting to {address}")?;
    let mut client = Client::connect(address)?;
    writeln!(out, "  hello answered: frames of up to {} bytes", client.frame_bytes_max())?;

    let queue = client.create(queue_name, &[])?;
    writeln!(out, "queue {queue_name:?} is there; frames name it by the number {queue}")?;

    let mut sent = client.send(queue, &[Outgoing { body: TEXT, delay_seconds: None }])?;
    let id = sent.pop().ok_or_else(|| io::Error::other("a send was answered with no result"))?;
    let id = id.map_err(|refusal| io::Error::other(format!("the send was refused: {refusal}")))?;
    writeln!(out, "sent {:?}; its id is {}", String::from_utf8_lossy(TEXT), id_text(id))?;

    let receive = Receive { messages_max: 10, wait_ms: 1_000, visibility_seconds: Some(30) };
    let messages = client.receive(queue, receive)?;
    for message in &messages {
        writeln!(
            out,
            "received {:?} with id {} (delivery {}); nobody else gets it for 30 seconds",
            String::from_utf8_lossy(&message.body),
            id_text(message.id),
            message.receive_count,
        )?;
    }
    if !messages.iter().any(|message| message.id == id) {
        return Err(io::Error::other(
            "our message did not come; does somebody else receive from this queue?",
        ));
    }

    let handles: Vec<Vec<u8>> = messages.into_iter().map(|message| message.handle).collect();
    for outcome in client.delete(queue, &handles)? {
        outcome.map_err(|refusal| io::Error::other(format!("the delete was refused: {refusal}")))?;
    }
    writeln!(out, "deleted by its receipt handle: done with, for good")?;
    let counts = client.counts(queue)?;
    writeln!(
        out,
        "left in the queue: {} visible, {} in flight, {} delayed",
        counts.visible, counts.in_flight, counts.delayed
    )
}

/// The id as it is usually written.
fn id_text(id: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(id));
    let [a, b, c, d, e] = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_written_as_uuids() {
        let id = 0x0123_4567_89ab_4def_8123_4567_89ab_cdef_u128.to_be_bytes();
        assert_eq!(super::id_text(id), "01234567-89ab-4def-8123-456789abcdef");
    }
}
