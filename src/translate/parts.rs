//! Content parts: text, images, audio, video and files.

use std::{borrow::Cow, fmt};

use super::{
    media,
    model::{Family, Gemini},
};
use crate::{
    error::ApiError,
    gemini::request::{Blob, Data, FileData, Part, PartResolution},
    openai::{Text, content},
};

/// Something that has to be fetched before the request can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Where it is.
    pub url: String,
    /// The field that names it, as `messages[2].content[1].image_url.url`.
    pub param: String,
}

impl Download {
    /// What was fetched, as Gemini takes it: its type, and its bytes in base64.
    pub(super) fn read(&self, mime: &str, data: &[u8]) -> Result<(String, String), ApiError> {
        let told = media::clean(mime);
        let found = if told.is_empty() || media::VAGUE.contains(&told.as_str()) {
            media::sniff(data)
                .or_else(|| media::by_extension(&self.url))
                .map(str::to_owned)
        } else {
            Some(told)
        };
        let usable = |mime: &String| {
            let is_text = self.param.contains(".file.") && mime.starts_with("text/");
            is_text
                || ["image/", "audio/", "video/", "application/pdf"]
                    .iter()
                    .any(|kind| mime.starts_with(kind))
        };
        let Some(found) = found.filter(usable) else {
            let message = format!("What '{}' names is not an image, audio, video or PDF.", self.param);
            return Err(ApiError::invalid(self.param.clone(), message));
        };
        if data.is_empty() {
            return Err(ApiError::invalid(
                self.param.clone(),
                format!("What '{}' names is empty.", self.param),
            ));
        }
        Ok((found, media::encode(data)))
    }
}

/// Where a part stands in the request, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) message: usize,
    pub(super) field: &'static str,
    pub(super) part: usize,
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "messages[{}].{}[{}]", self.message, self.field, self.part)
    }
}

impl At {
    fn invalid(self, field: &str, why: &str) -> ApiError {
        let param = format!("{self}.{field}");
        ApiError::invalid(param.clone(), format!("Invalid value for '{param}': {why}"))
    }

    fn missing(self, field: &str) -> ApiError {
        ApiError::missing(&format!("{self}.{field}"))
    }
}

/// Reads parts, and gathers what the whole request has to know of them.
#[derive(Debug)]
pub(super) struct Sources {
    family: Family,
    pub(super) downloads: Vec<Download>,
    pub(super) pinned: bool,
    /// How closely images are looked at; Gemini 2 knows one answer for all of them.
    details: Vec<Option<&'static str>>,
}

impl Sources {
    pub(super) fn new(gemini: &Gemini<'_>) -> Self {
        Self {
            family: gemini.family,
            downloads: Vec::new(),
            pinned: false,
            details: Vec::new(),
        }
    }

