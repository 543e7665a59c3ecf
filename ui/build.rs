//! Compresses the files of `static/` once, at build time, and writes the table of them.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR").ok_or("no manifest folder")?).join("../static");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no output folder")?);
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    walk(&root, &mut files)?;
    files.sort();
    let version = version(&files)?;
    let mut table = format!("/// What names this set of files.\npub(crate) const VERSION: &str = {version:?};\n");
    writeln!(
        table,
        "/// What the page may load and do.\npub(crate) const POLICY: &str = {:?};",
        policy()?
    )?;
    table.push_str("/// The files, by path.\npub(crate) const ASSETS: &[Asset] = &[\n");
    for (number, path) in files.iter().enumerate() {
        let mut plain = fs::read(path)?;
        if path.ends_with("index.html") {
            // Modules import each other by relative paths: naming the set once, here, names it in all of them.
            plain = String::from_utf8(plain)?
                .replace("\"/assets/", &format!("\"/assets/{version}/"))
                .into_bytes();
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&plain)?;
        let mut brotli = Vec::new();
        let parameters = brotli::enc::BrotliEncoderParams::default();
        brotli::BrotliCompress(&mut plain.as_slice(), &mut brotli, &parameters)?;
        let etag = short(Sha256::digest(&plain).as_slice());
        for (name, bytes) in [("plain", &plain), ("gzip", &gzip.finish()?), ("br", &brotli)] {
            fs::write(out.join(format!("{number}.{name}")), bytes)?;
        }
        let name = path.strip_prefix(&root)?.to_str().ok_or("a file's name is not text")?;
        let url = if name == "index.html" {
            "/".to_owned()
        } else {
            format!("/assets/{name}")
        };
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => return Err(format!("{name}: no content type is known for it").into()),
        };
        let include = |form: &str| format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{number}.{form}\"))");
        writeln!(
            table,
            "    Asset {{ path: {url:?}, content_type: {kind:?}, etag: {etag:?}, plain: {}, gzip: {}, br: {} }},",
            include("plain"),
            include("gzip"),
            include("br"),
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

/// A name for the whole set, so that its files can be kept for ever: another set has another name.
fn version(files: &[PathBuf]) -> Result<String, Box<dyn Error>> {
    let mut all = Sha256::new();
    for path in files {
        all.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        all.update(fs::read(path)?);
    }
    Ok(short(all.finalize().as_slice()))
}

/// The policy has a directive on each line.
fn policy() -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-changed=content-security-policy.txt");
    Ok(fs::read_to_string("content-security-policy.txt")?
        .lines()
        .collect::<Vec<_>>()
        .join("; "))
}

/// The beginning of a digest, in hexadecimal.
fn short(digest: &[u8]) -> String {
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        println!("cargo::rerun-if-changed={}", path.display());
        if path.is_dir() {
            walk(&path, files)?
        } else {
            files.push(path)
        }
    }
    Ok(())
}
