//! The columns of a file that training reads, and its label.

use std::collections::HashSet;

use super::args::TrainArgs;
use super::features::{Feature, FeatureReader};
use crate::MAX_CELLS;
use crate::cli::args::Criterion;
use crate::cli::columns::combine;
use crate::cli::failure::{Failure, Result, quoted};
use crate::cli::progress::Progress;
use crate::cli::records::Source;
use crate::cli::table::{Categories, CategoryReader, Column, Extent, Table, finite};

/// What was read.
pub struct Data {
    pub extent: Extent,
    /// What the network is to see.
    pub features: Vec<Feature>,
    /// One feature of combinations if the features are to be taken together.
    pub sensitive: Vec<Categories>,
    pub control: Option<Categories>,
    /// Whether the label of a row is the positive one.
    pub positive: Vec<bool>,
    /// What the user should know of the columns.
    pub notes: Vec<String>,
}

impl Data {
    /// Reads the columns that the arguments name, or all.
    pub fn read(args: &TrainArgs, source: &mut Source) -> Result<Self> {
        let table = Table::open(source)?;
        table.require_names()?;
        let mut features: Vec<FeatureReader> = seen(args, table.header())?.map(FeatureReader::new).collect();
        let control = args.fairness.control_of(Some(args.criterion));
        let mut control = control.map(|name| CategoryReader::new(name, MAX_CELLS));
        let mut sensitive: Vec<CategoryReader> =
            args.sensitive.iter().map(|name| CategoryReader::new(name, MAX_CELLS)).collect();
        let mut label = LabelReader::new(args.label(), args.positive.as_deref());

        let mut columns: Vec<&mut dyn Column> = vec![&mut label];
        columns.extend(sensitive.iter_mut().chain(&mut control).map(|column| column as &mut dyn Column));
        columns.extend(features.iter_mut().map(|column| column as &mut dyn Column));
        let extent = table.read(&mut columns, &Progress::new())?;

        let sensitive = sensitive.into_iter().map(CategoryReader::sorted);
        let sensitive = if args.fairness.intersectional { combine(sensitive)? } else { sensitive.collect() };
        let (features, notes): (Vec<_>, Vec<_>) = features.into_iter().map(FeatureReader::finish).unzip();
        Ok(Self {
            extent,
            features,
            sensitive,
            control: control.map(CategoryReader::sorted),
            positive: label.finish()?,
            notes: notes.into_iter().flatten().collect(),
        })
    }

    /// The cell of every row: its groups, its label, and its control value where there is one.
    pub fn cells(&self) -> impl Iterator<Item = Vec<u32>> {
        (0..self.extent.rows).map(|row| {
            let categories = self.sensitive.iter().chain(&self.control).map(|column| column.ids[row]);
            categories.chain([u32::from(self.positive[row])]).collect()
        })
    }
}

/// The columns that the network sees, of these.
fn seen<'a>(args: &'a TrainArgs, header: &'a [String]) -> Result<impl Iterator<Item = &'a str>> {
    let mut named = HashSet::new();
    for name in &args.features {
        let name_of = || quoted(name.as_bytes());
        if name == args.label() {
            return Err(Failure::new(format!("--features names {}, which is the label", name_of())));
        }
        if !named.insert(name) {
            return Err(Failure::new(format!("--features names the column {} twice", name_of())));
        }
    }
    if args.sensitive.iter().any(|name| name == args.label()) {
        let name = quoted(args.label().as_bytes());
        return Err(Failure::new(format!("--sensitive names {name}, which is the label")));
    }
    let columns = if args.features.is_empty() { header } else { &args.features };
    let hidden = |name: &str| args.hide_sensitive && args.sensitive.iter().any(|sensitive| sensitive == name);
    Ok(columns.iter().map(String::as_str).filter(move |name| *name != args.label() && !hidden(name)))
}

/// Reads a label of two values.
struct LabelReader<'a> {
    name: &'a str,
    /// The text that is positive; without one numbers above 0.5 are.
    text: Option<&'a str>,
    positive: Vec<bool>,
    /// The first of the different texts.
    texts: Vec<String>,
}

impl<'a> LabelReader<'a> {
    fn new(name: &'a str, text: Option<&'a str>) -> Self {
        Self { name, text, positive: Vec::new(), texts: Vec::new() }
    }

    /// The labels, if there are both kinds.
    fn finish(self) -> Result<Vec<bool>> {
        let (some, all) = (self.positive.contains(&true), !self.positive.contains(&false));
        if some && !all {
            return Ok(self.positive);
        }
        let name = quoted(self.name.as_bytes());
        let texts = self.texts.join(", ");
        Err(Failure::new(match (self.text, some) {
            (Some(text), false) => {
                format!(
                    "column {name}: no label is {}, the text of --positive; there are {texts}",
                    quoted(text.as_bytes())
                )
            }
            (Some(text), true) => {
                format!("column {name}: all labels are {}; there is nothing to tell apart", quoted(text.as_bytes()))
            }
            (None, _) => {
                let side = if some { "above" } else { "not above" };
                format!("column {name}: all labels are {side} 0.5 ({texts}); name the positive one with --positive")
            }
        }))
    }
}

impl Column for LabelReader<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn push(&mut self, field: &[u8]) -> Result<(), String> {
        const MOST: usize = 5;
        let trimmed = field.trim_ascii();
        if trimmed.is_empty() {
            return Err("the value is missing".to_owned());
        }
        let positive = match self.text {
            Some(text) => trimmed == text.trim().as_bytes(),
            None => {
                let hint = |problem| format!("{problem}; name the label that is positive with --positive");
                finite(trimmed).map_err(hint)? > 0.5
            }
        };
        self.positive.push(positive);
        if self.texts.len() < MOST {
            let text = quoted(trimmed);
            if !self.texts.contains(&text) {
                self.texts.push(text);
            }
        }
        Ok(())
    }
}

/// Fails if the criterion is none for a layer of a network.
pub fn require_groups(criterion: Criterion) -> Result<()> {
    match criterion {
        Criterion::Covariance => {
            Err(Failure::new("covariance is not about groups, which training needs; use fairlayer project"))
        }
        Criterion::Calibration => {
            Err(Failure::new("calibration has bins of raw scores, which training moves; use fairlayer project"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(fields: &[&str], positive: Option<&str>) -> Result<Vec<bool>, String> {
        let mut reader = LabelReader::new("y", positive);
        fields.iter().try_for_each(|field| reader.push(field.as_bytes()))?;
        reader.finish().map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_label_has_two_kinds() {
        assert_eq!(labels(&["0", "1", " 0.7"], None), Ok(vec![false, true, true]));
        assert_eq!(labels(&["2", "1 ", "1"], Some("1")), Ok(vec![false, true, true]));
        assert_eq!(labels(&["<=50K", ">50K"], Some(">50K")), Ok(vec![false, true]));
        for (fields, positive, told) in [
            (&["1", "2"][..], None, "all labels are above 0.5 (\"1\", \"2\"); name the positive one with --positive"),
            (&["0", "0"], None, "all labels are not above 0.5 (\"0\"); name the positive one"),
            (&["yes", "no"], None, "\"yes\" is not a number; write 1 for true"),
            (&["good", "bad"], None, "\"good\" is not a number; name the label that is positive with --positive"),
            (&["a", "b"], Some("c"), "no label is \"c\", the text of --positive; there are \"a\", \"b\""),
            (&["a", "a"], Some("a"), "all labels are \"a\"; there is nothing to tell apart"),
            (&["1", ""], None, "the value is missing"),
        ] {
            let error = labels(fields, positive).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
