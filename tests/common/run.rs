//! Owned inputs, runs whose outputs held NaN before, and answers that can be compared bit for bit.

use super::kkt::Stated;
use super::rows::Limits;
use fairlayer::*;

/// The arrays of a batch, as a user would own them.
#[derive(Clone, Debug)]
pub struct Inputs<T> {
    pub z: Vec<T>,
    pub cells: Vec<u8>,
    pub weights: Vec<f64>,
    pub labels: Vec<f64>,
    pub lo: Vec<T>,
    pub hi: Vec<T>,
    pub offsets: Vec<usize>,
    /// Problem by problem a matrix `[m, n]`.
    pub coefficients: Vec<f64>,
    /// Of all problems, one after the other; the constraint set's own where there are none.
    pub limits: Option<Limits>,
}

/// Numbers in a storage type.
pub fn stored<T: Storage>(values: &[f64]) -> Vec<T> {
    values.iter().map(|value| T::from_f64(*value)).collect()
}

/// Their exact values.
pub fn widened<T: Storage>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

/// Bit patterns, the same for equal values of any storage type (all NaN count as one).
pub fn bits<T: Storage>(values: &[T]) -> Vec<u64> {
    let pattern = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    values.iter().map(|value| pattern(value.to_f64())).collect()
}

impl<T: Storage> Inputs<T> {
    /// These problems as one batch, rounded to the storage type.
    pub fn new(problems: &[&Stated]) -> Self {
        let all = |array: fn(&Stated) -> &[f64]| problems.iter().flat_map(|p| array(p)).copied().collect::<Vec<f64>>();
        let mut offsets = vec![0];
        problems.iter().for_each(|p| offsets.push(offsets[offsets.len() - 1] + p.z.len()));
        Self {
            z: stored(&all(|p| &p.z)),
            cells: problems.iter().flat_map(|p| &p.cells).copied().collect(),
            weights: all(|p| &p.weights),
            labels: all(|p| &p.labels),
            lo: stored(&all(|p| &p.lo)),
            hi: stored(&all(|p| &p.hi)),
            offsets,
            coefficients: problems.iter().flat_map(|p| p.coefficients.concat()).collect(),
            limits: None,
        }
    }

    #[must_use]
    pub fn limited(mut self, limits: &Limits) -> Self {
        self.limits = Some(limits.clone());
        self
    }

    pub fn offsets(&self) -> Offsets<'_> {
        Offsets::Ragged(&self.offsets)
    }

    /// The batch: with weights if one is not 1, with scalar bounds if all are equal.
    pub fn batch(&self) -> Batch<'_, T> {
        let equal = |bounds: &[T]| bounds.windows(2).all(|pair| pair[0] == pair[1]);
        let mut batch = Batch::new(&self.z, self.offsets()).cells(&self.cells).labels(&self.labels);
        batch = batch.coefficients(&self.coefficients);
        batch = match (self.lo.first(), self.hi.first()) {
            (Some(lo), Some(hi)) if equal(&self.lo) && equal(&self.hi) => batch.bounds(*lo, *hi),
            _ => batch.element_bounds(&self.lo, &self.hi),
        };
        if self.weights.iter().any(|w| *w != 1.0) {
            batch = batch.weights(&self.weights);
        }
        if let Some(limits) = &self.limits {
            batch = batch.levels(&limits.levels).row_bounds(&limits.lower, &limits.upper);
        }
        batch
    }

    /// A problem as it was stored.
    pub fn stated(&self, problem: usize) -> Stated {
        let range = self.offsets[problem]..self.offsets[problem + 1];
        let rows = self.coefficients.len() / self.z.len().max(1);
        let own = &self.coefficients[rows * range.start..rows * range.end];
        Stated {
            z: widened(&self.z[range.clone()]),
            cells: self.cells[range.clone()].to_vec(),
            weights: self.weights[range.clone()].to_vec(),
            labels: self.labels[range.clone()].to_vec(),
            lo: widened(&self.lo[range.clone()]),
            coefficients: own.chunks(range.len().max(1)).map(<[f64]>::to_vec).collect(),
            hi: widened(&self.hi[range]),
        }
    }
}

/// A projector with its outputs. Outputs hold NaN before every call, so that nothing left over passes for an answer.
pub struct Rig<T: Storage> {
    pub projector: Projector<T>,
    pub solution: Solution<T>,
    pub gradients: Gradients<T>,
}

/// All gradients.
pub const EVERYTHING: Wanted = Wanted { bounds: true, weights: true, labels: true, coefficients: true };

/// Settings as exact as the storage type allows.
pub fn exact() -> Settings {
    Settings { tolerance: 1e-13, ..Settings::default() }
}

