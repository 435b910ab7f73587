//! What a stream expects to come: for every cell the mean of its predictions and some of them, the recent ones mostly.

/// How recent: what came when a fraction `t` of the cell's samples had come counts in proportion to `t^(RECENCY - 1)`.
const RECENCY: f64 = 5.0;
/// A cell is taken for its stratum as long as it has fewer samples than this, half and half at this many.
const PRIOR: f64 = 16.0;
/// The most predictions kept of a cell, the least, and those of all cells together.
const MOST: usize = 256;
const LEAST: usize = 16;
const TOGETHER: usize = 4096;

/// How many predictions are kept of each of so many cells.
pub(crate) fn kept(cells: usize) -> usize {
    (TOGETHER / cells.max(1)).clamp(LEAST, MOST)
}

/// A prediction and its label (0 without labels).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Seen {
    pub(crate) z: f64,
    pub(crate) label: f64,
}

/// What is expected of one cell.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Forecast {
    pub(crate) count: u64,
    /// The means of predictions, clipped to the bounds, and of labels, the recent ones weighing more.
    pub(crate) mean: Seen,
    pub(crate) samples: Vec<Seen>,
    /// What of the next replacement is due, and whose turn it is.
    due: f64,
    next: usize,
}

impl Forecast {
    /// Takes in a sample. Once `kept` are there every so many-th takes the place of the oldest.
    pub(crate) fn add(&mut self, seen: Seen, clipped: f64, kept: usize) {
        self.count += 1;
        let rate = RECENCY / (self.count as f64 + RECENCY - 1.0);
        self.mean.z += rate * (clipped - self.mean.z);
        self.mean.label += rate * (seen.label - self.mean.label);
        if self.samples.len() < kept {
            self.samples.push(seen);
            return;
        }
        self.due += (RECENCY * kept as f64 / self.count as f64).min(1.0);
        if self.due >= 1.0 {
            self.due -= 1.0;
            self.samples[self.next] = seen;
            self.next = (self.next + 1) % kept;
        }
    }

    /// Keeps no more than this many samples.
    pub(crate) fn truncate(&mut self, kept: usize) {
        self.samples.truncate(kept);
        self.next = if self.samples.len() < kept { 0 } else { self.next % kept };
    }

    /// Whether this is what `add` may have left.
    pub(crate) fn is_usable(&self, kept: usize) -> bool {
        let finite = |seen: &Seen| seen.z.is_finite() && seen.label.is_finite();
        let there = (self.samples.len() as u64) <= self.count && (self.count == 0) == self.samples.is_empty();
        let turn = self.next < kept && (0.0..1.0).contains(&self.due);
        there && turn && self.samples.len() <= kept && finite(&self.mean) && self.samples.iter().all(finite)
    }

    /// What is to be added to the samples, so that their means are those expected: the cell's own, or while they are few,
    /// those of its stratum as well.
    pub(crate) fn correction(&self, of_stratum: Seen, lo: f64, hi: f64) -> Seen {
        let (count, kept) = (self.count as f64, self.samples.len().max(1) as f64);
        let own = count / (count + PRIOR);
        let expected = |own_mean: f64, stratum: f64| stratum + own * (own_mean - stratum);
        let z = self.samples.iter().map(|seen| seen.z.clamp(lo, hi)).sum::<f64>() / kept;
        let label = self.samples.iter().map(|seen| seen.label).sum::<f64>() / kept;
        Seen { z: expected(self.mean.z, of_stratum.z) - z, label: expected(self.mean.label, of_stratum.label) - label }
    }

    /// The standard deviation of a value of the samples.
    pub(crate) fn deviation(&self, value: impl Fn(&Seen) -> f64) -> f64 {
        let n = self.samples.len().max(1) as f64;
        let mean = self.samples.iter().map(&value).sum::<f64>() / n;
        (self.samples.iter().map(|seen| (value(seen) - mean).powi(2)).sum::<f64>() / n).sqrt()
    }
}
