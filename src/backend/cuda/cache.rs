//! Compiled kernels on disk, so that the second start is fast. A file that is torn, or another's, is no hit; whatever goes
//! wrong, the kernel is compiled.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where compiled kernels are kept instead of the user's folder for caches; empty: nowhere.
const FOLDER_VARIABLE: &str = "FAIRLAYER_CACHE";

/// What a compiled kernel depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Kernel, architecture, compiler and options, and a number for the texts.
    line: String,
}

impl Key {
    /// `about`: a line on all but the texts.
    pub(super) fn new(about: String, texts: &[&str]) -> Self {
        Self { line: format!("{about}; {:016x}", number_of(texts)) }
    }

    fn file(&self) -> String {
        format!("{:016x}.kernel", number_of(&self.line))
    }
}

fn number_of(what: impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The user's folder.
fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(FOLDER_VARIABLE) {
        return (!named.is_empty()).then(|| named.into());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("fairlayer"))
}

/// The name and the code of a kernel, if it is there.
pub(super) fn load(key: &Key) -> Option<(String, Vec<u8>)> {
    load_from(&folder()?, key)
}

/// Keeps a kernel. (Where nothing can be written, nothing is kept.)
pub(super) fn store(key: &Key, entry: &str, code: &[u8]) {
    if let Some(folder) = folder() {
        let _ = store_in(&folder, key, entry, code);
    }
}

/// Key, name and a number for name and code, a line each, and the code.
fn load_from(folder: &Path, key: &Key) -> Option<(String, Vec<u8>)> {
    let bytes = std::fs::read(folder.join(key.file())).ok()?;
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || parts.next().and_then(|line| std::str::from_utf8(line).ok());
    let (line_of_key, entry, number) = (line()?, line()?.to_owned(), line()?.to_owned());
    let code = parts.next()?;
    let whole = line_of_key == key.line && number == format!("{:016x}", number_of((&entry, code)));
    whole.then(|| (entry, code.to_vec()))
}

fn store_in(folder: &Path, key: &Key, entry: &str, code: &[u8]) -> std::io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    std::fs::create_dir_all(folder)?;
    let mut bytes = format!("{}\n{entry}\n{:016x}\n", key.line, number_of((entry, code))).into_bytes();
    bytes.extend_from_slice(code);
    // Others see the whole file, or none.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let own = folder.join(format!("{}.{}-{count}", key.file(), std::process::id()));
    let written = std::fs::write(&own, bytes).and_then(|()| std::fs::rename(&own, folder.join(key.file())));
    if written.is_err() {
        let _ = std::fs::remove_file(&own);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_and_torn_files_are_not() {
        let folder = std::env::temp_dir().join(format!("fairlayer-cache-{}", std::process::id()));
        let key = |about: &str, text: &str| Key::new(about.to_owned(), &[text]);
        let (mine, code) = (key("kernel; sm_90", "text"), b"code\nwith lines\0".to_vec());
        assert_eq!(load_from(&folder, &mine), None);
        store_in(&folder, &mine, "entry", &code).unwrap();
        assert_eq!(load_from(&folder, &mine), Some(("entry".to_owned(), code.clone())));
        assert_eq!(load_from(&folder, &key("kernel; sm_80", "text")), None);
        assert_eq!(load_from(&folder, &key("kernel; sm_90", "another text")), None);
        let path = folder.join(mine.file());
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(load_from(&folder, &mine), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert_eq!(load_from(&folder, &mine), None, "byte {at}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn many_may_keep_the_same_at_once() {
        let folder = std::env::temp_dir().join(format!("fairlayer-cache-many-{}", std::process::id()));
        let mine = Key::new("kernel".to_owned(), &["text"]);
        let code = vec![7; 100_000];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        store_in(&folder, &mine, "entry", &code).unwrap();
                        assert_eq!(load_from(&folder, &mine), Some(("entry".to_owned(), code.clone())));
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
