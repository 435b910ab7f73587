//! Rows of the user's own: coefficients beside the samples in one file, bounds in another.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;

use super::args::ProjectArgs;
use super::failure::{Failure, Result, quoted};
use super::figures::count;
use super::progress::Progress;
use super::records::Source;
use super::table::{Column, Numbers, Table, finite};
use crate::DenseRow;

/// The rows with their coefficients.
#[derive(Default)]
pub struct OwnRows {
    pub rows: Vec<DenseRow>,
    /// For every row the coefficient of every sample, in the order of the file.
    pub coefficients: Vec<Vec<f64>>,
}

impl OwnRows {
    /// Reads the files that the arguments name, for an input of so many samples; no rows if they name none.
    pub fn read(args: &ProjectArgs, input: &Source, samples: usize, progress: &Progress) -> Result<Self> {
        let (Some(rows), Some(bounds)) = (&args.rows, &args.row_bounds) else { return Ok(Self::default()) };
        let (coefficients, names) = read_coefficients(rows, input, samples, progress)?;
        Ok(Self { rows: read_bounds(bounds, rows, names, progress)?, coefficients })
    }

    /// The rows without any coefficient that is not 0.
    pub fn empty_rows(&self) -> impl Iterator<Item = &DenseRow> {
        let named = self.rows.iter().zip(&self.coefficients);
        named.filter(|(_, values)| values.iter().all(|value| *value == 0.0)).map(|(row, _)| row)
    }
}

fn read_coefficients(
    path: &Path,
    input: &Source,
    samples: usize,
    progress: &Progress,
) -> Result<(Vec<Vec<f64>>, Vec<String>)> {
    let mut source = Source::open(path)?;
    let table = Table::open(&mut source)?;
    table.require_names()?;
    let names = table.header().to_vec();
    let mut columns: Vec<Numbers<'_>> = names.iter().map(|name| Numbers::any(name)).collect();
    let found =
        table.read(&mut columns.iter_mut().map(|column| column as &mut dyn Column).collect::<Vec<_>>(), progress)?;
    if found.rows != samples {
        let (found, samples) = (count(found.rows, "line"), count(samples, "line"));
        let (file, of) = (source.name(), input.name());
        let what = format!("{file}: {found} of coefficients where {of} has {samples} of samples");
        return Err(Failure::new(what));
    }
    Ok((columns.into_iter().map(|column| column.values).collect(), names))
}

fn read_bounds(path: &Path, rows: &Path, names: Vec<String>, progress: &Progress) -> Result<Vec<DenseRow>> {
    let mut source = Source::open(path)?;
    let file = rows.display().to_string();
    let current = Cell::default();
    let mut row = RowName { file: &file, names: &names, seen: HashSet::new(), order: Vec::new() };
    let mut lower = Side { name: "lower", current: &current, values: Vec::new() };
    let mut upper = Side { name: "upper", current: &current, values: Vec::new() };
    Table::open(&mut source)?.read(&mut [&mut row, &mut lower, &mut upper], progress)?;

    let mut bounds = vec![None; names.len()];
    for (&index, sides) in row.order.iter().zip(lower.values.iter().zip(&upper.values)) {
        bounds[index] = Some(sides);
    }
    let bounded = names.iter().zip(bounds).map(|(name, sides)| match sides {
        Some((lower, upper)) => {
            Ok(DenseRow::new(name, lower.unwrap_or(f64::NEG_INFINITY), upper.unwrap_or(f64::INFINITY)))
        }
        None => {
            let what = format!("no line for the row {} of {file}; every column is a row", quoted(name.as_bytes()));
            Err(Failure::new(format!("{}: {what}", source.name())))
        }
    });
    bounded.collect()
}

/// The column that says which row a line is about.
struct RowName<'a> {
    file: &'a str,
    names: &'a [String],
    seen: HashSet<usize>,
    /// For every line the index of its row.
    order: Vec<usize>,
}

impl Column for RowName<'_> {
    fn name(&self) -> &str {
        "row"
    }

    fn push(&mut self, field: &[u8]) -> Result<(), String> {
        if field.trim_ascii().is_empty() {
            return Err("the value is missing".to_owned());
        }
        let text = String::from_utf8_lossy(field);
        let known = || self.names.iter().take(20).map(|name| quoted(name.as_bytes())).collect::<Vec<_>>().join(", ");
        let index = self.names.iter().position(|name| *name == text).ok_or_else(|| {
            let more = if self.names.len() > 20 { ", ..." } else { "" };
            format!("{} is not a row of {}; its rows are {}{more}", quoted(field), self.file, known())
        })?;
        if !self.seen.insert(index) {
            return Err(format!("{} has a line already", quoted(field)));
        }
        self.order.push(index);
        Ok(())
    }
}

/// A column of bounds. The fields of a line come in the order row, lower, upper: the upper one judges both.
struct Side<'a> {
    name: &'static str,
    /// The lower bound of the line.
    current: &'a Cell<Option<f64>>,
    values: Vec<Option<f64>>,
}

impl Column for Side<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn push(&mut self, field: &[u8]) -> Result<(), String> {
        let value = if field.trim_ascii().is_empty() {
            None
        } else {
            Some(finite(field).map_err(|what| format!("{what}; a bound that is left empty is none"))?)
        };
        self.values.push(value);
        if self.name == "lower" {
            self.current.set(value);
            return Ok(());
        }
        match (self.current.get(), value) {
            (None, None) => Err("neither bound is there, so the row constrains nothing".to_owned()),
            (Some(lower), Some(upper)) if lower > upper => Err(format!("{upper} is below the lower bound {lower}")),
            _ => Ok(()),
        }
    }
}
