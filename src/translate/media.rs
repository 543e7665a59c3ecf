//! Types of media, data URLs, and addresses that Gemini knows itself.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;

/// A MIME type without its parameters, in lower case, by the name that Gemini knows it by.
pub(super) fn clean(mime: &str) -> String {
    let mime = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match mime.as_str() {
        "image/jpg" | "image/pjpeg" => "image/jpeg".to_owned(),
        "audio/x-wav" | "audio/wave" => "audio/wav".to_owned(),
        _ => mime,
    }
}

/// Types that say nothing.
pub(super) const VAGUE: [&str; 3] = [
    "application/octet-stream",
    "binary/octet-stream",
    "application/x-binary",
];

/// The type that a file's name or address ends in.
pub(super) fn by_extension(name: &str) -> Option<&'static str> {
    let name = name.split(['?', '#']).next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let (_, extension) = name.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    EXTENSIONS
        .iter()
        .find(|(known, _)| *known == extension)
        .map(|(_, mime)| *mime)
}

/// The type that a file's first bytes tell.
pub(super) fn sniff(data: &[u8]) -> Option<&'static str> {
    let is_webp = data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP");
    MAGIC
        .iter()
        .find(|(magic, _)| data.starts_with(magic))
        .map(|(_, mime)| *mime)
        .or(is_webp.then_some("image/webp"))
}

/// Whether a text is a data URL.
pub(super) fn is_data_url(text: &str) -> bool {
    has_scheme(text, "data:")
}

