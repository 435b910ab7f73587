//! The columns that a projection reads.

use std::num::NonZeroUsize;

use super::args::{Dtype, ProjectArgs};
use super::failure::Result;
use super::plan::combination;
use super::problems::Problems;
use super::progress::Progress;
use super::records::Source;
use super::solve::Samples;
use super::table::{Categories, CategoryReader, Column, Extent, Numbers, Rule, Table};
use crate::{Error, MAX_CELLS};

/// The columns of the file that the arguments name and the criterion needs, in the order of the file.
pub struct Columns {
    pub extent: Extent,
    /// One feature of combinations if the features are to be taken together.
    pub sensitive: Vec<Categories>,
    pub control: Option<Categories>,
    scores: Vec<f64>,
    labels: Option<Vec<f64>>,
    weights: Option<Vec<f64>>,
    batch: Option<Categories>,
}

impl Columns {
    /// Reads them. A column with the name of the one to be written is an error.
    pub fn read(args: &ProjectArgs, source: &mut Source, fair_column: &str, progress: &Progress) -> Result<Self> {
        let any: Rule = |_| Ok(());
        let single: Rule = |score| if (score as f32).is_finite() { Ok(()) } else { Err("is too large for f32") };
        let positive: Rule = |weight| if weight > 0.0 { Ok(()) } else { Err("is not a weight; weights are above 0") };
        let mut score = Numbers::new(&args.score, if args.dtype == Dtype::F32 { single } else { any });
        let mut sensitive: Vec<_> = args.sensitive.iter().map(|name| CategoryReader::new(name, MAX_CELLS)).collect();
        let label = args.label.as_ref().filter(|_| args.criterion.needs_labels());
        let mut label = label.map(|name| Numbers::new(name, any));
        let control = args.control.as_ref().filter(|_| args.criterion.needs_control());
        let mut control = control.map(|name| CategoryReader::new(name, MAX_CELLS));
        let mut weight = args.weight.as_ref().map(|name| Numbers::new(name, positive));
        let mut batch = args.batch.as_ref().map(|name| CategoryReader::new(name, usize::MAX));

        let mut all: Vec<&mut dyn Column> = vec![&mut score];
        all.extend(sensitive.iter_mut().chain(&mut control).chain(&mut batch).map(|column| column as &mut dyn Column));
        all.extend(label.iter_mut().chain(&mut weight).map(|column| column as &mut dyn Column));
        let table = Table::open(source)?;
        table.require_absent(fair_column)?;
        let extent = table.read(&mut all, progress)?;

        let sensitive = sensitive.into_iter().map(CategoryReader::sorted);
        Ok(Self {
            extent,
            sensitive: if args.intersectional { combine(sensitive)? } else { sensitive.collect() },
            control: control.map(CategoryReader::sorted),
            scores: score.values,
            labels: label.map(|column| column.values),
            weights: weight.map(|column| column.values),
            batch: batch.map(CategoryReader::in_order_of_rows),
        })
    }

    /// Cuts the rows into problems: by the batch column if there is one, else into the given size, else not at all.
    pub fn take_problems(&mut self, size: Option<NonZeroUsize>) -> Problems {
        match (self.batch.take(), size) {
            (Some(column), _) => Problems::of_categories(column),
            (None, Some(size)) => Problems::consecutive(self.extent.rows, size),
            (None, None) => Problems::whole(self.extent.rows),
        }
    }

    /// The columns in the order of the problems. That a plan was made of them proves that ids fit into a byte.
    pub fn into_samples(self, problems: &Problems) -> Samples {
        let bytes = |column: Categories| problems.gather(column.ids.into_iter().map(|id| id as u8).collect());
        Samples {
            scores: problems.gather(self.scores),
            groups: self.sensitive.into_iter().map(bytes).collect(),
            labels: self.labels.map(|values| problems.gather(values)),
            control: self.control.map(bytes),
            weights: self.weights.map(|values| problems.gather(values)),
        }
    }
}

/// One sensitive feature in place of all.
fn combine(mut features: impl Iterator<Item = Categories>) -> Result<Vec<Categories>> {
    let combined = features.next().map(|first| {
        features.try_fold(first, |left, right| match combination(&left, &right) {
            fits if fits.texts.len() <= MAX_CELLS => Ok(fits),
            more => Err(Error::TooManyCells { cells: more.texts.len(), limit: MAX_CELLS }),
        })
    });
    Ok(combined.transpose()?.into_iter().collect())
}
