//! From samples to batches.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

use super::dataset::Dataset;
use super::layer::FairnessLayer;
use crate::cells::Strata;
use crate::error::{Error, Result};

/// Deals samples into batches. No sample is left out, in any epoch.
#[derive(Clone, Debug)]
pub struct Loader {
    data: Dataset,
    batches: usize,
    deal: Deal,
}

#[derive(Clone, Debug)]
enum Deal {
    InOrder {
        batch_size: usize,
    },
    /// The samples of every cell.
    Stratified {
        cells: Vec<Vec<i64>>,
        seed: u64,
    },
}

impl Loader {
    /// Batches of consecutive samples, in order; the last may be smaller. For evaluation.
    ///
    /// # Errors
    /// A batch size of 0.
    pub fn in_order(data: &Dataset, batch_size: usize) -> Result<Self> {
        let batches = data.len().div_ceil(positive(batch_size)?);
        Ok(Self { data: data.clone(), batches, deal: Deal::InOrder { batch_size } })
    }

    /// Batches that are alike, for training: in every epoch the samples of each cell that the layer compares (combinations of
    /// groups, within each label or control value where the criterion is about those) are shuffled and dealt out in turn, the next
    /// cell from where the one before ended. So batches differ in size, and in their number of samples of a cell, by at most one: each
    /// batch has every cell that has as many samples as there are batches. There are `n / batch_size` batches, rounded up, of at
    /// most `batch_size` samples.
    ///
    /// The shuffle is that of PCG 64 with `seed` as its state and the epoch as its stream, so that an epoch is the same whatever came
    /// before it.
    ///
    /// # Errors
    /// A batch size of 0, or what torch says of the ids.
    pub fn stratified(data: &Dataset, layer: &FairnessLayer, batch_size: usize, seed: u64) -> Result<Self> {
        let batches = data.len().div_ceil(positive(batch_size)?);
        let mut cells = BTreeMap::<_, Vec<i64>>::new();
        let by_label = layer.constraints().layout().strata() == Strata::Label;
        for (sample, cell) in (0..).zip(data.cells(by_label)?) {
            cells.entry(cell).or_default().push(sample);
        }
        Ok(Self { data: data.clone(), batches, deal: Deal::Stratified { cells: cells.into_values().collect(), seed } })
    }

    /// The samples that are dealt.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The batches of an epoch.
    pub fn epoch(&self, epoch: usize) -> impl Iterator<Item = Result<Dataset>> {
        let dealt = match &self.deal {
            Deal::InOrder { .. } => Vec::new(),
            Deal::Stratified { cells, seed } => deal(cells, self.batches, *seed, epoch),
        };
        (0..self.batches).map(move |batch| match self.deal {
            Deal::InOrder { batch_size } => {
                let start = batch * batch_size;
                self.data.part(start, batch_size.min(self.data.len() - start))
            }
            Deal::Stratified { .. } => self.data.select(&dealt[batch]),
        })
    }
}

fn positive(batch_size: usize) -> Result<usize> {
    if batch_size == 0 { Err(Error::value("batch_size", "it must be at least 1")) } else { Ok(batch_size) }
}

/// The samples of every batch.
fn deal(cells: &[Vec<i64>], batches: usize, seed: u64, epoch: usize) -> Vec<Vec<i64>> {
    let mut generator = Pcg64::new(seed.into(), epoch as u128);
    let mut dealt = vec![Vec::new(); batches];
    let mut next = generator.random_range(0..batches);
    for cell in cells {
        let mut samples = cell.clone();
        samples.shuffle(&mut generator);
        for sample in samples {
            dealt[next].push(sample);
            next = (next + 1) % batches;
        }
    }
    // (A network may depend on the order within a batch.)
    dealt.iter_mut().for_each(|batch| batch.shuffle(&mut generator));
    dealt
}
