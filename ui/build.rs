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
    let mut table = String::from("/// The files, by path.\npub(crate) const ASSETS: &[Asset] = &[\n");
    for (number, path) in files.iter().enumerate() {
        let plain = fs::read(path)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&plain)?;
        let mut brotli = Vec::new();
        let parameters = brotli::enc::BrotliEncoderParams::default();
        brotli::BrotliCompress(&mut plain.as_slice(), &mut brotli, &parameters)?;
        let etag = Sha256::digest(&plain)
            .iter()
            .take(8)
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
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
