//! What was answered so far, as sums by cell: from them every pooled mean, and so every gap, is known.

use crate::batch::{Batch, Capacities, CellSource};
use crate::cells::CellMask;
use crate::constraints::{ConstraintSet, Contrast, Spread, SpreadLimit};
use crate::error::{Error, Result};
use crate::reference::cells_prepare::compute_cells;
use crate::storage::Storage;
use crate::sum::Sum;

/// The sums of one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct CellTotal {
    pub(crate) count: u64,
    y: Sum,
    /// Of the predictions, clipped to the bounds: what would have been answered without constraints.
    clipped: Sum,
    label: Sum,
}

impl CellTotal {
    /// The mean of the answers.
    pub(crate) fn mean(&self) -> f64 {
        self.y.value() / self.count as f64
    }

    pub(crate) fn mean_label(&self) -> f64 {
        self.label.value() / self.count as f64
    }

    fn is_usable(&self) -> bool {
        [self.y, self.clipped, self.label].iter().all(|sum| sum.value().is_finite())
    }
}

/// Samples and their answers, summed up by cell in double precision: what a set of constraints comes to over all of them,
/// pooled, however many batches they came in. It measures and takes nothing over from the solver.
///
/// ```
/// use fairlayer::*;
///
/// let set = DemographicParity::within(0.1).constraints(&Population::one_feature(2))?;
/// let mut totals = Totals::new(&set);
/// for (scores, groups) in [([0.9, 0.2], [0, 1]), ([0.7, 0.4], [0, 1])] {
///     totals.add(&set, &Batch::single(&scores).cells(&groups), 0, &scores)?;
/// }
/// let gap = totals.gaps(&set)[0].expect("both groups have come");
/// assert!((gap.after - 0.5).abs() < 1e-15 && (gap.excess - 0.4).abs() < 1e-15);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Totals {
    pub(crate) cells: Vec<CellTotal>,
    moved: Sum,
}

/// Which of the means.
#[derive(Clone, Copy)]
enum Of {
    Answers,
    Clipped,
}

/// What a pooled row comes to. Differences are in units of the predictions; a ratio has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PooledGap {
    /// Of the predictions, clipped to the bounds: of a spread the largest mean less the smallest, or the smallest over the
    /// largest for a ratio; of a contrast its value.
    pub before: f64,
    /// The same of the answers.
    pub after: f64,
    /// By how much the answers are beyond the limit, in units of the row; 0 within it.
    pub excess: f64,
}

impl Totals {
    /// Those of no samples yet.
    pub fn new(set: &ConstraintSet) -> Self {
        Self::of_cells(set.layout().cells())
    }

    fn of_cells(cells: usize) -> Self {
        Self { cells: vec![CellTotal::default(); cells], moved: Sum::default() }
    }

    /// Takes in a problem of a batch, which lies in host memory, and what its predictions became, `y`, `[n]`.
    ///
    /// # Errors
    /// Shapes or inputs that do not fit, sample weights (all samples count the same here), a prediction, label or answer that is
    /// not finite, or an id out of range; nothing is taken in then.
    pub fn add<T: Storage>(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        problem: usize,
        y: &[T],
    ) -> Result<()> {
        if batch.weights.is_some() {
            return Err(Error::value("weights", "totals count every sample once"));
        }
        batch.check(set, Capacities::of(&batch.offsets))?;
        if problem >= batch.offsets.problems() {
            return Err(Error::value("the problem", format!("the batch has {}", batch.offsets.problems())));
        }
        if set.layout().cells() != self.cells.len() {
            return Err(Error::Shape {
                what: "cells of the set",
                expected: self.cells.len(),
                got: set.layout().cells(),
            });
        }
        let problem = batch.problem(problem, set);
        if y.len() != problem.z.len() {
            return Err(Error::Shape { what: "the answers", expected: problem.z.len(), got: y.len() });
        }
        let mut computed = Vec::new();
        let (cells, known) = match &problem.cells {
            CellSource::Ids(ids) => (*ids, ids.iter().all(|&id| usize::from(id) < self.cells.len())),
            _ => {
                computed.resize(y.len(), 0);
                let known = compute_cells(set.layout(), &problem, &mut computed);
                (&computed[..], known)
            }
        };
        let label = |i| problem.labels.map_or(0.0, |labels| labels.at(i));
        let finite = |i: usize| problem.z[i].to_f64().is_finite() && y[i].to_f64().is_finite() && label(i).is_finite();
        if !(known && (0..y.len()).all(finite)) {
            return Err(Error::value(
                "the samples",
                "a prediction, label or answer is not finite, or an id out of range",
            ));
        }
        for (i, &cell) in cells.iter().enumerate() {
            let (z, (lo, hi)) = (problem.z[i].to_f64(), problem.bounds(i));
            let clipped = z.max(lo.to_f64()).min(hi.to_f64());
            self.add_sample(usize::from(cell), z, clipped, label(i), y[i].to_f64());
        }
        Ok(())
    }

    /// Takes in all that others have taken in, over the same set.
    pub fn merge(&mut self, others: &Self) {
        for (own, other) in self.cells.iter_mut().zip(&others.cells) {
            own.count += other.count;
            own.y.add(other.y.value());
            own.clipped.add(other.clipped.value());
            own.label.add(other.label.value());
        }
        self.moved.add(others.moved.value());
    }

