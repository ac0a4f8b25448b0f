//! Addresses and ranges of addresses: data, without a socket.
//!
//! What counts as reachable by everybody stands here, because it is a rule: a callback goes to
//! addresses of the open internet only, unless a range is allowed by name.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// A range of addresses, `10.0.0.0/8` or `fd00::/8`; a lone address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What stands before the slash is no address.
    #[error("it does not begin with an address")]
    Address,
    /// What stands behind the slash is no length, or too long.
    #[error("behind the slash stands a number from 0 to 32 (IPv6: 128)")]
    Prefix,
    /// The address has bits behind its prefix, so one of the two is a slip.
    #[error("the address goes on behind its prefix")]
    HostBits,
}

impl Network {
    /// Whether the address lies in it. An IPv4 address in IPv6's clothes is that IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                masked_v4(own, self.prefix) == masked_v4(other, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                masked_v6(own, self.prefix) == masked_v6(other, self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= longest)
            }
            Some(_) => None,
            None => Some(longest),
        };
        let prefix = prefix.ok_or(NetworkError::Prefix)?;
        let whole = match address {
            IpAddr::V4(address) => masked_v4(address, prefix) == address.to_bits(),
            IpAddr::V6(address) => masked_v6(address, prefix) == address.to_bits(),
        };
        if !whole {
            return Err(NetworkError::HostBits);
        }
        // IPv4 in IPv6's clothes is that IPv4 range, as its addresses are.
        Ok(match (address.to_canonical(), prefix.checked_sub(96)) {
            (v4 @ IpAddr::V4(_), Some(prefix)) if address.is_ipv6() => Self { address: v4, prefix },
            _ => Self { address, prefix },
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

fn masked_v4(address: Ipv4Addr, prefix: u8) -> u32 {
    address.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn masked_v6(address: Ipv6Addr, prefix: u8) -> u128 {
    address.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

/// IPv4 that is not the open internet (IANA's registry of special-purpose addresses).
const CLOSED_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, and what is reserved behind it with the broadcast address.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of IPv6 only this part is handed out to the open internet.
const OPEN_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What lies within that part and is not open all the same.
const CLOSED_V6: [(Ipv6Addr, u8); 4] = [
    // Protocol assignments, Teredo and the like.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4 carries an IPv4 address that nobody has looked at.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether the address belongs to the open internet: not this machine, not a private or local
/// network, not a carrier's, not multicast, not reserved. IPv4 in IPv6's clothes is judged by the
/// IPv4 address.
#[must_use]
pub fn is_open(address: IpAddr) -> bool {
    let within = |(address, prefix): (IpAddr, u8), one| Network { address, prefix }.contains(one);
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => {
            !CLOSED_V4.iter().any(|(address, prefix)| within(((*address).into(), *prefix), v4))
        }
        v6 @ IpAddr::V6(_) => {
            within((OPEN_V6.0.into(), OPEN_V6.1), v6)
                && !CLOSED_V6
                    .iter()
                    .any(|(address, prefix)| within(((*address).into(), *prefix), v6))
        }
    }
}

/// Whether a callback may go there: to the open internet, or where somebody allowed it.
#[must_use]
pub fn may_reach(address: IpAddr, allowed: &[Network]) -> bool {
    is_open(address) || allowed.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_hold_their_addresses() {
        let check = |network: &str, one: &str, expect: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address(one)), expect, "{network} {one}");
        };
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "fd00::1", true);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe80::1", false);
        check("10.0.0.0/8", "::ffff:10.1.1.1", true);
        check("::ffff:10.0.0.0/104", "10.1.1.1", true);
        check("::ffff:10.0.0.1", "::ffff:10.0.0.1", true);
        check("::ffff:0.0.0.0/96", "8.8.8.8", true);
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let check = |text: &str, expect| assert_eq!(text.parse::<Network>(), Err(expect), "{text}");
        check("", NetworkError::Address);
        check("home", NetworkError::Address);
        check("10.0.0/8", NetworkError::Address);
        check("10.0.0.0/33", NetworkError::Prefix);
        check("10.0.0.0/", NetworkError::Prefix);
        check("10.0.0.0/+8", NetworkError::Prefix);
        check("::/129", NetworkError::Prefix);
        check("10.0.0.1/8", NetworkError::HostBits);
        check("fd00::1/8", NetworkError::HostBits);
    }

    #[test]
    fn only_the_open_internet_is_open() {
        let open = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111"];
        for one in open.into_iter().chain(["::ffff:8.8.8.8", "192.0.1.1", "223.255.255.255"]) {
            assert!(is_open(address(one)), "{one}");
        }
        let v4 = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ];
        let v6 = [
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
        ];
        for one in v4.into_iter().chain(v6) {
            assert!(!is_open(address(one)), "{one}");
        }
        let allowed = ["127.0.0.0/8".parse().unwrap()];
        assert!(may_reach(address("127.0.0.1"), &allowed));
        assert!(may_reach(address("::ffff:127.9.9.9"), &allowed));
        assert!(!may_reach(address("10.0.0.1"), &allowed));
    }
}
