//! Who calls, as far as an address tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a share belongs to: of IPv6 the network of 64 bits, because whoever has one address there mostly has
/// all of these (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// One address of IPv4, also where it is written as one of IPv6.
    V4(Ipv4Addr),
    /// The upper 64 bits of an address of IPv6.
    V6([u16; 4]),
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::of_network(address),
        }
    }
}

impl Address {
    fn of_network(address: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = address.segments();
        Self::V6([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_address_of_ipv4_counts_by_itself_and_one_of_ipv6_by_its_network() {
        assert_ne!(of("127.0.0.1"), of("127.0.0.2"));
        assert_eq!(of("::ffff:127.0.0.1"), of("127.0.0.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
