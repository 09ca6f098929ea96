//! The client of a request: its address, or the address forwarded by a trusted proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses with a common prefix, written as `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Whether an address is in the range; an IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = mask(self.prefix, 32) as u32;
                (first.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()) & mask(self.prefix, 128) == 0
            }
            _ => false,
        }
    }
}

/// The first `prefix` of `width` bits.
fn mask(prefix: u8, width: u32) -> u128 {
    let width_mask = u128::MAX >> (128 - width);
    width_mask & !width_mask.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not an address range; write 10.0.0.0/8, fd00::/8, or one address")
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => width,
        };
        if prefix > width {
            return Err(format!("{text:?}: a prefix has at most {width} bits"));
        }
        let range = Self { first, prefix };
        let first_of_range = match first {
            IpAddr::V4(first) => first.to_bits() & !(mask(prefix, 32) as u32) == 0,
            IpAddr::V6(first) => first.to_bits() & !mask(prefix, 128) == 0,
        };
        if !first_of_range {
            return Err(format!(
                "{text:?}: the address has bits beyond its prefix of {prefix}"
            ));
        }
        Ok(range)
    }
}

impl TryFrom<String> for AddressRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The client's address: that of the connection, or, where a trusted proxy made the connection, the last address in
/// `x-forwarded-for` that is not a trusted proxy's. Whatever an untrusted client writes into that header is ignored.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressRange]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let mut hops: Vec<&str> = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        // An unreadable entry is ignored, and so are all entries before it.
        match value.to_str() {
            Ok(text) => hops.extend(text.split(',')),
            Err(_) => hops.clear(),
        }
    }
    for hop in hops.into_iter().rev() {
        let Some(address) = address(hop) else { break };
        client = address;
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// An address as proxies write it: alone, with a port, in brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim().trim_matches('"');
    let address = if let Some(inner) = hop.strip_prefix('[') {
        inner.split_once(']')?.0.parse().ok()?
    } else {
        match hop.parse() {
            Ok(address) => address,
            Err(_) => IpAddr::V4(hop.split_once(':')?.0.parse().ok()?),
        }
    };
    Some(address.to_canonical())
}

/// What counts as one client: an IPv4 address, or the 2^64 IPv6 addresses that one subscriber has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientGroup {
    V4(Ipv4Addr),
    /// The upper 64 bits.
    V6(u64),
}

impl From<IpAddr> for ClientGroup {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for ClientGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(upper) => {
                let first = Ipv6Addr::from_bits(u128::from(*upper) << 64);
                write!(f, "{first}/64")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_contain_their_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("192.168.4.0/30", "192.168.4.3", "192.168.4.4"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("::/0", "abcd::", "1.2.3.4"),
        ] {
            let range = range(text);
            assert!(range.contains(ip(inside)), "{text} {inside}");
            assert!(!range.contains(ip(outside)), "{text} {outside}");
            assert_eq!(range.to_string().parse::<AddressRange>().unwrap(), range);
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "fd00::1/64",
            "localhost",
            "1.2.3.4/x",
            "::/129",
        ] {
            let error = text.parse::<AddressRange>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = [range("127.0.0.1"), range("10.0.0.0/8")];
        let of = |peer: &str, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            client(ip(peer), &headers, &trusted).to_string()
        };
        // The client wrote the header itself.
        assert_eq!(of("203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(of("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(of("127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(of("::ffff:127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        // What stands before the last stranger was written by that stranger.
        assert_eq!(
            of("127.0.0.1", &["1.1.1.1, 198.51.100.7, 10.1.1.1"]),
            "198.51.100.7"
        );
        assert_eq!(
            of("127.0.0.1", &["1.1.1.1", "198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(of("127.0.0.1", &["1.1.1.1, unknown, 10.1.1.1"]), "10.1.1.1");
        assert_eq!(of("127.0.0.1", &["nonsense"]), "127.0.0.1");
        assert_eq!(of("127.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(of("127.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(of("127.0.0.1", &["198.51.100.7:5555"]), "198.51.100.7");
    }

    #[test]
    fn a_subscriber_is_one_client() {
        let group = |text: &str| ClientGroup::from(ip(text));
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(group("::ffff:1.2.3.4"), group("1.2.3.4"));
        assert_ne!(group("1.2.3.5"), group("1.2.3.4"));
        assert_eq!(group("2001:db8::1").to_string(), "2001:db8::/64");
    }
}
