//! beanstalkd: `put`, `reserve` and `delete`, pipelined.

use std::io;

use super::{Session, broken, line, number};

const NAME: &str = "beanstalkd";

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Beanstalk {
    under_way: usize,
    ids: Vec<Vec<u8>>,
}

impl Session for Beanstalk {
    fn greet(&mut self, _out: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn send(&mut self, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
        for body in bodies {
            out.extend_from_slice(format!("put 1024 0 120 {}\r\n", body.len()).as_bytes());
            out.extend_from_slice(body);
            out.extend_from_slice(b"\r\n");
        }
        self.under_way += bodies.len();
    }

    fn receive(&mut self, count: usize, out: &mut Vec<u8>) {
        (0..count).for_each(|_| out.extend_from_slice(b"reserve\r\n"));
        self.under_way += count;
    }

    fn delete(&mut self, out: &mut Vec<u8>) {
        for id in self.ids.drain(..) {
            out.extend_from_slice(b"delete ");
            out.extend_from_slice(&id);
            out.extend_from_slice(b"\r\n");
            self.under_way += 1;
        }
    }

    fn consume(&mut self, out: &mut Vec<u8>) {
        if self.is_round_over() {
            self.delete(out);
            self.receive(1, out);
        }
    }

    fn read(&mut self, input: &[u8], message: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut at = 0;
        while let Some((head, length)) = line(&input[at..]) {
            if let Some(rest) = head.strip_prefix(b"RESERVED ") {
                let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(|| broken(NAME, head))?;
                let bytes = usize::try_from(number(&rest[space + 1..], NAME)?).unwrap_or(0);
                if input.len() < at + length + bytes + 2 {
                    break;
                }
                self.ids.push(rest[..space].to_vec());
                message(&input[at + length..at + length + bytes]);
                at += bytes + 2;
            } else if !head.starts_with(b"INSERTED ") && head != b"DELETED" {
                return Err(broken(NAME, head));
            }
            at += length;
            self.under_way = self.under_way.saturating_sub(1);
        }
        Ok(at)
    }

    fn is_round_over(&self) -> bool {
        self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_come() {
        let mut peer = Beanstalk::default();
        peer.write_round(&[b"body".to_vec()], &mut Vec::new());
        let input = b"INSERTED 7\r\nRESERVED 7 4\r\nbody\r\n";
        assert_eq!(peer.read(&input[..30], &mut |_| panic!("too early")).unwrap(), 12);
        let mut bodies = Vec::new();
        assert_eq!(peer.read(&input[12..], &mut |body| bodies.push(body.to_vec())).unwrap(), 20);
        assert!(peer.is_round_over() && bodies == [b"body".to_vec()]);
        let mut out = Vec::new();
        peer.write_round(&[], &mut out);
        assert_eq!(out, b"delete 7\r\n");
        assert!(peer.read(b"NOT_FOUND\r\n", &mut |_| {}).is_err());
    }
}
