//! `allowed_outbound_hosts`: `scheme://host[:port]`, where the scheme may be `*`, the host `*`, `*.example.com`, a literal or
//! a range of addresses, and the port a number, a range `a..b` or `*`.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, bail};
use http::Uri;

/// The patterns of one component.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    scheme: Option<String>,
    host: Host,
    ports: Ports,
}

#[derive(Clone, Debug)]
enum Host {
    Any,
    Below(String),
    Literal(String),
    Range(IpAddr, u8),
}

#[derive(Clone, Debug)]
enum Ports {
    Any,
    /// The scheme's own.
    Default,
    Range(u16, u16),
}

impl AllowedHosts {
    /// Reads the patterns; empty ones, which templates leave behind, are skipped.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let patterns = patterns.into_iter().filter(|pattern| !pattern.trim().is_empty());
        patterns
            .map(|pattern| Pattern::parse(pattern.trim()))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Whether a request may go there.
    pub fn allows(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return false;
        };
        let default = if scheme == "https" { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        self.0.iter().any(|pattern| pattern.allows(scheme, host, port, default))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text
            .split_once("://")
            .with_context(|| format!("{text:?} is not of the form scheme://host[:port]"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let ports = match port {
            None => Ports::Default,
            Some("*") => Ports::Any,
            Some(port) => {
                let (low, high) = port.split_once("..").unwrap_or((port, port));
                let read = |number: &str| number.parse().with_context(|| format!("{text:?} has no usable port"));
                Ports::Range(read(low)?, read(high)?)
            }
        };
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let host = match (host, plain.split_once('/'), host.strip_prefix("*.")) {
            ("*", ..) => Host::Any,
            (_, Some((address, bits)), _) => Host::Range(
                address
                    .parse()
                    .with_context(|| format!("{text:?} has no usable address"))?,
                bits.parse()
                    .with_context(|| format!("{text:?} has no usable prefix length"))?,
            ),
            (_, _, Some(below)) => Host::Below(format!(".{}", below.to_lowercase())),
            _ if host.is_empty() || host.contains(['*', '?', '@']) => bail!("{text:?} has no usable host"),
            _ => Host::Literal(plain.to_lowercase()),
        };
        Ok(Self {
            scheme: (scheme != "*").then(|| scheme.to_owned()),
            host,
            ports,
        })
    }

    fn allows(&self, scheme: &str, host: &str, port: u16, default: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        self.scheme.as_ref().is_none_or(|own| own == scheme)
            && match &self.host {
                Host::Any => true,
                Host::Below(suffix) => host.ends_with(suffix),
                Host::Literal(own) => *own == host,
                Host::Range(network, bits) => host
                    .parse()
                    .is_ok_and(|address| bits_of(address).has_prefix(bits_of(*network), *bits)),
            }
            && match self.ports {
                Ports::Any => true,
                Ports::Default => port == default,
                Ports::Range(low, high) => (low..=high).contains(&port),
            }
    }
}

/// An address as its bits, with the number of them.
struct Bits(u128, u8);

const fn bits_of(address: IpAddr) -> Bits {
    match address {
        IpAddr::V4(address) => Bits((address.to_bits() as u128) << 96, 32),
        IpAddr::V6(address) => Bits(address.to_bits(), 128),
    }
}

impl Bits {
    fn has_prefix(self, network: Self, length: u8) -> bool {
        self.1 == network.1
            && (length == 0 || (self.0 ^ network.0).checked_shr(128 - u32::from(length.min(128))) == Some(0))
    }
}

/// Whether an address is not one of the public network: of this machine, of a private or link-local network, or reserved.
/// Spin blocks the same ones.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_documentation()
                || address.is_multicast()
                || first == 0
                || first >= 240
                || (first == 100 && (64..128).contains(&second))
                || (first == 192 && second == 0 && third == 0)
                || (first == 198 && (second == 18 || second == 19))
        }
        IpAddr::V6(address) => {
            let first = address.segments().first().copied().unwrap_or_default();
            let compatible = address.to_ipv4().is_some_and(|four| is_private(IpAddr::V4(four)));
            let translated = match address.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                    is_private(IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))))
                }
                [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => true,
                _ => false,
            };
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || first & 0xffc0 == 0xfec0
                || compatible
                || translated
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_allows_what_it_says() {
        let cases = [
            ("https://*:*", "https://api.example/v1", true),
            ("https://*:*", "http://api.example/v1", false),
            ("https://api.example", "https://api.example:443/", true),
            ("https://api.example", "https://api.example:8443/", false),
            ("https://api.example/", "https://API.example/x", true),
            ("*://*.example.com:*", "http://a.example.com:81/", true),
            ("*://*.example.com:*", "http://example.com/", false),
            ("http://127.0.0.1:*", "http://127.0.0.1:9000/", true),
            ("http://127.0.0.0/8:8000..9000", "http://127.9.9.9:9000/", true),
            ("http://127.0.0.0/8:8000..9000", "http://127.9.9.9:9001/", false),
            ("http://[::1]:*", "http://[::1]:80/", true),
            ("http://localhost:1", "http://localhost:1/", true),
        ];
        for (pattern, uri, allowed) in cases {
            let hosts = AllowedHosts::parse([pattern, ""]).unwrap();
            assert_eq!(hosts.allows(&uri.parse().unwrap()), allowed, "{pattern} {uri}");
        }
    }

    #[test]
    fn what_is_not_the_public_network_is_private() {
        for address in [
            "0.0.0.0",
            "10.10.10.10",
            "100.64.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.192",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.10.10.10",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2001::1",
            "2002:7f00:1::",
            "fc00::f00d",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in [
            "123.123.123.123",
            "8.8.8.8",
            "2600::beef",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        for pattern in [
            "example.com",
            "https://",
            "https://a/b",
            "https://user@a",
            "https://a:x",
            "https://a*b",
        ] {
            assert!(AllowedHosts::parse([pattern]).is_err(), "{pattern}");
        }
    }
}
