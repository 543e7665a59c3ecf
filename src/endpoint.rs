//! Custom endpoints: which base URLs an administrator may give a key. The rules keep the pool from being turned against the
//! network that it runs in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Checks a base URL and brings it into the one form in which it is stored: no slash at its end, host in lower case.
pub fn parse(text: &str, allow_private: bool) -> Result<String, String> {
    let text = text.trim();
    if text.contains('#') {
        return Err("a custom endpoint must not have a fragment".to_owned());
    }
    let uri = checked(text, "a custom endpoint", MOST_LENGTH, allow_private)?;
    if uri.query().is_some() {
        return Err("a custom endpoint must not have a query".to_owned());
    }
    Ok(written(&uri, uri.path().trim_end_matches('/')))
}

/// Checks the URL of something that a client wants downloaded, an image say, and brings it into the form in which it is asked
/// for: without its fragment. The rules are those of endpoints; a query is fine, as signed URLs have one.
pub fn download(url: &str, allow_private: bool) -> Result<String, String> {
    let (url, _fragment) = url.trim().split_once('#').unwrap_or((url.trim(), ""));
    let uri = checked(url, "the URL", MOST_DOWNLOAD_LENGTH, allow_private)?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    Ok(written(&uri, target))
}

/// Checks where an answer to [`download`] leads on to, relative to the URL that was asked for. It is held to all the same
/// rules, so that no public host can send KeyStorm into the network that it runs in.
pub fn redirect(from: &str, location: &str, allow_private: bool) -> Result<String, String> {
    let location = location.trim();
    if location.contains("://") || location.starts_with("//") {
        let absolute = match location.strip_prefix("//") {
            Some(rest) => format!("{}://{rest}", from.split("://").next().unwrap_or_default()),
            None => location.to_owned(),
        };
        return download(&absolute, allow_private);
    }
    let uri = checked(from, "the URL", MOST_DOWNLOAD_LENGTH, allow_private)?;
    let path = match location.chars().next() {
        Some('/') => location.to_owned(),
        Some('?') => format!("{}{location}", uri.path()),
        Some(_) if !location.contains(':') => {
            let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        }
        _ => return Err("the redirect leads to no http(s) URL".to_owned()),
    };
    download(&written(&uri, &path), allow_private)
}

/// How often a download may be sent on.
pub const MOST_REDIRECTS: u32 = 3;

/// The largest download.
pub const MOST_DOWNLOAD_BYTES: usize = 20 * 1024 * 1024;

/// How long a download may take, in milliseconds.
pub const DOWNLOAD_MS: u64 = 10_000;

/// The rules that hold wherever somebody else says what is to be called.
fn checked(text: &str, what: &str, most: usize, allow_private: bool) -> Result<Uri, String> {
    if text.len() > most
        || text.contains('\\')
        || text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Err(format!("{what} must be a plain http(s) URL without blanks"));
    }
    let uri: Uri = text.parse().map_err(|_| format!("{what} must be an http(s) URL"))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "http" | "https") {
        return Err(format!(
            "{what} must begin with https:// (or http:// for a machine of your own)"
        ));
    }
    let authority = uri.authority().ok_or_else(|| format!("{what} must name a host"))?;
    if authority.as_str().contains('@') {
        return Err(format!("{what} must not have a user or a password"));
    }
    if uri
        .path()
        .split('/')
        .any(|part| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
    {
        return Err(format!("the path of {what} must not have dot segments"));
    }
    // What stands behind the host's colon has to be a port: `:` alone and `:99999` are read in different ways.
    let host = uri.host().unwrap_or_default();
    if authority.as_str().len() > host.len() && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(format!("{what} must have a usable port or none"));
    }
    match place(&host.to_ascii_lowercase())? {
        Place::Never => Err("link-local, metadata, multicast and unspecified addresses cannot be called".to_owned()),
        Place::Private if !allow_private => {
            Err("loopback and private addresses need the variable allow_private_endpoints=true".to_owned())
        }
        Place::Public if scheme == "http" => {
            Err("a public host must be called by https, or what is sent could be read on the way".to_owned())
        }
        Place::Private | Place::Public => Ok(uri),
    }
}

fn written(uri: &Uri, target: &str) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{target}")
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
            let [first, second, third, _] = address.octets();
            let shared = first == 100 && (64..128).contains(&second);
            let benchmark = first == 198 && (second == 18 || second == 19);
            // Reserved for protocols; one cloud's metadata is there too.
            let protocols = first == 192 && second == 0 && third == 0;
            if address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || first == 0
                || first >= 240
                || protocols
                || METADATA_ADDRESSES.contains(&address)
            {
                Place::Never
            } else if address.is_loopback() || address.is_private() || shared || benchmark {
                Place::Private
            } else {
                Place::Public
            }
        }
        IpAddr::V6(address) => {
            let first = address.segments().first().copied().unwrap_or_default();
            // fd00:ec2::254 is Amazon's metadata service, fd20:ce::254 Google's.
            let metadata = address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
                || address == Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
            let teredo = address.segments().starts_with(&[0x2001, 0]);
            let discard = first == 0x0100;
            let site_local = first & 0xffc0 == 0xfec0;
            let local_translation = address.segments().starts_with(&[0x64, 0xff9b, 1]);
            if address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || metadata
                || teredo
                || discard
            {
                Place::Never
            } else if address.is_loopback() || address.is_unique_local() || site_local || local_translation {
                Place::Private
            } else {
                Place::Public
            }
        }
    }
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, translated, NAT64 and 6to4.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address.to_canonical() else {
        return address.to_canonical();
    };
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match six.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => four(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => four(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        _ => address,
    }
}

