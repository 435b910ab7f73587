//! Files that appear when they are whole: written beside their place under a temporary name, then renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::failure::{Failure, Result};
use super::progress::Progress;
use super::records::{Source, escape};
use super::table::Extent;

/// Where a file is to be, found fit for it before any work is done.
#[derive(Clone)]
pub struct Target {
    path: PathBuf,
    /// A terminal, a pipe or a device such as `/dev/null`: written to as it is, and never replaced.
    stream: bool,
}

impl Target {
    /// Fails if nothing can be written there, or if it is one of the `taken` files.
    pub fn new(path: &Path, taken: &[(&str, &Path)]) -> Result<Self> {
        let problem = |what: &str| Failure::new(format!("{}: {what}", path.display()));
        let stream = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(problem("is a folder; name a file to write")),
            Ok(metadata) => !metadata.is_file(),
            Err(_) => false,
        };
        if !folder(path).is_dir() {
            return Err(problem("there is no such folder to write into"));
        }
        if let Some((name, _)) = taken.iter().find(|(_, other)| !stream && same_place(path, other)) {
            return Err(problem(&format!("is {name} as well; write to another file")));
        }
        // A link stays a link: what it points to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, stream })
    }

    /// Writes all of the file, still under a temporary name.
    pub fn write(self, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Written> {
        let temporary = if self.stream { None } else { Some(self.temporary().map_err(|error| self.failure(&error))?) };
        let file = match &temporary {
            Some(temporary) => temporary.as_file().try_clone(),
            None => File::options().write(true).open(&self.path),
        };
        let mut writer = BufWriter::with_capacity(1 << 16, file.map_err(|error| self.failure(&error))?);
        content(&mut writer)?;
        writer.flush().map_err(|error| self.failure(&error))?;
        Ok(Written { target: self, temporary })
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".fairlayer-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Like any new file (the umask applies), not private as temporary files are.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder(&self.path))?;
        if let Ok(replaced) = fs::metadata(&self.path) {
            file.as_file().set_permissions(replaced.permissions())?;
        }
        Ok(file)
    }

    fn failure(&self, error: &io::Error) -> Failure {
        cannot_write(&self.path, error)
    }
}

/// A file that is whole and waits to take its name. If it is dropped, nothing is left of it.
pub struct Written {
    target: Target,
    temporary: Option<NamedTempFile>,
}

impl Written {
    /// Gives the file its name.
    pub fn commit(self) -> Result<()> {
        match self.temporary {
            Some(file) => match file.persist(&self.target.path) {
                Ok(_) => Ok(()),
                Err(failed) => Err(cannot_write(&self.target.path, &failed.error)),
            },
            None => Ok(()),
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: cannot be written: {error}", path.display()))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Whether two paths name the same place, of which the file may not be there yet.
fn same_place(left: &Path, right: &Path) -> bool {
    let place = |path: &Path| {
        let in_folder = || Some(fs::canonicalize(folder(path)).ok()?.join(path.file_name()?));
        fs::canonicalize(path).ok().or_else(in_folder)
    };
    place(left).is_some_and(|left| place(right) == Some(left))
}

/// Writes the rows of a CSV input, byte for byte, with one column more. Fails if the input is not what it was when the
/// values were computed from it.
pub fn write_with_column(
    source: &mut Source,
    extent: Extent,
    name: &str,
    values: &[f64],
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<()> {
    progress.stage("writing", source.len());
    let input = source.name().to_owned();
    let changed = || Failure::new(format!("{input}: changed while it was read; run again"));
    let mut records = source.records()?;
    let mut line_end = b"\n".to_vec();
    let mut number = ryu::Buffer::new();
    for row in 0..=values.len() {
        let record = records.next()?.ok_or_else(changed)?;
        let field = match row.checked_sub(1) {
            None => {
                line_end = if record.line_end.is_empty() { line_end } else { record.line_end.to_owned() };
                &escape(name)
            }
            Some(row) => number.format(values[row]),
        };
        let parts = [record.raw, b",", field.as_bytes(), &line_end];
        let written = parts.into_iter().try_for_each(|part| out.write_all(part));
        written.map_err(|error| Failure::new(format!("the output cannot be written: {error}")))?;
        progress.at(row, || records.bytes());
    }
    let at_end = records.next()?.is_none();
    if at_end && extent == (Extent { rows: values.len(), digest: records.digest() }) { Ok(()) } else { Err(changed()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::Table;

    fn written(path: &Path) -> Written {
        let content = |out: &mut dyn Write| out.write_all(b"x").map_err(|error| Failure::new(error.to_string()));
        Target::new(path, &[]).unwrap().write(content).unwrap()
    }

    #[test]
    fn a_file_that_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        drop(written(&path));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        written(&path).commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn an_input_that_changed_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        let rewrite = |before: &str, after: &str| {
            fs::write(&path, before).unwrap();
            let mut source = Source::open(&path).unwrap();
            let progress = Progress::new();
            let extent = Table::open(&mut source).unwrap().read(&mut [], &progress).unwrap();
            fs::write(&path, after).unwrap();
            let mut out = Vec::new();
            write_with_column(&mut source, extent, "b,c", &[0.5, 1.0], &mut out, &progress).map(|()| out)
        };
        assert_eq!(rewrite("a\r\n1\r\n2", "a\r\n1\r\n2").unwrap(), b"a,\"b,c\"\r\n1,0.5\r\n2,1.0\r\n");
        for after in ["a\n1\n3\n", "a\n1\n", "a\n1\n2\n3\n", ""] {
            assert!(rewrite("a\n1\n2\n", after).unwrap_err().to_string().contains("changed"), "{after}");
        }
    }

    #[test]
    fn a_place_is_recognised_under_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join(".").join("a"));
        assert!(Target::new(&path, &[("the input", &other)]).is_err());
        assert!(Target::new(&path, &[("the input", &folder.path().join("b"))]).is_ok());
        assert!(Target::new(folder.path(), &[]).is_err());
        assert!(Target::new(&folder.path().join("none").join("a"), &[]).is_err());
    }
}
