//! Builds what runs CUDA kernels on the CPU: the kernels' own files, behind `tests/emulation/`, with the C++ compiler.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Where the emulation lies, and the kernels.
const FOLDERS: [&str; 2] = ["tests/emulation", "kernels"];
const FLAGS: [&str; 8] =
    ["-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The compiler that the environment names, or the system's.
fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

/// A number for all that goes into a build.
fn fingerprint(source: &str, flags: &[&str]) -> std::io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    (compiler(), source, FLAGS, flags).hash(&mut hasher);
    for folder in FOLDERS {
        let Ok(entries) = root().join(folder).read_dir() else { continue };
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            (file, std::fs::read(file)?).hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

/// The emulation of all kernels of the crate, which a device can be opened on.
pub fn library() -> Result<PathBuf, String> {
    let mut text = String::from("#include \"library.hpp\"\n#include <cstddef>\n");
    let mut line = |line: String| writeln!(text, "{line}").expect("text takes a line");
    // Each file has names of its own; what they share comes before.
    let folder = root().join("kernels").read_dir().map_err(|error| format!("no kernels: {error}"))?;
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut headers: Vec<String> = names.filter(|name| name.ends_with(".cuh")).collect();
    headers.sort();
    headers.iter().for_each(|header| line(format!("#include \"{header}\"")));
    for (name, size, fields) in fairlayer::cuda_texts::layouts() {
        line(format!("static_assert(sizeof({name}) == {size}, \"{name} in Rust\");"));
        for (field, place) in fields {
            line(format!("static_assert(offsetof({name}, {field}) == {place}, \"{name}::{field} in Rust\");"));
        }
    }
    for (index, source) in fairlayer::cuda_texts::SOURCES.into_iter().enumerate() {
        line(format!("namespace file_{index} {{\n#include \"{}\"", source.name));
        let variants = fairlayer::cuda_texts::all_variants().into_iter().filter(|variant| variant.source == source);
        variants.for_each(|variant| line(format!("EMULATE({})", variant.expression)));
        line("}".into());
    }
    build("kernels", &text, &["-shared"])
}

/// Compiles a C++ text, unless that was done before, with these flags more; the path of what came of it.
pub fn build(name: &str, source: &str, flags: &[&str]) -> Result<PathBuf, String> {
    // Tests of a process ask for the same at the same time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulation");
    let failed = |error: std::io::Error| format!("the emulation cannot be built: {error}");
    let built = folder.join(format!("{name}-{:016x}", fingerprint(source, flags).map_err(failed)?));
    if built.exists() {
        return Ok(built);
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // Another process may build the same: each has files of its own, and what is whole is renamed.
    let own = folder.join(format!("{name}-{}", std::process::id()));
    let text = own.with_extension("cpp");
    std::fs::write(&text, source).map_err(failed)?;
    let mut command = Command::new(compiler());
    command.args(FLAGS).args(flags).args(FOLDERS.map(|folder| format!("-I{}", root().join(folder).display())));
    let output = command.arg(&text).arg("-o").arg(&own).output();
    let output = output.map_err(|error| {
        format!(
            "the emulation cannot be built: {} does not run ({error}); install g++, or name a compiler in CXX",
            compiler()
        )
    })?;
    if !output.status.success() {
        return Err(format!("the emulation cannot be built:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    std::fs::rename(&own, &built).map_err(failed)?;
    let _ = std::fs::remove_file(&text);
    Ok(built)
}
