//! The columns that a projection reads.

use std::num::NonZeroUsize;

use super::args::{Criterion, Dtype, ProjectArgs};
use super::failure::{Failure, Result};
use super::plan::{Plan, combination};
use super::problems::Problems;
use super::progress::Progress;
use super::records::Source;
use super::rows::OwnRows;
use super::solve::Samples;
use super::table::{Categories, CategoryReader, Column, Extent, Numbers, Table};
use crate::criterion::join_coefficients;
use crate::{Bins, Error, MAX_CELLS, Offsets};

/// The columns of the file that the arguments name and the criterion needs, in the order of the file.
pub struct Columns {
    pub extent: Extent,
    /// One feature of combinations if the features are to be taken together.
    pub sensitive: Vec<Categories>,
    pub control: Option<Categories>,
    /// The sensitive features of covariance.
    pub continuous: Vec<Continuous>,
    scores: Vec<f64>,
    labels: Option<Vec<f64>>,
    weights: Option<Vec<f64>>,
    batch: Option<Categories>,
}

/// A sensitive feature of numbers.
pub struct Continuous {
    pub name: String,
    values: Vec<f64>,
}

impl Continuous {
    /// The value of all samples, if they have one.
    pub fn only_value(&self) -> Option<f64> {
        let first = *self.values.first()?;
        self.values.iter().all(|value| *value == first).then_some(first)
    }
}

impl Columns {
    /// Reads them. A column with the name of the one to be written is an error.
    pub fn read(args: &ProjectArgs, source: &mut Source, fair_column: &str, progress: &Progress) -> Result<Self> {
        let positive = |weight: f64| told(weight > 0.0, || "is not a weight; weights are above 0".to_owned());
        let bins = args.fairness.edges.as_ref().filter(|_| args.criterion == Some(Criterion::Calibration));
        let mut score = Numbers::new(&args.score, |score| {
            told(args.dtype != Dtype::F32 || (score as f32).is_finite(), || "is too large for f32".to_owned())?;
            bins.map_or(Ok(()), |bins| told(bins.id(score).is_some(), || outside(bins)))
        });
        let (mut sensitive, mut continuous) = (Vec::new(), Vec::new());
        match args.criterion {
            Some(Criterion::Covariance) => continuous.extend(args.sensitive.iter().map(|name| Numbers::any(name))),
            _ => sensitive.extend(args.sensitive.iter().map(|name| CategoryReader::new(name, MAX_CELLS))),
        }
        let mut label = args.fairness.label_of(args.criterion).map(Numbers::any);
        let control = args.fairness.control_of(args.criterion);
        let mut control = control.map(|name| CategoryReader::new(name, MAX_CELLS));
        let mut weight = args.weight.as_ref().map(|name| Numbers::new(name, positive));
        let mut batch = args.batch.as_ref().map(|name| CategoryReader::new(name, usize::MAX));

        let mut all: Vec<&mut dyn Column> = vec![&mut score];
        all.extend(sensitive.iter_mut().chain(&mut control).chain(&mut batch).map(|column| column as &mut dyn Column));
        let numbers = label.iter_mut().chain(&mut weight).chain(&mut continuous);
        all.extend(numbers.map(|column| column as &mut dyn Column));
        let table = Table::open(source)?;
        table.require_absent(fair_column)?;
        let extent = table.read(&mut all, progress)?;

        let sensitive = sensitive.into_iter().map(CategoryReader::sorted);
        let sensitive = if args.fairness.intersectional { combine(sensitive)? } else { sensitive.collect() };
        let sensitive = match bins.map(|bins| binned(bins, &args.score, &score.values)) {
            None => sensitive,
            Some(bins) if sensitive.is_empty() => vec![bins],
            Some(bins) => sensitive.iter().map(|feature| fitting(&bins, feature)).collect::<Result<_>>()?,
        };
        let of_numbers = |column: Numbers<'_>| Continuous { name: column.name, values: column.values };
        Ok(Self {
            extent,
            sensitive,
            continuous: continuous.into_iter().map(of_numbers).collect(),
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

    /// The columns and the coefficients of the plan's dense rows in the order of the problems. That a plan was made of
    /// the columns proves that ids fit into a byte.
    pub fn into_samples(self, problems: &Problems, plan: &Plan, own: OwnRows) -> Result<Samples> {
        let weights = self.weights.map(|values| problems.gather(values));
        let offsets = Offsets::Ragged(&problems.offsets);
        let mut parts = Vec::with_capacity(1 + own.coefficients.len());
        if let Some(covariance) = &plan.covariance {
            let features: Vec<Vec<f64>> =
                self.continuous.into_iter().map(|feature| problems.gather(feature.values)).collect();
            let features: Vec<&[f64]> = features.iter().map(Vec::as_slice).collect();
            parts.push(covariance.coefficients(&features, &offsets, weights.as_deref()).map_err(in_covariance)?);
        }
        parts.extend(own.coefficients.into_iter().map(|row| problems.gather(row)));
        let coefficients = match parts.len() {
            1 => parts.swap_remove(0),
            _ => join_coefficients(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), &offsets)?,
        };
        let bytes = |column: Categories| problems.gather(column.ids.into_iter().map(|id| id as u8).collect());
        Ok(Samples {
            scores: problems.gather(self.scores),
            groups: self.sensitive.into_iter().map(bytes).collect(),
            labels: self.labels.map(|values| problems.gather(values)),
            control: self.control.map(bytes),
            weights,
            coefficients,
        })
    }
}

fn in_covariance(error: Error) -> Failure {
    Failure::new(format!("covariance: {error} (--standardise, --moments)"))
}

fn told(fits: bool, problem: impl Fn() -> String) -> Result<(), String> {
    if fits { Ok(()) } else { Err(problem()) }
}

fn outside(bins: &Bins) -> String {
    let (first, last) = (bins.edges()[0], bins.edges()[bins.count()]);
    format!("lies outside the --edges {first} to {last}; the outermost may be -inf and inf")
}

/// The bins of the scores as groups. Every score has one: that was checked when it was read.
fn binned(bins: &Bins, name: &str, scores: &[f64]) -> Categories {
    let feature = bins.feature(name);
    let texts = feature.groups.into_iter().map(|text| text.into_bytes().into_boxed_slice()).collect();
    let ids = scores.iter().map(|&score| bins.id(score).map_or(0, u32::from)).collect();
    Categories { name: feature.name, ids, texts }
}

/// The combination of two features, if it has few enough groups.
fn fitting(left: &Categories, right: &Categories) -> Result<Categories> {
    match combination(left, right) {
        fits if fits.texts.len() <= MAX_CELLS => Ok(fits),
        more => Err(Error::TooManyCells { cells: more.texts.len(), limit: MAX_CELLS }.into()),
    }
}

/// One sensitive feature in place of all.
pub fn combine(mut features: impl Iterator<Item = Categories>) -> Result<Vec<Categories>> {
    let combined = features.next().map(|first| features.try_fold(first, |left, right| fitting(&left, &right)));
    Ok(combined.transpose()?.into_iter().collect())
}
