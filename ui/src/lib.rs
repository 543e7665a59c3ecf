//! The page: files that are compiled in, and nothing else. The component is granted no network, no database and no
//! variables.

#[cfg(all(target_family = "wasm", feature = "wasi03"))]
mod spin;

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// A file in its three forms.
pub(crate) struct Asset {
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    br: &'static [u8],
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: &'static [u8],
}

/// Answers a request for a file.
pub fn respond(method: &str, path: &str, accept_encoding: &str, if_none_match: &str) -> Answer {
    let mut headers = SECURITY.map(|(name, value)| (name, value.to_owned())).to_vec();
    if !matches!(method, "GET" | "HEAD") {
        headers.push(("allow", "GET, HEAD".to_owned()));
        return Answer {
            status: 405,
            headers,
            body: b"",
        };
    }
    let versioned = path
        .strip_prefix("/assets/")
        .and_then(|rest| rest.strip_prefix(VERSION))
        .and_then(|rest| rest.strip_prefix('/'));
    let found = ASSETS.iter().find(|asset| match versioned {
        Some(name) => asset.path.strip_prefix("/assets/") == Some(name),
        None => asset.path == path,
    });
    let Some(asset) = found else {
        headers.push(("cache-control", "no-store".to_owned()));
        headers.push(("content-type", "text/plain; charset=utf-8".to_owned()));
        return Answer {
            status: 404,
            headers,
            body: if method == "HEAD" { b"" } else { b"Not found" },
        };
    };
    let (encoding, body) = if accepts(accept_encoding, "br") {
        (Some("br"), asset.br)
    } else if accepts(accept_encoding, "gzip") {
        (Some("gzip"), asset.gzip)
    } else {
        (None, asset.plain)
    };
    // Each form is a file of its own to a cache.
    let etag = format!("\"{}-{}\"", asset.etag, encoding.unwrap_or("plain"));
    headers.push(("content-type", asset.content_type.to_owned()));
    headers.push(("vary", "accept-encoding".to_owned()));
    let kept = if versioned.is_some() { KEPT } else { REVALIDATED };
    headers.push(("cache-control", kept.to_owned()));
    let is_known = if_none_match
        .split(',')
        .any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*");
    headers.push(("etag", etag));
    if is_known {
        return Answer {
            status: 304,
            headers,
            body: b"",
        };
    }
    if let Some(encoding) = encoding {
        headers.push(("content-encoding", encoding.to_owned()));
    }
    Answer {
        status: 200,
        headers,
        body: if method == "HEAD" { b"" } else { body },
    }
}

/// Whether a client takes an encoding: named, and not with a weight of nought.
fn accepts(accept_encoding: &str, encoding: &str) -> bool {
    accept_encoding.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        named
            && !parts.any(|weight| {
                weight
                    .strip_prefix("q=")
                    .is_some_and(|weight| weight.parse() == Ok(0.0))
            })
    })
}

/// What every answer carries.
const SECURITY: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    (
        "permissions-policy",
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(self)",
    ),
    ("cross-origin-opener-policy", "same-origin"),
];

/// The page itself is asked for anew each time; it names the set of files that belongs to it.
const REVALIDATED: &str = "no-cache";
/// A file below the name of its set never changes.
const KEPT: &str = "public, max-age=31536000, immutable";

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
        answer
            .headers
            .iter()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }

    #[test]
    fn a_file_comes_in_the_best_form_that_the_client_takes() {
        let cases = [
            ("gzip, deflate, br", "br"),
            ("gzip", "gzip"),
            ("br;q=0, gzip;q=0.5", "gzip"),
            ("", ""),
            ("identity", ""),
        ];
        for (accept, encoding) in cases {
            let answer = respond("GET", "/", accept, "");
            assert_eq!(
                (answer.status, header(&answer, "content-encoding")),
                (200, encoding),
                "{accept}"
            );
            assert!(header(&answer, "content-security-policy").starts_with("default-src 'none'"));
        }
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let first = respond("GET", "/assets/app.js", "br", "");
        let etag = header(&first, "etag").to_owned();
        assert_eq!(
            respond("GET", "/assets/app.js", "br", &format!("\"x\", W/{etag}")).status,
            304
        );
        assert_eq!(respond("GET", "/assets/app.js", "gzip", &etag).status, 200);
    }

    #[test]
    fn the_page_names_its_set_of_files_and_these_are_kept_for_ever() {
        let page = String::from_utf8_lossy(respond("GET", "/", "", "").body).into_owned();
        assert!(page.contains(&format!("\"/assets/{VERSION}/app.js\"")), "{page}");
        assert!(!page.contains("\"/assets/app.js\""), "{page}");
        let kept = respond("GET", &format!("/assets/{VERSION}/app.js"), "br", "");
        assert_eq!((kept.status, header(&kept, "cache-control")), (200, KEPT));
        let fresh = respond("GET", "/assets/app.js", "br", "");
        assert_eq!((fresh.status, header(&fresh, "cache-control")), (200, REVALIDATED));
        assert_eq!(fresh.body, kept.body);
        let of_another_set = respond("GET", "/assets/0123456789abcdef/app.js", "br", "");
        assert_eq!(of_another_set.status, 404);
    }

    #[test]
    fn no_answer_lets_a_script_in_or_the_page_into_a_frame() {
        for (method, path) in [("GET", "/"), ("GET", "/none"), ("POST", "/"), ("GET", "/assets/app.js")] {
            let answer = respond(method, path, "", "");
            let policy = header(&answer, "content-security-policy");
            assert!(policy.starts_with("default-src 'none'; "), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
            assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
            assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
        }
    }

    #[test]
    fn the_page_holds_no_inline_script_or_style() {
        let page = String::from_utf8_lossy(respond("GET", "/", "", "").body).into_owned();
        assert!(
            !page.contains("<style") && !page.contains(" style=") && !page.contains(" on"),
            "{page}"
        );
        assert!(
            page.match_indices("<script")
                .all(|(at, _)| page[at..].split('>').next().is_some_and(|tag| tag.contains("src=")))
        );
    }

    #[test]
    fn the_whole_page_is_under_60_kilobytes() {
        let size: usize = ASSETS.iter().map(|asset| asset.br.len()).sum();
        assert!(size < 60 * 1024, "{size} bytes");
        let gzip: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(gzip < 60 * 1024, "{gzip} bytes");
    }

    #[test]
    fn nothing_else_is_answered() {
        assert_eq!(respond("POST", "/", "", "").status, 405);
        assert_eq!(respond("GET", "/assets/../Cargo.toml", "", "").status, 404);
        assert!(respond("HEAD", "/", "", "").body.is_empty());
    }
}