/// Names of metadata services, and those by which Spin calls its own components.
const METADATA: [&str; 9] = [
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "metadata",
    "instance-data",
    "instance-data.ec2.internal",
    "spin.internal",
    "alt",
];

/// Metadata services that are not link-local: Alibaba Cloud's and Azure's.
const METADATA_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];

const PRIVATE: [&str; 8] = [
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home.arpa",
    "localdomain",
    "svc.cluster.local",
];

const MOST_LENGTH: usize = 512;
const MOST_DOWNLOAD_LENGTH: usize = 8192;

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
            "https://198.18.0.1",
            "https://[fec0::1]",
            "https://[fd12:3456::1]",
            "https://[64:ff9b:1::a00:1]",
            "https://[::ffff:0:127.0.0.1]",
            "https://[2002:7f00:1::]",
            "https://[::127.0.0.1]",
            "http://printer.local",
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
            "https://user:password@api.example.com:443/v1",
            "https://user@api.example.com:8443",
            "https://api.example.com/v1?x=1",
            "https://api.example.com/v1#x",
            "https://api.example.com/../v1",
            "https://api.example.com/%2E%2e/v1",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.0.1.0x1/",
            "https://017700000001/",
            "https://0x7f.0.0.1/",
            "https://127.0.0.1./",
            "https://[::ffff:a9fe:a9fe]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[2002:a9fe:a9fe::1]/",
            "https://[fd00:ec2::254]/",
            "https://[2001::1]/",
            "https://[ff02::1]/",
            "https://[::]/",
            "https://[fe80::1%25eth0]/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://192.0.0.192/",
            "https://168.63.129.16/",
            "https://metadata.goog/computeMetadata/v1/",
            "https://instance-data.ec2.internal/",
            "http://self.alt/v1",
            "http://keystorm.spin.internal/api/keys",
            "https://api.example.com:0/",
            "https://api.example.com:/",
            "https://api.example.com:99999/",
            "https://api.example.com@169.254.169.254/",
            "https://api.example.com\\@169.254.169.254/",
            "https://api.example.com/%2E./v1",
            "https://api.example.com\r\nHost: evil/",
            "file:///etc/passwd",
            "gopher://api.example.com/",
            "//api.example.com/v1",
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
            // The same rules hold for what is downloaded, but for queries and fragments.
            if !text.contains(['?', '#']) {
                assert!(download(text, true).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn a_download_may_have_a_query_and_no_private_host() {
        let cases = [
            (
                "https://Images.Example.com/a.png?sig=x%2Fy#top",
                Ok("https://images.example.com/a.png?sig=x%2Fy"),
            ),
            ("https://images.example.com", Ok("https://images.example.com/")),
            ("http://images.example.com/a.png", Err("https")),
            ("http://127.0.0.1/a.png", Err("allow_private_endpoints")),
            ("https://[::ffff:10.0.0.1]/a.png", Err("allow_private_endpoints")),
            ("https://localhost/a.png", Err("allow_private_endpoints")),
            ("https://169.254.169.254/latest/meta-data", Err("link-local")),
            ("data:image/png;base64,AAAA", Err("http(s)")),
        ];
        for (url, expected) in cases {
            match (download(url, false), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{url}: {why}"),
                (got, _) => panic!("{url}: {got:?}"),
            }
        }
        assert!(download("http://127.0.0.1:9000/a.png", true).is_ok());
        assert!(download(&format!("https://images.example.com/{}", "x".repeat(9000)), false).is_err());
    }

    #[test]
    fn a_redirect_is_held_to_the_same_rules() {
        let from = "https://images.example.com/album/a.png?x=1";
        let cases = [
            ("https://cdn.example.com/b.png", Some("https://cdn.example.com/b.png")),
            ("//cdn.example.com/b.png", Some("https://cdn.example.com/b.png")),
            ("/b.png?y=2", Some("https://images.example.com/b.png?y=2")),
            ("b.png", Some("https://images.example.com/album/b.png")),
            ("?y=2", Some("https://images.example.com/album/a.png?y=2")),
            ("http://cdn.example.com/b.png", None),
            ("http://127.0.0.1/", None),
            ("https://169.254.169.254/latest", None),
            ("//169.254.169.254/latest", None),
            ("https://user@cdn.example.com/", None),
            ("/../b.png", None),
            ("..", None),
            ("file:///etc/passwd", None),
            ("data:image/png;base64,AAAA", None),
            ("", None),
        ];
        for (location, expected) in cases {
            assert_eq!(redirect(from, location, false).ok().as_deref(), expected, "{location}");
        }
    }
}
