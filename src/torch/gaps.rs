//! How far apart groups are in the batches of an epoch: by themselves, and pooled.

use tch::Tensor;

use super::call::Inputs;
use super::layer::FairnessLayer;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::Result;
use crate::totals::{PooledGap, Totals};

/// A row, or the worst of several, over batches.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BatchGaps {
    /// Of all samples together.
    pub pooled: f64,
    /// By how much that is beyond the limit; 0 within it.
    pub pooled_excess: f64,
    /// The mean over the samples of the gap that their batch has by itself. Batches without one, such as all of one sample,
    /// count for nothing; none if all are.
    pub mean: Option<f64>,
    /// The worst of the batches.
    pub worst: Option<f64>,
    /// By how much that is beyond the limit; 0 within it.
    pub worst_excess: f64,
}

/// Takes in batch after batch.
#[derive(Debug)]
pub(super) struct Gaps {
    /// One for every column.
    totals: Vec<Totals>,
    /// Column by column; behind them the worst of all of a batch.
    batches: Vec<OfBatches>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfBatches {
    samples: f64,
    weighted: f64,
    /// The farthest from fair, and its excess.
    worst: Option<(f64, f64)>,
}

impl OfBatches {
    fn add(&mut self, samples: usize, (gap, excess): (f64, f64), ratio: bool) {
        self.samples += samples as f64;
        self.weighted += samples as f64 * gap;
        self.worst = Some(self.worst.map_or((gap, excess), |worst| worse(worst, (gap, excess), ratio)));
    }

    fn with(&self, pooled: Option<(f64, f64)>) -> Option<BatchGaps> {
        let (pooled, pooled_excess) = pooled?;
        let mean = self.worst.map(|_| self.weighted / self.samples);
        let (worst, worst_excess) = self.worst.unzip();
        Some(BatchGaps { pooled, pooled_excess, mean, worst, worst_excess: worst_excess.unwrap_or(0.0) })
    }
}

fn worse(left: (f64, f64), right: (f64, f64), ratio: bool) -> (f64, f64) {
    let gap = if ratio { left.0.min(right.0) } else { left.0.max(right.0) };
    (gap, left.1.max(right.1))
}

/// Whether gaps are ratios, of which the smallest is the worst.
fn is_ratio(set: &ConstraintSet) -> bool {
    set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_)))
}

/// What the rows are called: the groups of a spread together, a contrast by its own name.
pub(super) fn names(set: &ConstraintSet) -> Vec<String> {
    let spread =
        |unions: &[crate::Union]| unions.iter().map(|union| union.name.as_str()).collect::<Vec<_>>().join(" / ");
    let spreads = set.spreads().iter().map(|own| spread(&own.unions));
    spreads.chain(set.contrasts().iter().map(|contrast| contrast.plus.name.clone())).collect()
}

fn size(gap: PooledGap) -> (f64, f64) {
    (gap.after.abs(), gap.excess)
}

fn worst(gaps: impl Iterator<Item = Option<PooledGap>>, ratio: bool) -> Option<(f64, f64)> {
    gaps.flatten().map(size).reduce(|left, right| worse(left, right, ratio))
}

impl Gaps {
    pub(super) fn new() -> Self {
        Self { totals: Vec::new(), batches: Vec::new() }
    }

    /// Takes in a batch of predictions and what they became.
    pub(super) fn add(&mut self, layer: &FairnessLayer, raw: &Tensor, y: &Tensor, inputs: Inputs<'_>) -> Result<()> {
        let totals = layer.totals(raw, y, inputs)?;
        let (set, samples) = (layer.constraints(), raw.size()[0] as usize);
        let ratio = is_ratio(set);
        let gaps: Vec<Option<PooledGap>> = totals.iter().flat_map(|own| own.gaps(set)).collect();
        if self.totals.len() != totals.len() {
            self.totals = totals.iter().map(|_| Totals::new(set)).collect();
            self.batches = vec![OfBatches::default(); gaps.len() + 1];
        }
        self.totals.iter_mut().zip(&totals).for_each(|(all, own)| all.merge(own));
        let of_all = worst(gaps.iter().copied(), ratio);
        let each = gaps.into_iter().map(|gap| gap.map(size)).chain([of_all]);
        for (batches, gap) in self.batches.iter_mut().zip(each) {
            if let Some(gap) = gap {
                batches.add(samples, gap, ratio);
            }
        }
        Ok(())
    }

    /// The worst of all rows and columns; none if there was nothing to compare.
    pub(super) fn worst(&self, set: &ConstraintSet) -> Option<BatchGaps> {
        let pooled = worst(self.totals.iter().flat_map(|own| own.gaps(set)), is_ratio(set));
        self.batches.last()?.with(pooled)
    }

    /// Every spread, then every contrast, column by column.
    pub(super) fn of_rows(&self, set: &ConstraintSet) -> Vec<Option<BatchGaps>> {
        let pooled = self.totals.iter().flat_map(|own| own.gaps(set));
        pooled.zip(&self.batches).map(|(pooled, batches)| batches.with(pooled.map(size))).collect()
    }
}
