//! Regenerates `proto/src/generated` from `proto/proto`, with nothing but Rust: protox compiles, tonic-prost-build writes.
//!
//! `cargo run -p proto-codegen` writes the files, `cargo run -p proto-codegen -- --check` writes nothing and fails
//! when they are stale. What is generated: Rust modules of the packages `counter`, `analytics` and `google.rpc`,
//! and `descriptor_set.bin`, a `FileDescriptorSet` with every import and with comments.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The files that are compiled; what they import comes with them.
const ROOTS: [&str; 4] = [
    "highpress/counter.proto",
    "highpress/analytics.proto",
    "google/rpc/error_details.proto",
    "google/rpc/code.proto",
];
/// Imported by nobody, but the type in which error details travel.
const STATUS: &str = "google/rpc/status.proto";
/// Packages that become Rust modules; the others are read by tools through the descriptor set only.
const RUST_PACKAGES: [&str; 3] = ["counter", "analytics", "google.rpc"];
/// The package of Any and Duration, for which prost-types has the Rust types.
const WELL_KNOWN: &str = "google.protobuf";
const DESCRIPTOR_SET: &str = "descriptor_set.bin";

type Files = BTreeMap<String, Vec<u8>>;

fn main() -> ExitCode {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        other => {
            eprintln!(
                "proto-codegen takes nothing or --check, not {}",
                other.join(" ")
            );
            return ExitCode::from(2);
        }
    };
    match run(check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!(
                "proto/src/generated is stale: run `cargo run -p proto-codegen` and commit the result"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("proto-codegen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the files are fresh now.
fn run(check: bool) -> Result<bool, Box<dyn Error>> {
    let proto_crate = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let generated = generate(&proto_crate.join("proto"))?;
    let target = proto_crate.join("src/generated");
    if check {
        let current = read_all(&target)?;
        for name in generated.keys().chain(current.keys()) {
            if generated.get(name) != current.get(name) {
                eprintln!("differs: {}", target.join(name).display());
            }
        }
        return Ok(generated == current);
    }
    fs::create_dir_all(&target)?;
    for stale in read_all(&target)?
        .keys()
        .filter(|name| !generated.contains_key(*name))
    {
        fs::remove_file(target.join(stale))?;
    }
    for (name, content) in &generated {
        fs::write(target.join(name), content)?;
    }
    Ok(true)
}

fn generate(include: &Path) -> Result<Files, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([include])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(ROOTS.iter().chain([&STATUS]))?;
    // protox's own encoding, because prost-types drops the extensions in options: our annotations.
    let descriptor_set = compiler.encode_file_descriptor_set();
    let mut for_rust = compiler.file_descriptor_set();
    for_rust
        .file
        .retain(|file| file.package() == WELL_KNOWN || RUST_PACKAGES.contains(&file.package()));

    let scratch = Scratch::new()?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .codec_path("crate::codec::SmallMessages")
        .out_dir(&scratch.0)
        .compile_fds(for_rust)?;
    let mut files = read_all(&scratch.0)?;
    files.retain(|name, _| {
        RUST_PACKAGES
            .iter()
            .any(|package| name == &format!("{package}.rs"))
    });
    files.insert(DESCRIPTOR_SET.to_owned(), descriptor_set);
    Ok(files)
}

fn read_all(directory: &Path) -> Result<Files, Box<dyn Error>> {
    let mut files = Files::new();
    if directory.exists() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            files.insert(
                entry.file_name().to_string_lossy().into_owned(),
                fs::read(entry.path())?,
            );
        }
    }
    Ok(files)
}

/// A directory of our own that goes away with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, std::io::Error> {
        let path = std::env::temp_dir().join(format!("proto-codegen-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst: there is nobody to tell.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checked_in_code_is_fresh() {
        assert!(
            matches!(super::run(true), Ok(true)),
            "run `cargo run -p proto-codegen` and commit the result"
        );
    }
}