/// Whether an address begins with a scheme, in whatever case.
pub(super) fn has_scheme(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// The full address of a file in the Files API, where a text names one.
pub(super) fn files_uri(text: &str) -> Option<String> {
    let id = match text.strip_prefix("files/") {
        Some(id) => id,
        None => text.strip_prefix(GOOGLE)?.split_once("/files/")?.1,
    };
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_valid = !id.is_empty() && id.len() <= 100 && id.bytes().all(is_id);
    is_valid.then(|| format!("{GOOGLE}v1beta/files/{id}"))
}

/// Whether an address is a video that Gemini takes from YouTube.
pub(super) fn is_youtube(url: &str) -> bool {
    let Some(rest) = ["https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
    else {
        return false;
    };
    let rest = rest
        .strip_prefix("www.")
        .or_else(|| rest.strip_prefix("m."))
        .unwrap_or(rest);
    [
        "youtube.com/watch?",
        "youtube.com/shorts/",
        "youtube.com/live/",
        "youtu.be/",
    ]
    .iter()
    .any(|start| rest.starts_with(start))
}

/// Reads a data URL: its type, where it names one, and its data in base64, borrowed where they can be sent as they are.
pub(super) fn read_data_url(url: Cow<'_, str>) -> Result<(Option<String>, Cow<'_, str>), &'static str> {
    let (head, _) = url.split_once(',').ok_or("the data URL has no comma.")?;
    let start = head.len() + 1;
    let head = head.get("data:".len()..).unwrap_or_default();
    let is_base64 = head
        .rsplit(';')
        .next()
        .is_some_and(|last| last.trim().eq_ignore_ascii_case("base64"));
    let mime = Some(clean(head)).filter(|mime| mime.contains('/'));
    let data = match url {
        Cow::Borrowed(url) => Cow::Borrowed(url.get(start..).unwrap_or_default()),
        Cow::Owned(mut url) => Cow::Owned(url.split_off(start)),
    };
    if is_base64 {
        return base64(data).map(|data| (mime, data));
    }
    let bytes: Vec<u8> = percent_decode_str(&data).collect();
    if bytes.is_empty() {
        return Err("the data URL is empty.");
    }
    Ok((mime, Cow::Owned(STANDARD.encode(bytes))))
}

/// Checks base64, and brings the variants that clients send into the standard one.
pub(super) fn base64(data: Cow<'_, str>) -> Result<Cow<'_, str>, &'static str> {
    if is_base64(data.as_bytes()) {
        return Ok(data);
    }
    let decoded = percent_decode_str(&data).decode_utf8().map_err(|_| NOT_BASE64)?;
    let mut mended = String::with_capacity(decoded.len() + 3);
    for character in decoded.trim_end_matches(['=', ' ', '\n', '\r', '\t']).chars() {
        match character {
            '-' => mended.push('+'),
            '_' => mended.push('/'),
            character if character.is_ascii_whitespace() => {}
            character => mended.push(character),
        }
    }
    while !mended.len().is_multiple_of(4) {
        mended.push('=');
    }
    if is_base64(mended.as_bytes()) {
        Ok(Cow::Owned(mended))
    } else {
        Err(NOT_BASE64)
    }
}

/// Bytes in base64.
pub(super) fn encode(data: &[u8]) -> String {
    STANDARD.encode(data)
}

/// Whether a text is standard base64, and not empty.
fn is_base64(data: &[u8]) -> bool {
    let body = data
        .strip_suffix(b"==")
        .or_else(|| data.strip_suffix(b"="))
        .unwrap_or(data);
    let is_letter = |byte: u8| (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_known = |byte: u8| is_letter(byte) | byte.wrapping_sub(b'0').lt(&10) | (byte == b'+') | (byte == b'/');
    // Without a way out in the middle of a chunk, chunks are checked many bytes at a time.
    let are_known = |chunk: &[u8]| chunk.iter().fold(true, |all, byte| all & is_known(*byte));
    !body.is_empty() && data.len().is_multiple_of(4) && body.chunks(256).all(are_known)
}

const NOT_BASE64: &str = "the data is not valid base64.";
const GOOGLE: &str = "https://generativelanguage.googleapis.com/";

const MAGIC: [(&[u8], &str); 6] = [
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
];

const EXTENSIONS: [(&str, &str); 38] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("bmp", "image/bmp"),
    ("avif", "image/avif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("xml", "text/xml"),
    ("rtf", "text/rtf"),
    ("js", "text/javascript"),
    ("py", "text/x-python"),
    ("json", "application/json"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpg"),
    ("mov", "video/mov"),
    ("avi", "video/avi"),
    ("flv", "video/x-flv"),
    ("webm", "video/webm"),
    ("wmv", "video/wmv"),
    ("3gp", "video/3gpp"),
    ("wav", "audio/wav"),
    ("mp3", "audio/mp3"),
    ("aiff", "audio/aiff"),
    ("aac", "audio/aac"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
    ("m4a", "audio/m4a"),
    ("opus", "audio/opus"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_url_is_read_whatever_its_form() {
        for (url, mime, data) in [
            ("data:image/png;base64,QUJD", Some("image/png"), Ok("QUJD")),
            (
                "data:image/JPG;charset=utf-8;base64,QUI=",
                Some("image/jpeg"),
                Ok("QUI="),
            ),
            ("DATA:image/png;BASE64,QUI", Some("image/png"), Ok("QUI=")),
            ("data:image/png;base64,_-8", Some("image/png"), Ok("/+8=")),
            ("data:image/png;base64,QU\nJD\n", Some("image/png"), Ok("QUJD")),
            ("data:image/png;base64,QUI%3D", Some("image/png"), Ok("QUI=")),
            ("data:text/plain,a%20b", Some("text/plain"), Ok("YSBi")),
            ("data:;base64,QUJD", None, Ok("QUJD")),
            ("data:,x", None, Ok("eA==")),
            ("data:image/png;base64,", None, Err(NOT_BASE64)),
            ("data:image/png;base64,Q", None, Err(NOT_BASE64)),
            ("data:image/png;base64,Q?==", None, Err(NOT_BASE64)),
            ("data:image/png;base64,Q=JD", None, Err(NOT_BASE64)),
            ("data:image/png;base64,====", None, Err(NOT_BASE64)),
            ("data:image/png", None, Err("the data URL has no comma.")),
        ] {
            for given in [Cow::Borrowed(url), Cow::Owned(url.to_owned())] {
                match (read_data_url(given), data) {
                    (Ok((found, read)), Ok(data)) => assert_eq!((found.as_deref(), &*read), (mime, data), "{url}"),
                    (found, _) => assert_eq!(found.map(|_| ""), data, "{url}"),
                }
            }
        }
    }

    #[test]
    fn good_data_are_not_copied() {
        let read = read_data_url(Cow::Borrowed("data:image/png;base64,QUJD"));
        assert!(matches!(read, Ok((_, Cow::Borrowed("QUJD")))));
    }

    #[test]
    fn a_file_of_the_files_api_is_known_in_every_spelling() {
        let full = "https://generativelanguage.googleapis.com/v1beta/files/abc-123";
        for (text, known) in [
            ("files/abc-123", true),
            (full, true),
            ("https://generativelanguage.googleapis.com/v1/files/abc-123", true),
            ("files/", false),
            ("files/a/b", false),
            ("file-abc123", false),
            ("https://example.org/files/abc-123", false),
        ] {
            assert_eq!(files_uri(text).as_deref(), known.then_some(full), "{text}");
        }
    }

    #[test]
    fn youtube_is_known() {
        for (url, known) in [
            ("https://www.youtube.com/watch?v=x", true),
            ("https://youtube.com/watch?v=x", true),
            ("https://m.youtube.com/shorts/x", true),
            ("https://youtu.be/x", true),
            ("https://youtube.com.example.org/watch?v=x", false),
            ("https://example.org/youtu.be/x", false),
        ] {
            assert_eq!(is_youtube(url), known, "{url}");
        }
    }

    #[test]
    fn types_are_told_by_name_and_by_first_bytes() {
        assert_eq!(by_extension("https://a.example/b.c/d.PNG?x=1.txt#y"), Some("image/png"));
        assert_eq!(by_extension("https://a.example/b.png/d"), None);
        assert_eq!(by_extension("paper.pdf"), Some("application/pdf"));
        assert_eq!(sniff(b"\x89PNG\r\n"), Some("image/png"));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8"), Some("image/webp"));
        assert_eq!(sniff(b"<html>"), None);
        assert_eq!(clean(" Image/JPG; q=1"), "image/jpeg");
    }
}
