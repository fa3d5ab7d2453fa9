//! Compiles `proto/scheduler.proto` with protox, so that no machine needs protoc, and keeps the descriptors for
//! reflection; and the part of etcd's API that is used, for clients only. Compresses the files that are served.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// What Swagger UI's page loads. Its archive also has the same files in forms for other uses.
const SWAGGER_UI: [&str; 7] = [
    "favicon-16x16.png",
    "favicon-32x32.png",
    "index.css",
    "index.html",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
];
/// How it is set up.
const INITIALIZER: &str = "src/gateway/openapi/swagger-initializer.js";
const CONTRACT: &str = "openapi/openapi.json";

type Failure = Box<dyn Error>;
/// Files by their names.
type Files = BTreeMap<String, Vec<u8>>;

fn main() -> Result<(), Failure> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    compile_services(&out)?;
    store_files(&out)
}

fn compile_services(out: &Path) -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_file("scheduler.proto")?;
    fs::write(out.join("scheduler.bin"), compiler.encode_file_descriptor_set())?;
    // A service that lacks a method answers UNIMPLEMENTED, as an older version does: a new method is no edit in every
    // service.
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .compile_fds(compiler.file_descriptor_set())?;
    let etcd = protox::compile(["etcd/rpc.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(etcd)?;
    Ok(())
}

/// Writes `files.rs`, which `src/gateway/files.rs` includes.
fn store_files(out: &Path) -> Result<(), Failure> {
    for source in ["web", INITIALIZER, CONTRACT] {
        println!("cargo:rerun-if-changed={source}");
    }
    let page = stored_all(&out.join("page"), &page()?)?;
    let docs = stored_all(&out.join("docs"), &docs()?)?;
    let contract = stored(&out.join("contract"), "openapi.json", &fs::read(CONTRACT)?)?;
    let source = format!(
        "/// The page.\npub static PAGE: &[File] = &[{page}];\n\
         /// Swagger UI.\npub static DOCS: &[File] = &[{docs}];\n\
         /// The contract.\npub static CONTRACT: File = {contract};\n"
    );
    Ok(fs::write(out.join("files.rs"), source)?)
}

fn page() -> Result<Files, Failure> {
    let mut files = Files::new();
    for entry in fs::read_dir("web")? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}

fn docs() -> Result<Files, Failure> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let mut files = Files::from([("swagger-initializer.js".to_owned(), fs::read(INITIALIZER)?)]);
    for name in SWAGGER_UI {
        let end = format!("/dist/{name}");
        let path = archive.file_names().flatten().find(|path| path.ends_with(&end)).ok_or(name)?.into_owned();
        let mut bytes = Vec::new();
        archive.by_name(&path)?.read_to_end(&mut bytes)?;
        files.insert(name.to_owned(), bytes);
    }
    Ok(files)
}

fn stored_all(folder: &Path, files: &Files) -> Result<String, Failure> {
    files.iter().map(|(name, bytes)| Ok(stored(folder, name, bytes)? + ", ")).collect()
}

/// Writes a file and its compressed form, and returns the expression for both.
fn stored(folder: &Path, name: &str, bytes: &[u8]) -> Result<String, Failure> {
    fs::create_dir_all(folder)?;
    let (plain, gzip) = (folder.join(name), folder.join(format!("{name}.gz")));
    fs::write(&plain, bytes)?;
    fs::write(&gzip, compressed(bytes)?)?;
    let media = media(name)?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let tag = format!("{:016x}", hasher.finish());
    Ok(format!(
        "File {{ name: {name:?}, media: {media:?}, \
         plain: Stored {{ bytes: include_bytes!({plain:?}), etag: r#\"\"{tag}\"\"# }}, \
         gzip: Stored {{ bytes: include_bytes!({gzip:?}), etag: r#\"\"{tag}-gzip\"\"# }} }}"
    ))
}

fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn media(name: &str) -> Result<&'static str, Failure> {
    Ok(match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        _ => return Err(format!("{name}: of what type is it?").into()),
    })
}
