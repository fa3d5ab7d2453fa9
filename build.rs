//! Compiles `proto/scheduler.proto` with protox, so that no machine needs protoc, and keeps the descriptors for reflection;
//! and the part of etcd's API that is used, for clients only.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_file("scheduler.proto")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("scheduler.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    let etcd = protox::compile(["etcd/rpc.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(etcd)?;
    Ok(())
}
