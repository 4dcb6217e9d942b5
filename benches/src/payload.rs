//! Bodies that tell whether they arrived whole: each carries its origin, its number and a check.

use std::fmt;

/// The smallest body that has room for origin, number and check.
pub const BODY_BYTES_MIN: usize = 24;

/// The check comes first, so that what it covers is one piece.
const CHECK_BYTES: usize = 4;
const ORIGIN_AT: usize = 4;
const NUMBER_AT: usize = 12;
const FILLING_AT: usize = 20;

/// What a body says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Who sent it, and in which run.
    pub origin: u64,
    /// Which message of this origin it is.
    pub number: u64,
}

/// A body that is not one that was ever written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupted;

impl fmt::Display for Corrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a body does not match its own check")
    }
}

impl Payload {
    /// Fills a body of at least [`BODY_BYTES_MIN`] bytes.
    ///
    /// # Panics
    /// If the body is shorter than that; callers check the length that they were asked for.
    pub fn write(self, body: &mut [u8]) {
        assert!(body.len() >= BODY_BYTES_MIN, "a body has at least {BODY_BYTES_MIN} bytes");
        body[ORIGIN_AT..NUMBER_AT].copy_from_slice(&self.origin.to_le_bytes());
        body[NUMBER_AT..FILLING_AT].copy_from_slice(&self.number.to_le_bytes());
        // Filled from the number, so that bytes of one message in another are seen whatever they are.
        let mut word = self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for chunk in body[FILLING_AT..].chunks_mut(8) {
            word = word.wrapping_add(0xD1B5_4A32_D192_ED03);
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        let check = crc32fast::hash(&body[CHECK_BYTES..]);
        body[..CHECK_BYTES].copy_from_slice(&check.to_le_bytes());
    }

    /// Reads a body and verifies it.
    pub fn read(body: &[u8]) -> Result<Payload, Corrupted> {
        if body.len() < BODY_BYTES_MIN {
            return Err(Corrupted);
        }
        let (check, covered) = body.split_at(CHECK_BYTES);
        if check != crc32fast::hash(covered).to_le_bytes() {
            return Err(Corrupted);
        }
        let word =
            |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes are a word"));
        Ok(Payload { origin: word(ORIGIN_AT), number: word(NUMBER_AT) })
    }
}

/// An origin that no other run has: from the time and the process.
pub fn new_origin() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (since_epoch.as_nanos() as u64) ^ (u64::from(std::process::id()) << 44)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_any_length_come_back() {
        for length in [BODY_BYTES_MIN, 25, 64, 1_000] {
            let mut body = vec![0; length];
            let payload = Payload { origin: 7, number: 1 << 40 };
            payload.write(&mut body);
            assert_eq!(Payload::read(&body), Ok(payload));
        }
    }

    #[test]
    fn any_changed_byte_is_seen() {
        let mut body = vec![0; 64];
        Payload { origin: 7, number: 9 }.write(&mut body);
        for at in 0..body.len() {
            body[at] ^= 1;
            assert_eq!(Payload::read(&body), Err(Corrupted), "byte {at}");
            body[at] ^= 1;
        }
        assert_eq!(Payload::read(&body[..63]), Err(Corrupted));
    }
}