    /// How closely all images are looked at, where that is said once for a request.
    pub(super) fn resolution(&self) -> Option<&'static str> {
        let first = *self.details.first()?;
        let is_told_once = matches!(self.family, Family::Gemini20 | Family::Gemini25);
        let is_one = is_told_once && self.details.iter().all(|detail| *detail == first);
        first.filter(|_| is_one)
    }

    /// One part as Gemini has it.
    pub(super) fn part<'a>(&mut self, part: content::Part<'a>, at: At) -> Result<Part<'a>, ApiError> {
        let kind = part.kind.ok_or_else(|| at.missing("type"))?;
        match &*kind {
            "text" => Ok(text(part.text.ok_or_else(|| at.missing("text"))?.0)),
            "refusal" => Ok(text(part.refusal.ok_or_else(|| at.missing("refusal"))?.0)),
            "image_url" => self.image(part.image_url.ok_or_else(|| at.missing("image_url"))?, at),
            "video_url" => self.link(part.video_url.ok_or_else(|| at.missing("video_url"))?, at, "video_url"),
            "input_video" => self.link(
                part.input_video.ok_or_else(|| at.missing("input_video"))?,
                at,
                "input_video",
            ),
            "input_audio" => audio(part.input_audio.ok_or_else(|| at.missing("input_audio"))?, at),
            "file" => self.file(part.file.ok_or_else(|| at.missing("file"))?, at),
            other => {
                let other: String = other.chars().take(64).collect();
                Err(at.invalid(
                    "type",
                    &format!("content parts of the type '{other}' are not supported."),
                ))
            }
        }
    }

    fn image<'a>(&mut self, link: content::Link<'a>, at: At) -> Result<Part<'a>, ApiError> {
        let level = match link.detail.as_deref() {
            None | Some("auto" | "") => None,
            Some("low") => Some("MEDIA_RESOLUTION_LOW"),
            Some("medium") => Some("MEDIA_RESOLUTION_MEDIUM"),
            Some("high" | "original") => Some("MEDIA_RESOLUTION_HIGH"),
            Some(_) => return Err(at.invalid("image_url.detail", "it is one of auto, low and high.")),
        };
        let mut part = self.link(link, at, "image_url")?;
        self.details.push(level);
        if self.family >= Family::Gemini3 {
            part.media_resolution = level.map(|level| PartResolution { level });
        }
        Ok(part)
    }

    fn link<'a>(&mut self, link: content::Link<'a>, at: At, field: &'static str) -> Result<Part<'a>, ApiError> {
        if let Some(data) = link.data {
            let default = format!("video/{}", link.format.as_deref().unwrap_or("mp4"));
            let invalid = |why: &str| at.invalid(&format!("{field}.data"), why);
            return inline(data, Some(default.into()), invalid);
        }
        let name = if link.is_bare {
            field.to_owned()
        } else {
            format!("{field}.url")
        };
        let url = link.url.ok_or_else(|| at.missing(&name))?;
        let invalid = |why: &str| at.invalid(&name, why);
        if media::is_data_url(&url) {
            return inline(url, None, invalid);
        }
        if let Some(uri) = media::files_uri(&url) {
            self.pinned = true;
            return Ok(file_data(uri.into(), media::by_extension(&url)));
        }
        if media::is_youtube(&url) {
            return Ok(file_data(url.0, None));
        }
        if url.starts_with("gs://") {
            let mime = media::by_extension(&url);
            return Ok(file_data(url.0, mime));
        }
        let is_https = media::has_scheme(&url, "https://");
        if !is_https && !media::has_scheme(&url, "http://") {
            return Err(invalid("it has to be an http(s) URL or a data URL."));
        }
        if url.len() > LONGEST_URL {
            return Err(invalid(&format!("it is longer than {LONGEST_URL} characters.")));
        }
        // Gemini fetches public files itself where it is told their type.
        if is_https
            && self.family >= Family::Gemini25
            && let Some(mime) = media::by_extension(&url)
        {
            return Ok(file_data(url.0, Some(mime)));
        }
        let known = self.downloads.iter().position(|download| download.url == *url);
        let download = known.unwrap_or(self.downloads.len());
        if known.is_none() {
            if download == MOST_DOWNLOADS {
                return Err(invalid(&format!(
                    "a request can have at most {MOST_DOWNLOADS} files fetched."
                )));
            }
            self.downloads.push(Download {
                url: url.0.into_owned(),
                param: format!("{at}.{name}"),
            });
        }
        Ok(plain(Data::InlineData(Blob {
            mime_type: "".into(),
            data: "".into(),
            download: Some(download),
        })))
    }

    fn file<'a>(&mut self, file: content::File<'a>, at: At) -> Result<Part<'a>, ApiError> {
        if let Some(id) = file.file_id {
            let uri = media::files_uri(&id).ok_or_else(|| {
                at.invalid(
                    "file.file_id",
                    "it has to be a file of Gemini's Files API, as files/abc-123.",
                )
            })?;
            self.pinned = true;
            let mime = file.filename.and_then(|name| media::by_extension(&name));
            return Ok(file_data(uri.into(), mime));
        }
        let data = file.file_data.ok_or_else(|| at.missing("file.file_data"))?;
        if ["http://", "https://"]
            .iter()
            .any(|scheme| media::has_scheme(&data, scheme))
        {
            let link = content::Link {
                url: Some(data),
                is_bare: true,
                ..content::Link::default()
            };
            return self.link(link, at, "file.file_data");
        }
        let mime = file
            .filename
            .and_then(|name| media::by_extension(&name))
            .map(Cow::Borrowed);
        if mime.is_none() && !media::is_data_url(&data) {
            return Err(at.invalid(
                "file.filename",
                "it has to end in a known extension, or file_data has to be a data URL with a type.",
            ));
        }
        inline(data, mime, |why| at.invalid("file.file_data", why))
    }
}