    /// Takes in a sample and its answer.
    pub(crate) fn add_sample(&mut self, cell: usize, z: f64, clipped: f64, label: f64, y: f64) {
        let total = &mut self.cells[cell];
        total.count += 1;
        total.y.add(y);
        total.clipped.add(clipped);
        total.label.add(label);
        self.moved.add((y - z) * (y - z));
    }

    /// Whether this is what a stream over so many cells may have left.
    pub(crate) fn is_usable(&self, cells: usize) -> bool {
        self.cells.len() == cells && self.cells.iter().all(CellTotal::is_usable) && self.moved.value() >= 0.0
    }

    /// The same of a layout with more cells; `places` says where each of these went.
    pub(crate) fn moved_to(&self, cells: usize, places: &[usize]) -> Self {
        let mut moved = Self { moved: self.moved, ..Self::of_cells(cells) };
        places.iter().zip(&self.cells).for_each(|(&place, &total)| moved.cells[place] = total);
        moved
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.cells.iter().map(|cell| cell.count).sum()
    }

    /// The mean of `(y - z)^2` over all samples; 0 before the first sample.
    pub fn mean_square(&self) -> f64 {
        self.moved.value() / self.count().max(1) as f64
    }

    fn mean(&self, cells: &CellMask, of: Of) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for cell in cells.iter().map(|cell| &self.cells[cell]) {
            sum += match of {
                Of::Answers => cell.y.value(),
                Of::Clipped => cell.clipped.value(),
            };
            count += cell.count;
        }
        (count > 0).then(|| sum / count as f64)
    }

    fn mean_label(&self, cells: &CellMask) -> f64 {
        let within = || cells.iter().map(|cell| &self.cells[cell]);
        within().map(|cell| cell.label.value()).sum::<f64>() / within().map(|cell| cell.count).sum::<u64>() as f64
    }

    /// What every spread, then every contrast comes to; `None` where there is nothing to compare yet.
    pub fn gaps(&self, set: &ConstraintSet) -> Vec<Option<PooledGap>> {
        let spreads = set.spreads().iter().map(|spread| self.of_spread(spread));
        spreads.chain(set.contrasts().iter().map(|contrast| self.of_contrast(contrast))).collect()
    }

    /// `[cells]`: which way a cell is from the middle of what the rows allow, by the union of its unions that is the farthest.
    pub(crate) fn lean(&self, set: &ConstraintSet, lean: &mut [f64]) {
        lean.fill(0.0);
        let mut farther = |cells: &CellMask, deviation: f64| {
            let nearer = cells.iter().filter(|&cell| lean[cell].abs() < deviation.abs()).collect::<Vec<_>>();
            nearer.into_iter().for_each(|cell| lean[cell] = deviation);
        };
        for spread in set.spreads() {
            let means =
                || spread.unions.iter().filter_map(|union| Some((union, self.mean(&union.cells, Of::Answers)?)));
            let least = means().fold(f64::INFINITY, |least, (_, mean)| least.min(mean));
            let most = means().fold(f64::NEG_INFINITY, |most, (_, mean)| most.max(mean));
            means().for_each(|(union, mean)| farther(&union.cells, mean - 0.5 * (least + most)));
        }
        for contrast in set.contrasts() {
            let middle = match (contrast.lower.is_finite(), contrast.upper.is_finite()) {
                (true, true) => 0.5 * (contrast.lower + contrast.upper),
                (true, false) => f64::INFINITY,
                _ => f64::NEG_INFINITY,
            };
            if let Some(gap) = self.of_contrast(contrast) {
                farther(&contrast.plus.cells, gap.after - middle);
            }
        }
    }

    fn of_spread(&self, spread: &Spread) -> Option<PooledGap> {
        let extremes = |of| {
            let means = || spread.unions.iter().filter_map(move |union| self.mean(&union.cells, of));
            let (least, most) = (means().fold(f64::INFINITY, f64::min), means().fold(f64::NEG_INFINITY, f64::max));
            (means().count() > 1).then_some((least, most))
        };
        let ((before_least, before_most), (least, most)) = (extremes(Of::Clipped)?, extremes(Of::Answers)?);
        Some(match spread.limit {
            SpreadLimit::Difference(epsilon) => {
                let after = most - least;
                PooledGap { before: before_most - before_least, after, excess: (after - epsilon).max(0.0) }
            }
            SpreadLimit::Ratio(ratio) => {
                // All means 0: as equal as can be.
                let of = |least: f64, most: f64| if most > 0.0 { least / most } else { 1.0 };
                let after = of(least, most);
                PooledGap { before: of(before_least, before_most), after, excess: (ratio - after).max(0.0) }
            }
        })
    }

    fn of_contrast(&self, contrast: &Contrast) -> Option<PooledGap> {
        let value = |of| {
            let first = self.mean(&contrast.plus.cells, of)?;
            let second = if contrast.minus.is_empty() { 0.0 } else { self.mean(&contrast.minus, of)? };
            Some(first - contrast.scale * second - self.target(contrast))
        };
        let (before, after) = (value(Of::Clipped)?, value(Of::Answers)?);
        Some(PooledGap { before, after, excess: (after - contrast.upper).max(contrast.lower - after).max(0.0) })
    }

    fn target(&self, contrast: &Contrast) -> f64 {
        match contrast {
            Contrast { residual: false, .. } => 0.0,
            Contrast { plus, minus, .. } if minus.is_empty() => self.mean_label(&plus.cells),
            Contrast { plus, minus, scale, .. } => self.mean_label(&plus.cells) - scale * self.mean_label(minus),
        }
    }
}
