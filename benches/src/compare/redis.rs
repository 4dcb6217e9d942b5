//! Redis and Valkey streams: `XADD`, `XREADGROUP` and `XACK` with `XDEL`, pipelined.

use std::io;

use super::{Session, broken, line, number};

const NAME: &str = "Redis";

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Redis {
    consumer: String,
    /// Replies that have no messages in them, and receives, which are under way.
    greetings: usize,
    plain: usize,
    receives: usize,
    ids: Vec<Vec<u8>>,
}

impl Redis {
    pub(super) fn new(index: usize) -> Self {
        Redis { consumer: format!("consumer-{index}"), ..Redis::default() }
    }
}

fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    begin(out, parts.len());
    parts.iter().for_each(|part| bulk(out, part));
}

fn begin(out: &mut Vec<u8>, parts: usize) {
    out.extend_from_slice(format!("*{parts}\r\n").as_bytes());
}

fn bulk(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

impl Session for Redis {
    fn greet(&mut self, out: &mut Vec<u8>) {
        // Whoever comes second is told that the group is there already.
        command(out, &[b"XGROUP", b"CREATE", b"bench", b"group", b"$", b"MKSTREAM"]);
        self.greetings = 1;
    }

    fn is_ready(&self) -> bool {
        self.greetings == 0
    }

    fn send(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
        for body in bodies {
            command(out, &[b"XADD", b"bench", b"*", b"b", body]);
            self.plain += 1;
        }
    }

    fn receive(&mut self, count: usize, out: &mut Vec<u8>) {
        self.read_group(&[b"COUNT", count.to_string().as_bytes()], out);
    }

    fn delete(&mut self, out: &mut Vec<u8>) {
        if self.ids.is_empty() {
            return;
        }
        for head in [&[&b"XACK"[..], b"bench", b"group"][..], &[b"XDEL", b"bench"]] {
            begin(out, head.len() + self.ids.len());
            head.iter().for_each(|part| bulk(out, part));
            self.ids.iter().for_each(|id| bulk(out, id));
            self.plain += 1;
        }
        self.ids.clear();
    }

    fn consume(&mut self, out: &mut Vec<u8>) {
        if self.is_round_over() {
            self.delete(out);
            self.read_group(&[b"COUNT", b"10", b"BLOCK", b"0"], out);
        }
    }

    fn read(&mut self, input: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut at = 0;
        while let Some(length) = reply_bytes(&input[at..])? {
            let reply = &input[at..at + length];
            at += length;
            if self.greetings > 0 {
                self.greetings -= 1;
                continue;
            }
            match reply.first() {
                Some(b'-') => return Err(broken(NAME, reply)),
                // A receive is the last reply of its round.
                _ if self.plain > 0 => self.plain -= 1,
                _ => {
                    self.receives = self.receives.saturating_sub(1);
                    self.messages(reply, message)?;
                }
            }
        }
        Ok(at)
    }

    fn is_round_over(&self) -> bool {
        self.plain == 0 && self.receives == 0
    }
}

impl Redis {
    fn read_group(&mut self, how: &[&[u8]], out: &mut Vec<u8>) {
        let (group, streams): (&[&[u8]], &[&[u8]]) =
            (&[b"XREADGROUP", b"GROUP", b"group", self.consumer.as_bytes()], &[b"STREAMS", b"bench", b">"]);
        command(out, &[group, how, streams].concat());
        self.receives += 1;
    }

    /// Of one stream with messages of one field each: every bulk is name, then id, field and value in turn.
    fn messages(&mut self, reply: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut at = 0;
        let mut bulks = 0;
        while let Some((head, length)) = line(&reply[at..]) {
            at += length;
            if head.first() != Some(&b'$') {
                continue;
            }
            let count = usize::try_from(number(&head[1..], NAME)?).unwrap_or(0);
            let bulk = &reply[at..at + count];
            at += count + 2;
            match (bulks, bulks % 3) {
                (0, _) | (_, 2) => {}
                (_, 1) => self.ids.push(bulk.to_vec()),
                _ => message(bulk),
            }
            bulks += 1;
        }
        Ok(())
    }
}

/// How long the reply is that has arrived whole.
fn reply_bytes(input: &[u8]) -> io::Result<Option<usize>> {
    // Elements that are still to come.
    let (mut at, mut missing) = (0, 1_usize);
    while missing > 0 {
        let Some((head, length)) = line(&input[at..]) else { return Ok(None) };
        at += length;
        missing -= 1;
        match head.first() {
            Some(b'+' | b'-' | b':' | b'_') => {}
            Some(b'$') => {
                if let Ok(bytes) = usize::try_from(number(&head[1..], NAME)?) {
                    at += bytes + 2;
                }
            }
            Some(b'*') => missing += usize::try_from(number(&head[1..], NAME)?).unwrap_or(0),
            _ => return Err(broken(NAME, head)),
        }
        if at > input.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receives_reply_is_read_whole_or_not_at_all() {
        let reply = b"*1\r\n*2\r\n$5\r\nbench\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nb\r\n$4\r\nbo\r\n\r\n\
                      *2\r\n$3\r\n1-2\r\n*2\r\n$1\r\nb\r\n$1\r\nx\r\n";
        let mut redis = Redis { receives: 1, ..Redis::default() };
        let mut bodies = Vec::new();
        for end in 0..reply.len() {
            assert_eq!(redis.read(&reply[..end], &mut |_| panic!("too early")).unwrap(), 0);
        }
        assert_eq!(redis.read(reply, &mut |body| bodies.push(body.to_vec())).unwrap(), reply.len());
        assert_eq!(bodies, [b"bo\r\n".to_vec(), b"x".to_vec()]);
        assert_eq!(redis.ids, [b"1-1".to_vec(), b"1-2".to_vec()]);
        assert!(redis.is_round_over());
    }
}
