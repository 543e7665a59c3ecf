//! The event stream format of the HTML standard, over bytes: what upstreams send, and what clients get.

use memchr::memchr2;

/// Reads an event stream that comes in pieces of any size. Only `data` fields are of interest.
///
/// "Lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair, a single U+000A LINE
/// FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR) character." In one thing it is kinder than the standard: an
/// event that the end of the stream cuts off is handed out, since some servers leave out the last blank line.
#[derive(Debug)]
pub struct Decoder {
    /// The data of the event under way, a line feed behind each line of it, and behind that the line under way.
    held: Vec<u8>,
    /// Where the event's data begins in `held`, once it has any.
    data: Option<usize>,
    /// Where the line under way begins in `held`.
    line: usize,
    /// Whether the last byte ended a line as a carriage return: a line feed right behind it belongs to it.
    after_return: bool,
    at_start: bool,
    limit: usize,
}

/// An event is longer than the decoder may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Decoder {
    /// A decoder of events of at most `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            held: Vec::new(),
            data: None,
            line: 0,
            after_return: false,
            at_start: true,
            limit,
        }
    }

    /// Takes the next piece and hands out the data of every event that ends in it. An event that lies whole in the piece is
    /// not copied.
    pub fn push(&mut self, piece: &[u8], mut on: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut rest = piece;
        if self.after_return && !rest.is_empty() {
            self.after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        // A first line of data that lies in this piece, before it is known whether the event ends in it too.
        let mut whole: Option<&[u8]> = None;
        while let Some((line, ended_by, behind)) = split_line(rest) {
            rest = behind;
            if ended_by == b'\r' {
                match rest.strip_prefix(b"\n") {
                    Some(behind) => rest = behind,
                    None => self.after_return = rest.is_empty(),
                }
            }
            if self.line < self.held.len() || self.at_start {
                // The line began in an earlier piece, or it is the first.
                self.hold(line)?;
                self.end_line(&mut on)?;
            } else if line.is_empty() {
                match whole.take() {
                    Some(data) => on(data),
                    None => self.dispatch(&mut on),
                }
            } else if let Some(value) = data_of(line) {
                if value.len() > self.limit {
                    return Err(TooLong);
                }
                if whole.is_none() && self.data.is_none() {
                    whole = Some(value);
                } else {
                    self.keep(whole.take())?;
                    self.keep(Some(value))?;
                }
            }
        }
        self.keep(whole)?;
        self.hold(rest)
    }

    /// Hands out what the end of the stream has left unfinished.
    pub fn finish(&mut self, mut on: impl FnMut(&[u8])) -> Result<(), TooLong> {
        if self.line < self.held.len() {
            self.end_line(&mut on)?;
        }
        self.dispatch(&mut on);
        Ok(())
    }

    /// Ends the line that is held.
    fn end_line(&mut self, on: &mut impl FnMut(&[u8])) -> Result<(), TooLong> {
        if std::mem::take(&mut self.at_start) && self.held.starts_with(BYTE_ORDER_MARK) {
            self.held.drain(..BYTE_ORDER_MARK.len());
        }
        let line = self.held.get(self.line..).unwrap_or_default();
        if line.is_empty() {
            self.dispatch(on);
            return Ok(());
        }
        let Some(value) = data_of(line) else {
            self.held.truncate(self.line);
            return Ok(());
        };
        let start = self.held.len() - value.len();
        if self.data.is_none() {
            // Nothing stands before it that matters: the field's name is left where it is.
            self.data = Some(start);
        } else {
            self.held.drain(self.line..start);
        }
        self.held.push(b'\n');
        self.line = self.held.len();
        Ok(())
    }

    /// Adds a whole line of data to the event under way.
    fn keep(&mut self, value: Option<&[u8]>) -> Result<(), TooLong> {
        let Some(value) = value else { return Ok(()) };
        self.hold(value)?;
        self.data.get_or_insert(self.line);
        self.held.push(b'\n');
        self.line = self.held.len();
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        // Beside the data there are a line feed for each line and the name of a field.
        if self.held.len() + bytes.len() > self.limit + 16 {
            return Err(TooLong);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn dispatch(&mut self, on: &mut impl FnMut(&[u8])) {
        if let Some(start) = self.data.take() {
            let end = self.line.saturating_sub(1);
            on(self.held.get(start..end).unwrap_or_default());
        }
        self.held.clear();
        self.line = 0;
        if self.held.capacity() > MOST_SPARE {
            self.held = Vec::new();
        }
    }
}

/// Writes an event. Lines of the data become lines of the event.
pub fn event(data: &[u8], out: &mut Vec<u8>) {
    let mut rest = data;
    loop {
        out.extend_from_slice(b"data: ");
        let Some((line, ended_by, behind)) = split_line(rest) else {
            break;
        };
        out.extend_from_slice(line);
        out.push(b'\n');
        rest = match ended_by {
            b'\r' => behind.strip_prefix(b"\n").unwrap_or(behind),
            _ => behind,
        };
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
}

/// A comment: it tells proxies and clients that the stream is alive, and nothing else.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// A line without its end, the byte that ended it, and what stands behind.
fn split_line(bytes: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let end = memchr2(b'\n', b'\r', bytes)?;
    let (line, behind) = bytes.split_at_checked(end)?;
    let (ended_by, behind) = behind.split_first()?;
    Some((line, *ended_by, behind))
}

/// The value of a `data` field: "If value starts with a U+0020 SPACE character, remove it from value."
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        [] => Some(&[]),
        _ => None,
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A buffer that has grown beyond this is given back after its event.
const MOST_SPARE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]], limit: usize) -> Result<Vec<String>, TooLong> {
        let mut decoder = Decoder::new(limit);
        let mut events = Vec::new();
        let mut on = |data: &[u8]| events.push(String::from_utf8(data.to_vec()).unwrap());
        for piece in pieces {
            decoder.push(piece, &mut on)?;
        }
        decoder.finish(on)?;
        Ok(events)
    }

    #[test]
    fn events_are_read_as_the_standard_says_wherever_they_are_cut() {
        let cases: [(&str, &[&str]); 16] = [
            ("data: a\n\ndata: b\n\n", &["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
            ("data: a\r\rdata: b\r\r", &["a", "b"]),
            ("data: a\r\n\ndata: b\n\r\n\r", &["a", "b"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data: a\nid: 1\n: comment\nevent: x\nretry: 1\ndata: b\n\n", &["a\nb"]),
            ("data:a\n\ndata:  b\n\n", &["a", " b"]),
            // "data" alone is an empty value, and two of them a line feed.
            ("data\n\ndata\ndata\n\ndata:\n\n", &["", "\n", ""]),
            ("database: a\n\ndat: a\n\n:data: a\n\n data: a\n\n", &[]),
            ("\n\n\ndata: a\n\n\n\n", &["a"]),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["a"]),
            ("data: a: b: c\n\n", &["a: b: c"]),
            ("data: ünïcödé 漢字 😀\n\n", &["ünïcödé 漢字 😀"]),
            // The end of the stream ends an event too.
            ("data: a\n\ndata: b", &["a", "b"]),
            ("data: a\ndata: b\r", &["a\nb"]),
            ("", &[]),
        ];
        for (stream, expected) in cases {
            let bytes = stream.as_bytes();
            assert_eq!(events(&[bytes], 100).unwrap(), expected, "{stream:?} whole");
            let singly: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(events(&singly, 100).unwrap(), expected, "{stream:?} byte by byte");
            for one in 0..=bytes.len() {
                for two in one..=bytes.len() {
                    let pieces = [&bytes[..one], &bytes[one..two], &bytes[two..]];
                    assert_eq!(events(&pieces, 100).unwrap(), expected, "{stream:?} at {one} and {two}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_and_not_held() {
        let long = format!("data: {}", "x".repeat(200));
        let many = "data: 0123456789\n".repeat(20);
        for stream in [&long, &format!("{long}\n\n"), &many, &format!("{many}\n")] {
            let bytes = stream.as_bytes();
            assert_eq!(events(&[bytes], 100), Err(TooLong));
            assert_eq!(events(&bytes.chunks(1).collect::<Vec<_>>(), 100), Err(TooLong));
        }
        // Many events are no long event.
        let many = "data: 0123456789\n\n".repeat(20);
        assert_eq!(events(&[many.as_bytes()], 100).unwrap().len(), 20);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for data in ["{}", "", "a\nb", "a\r\nb\rc\n", "\n"] {
            let mut out = Vec::new();
            event(data.as_bytes(), &mut out);
            let lines = data.replace("\r\n", "\n").replace('\r', "\n");
            assert_eq!(events(&[&out], 100).unwrap(), [lines], "{data:?}");
        }
        assert_eq!(events(&[KEEP_ALIVE], 100).unwrap(), [""; 0]);
    }
}