impl<T: Storage> Rig<T> {
    pub fn new(device: &Device, set: &ConstraintSet, offsets: &Offsets<'_>) -> Self {
        Self::with_settings(device, set, offsets, Settings::default())
    }

    pub fn with_settings(device: &Device, set: &ConstraintSet, offsets: &Offsets<'_>, settings: Settings) -> Self {
        let projector = Projector::plan(device, set, Capacities::of(offsets), settings).expect("a plan");
        let (solution, gradients) = (projector.solution(), projector.gradients(EVERYTHING));
        Self { projector, solution, gradients }
    }

    /// Projects into a solution that held the answers of a batch of NaN.
    pub fn project(&mut self, batch: &Batch<'_, T>) -> SolutionView<'_, T> {
        let nan = vec![T::from_f64(f64::NAN); batch.total()];
        let (cells, labels) = (vec![0; batch.total()], vec![0.0_f64; batch.total()]);
        let coefficients = vec![f64::NAN; batch.total() * self.projector.constraints().dense().len()];
        let poison = Batch::new(&nan, batch.offsets()).cells(&cells).labels(&labels).coefficients(&coefficients);
        let poison = poison.bounds(T::from_f64(0.0), T::from_f64(1.0));
        self.projector.project_into(&poison, &mut self.solution).expect("a batch of NaN is no misuse");
        self.projector.project_into(batch, &mut self.solution).expect("the batch fits");
        self.solution.read().expect("a solution in host memory")
    }

    /// The gradients at the last solution, into arrays that held NaN.
    pub fn vjp(&mut self, batch: &Batch<'_, T>, g: &[T]) -> GradientsView<'_, T> {
        let nan = vec![T::from_f64(f64::NAN); batch.total()];
        for g in [&nan[..], g] {
            self.projector.vjp(batch, &self.solution, g, &mut self.gradients).expect("the batch fits");
        }
        self.gradients.read().expect("gradients in host memory")
    }
}

/// All that one problem was answered, as bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: Status,
    pub counts: (u32, u32),
    pub measures: [u64; 2],
    pub y: Vec<u64>,
    pub nu: Vec<u64>,
    pub states: Vec<ClampState>,
    pub inactive: Vec<bool>,
}

impl Answer {
    pub fn of<T: Storage>(view: &SolutionView<'_, T>, problem: usize) -> Self {
        let outcome = view.outcomes[problem];
        let nu = view.problem_multipliers(problem);
        Self {
            status: outcome.status,
            counts: (outcome.iterations, outcome.passes),
            measures: [outcome.residual.to_bits(), outcome.excess.to_bits()],
            y: bits(view.problem(problem)),
            nu: bits(nu),
            states: (0..view.problem(problem).len()).map(|i| view.clamp_state(problem, i)).collect(),
            inactive: (0..nu.len()).map(|row| view.is_inactive(problem, row)).collect(),
        }
    }

    pub fn all<T: Storage>(view: &SolutionView<'_, T>) -> Vec<Self> {
        (0..view.outcomes.len()).map(|problem| Self::of(view, problem)).collect()
    }
}

/// The gradients of every problem, as bits.
pub fn gradient_bits<T: Storage>(view: &GradientsView<'_, T>, offsets: &[usize]) -> Vec<Vec<u64>> {
    let problems = offsets.len() - 1;
    (0..problems)
        .map(|problem| {
            let elements = [view.predictions, view.lo, view.hi, view.weights, view.labels];
            let of_elements = elements.iter().flat_map(|array| bits(&array[offsets[problem]..offsets[problem + 1]]));
            let of_rows = [view.levels, view.lower, view.upper].into_iter().flat_map(|array| {
                let count = array.len() / problems;
                bits(&array[problem * count..(problem + 1) * count])
            });
            let rows = view.coefficients.len() / view.predictions.len().max(1);
            let of_matrix = bits(&view.coefficients[rows * offsets[problem]..rows * offsets[problem + 1]]);
            of_elements.chain(of_rows).chain(of_matrix).collect()
        })
        .collect()
}

/// Fails unless every pair agrees to `tolerance`; NaN agrees with nothing.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let close = (got - expected).abs() <= tolerance;
        assert!(close, "{what}[{i}]: {got:e} where {expected:e} is right, off by {:.1e}", (got - expected).abs());
    }
}

/// The largest magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Values, those of light samples scaled down by the root of their weight: a light sample hardly counts in the distance
/// or in a mean, so it is known only that well to anyone who minimises the one within the other.
pub fn by_weight(values: &[f64], weights: &[f64]) -> Vec<f64> {
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    values.iter().zip(weights).map(|(value, w)| value * (w / mean).sqrt().min(1.0)).collect()
}
