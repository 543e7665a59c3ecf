//! Sound in whole answers.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::gemini::response::plain;

/// Pieces of sound, each with its type and in base64, as one. Gemini speaks in bare samples: unless `pcm` was asked for they get
/// the header that makes a WAV file of them, since a player could not tell what they are.
pub(super) fn joined<'a>(pieces: &[(&'a str, &'a str)], pcm: bool) -> Option<Cow<'a, str>> {
    let (mime, first) = *pieces.first()?;
    let header = Samples::of(&plain(mime)).filter(|_| !pcm);
    if pieces.len() == 1 && header.is_none() {
        return Some(Cow::Borrowed(first));
    }
    let mut sound = Vec::new();
    for (_, piece) in pieces {
        // The ends of pieces are padded, so that they cannot just stand one behind the other.
        if STANDARD.decode_vec(plain(piece).as_ref(), &mut sound).is_err() {
            return Some(Cow::Borrowed(first));
        }
    }
    let file = match header {
        Some(samples) => [samples.header(sound.len()).as_slice(), &sound].concat(),
        None => sound,
    };
    Some(Cow::Owned(STANDARD.encode(file)))
}

/// Bare samples of 16 bits, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Samples {
    rate: u32,
    channels: u16,
}

impl Samples {
    /// Reads a type such as `audio/L16;codec=pcm;rate=24000`.
    fn of(mime: &str) -> Option<Self> {
        let mut fields = mime.split(';').map(str::trim);
        let kind = fields.next()?.to_ascii_lowercase();
        if kind != "audio/l16" && kind != "audio/pcm" {
            return None;
        }
        let fields: Vec<(&str, &str)> = fields.filter_map(|field| field.split_once('=')).collect();
        let number = |name: &str| {
            let field = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
            field.and_then(|(_, value)| value.parse::<u32>().ok())
        };
        Some(Self {
            rate: number("rate").unwrap_or(24_000),
            channels: number("channels")
                .and_then(|count| u16::try_from(count).ok())
                .unwrap_or(1),
        })
    }

    /// The header of a RIFF file with so many bytes of samples.
    fn header(self, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let frame = self.channels.saturating_mul(2);
        let mut header = Vec::with_capacity(44);
        header.extend_from_slice(b"RIFF");
        header.extend_from_slice(&length.saturating_add(36).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt ");
        header.extend_from_slice(&16_u32.to_le_bytes());
        // Samples that are not compressed.
        header.extend_from_slice(&1_u16.to_le_bytes());
        header.extend_from_slice(&self.channels.to_le_bytes());
        header.extend_from_slice(&self.rate.to_le_bytes());
        header.extend_from_slice(&self.rate.saturating_mul(frame.into()).to_le_bytes());
        header.extend_from_slice(&frame.to_le_bytes());
        header.extend_from_slice(&16_u16.to_le_bytes());
        header.extend_from_slice(b"data");
        header.extend_from_slice(&length.to_le_bytes());
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_samples_are_read() {
        let samples = |rate, channels| Some(Samples { rate, channels });
        for (mime, expected) in [
            ("audio/L16;codec=pcm;rate=24000", samples(24_000, 1)),
            ("audio/l16; rate=16000; channels=2", samples(16_000, 2)),
            ("audio/pcm", samples(24_000, 1)),
            ("audio/pcm;rate=x;channels=99999999", samples(24_000, 1)),
            ("audio/wav", None),
            ("audio/mpeg", None),
            ("", None),
        ] {
            assert_eq!(Samples::of(mime), expected, "{mime}");
        }
    }

    #[test]
    fn bare_samples_get_a_header_unless_they_were_asked_for() {
        let pcm = "audio/L16;codec=pcm;rate=24000";
        assert_eq!(joined(&[], false), None);
        assert_eq!(joined(&[(pcm, "AAE=")], true).unwrap(), "AAE=");
        assert_eq!(joined(&[(pcm, "AAE="), (pcm, "AgM=")], true).unwrap(), "AAECAw==");
        assert_eq!(joined(&[("audio/wav", "AAE=")], false).unwrap(), "AAE=");
        assert_eq!(joined(&[(pcm, "?")], false).unwrap(), "?");
        let file = STANDARD
            .decode(joined(&[(pcm, "AAE="), (pcm, "AgM=")], false).unwrap().as_ref())
            .unwrap();
        assert_eq!(file.len(), 48);
        assert_eq!(file[..4], *b"RIFF");
        assert_eq!(file[4..8], 40_u32.to_le_bytes());
        assert_eq!(file[24..28], 24_000_u32.to_le_bytes());
        assert_eq!(file[28..32], 48_000_u32.to_le_bytes());
        assert_eq!(file[40..44], 4_u32.to_le_bytes());
        assert_eq!(file[44..], [0, 1, 2, 3]);
    }
}