/// A text.
pub(super) fn text(text: Cow<'_, str>) -> Part<'_> {
    plain(Data::Text(text))
}

/// A part with nothing beside its data.
pub(super) fn plain(data: Data<'_>) -> Part<'_> {
    Part {
        data,
        thought_signature: None,
        media_resolution: None,
    }
}

/// Puts what was fetched where it is wanted.
pub(super) fn fill(part: &mut Part<'_>, download: usize, mime: &str, data: &str) {
    match &mut part.data {
        Data::InlineData(blob) if blob.download == Some(download) => {
            blob.mime_type = mime.to_owned().into();
            blob.data = data.to_owned().into();
        }
        Data::FunctionResponse(response) => {
            response
                .parts
                .iter_mut()
                .for_each(|part| fill(part, download, mime, data));
        }
        _ => {}
    }
}

fn audio<'a>(audio: content::Audio<'a>, at: At) -> Result<Part<'a>, ApiError> {
    let data = audio.data.ok_or_else(|| at.missing("input_audio.data"))?;
    let mime = match audio.format.as_deref() {
        Some("wav") => "audio/wav",
        Some("mp3") => "audio/mp3",
        Some("flac") => "audio/flac",
        Some("aac") => "audio/aac",
        Some("ogg") => "audio/ogg",
        Some("aiff") => "audio/aiff",
        Some("pcm16" | "pcm") => "audio/pcm",
        None if media::is_data_url(&data) => "",
        None => return Err(at.missing("input_audio.format")),
        Some(_) => {
            let known = "it is one of wav, mp3, flac, aac, ogg, aiff and pcm16.";
            return Err(at.invalid("input_audio.format", known));
        }
    };
    let mime = Some(mime).filter(|mime| !mime.is_empty()).map(Cow::Borrowed);
    inline(data, mime, |why| at.invalid("input_audio.data", why))
}

/// Data that came with the request: a data URL, or bare base64 whose type is known. The type in a data URL wins.
fn inline<'a>(
    data: Text<'a>,
    mime: Option<Cow<'a, str>>,
    invalid: impl Fn(&str) -> ApiError,
) -> Result<Part<'a>, ApiError> {
    let (told, data) = if media::is_data_url(&data) {
        media::read_data_url(data.0).map_err(&invalid)?
    } else {
        (None, media::base64(data.0).map_err(&invalid)?)
    };
    let told = told.filter(|told| mime.is_none() || !media::VAGUE.contains(&&**told));
    let mime_type = told
        .map(Cow::Owned)
        .or(mime)
        .ok_or_else(|| invalid("the data URL names no type."))?;
    Ok(plain(Data::InlineData(Blob {
        mime_type,
        data,
        download: None,
    })))
}

fn file_data<'a>(file_uri: Cow<'a, str>, mime: Option<&'static str>) -> Part<'a> {
    plain(Data::FileData(FileData {
        mime_type: mime.map(Cow::Borrowed),
        file_uri,
    }))
}

/// How many files are fetched for one request.
const MOST_DOWNLOADS: usize = 64;
const LONGEST_URL: usize = 8192;
