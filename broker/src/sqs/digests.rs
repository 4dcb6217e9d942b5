//! MD5 of bodies and attributes, by which clients of SQS check what they sent and got.

use std::fmt;

use md5::{Digest as _, Md5};
use tenpin_protocol::UserAttribute;

/// How the digest of attributes tells a value that is text from one that is bytes.
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// An MD5. It shows itself in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// As clients see it.
    pub fn hexadecimal(self) -> [u8; 32] {
        let mut text = [0; 32];
        for (digits, bytes) in text.as_chunks_mut().0.iter_mut().zip(self.0.as_chunks().0) {
            *digits = eight_digits(*bytes);
        }
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Four bytes as digits, all at once.
fn eight_digits(bytes: [u8; 4]) -> [u8; 8] {
    // Each half byte gets a byte of its own, the first one lowest.
    let mut halves = u64::from(u32::from_le_bytes(bytes));
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    halves = (halves >> 4 | halves << 8) & 0x0f0f_0f0f_0f0f_0f0f;
    // From ten on digits are letters, which stand 39 places behind where digits would go on.
    let letters = (halves + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (halves + 0x3030_3030_3030_3030 + letters * 39).to_le_bytes()
}

/// The digest of a body.
pub fn md5_of_body(body: &[u8]) -> Digest {
    Digest(Md5::digest(body).into())
}

/// The digests of several bodies, in order.
pub fn md5_of_bodies(bodies: &[&[u8]]) -> Vec<Digest> {
    #[cfg(target_arch = "x86_64")]
    if let Some(digests) = super::lanes::digests(bodies) {
        return digests.into_iter().take(bodies.len()).map(Digest).collect();
    }
    bodies.iter().map(|body| md5_of_body(body)).collect()
}

/// The digest of these user attributes: of those that are given out, where a receive
/// asks for some only. `None` where there are none.
pub fn md5_of_attributes<'a>(attributes: impl IntoIterator<Item = UserAttribute<'a>>) -> Option<Digest> {
    let mut attributes: Vec<_> = attributes.into_iter().collect();
    if attributes.is_empty() {
        return None;
    }
    attributes.sort_unstable_by_key(|attribute| attribute.name);
    let mut digest = Md5::new();
    for UserAttribute { name, data_type, value } in attributes {
        add(&mut digest, name.as_bytes());
        add(&mut digest, data_type.as_bytes());
        digest.update([if data_type.starts_with("Binary") { BINARY } else { TEXT }]);
        add(&mut digest, value);
    }
    Some(Digest(digest.finalize().into()))
}

/// The digest of the system attributes that a sender gave, of which a trace header is the only one
/// that there is.
pub fn md5_of_system_attributes(trace_header: Option<&str>) -> Option<Digest> {
    md5_of_attributes(trace_header.map(|header| UserAttribute {
        name: "AWSTraceHeader",
        data_type: "String",
        value: header.as_bytes(),
    }))
}

fn add(digest: &mut Md5, bytes: &[u8]) {
    digest.update((bytes.len() as u32).to_be_bytes());
    digest.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number<'a>(name: &'a str, value: &'a str) -> UserAttribute<'a> {
        UserAttribute { name, data_type: "Number", value: value.as_bytes() }
    }

    #[test]
    fn bodies_have_the_digests_that_are_known() {
        for (body, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("This is a test message", "fafb00f5732ab283681e124bf8747ed1"),
            ("This is a test", "ce114e4501d2f4e2dcea3e17b546f339"),
        ] {
            assert_eq!(md5_of_body(body.as_bytes()).to_string(), digest);
            assert_eq!(md5_of_body(body.as_bytes()).hexadecimal(), digest.as_bytes());
        }
    }

    #[test]
    fn bodies_together_have_the_digests_that_each_has_alone() {
        for count in [0, 1, 2, 10] {
            let bodies: Vec<_> = (0..count).map(|index| "body".repeat(20 + index)).collect();
            let bodies: Vec<_> = bodies.iter().map(|body| body.as_bytes()).collect();
            let alone: Vec<_> = bodies.iter().map(|body| md5_of_body(body)).collect();
            assert_eq!(md5_of_bodies(&bodies), alone);
        }
    }

    /// Recorded from the service.
    #[test]
    fn attributes_have_the_digests_that_are_known() {
        let shown = |attributes: &[UserAttribute<'_>]| {
            md5_of_attributes(attributes.iter().copied()).map(|digest| digest.to_string())
        };
        let one = &[number("timestamp", "1493147359900")];
        assert_eq!(shown(one).as_deref(), Some("235c5c510d26fb653d073faed50ae77c"));
        let two = &[UserAttribute { name: "Foo", data_type: "String", value: b"Bar" }, number("Count", "1")];
        assert_eq!(shown(two).as_deref(), Some("324758f82d026ac6ec5b31a3b192d1e3"));
        assert_eq!(md5_of_attributes([]), None);
    }

    #[test]
    fn labels_and_binary_values_count() {
        let of = |data_type, value| md5_of_attributes([UserAttribute { name: "a", data_type, value }]);
        assert_ne!(of("String", b"x"), of("Binary", b"x"));
        assert_ne!(of("Binary", b"x"), of("Binary.png", b"x"));
        // One attribute as the algorithm has it, byte for byte.
        let bytes = b"\0\0\0\x01a\0\0\0\x0aBinary.png\x02\0\0\0\x01x";
        assert_eq!(of("Binary.png", b"x"), Some(md5_of_body(bytes)));
    }

    #[test]
    fn a_trace_header_is_a_text_attribute() {
        assert_eq!(md5_of_system_attributes(None), None);
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793";
        let mut bytes = b"\0\0\0\x0eAWSTraceHeader\0\0\0\x06String\x01\0\0\0\x28".to_vec();
        bytes.extend_from_slice(header.as_bytes());
        assert_eq!(md5_of_system_attributes(Some(header)), Some(md5_of_body(&bytes)));
    }
}
