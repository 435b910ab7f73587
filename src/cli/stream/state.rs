//! The state file: what a stream has learnt, and the names that it goes by.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::args::StreamArgs;
use super::groups::{Feature, Groups, Names};
use crate::cli::args::name_of;
use crate::cli::failure::{Failure, Result, quoted};
use crate::cli::output::Target;
use crate::{StreamState, Streaming};

/// What the first field of the file says.
const FORMAT: &str = "fairlayer stream 1";

/// The file as it is.
#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    /// How many rows were answered.
    rows: u64,
    criterion: String,
    score: String,
    columns: Vec<Column>,
    /// The groups of every sensitive feature, as numbers of texts of its columns.
    groups: Vec<Vec<Vec<u32>>>,
    control: Option<Column>,
    /// What the library has learnt.
    learnt: StreamState,
}

#[derive(Serialize, Deserialize)]
struct Column {
    name: String,
    texts: Vec<String>,
}

/// Where the state is kept.
pub struct StateFile {
    target: Target,
    name: String,
}

impl StateFile {
    /// Fails if nothing can be written there.
    pub fn new(path: &Path, input: &Path) -> Result<Self> {
        Ok(Self { target: Target::new(path, &[("the input", input)])?, name: path.display().to_string() })
    }

    /// Puts the state in the place of the one before, which stays whole until then.
    pub fn write(&self, args: &StreamArgs, groups: &Groups, streaming: &Streaming) -> Result<()> {
        let learnt = streaming.save();
        let file = File {
            format: FORMAT.to_owned(),
            rows: learnt.count(),
            criterion: name_of(args.criterion),
            score: args.score.clone(),
            columns: groups.columns.iter().map(|names| self.column(names)).collect::<Result<_>>()?,
            groups: groups.features.iter().map(|feature| feature.groups.clone()).collect(),
            control: groups.control.as_ref().map(|names| self.column(names)).transpose()?,
            learnt,
        };
        let text = serde_json::to_vec(&file).map_err(|error| self.failure(format!("cannot be written: {error}")))?;
        let write = |out: &mut dyn Write| {
            let written = out.write_all(&text).and_then(|()| out.write_all(b"\n"));
            written.map_err(|error| self.failure(format!("cannot be written: {error}")))
        };
        self.target.clone().write(write)?.commit()
    }

    fn column(&self, names: &Names) -> Result<Column> {
        let text = |text: &[u8]| {
            let refused = || self.failure(format!("cannot hold {}, which is not UTF-8", quoted(text)));
            std::str::from_utf8(text).map(str::to_owned).map_err(|_| refused())
        };
        let texts = names.texts.iter().map(|known| text(known)).collect::<Result<_>>()?;
        Ok(Column { name: names.column.clone(), texts })
    }

    /// Reads the state, if the file is there, and fills in the groups. An empty file is none.
    pub fn read(&self, args: &StreamArgs, groups: &mut Groups) -> Result<Option<StreamState>> {
        let bytes = match fs::read(&self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failure(format!("cannot be read: {error}"))),
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => bytes,
        };
        let file: File = serde_json::from_slice(&bytes)
            .map_err(|error| self.failure(format!("line {}: not the state of a stream: {error}", error.line())))?;
        if file.format != FORMAT {
            let format = quoted(file.format.as_bytes());
            return Err(self.failure(format!("its format is {format}, and this version reads \"{FORMAT}\"")));
        }
        let names = |columns: &[Names]| columns.iter().map(|names| names.column.clone()).collect::<Vec<_>>();
        let had = file.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        for (what, had, has) in [
            ("--criterion", file.criterion, name_of(args.criterion)),
            ("--score", file.score, args.score.clone()),
            ("sensitive columns", had.join(","), names(&groups.columns).join(",")),
            (
                "--control",
                name(file.control.as_ref().map(|column| &column.name)),
                name(groups.control.as_ref().map(|names| &names.column)),
            ),
        ] {
            if had != has {
                let (had, has) = (quoted(had.as_bytes()), quoted(has.as_bytes()));
                return Err(self.failure(format!("was made with {what} {had}, and this is {has}")));
            }
        }
        let filled = file.columns.into_iter().zip(&mut groups.columns).all(|(column, names)| fill(names, column))
            && file.control.into_iter().zip(&mut groups.control).all(|(column, names)| fill(names, column))
            && file.groups.len() == groups.features.len()
            && file.groups.into_iter().enumerate().all(|(index, texts)| {
                let counts: Vec<usize> =
                    groups.features[index].columns.iter().map(|&column| groups.columns[column].texts.len()).collect();
                fill_feature(&mut groups.features[index], &counts, texts)
            });
        if filled { Ok(Some(file.learnt)) } else { Err(self.failure("it is damaged".to_owned())) }
    }

    /// An error about the file.
    pub fn failure(&self, what: String) -> Failure {
        Failure::new(format!("{}: {what}", self.name))
    }
}

fn name(column: Option<&String>) -> String {
    column.cloned().unwrap_or_default()
}

fn fill(names: &mut Names, column: Column) -> bool {
    let mut distinct = std::collections::HashSet::new();
    column.texts.iter().all(|text| distinct.insert(text) && names.add(text.as_bytes()).is_ok())
}

fn fill_feature(feature: &mut Feature, counts: &[usize], groups: Vec<Vec<u32>>) -> bool {
    groups.into_iter().all(|texts| {
        let known =
            texts.len() == counts.len() && texts.iter().zip(counts).all(|(&text, &count)| (text as usize) < count);
        let fits = known && feature.groups.len() < crate::MAX_CELLS && !feature.groups.contains(&texts);
        if fits {
            feature.add(texts);
        }
        fits
    })
}
