//! Calibration in the large: no bin of the scores is over- or under-predicted on average.

use super::{Criterion, MeanResidual};
use crate::cells::{MAX_CELLS, Population, SensitiveFeature, Strata};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};

/// `|mean(y - label | bin)| <= epsilon` for every bin of the raw scores: [`MeanResidual`] with bins for groups, so that no
/// dense row is needed.
///
/// The bins are fixed: a sample stays in the bin of its raw score wherever the projection moves it. Bins of any other
/// number (a risk decile, a year) serve as well. Bins beside a sensitive feature in an
/// [intersectional](Population::intersectional) population give calibration within groups, a row for every bin of every
/// group (Kleinberg, Mullainathan and Raghavan 2017, condition A, for fixed bins).
///
/// ```
/// use fairlayer::*;
///
/// let (scores, labels) = ([0.1, 0.2, 0.6, 0.9], [1.0, 0.0, 1.0, 1.0]);
/// let bins = Bins::new(&[0.0, 0.5, 1.0])?;
/// let ids = bins.ids(&scores)?;
/// let people = Population::of_features([bins.feature("score")]);
/// let set = Calibration::within(0.0).constraints(&people)?;
/// let mut projector = Projector::<f64>::plan(Device::cpu(), &set, Capacities::single(4), Settings::default())?;
/// let batch = Batch::single(&scores).cells(&ids).labels(&labels).bounds(0.0, 1.0);
/// let solution = projector.project(&batch)?;
/// assert_eq!(format!("{:.2?}", solution.read()?.y), "[0.45, 0.55, 1.00, 1.00]");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// The largest allowed mean residual of a bin, in units of the predictions.
    pub epsilon: f64,
}

impl Calibration {
    /// Every bin's mean residual is at most `epsilon` in size.
    pub fn within(epsilon: f64) -> Self {
        Self { epsilon }
    }
}

impl Criterion for Calibration {
    fn strata(&self, _: &Population) -> Result<Strata> {
        Ok(Strata::None)
    }

    fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()> {
        MeanResidual::within(self.epsilon).add_rows(population, set)
    }
}

/// Bins of a number, by rising edges: bin `b` is `edges[b] <= x < edges[b + 1]`, and the last bin has its upper edge too,
/// as in `numpy.histogram`. The outermost edges may be infinite.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    edges: Vec<f64>,
}

impl Bins {
    /// Bins between edges, one fewer than there are edges.
    ///
    /// # Errors
    /// Fewer than two edges, edges that do not rise or are NaN, or more than [`MAX_CELLS`] bins.
    pub fn new(edges: &[f64]) -> Result<Self> {
        let problem = if edges.len() < 2 {
            "at least two are needed".to_owned()
        } else if let Some(pair) =
            edges.windows(2).find(|pair| pair[0].partial_cmp(&pair[1]) != Some(std::cmp::Ordering::Less))
        {
            format!("{} is not below {}", pair[0], pair[1])
        } else if edges.len() > MAX_CELLS + 1 {
            return Err(Error::TooManyCells { cells: edges.len() - 1, limit: MAX_CELLS });
        } else {
            return Ok(Self { edges: edges.to_vec() });
        };
        Err(Error::value("edges of bins", problem))
    }

    /// The number of bins.
    pub fn count(&self) -> usize {
        self.edges.len() - 1
    }

    /// The edges, rising.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// The bin of a number; `None` for one outside the edges, and for NaN.
    pub fn id(&self, value: f64) -> Option<u8> {
        let last = *self.edges.last()?;
        let bin = self.edges.partition_point(|&edge| edge <= value).checked_sub(1)?;
        let bin = if value == last { self.count() - 1 } else { bin };
        // There are at most MAX_CELLS bins, whose ids fit into a byte.
        (bin < self.count() && !value.is_nan()).then_some(bin as u8)
    }

    /// The bin of every value, `[n]`: cells or group ids for [`Batch`](crate::Batch).
    ///
    /// # Errors
    /// A value outside the edges, or NaN; infinite outermost edges take every number.
    pub fn ids(&self, values: &[f64]) -> Result<Vec<u8>> {
        let id = |(index, &value): (usize, &f64)| {
            let outside = || {
                let (first, last) = (self.edges[0], self.edges[self.count()]);
                Error::value("values to bin", format!("{value} (index {index}) is outside the edges {first} to {last}"))
            };
            self.id(value).ok_or_else(outside)
        };
        values.iter().enumerate().map(id).collect()
    }

    /// The bins as the groups of a feature, named by their edges, such as `[0, 0.5)`.
    pub fn feature(&self, name: impl Into<String>) -> SensitiveFeature {
        let named = |(bin, pair): (usize, &[f64])| {
            let close = if bin + 1 == self.count() { ']' } else { ')' };
            format!("[{}, {}{close}", pair[0], pair[1])
        };
        SensitiveFeature { name: name.into(), groups: self.edges.windows(2).enumerate().map(named).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_belong_to_the_bin_above_and_the_last_to_the_last() {
        let bins = Bins::new(&[0.0, 0.25, 1.0]).unwrap();
        assert_eq!(bins.ids(&[0.0, -0.0, 0.2, 0.25, 0.9, 1.0]).unwrap(), [0, 0, 0, 1, 1, 1]);
        for value in [-1e-300, 1.0_f64.next_up(), f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = bins.ids(&[0.5, value]).unwrap_err().to_string();
            assert!(error.contains("index 1") && error.contains("0 to 1"), "{error}");
        }
        let open = Bins::new(&[f64::NEG_INFINITY, 0.5, f64::INFINITY]).unwrap();
        assert_eq!(open.ids(&[-1e308, 0.5, f64::INFINITY, f64::NEG_INFINITY]).unwrap(), [0, 1, 1, 0]);
        assert_eq!(bins.feature("score").groups, ["[0, 0.25)", "[0.25, 1]"]);
    }

    #[test]
    fn edges_must_rise() {
        for edges in [&[][..], &[0.0], &[0.0, 0.0], &[1.0, 0.0], &[0.0, f64::NAN], &[f64::NAN, 1.0]] {
            assert!(Bins::new(edges).unwrap_err().to_string().contains("edges of bins"), "{edges:?}");
        }
        let edges: Vec<f64> = (0..=256).map(f64::from).collect();
        assert_eq!(Bins::new(&edges).unwrap().id(256.0), Some(255));
        let edges: Vec<f64> = (0..=257).map(f64::from).collect();
        assert!(matches!(Bins::new(&edges), Err(Error::TooManyCells { cells: 257, .. })));
    }

    #[test]
    fn rows_are_those_of_mean_residuals() {
        let people = Population::of_features([Bins::new(&[0.0, 0.5, 1.0]).unwrap().feature("score")]);
        let set = Calibration::within(0.1).constraints(&people).unwrap();
        assert_eq!(set, MeanResidual::within(0.1).constraints(&people).unwrap());
        assert_eq!(set.row_names().collect::<Vec<_>>(), ["score=[0, 0.5)", "score=[0.5, 1]"]);
        let groups = Population::of_features([SensitiveFeature::new("sex", 2), people.features[0].clone()]);
        let set = Calibration::within(0.1).constraints(&groups.intersectional()).unwrap();
        assert_eq!(set.row_names().nth(1), Some("sex=0 & score=[0.5, 1]"));
    }
}
