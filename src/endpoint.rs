//! Custom endpoints: which base URLs an administrator may give a key. The rules keep the pool from being turned against the
//! network that it runs in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Checks a base URL and brings it into the one form in which it is stored: no slash at its end, host in lower case.
pub fn parse(text: &str, allow_private: bool) -> Result<String, String> {
    let text = text.trim();
    if text.len() > MOST_LENGTH
        || text.contains(['#', '\\'])
        || text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Err("a custom endpoint must be a plain http(s) URL without blanks and fragment".to_owned());
    }
    let uri: Uri = text
        .parse()
        .map_err(|_| "a custom endpoint must be an http(s) URL".to_owned())?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "http" | "https") {
        return Err("a custom endpoint must begin with https:// (or http:// for a machine of your own)".to_owned());
    }
    let authority = uri.authority().ok_or("a custom endpoint must name a host")?;
    if authority.as_str().contains('@') {
        return Err("a custom endpoint must not have a user or a password".to_owned());
    }
    if uri.query().is_some() {
        return Err("a custom endpoint must not have a query".to_owned());
    }
    if uri
        .path()
        .split('/')
        .any(|part| matches!(part.to_ascii_lowercase().as_str(), "." | ".." | "%2e" | "%2e%2e"))
    {
        return Err("a custom endpoint's path must not have dot segments".to_owned());
    }
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let place = place(&host)?;
    match place {
        Place::Never => {
            return Err("link-local, metadata, multicast and unspecified addresses cannot be endpoints".to_owned());
        }
        Place::Private if !allow_private => {
            return Err("loopback and private addresses need the variable allow_private_endpoints=true".to_owned());
        }
        Place::Public if scheme == "http" => {
            return Err("an endpoint on a public host must use https, or the keys could be read on the way".to_owned());
        }
        Place::Private | Place::Public => {}
    }
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{scheme}://{host}{port}{}", uri.path().trim_end_matches('/')))
}

/// Where a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Somewhere in the world.
    Public,
    /// On this machine or in its network.
    Private,
    /// Where no endpoint ever is.
    Never,
}

/// Tells where a host is. Addresses have to be written in their usual form: the forms that only some programs read as an
/// address (octal, hexadecimal, one number, short ones) are refused, since another program would read a name.
pub fn place(host: &str) -> Result<Place, String> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address
            .parse()
            .map_err(|_| "the endpoint's IPv6 address is malformed".to_owned())?;
        return Ok(place_of(IpAddr::V6(address)));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(place_of(IpAddr::V4(address)));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.chars().all(|letter| letter.is_ascii_digit()) || last.starts_with("0x");
    let is_name = name.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
    });
    if is_number || !is_name || name.len() > 253 {
        return Err("the endpoint's host is neither a name nor an address in its usual form".to_owned());
    }
    let below = |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    if METADATA.iter().any(|suffix| below(suffix)) {
        return Ok(Place::Never);
    }
    let is_local = PRIVATE.iter().any(|suffix| below(suffix)) || !name.contains('.');
    Ok(if is_local { Place::Private } else { Place::Public })
}

/// Tells where an address is.
pub fn place_of(address: IpAddr) -> Place {
    match embedded(address) {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let shared = first == 100 && (64..128).contains(&second);
            if address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || first == 0
                || first >= 240
            {
                Place::Never
            } else if address == Ipv4Addr::new(100, 100, 100, 200) || address == Ipv4Addr::new(168, 63, 129, 16) {
                // Metadata services of Alibaba Cloud and Azure.
                Place::Never
            } else if address.is_loopback() || address.is_private() || shared {
                Place::Private
            } else {
                Place::Public
            }
        }
        IpAddr::V6(address) => {
            // fd00:ec2::254 is Amazon's metadata service.
            let metadata = address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            if address.is_unicast_link_local() || address.is_unspecified() || address.is_multicast() || metadata {
                Place::Never
            } else if address.is_loopback() || address.is_unique_local() {
                Place::Private
            } else {
                Place::Public
            }
        }
    }
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, NAT64 and 6to4.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address.to_canonical() else {
        return address.to_canonical();
    };
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match six.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => four(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        _ => address,
    }
}

const METADATA: [&str; 3] = ["metadata.google.internal", "metadata", "instance-data"];
const PRIVATE: [&str; 7] = [
    "localhost",
    "local",
    "internal",
    "lan",
    "home.arpa",
    "localdomain",
    "svc.cluster.local",
];
const MOST_LENGTH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_stored_in_one_form() {
        let cases = [
            ("https://API.Example.com/v1/", "https://api.example.com/v1"),
            (" https://api.example.com ", "https://api.example.com"),
            ("https://api.example.com:8443/a/b", "https://api.example.com:8443/a/b"),
            ("https://93.184.216.34/v1", "https://93.184.216.34/v1"),
        ];
        for (text, stored) in cases {
            assert_eq!(parse(text, false).as_deref(), Ok(stored), "{text}");
        }
    }

    #[test]
    fn private_endpoints_need_the_operators_word() {
        for text in [
            "http://127.0.0.1:11434/v1",
            "http://localhost:11434/v1",
            "https://10.0.0.7",
            "http://[::1]:8080",
            "https://[::ffff:192.168.1.1]/",
            "https://[64:ff9b::a00:1]/",
            "http://ollama:11434",
            "https://llm.svc.cluster.local",
            "https://100.64.0.1",
        ] {
            assert!(parse(text, false).is_err(), "{text}");
            assert!(parse(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "http://api.example.com/v1",
            "ftp://api.example.com",
            "https://user:password@api.example.com",
            "https://api.example.com/v1?x=1",
            "https://api.example.com/v1#x",
            "https://api.example.com/../v1",
            "https://api.example.com/%2E%2e/v1",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.0.1.0x1/",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://metadata.google.internal/",
            "https://0.0.0.0/",
            "https://exa mple.com",
            "https://пример.example",
            "https://",
            "api.example.com",
            "",
        ] {
            assert!(parse(text, true).is_err(), "{text}");
        }
    }
}
