//! Where to listen: a name or an IP address, and a port.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address to listen at, as it was given. A name is looked up when the broker starts, and not before: a
/// configuration may be checked where its names mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(String);

impl ListenAddress {
    /// The addresses that it stands for, at least one. Those of IPv4 come first: who finds `localhost` or
    /// 127.0.0.1 in a client's settings means the same by both.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<_> = self.0.to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        addresses.sort_by_key(SocketAddr::is_ipv6);
        Ok(addresses)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |host: &str| !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']);
        let is_named = text.rsplit_once(':').is_some_and(|(host, port)| {
            is_name(host) && port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
        if is_named || text.parse::<SocketAddr>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text} is not a name or an IP address and a port, such as 127.0.0.1:7010"))
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.0
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_with_a_port_are_taken_and_nothing_else() {
        for text in ["localhost:7010", "127.0.0.1:0", "[::1]:7010", "broker.example.:65535", "a_b:1"] {
            assert_eq!(text.parse::<ListenAddress>().map(String::from), Ok(text.to_owned()));
        }
        for text in [
            "",
            "localhost",
            ":7010",
            "localhost:",
            "localhost:65536",
            "a:b",
            "::1:7010",
            "http://a:1",
            "a:+1",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_ipv4_comes_first() {
        let localhost: ListenAddress = "localhost:7010".parse().expect("a name and a port");
        let first = localhost.resolve().expect("every machine has it")[0];
        assert_eq!(first, SocketAddr::from(([127, 0, 0, 1], 7010)));
    }
}
