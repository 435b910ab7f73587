//! The outputs of a call, owned by the caller.

#[cfg(feature = "cuda")]
use crate::backend::cuda;
#[cfg(feature = "wgpu")]
use crate::backend::wgpu;
use crate::batch::{Capacities, Offsets};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// What became of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Status {
    /// Solved: `y` is the projection.
    #[default]
    Solved = 0,
    /// The limit of Newton steps was reached, or rounding allowed no further step. `y = clip(z)`.
    IterationLimit = 1,
    /// No point within the bounds meets the rows; the problem's multipliers are a ray that proves it. `y = clip(z)`.
    Infeasible = 2,
    /// An input number cannot be used; see [`Batch`](crate::Batch). `y = clip(z)`, a NaN stays a NaN.
    BadNumber = 3,
    /// No point within the bounds meets the rows, and [`Infeasible::NearestFeasible`](crate::Infeasible) was asked for:
    /// `y` is the nearest of the points that violate them the least; the excess says by how much.
    Relaxed = 4,
}

impl Status {
    /// Whether the problem has an answer: `y` is a projection, and has gradients.
    pub fn has_answer(self) -> bool {
        matches!(self, Self::Solved | Self::Relaxed)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Solved => "solved",
            Self::IterationLimit => "iteration limit",
            Self::Infeasible => "infeasible",
            Self::BadNumber => "bad number",
            Self::Relaxed => "relaxed",
        })
    }
}

/// Where an element ended: judged on `t = z - shift` before clipping, bounds included, so that a score that lies on a
/// bound without being pushed there is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClampState {
    /// `lo <= t <= hi`.
    Free,
    /// `t < lo`, so `y = lo`.
    AtLower,
    /// `t > hi`, so `y = hi`.
    AtUpper,
}

/// Elements whose clamp state shares one word: bit `j` of the low half says that element `j` is clamped, bit `j` of the
/// high half that it is at its upper bound. Two ballots of a GPU warp make such words.
pub(crate) const CLAMP_LANES: usize = 16;

/// The first clamp word of a problem. Problems never share a word, and the place needs no scan over the problems before.
pub(crate) fn clamp_start(problem: usize, first_element: usize) -> usize {
    first_element / CLAMP_LANES + problem
}

/// The answers of one call: `y`, and everything that the backward pass and a report need.
///
/// Make it with [`Projector::solution`](crate::Projector::solution), once; use one for every forward that still has to be
/// differentiated.
#[derive(Clone, Debug)]
pub struct Solution<T: Storage> {
    pub(crate) capacities: Capacities,
    pub(crate) rows: usize,
    pub(crate) offsets: Vec<usize>,
    pub(crate) answers: Answers<T>,
}

/// Where the answers are.
#[derive(Clone, Debug)]
pub(crate) enum Answers<T: Storage> {
    Host(HostAnswers<T>),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Answers<T>),
    #[cfg(feature = "wgpu")]
    Wgpu(wgpu::Answers<T>),
}

/// Answers in host memory.
#[derive(Clone, Debug)]
pub struct HostAnswers<T> {
    pub(crate) y: Vec<T>,
    pub(crate) clamp: Vec<u32>,
    pub(crate) multipliers: Vec<f64>,
    pub(crate) inactive: Vec<u32>,
    pub(crate) outcome: Vec<Outcome>,
}

impl<T: Storage> HostAnswers<T> {
    /// Room for the answers of so many rows.
    pub(crate) fn new(rows: usize, capacities: Capacities) -> Self {
        let Capacities { problems, total, .. } = capacities;
        Self {
            y: vec![T::default(); total],
            clamp: vec![0; clamp_start(problems, total) + 1],
            multipliers: vec![0.0; problems * rows],
            inactive: vec![0; problems * inactive_words(rows)],
            outcome: vec![Outcome::default(); problems],
        }
    }
}

/// What one problem's solve reports.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Outcome {
    /// What became of the problem.
    pub status: Status,
    /// Newton steps.
    pub iterations: u32,
    /// Passes over the data.
    pub passes: u32,
    /// The worst of violation and complementarity at the end, in units of `y`; 0 for an input that was fair already.
    pub residual: f64,
    /// By how much the worst row exceeds its bound, measured in `f64` on the stored `y`, in units of `y` (a dense row is
    /// scaled so that `a W^-1 a^T = 1` for weights that sum to 1); 0 when none does.
    pub excess: f64,
}

impl<T: Storage> Solution<T> {
    pub(crate) fn new(set: &ConstraintSet, capacities: Capacities, answers: Answers<T>) -> Self {
        let mut offsets = Vec::with_capacity(capacities.problems + 1);
        offsets.push(0);
        Self { capacities, rows: set.rows(), offsets, answers }
    }

    /// Whether this is a solution of a plan like this one.
    pub(crate) fn check_belongs(&self, set: &ConstraintSet, planned: Capacities) -> Result<()> {
        let belongs = self.rows == set.rows() && self.capacities == planned;
        if belongs { Ok(()) } else { Err(foreign_solution()) }
    }

    pub(crate) fn begin(&mut self, offsets: &Offsets<'_>) {
        self.offsets.clear();
        self.offsets.extend((0..=offsets.problems()).map(|i| if i == 0 { 0 } else { offsets.start(i) }));
    }

    /// Whether this is the solution of a batch with these offsets.
    pub(crate) fn check_offsets(&self, offsets: &Offsets<'_>) -> Result<()> {
        let problems = offsets.problems();
        let same =
            self.offsets.len() == problems + 1 && (0..problems).all(|i| self.offsets[i + 1] == offsets.start(i + 1));
        if same { Ok(()) } else { Err(Error::value("the solution", "it is of a batch with other offsets")) }
    }

    /// Where the projected values are on a CUDA device: the address of `[n]`, for work that follows the projection on the
    /// device's stream, which need not wait. It stays the same for as long as the solution lives. `None` on other devices,
    /// and before the first projection.
    #[cfg(feature = "cuda")]
    pub fn y_address(&self) -> Option<u64> {
        match &self.answers {
            Answers::Cuda(answers) => answers.y_address(),
            _ => None,
        }
    }

    /// Forgets what [`read`](Self::read) has copied, so that it copies again: for results that changed without a call, as
    /// those of a CUDA graph do that is launched again.
    #[cfg(feature = "cuda")]
    pub fn forget_read(&mut self) {
        if let Answers::Cuda(answers) = &mut self.answers {
            answers.forget_read();
        }
    }

    /// Where the projected values are on a wgpu device, `[n]` from the buffer's beginning: for work that is submitted to the
    /// device's queue after the projection, which need not wait. `None` on other devices, before the first projection, and
    /// for batches beyond the device's limits, which lie in several buffers.
    #[cfg(feature = "wgpu")]
    pub fn y_buffer(&self) -> Option<&::wgpu::Buffer> {
        match &self.answers {
            Answers::Host(_) => None,
            #[cfg(feature = "cuda")]
            Answers::Cuda(_) => None,
            Answers::Wgpu(answers) => answers.y_buffer(),
        }
    }

    /// The answers, in host memory. On a GPU this call waits for them; on the CPU they are there.
    pub fn read(&self) -> Result<SolutionView<'_, T>> {
        let problems = self.offsets.len() - 1;
        #[allow(clippy::infallible_destructuring_match, reason = "other devices are features")]
        let host = match &self.answers {
            Answers::Host(host) => host,
            #[cfg(feature = "cuda")]
            Answers::Cuda(answers) => answers.read(&self.offsets, self.rows)?,
            #[cfg(feature = "wgpu")]
            Answers::Wgpu(answers) => answers.read(&self.offsets, self.rows)?,
        };
        Ok(SolutionView {
            offsets: &self.offsets,
            y: &host.y[..self.offsets[problems]],
            multipliers: &host.multipliers[..problems * self.rows],
            outcomes: &host.outcome[..problems],
            clamp: &host.clamp,
            inactive: &host.inactive,
            rows: self.rows,
        })
    }
}

/// A solution that another plan made.
pub(crate) fn foreign_solution() -> Error {
    Error::Foreign { what: "the solution", make: "solution()" }
}

/// The words of a problem's mask of inactive rows.
pub(crate) fn inactive_words(rows: usize) -> usize {
    rows.div_ceil(32)
}

/// A [`Solution`] in host memory.
#[derive(Clone, Copy, Debug)]
pub struct SolutionView<'a, T> {
    /// Where the problems begin and end, `[B + 1]`.
    pub offsets: &'a [usize],
    /// The projected values, `[n]`.
    pub y: &'a [T],
    /// The multipliers, `[B, rows]`: positive where a row is held from above. Of an infeasible problem: a ray d with
    /// `min over the bounds of d.Ay > max of d.Ay that the rows allow`, which proves that it has no solution.
    pub multipliers: &'a [f64],
    /// What became of each problem, `[B]`.
    pub outcomes: &'a [Outcome],
    clamp: &'a [u32],
    inactive: &'a [u32],
    rows: usize,
}

impl<T: Storage> SolutionView<'_, T> {
    /// The projected values of one problem; empty for a problem that is not there.
    pub fn problem(&self, problem: usize) -> &[T] {
        self.y.get(self.range(problem)).unwrap_or(&[])
    }

    /// The multipliers of one problem, `[rows]`; empty for a problem that is not there.
    pub fn problem_multipliers(&self, problem: usize) -> &[f64] {
        let first = problem.saturating_mul(self.rows);
        self.multipliers.get(first..first.saturating_add(self.rows)).unwrap_or(&[])
    }

    /// Where element `index` of a problem ended; free for an element that is not there.
    pub fn clamp_state(&self, problem: usize, index: usize) -> ClampState {
        let range = self.range(problem);
        if index >= range.len() {
            return ClampState::Free;
        }
        let word = self.clamp[clamp_start(problem, range.start) + index / CLAMP_LANES];
        clamp_state(word, index % CLAMP_LANES)
    }

    /// Whether a row was left out of a problem because a mean of it has no samples (of a spread: because fewer than two
    /// unions have).
    pub fn is_inactive(&self, problem: usize, row: usize) -> bool {
        problem < self.outcomes.len()
            && row < self.rows
            && (self.inactive[problem * inactive_words(self.rows) + row / 32] >> (row % 32)) & 1 == 1
    }

    fn range(&self, problem: usize) -> std::ops::Range<usize> {
        Offsets::Ragged(self.offsets).range(problem)
    }

    /// Whether every problem was solved.
    pub fn all_solved(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.status == Status::Solved)
    }
}

#[inline]
pub(crate) fn clamp_state(word: u32, lane: usize) -> ClampState {
    match (word >> lane & 1, word >> (lane + CLAMP_LANES) & 1) {
        (0, _) => ClampState::Free,
        (_, 0) => ClampState::AtLower,
        _ => ClampState::AtUpper,
    }
}

/// Which gradients are wanted beside the one to the predictions and those to the rows' levels and bounds, which are
/// always computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wanted {
    /// To the bounds of every element.
    pub bounds: bool,
    /// To the sample weights.
    pub weights: bool,
    /// To the labels (of residual rows).
    pub labels: bool,
    /// To the coefficients of the dense rows.
    pub coefficients: bool,
}

/// The gradients of a scalar function of `y` to the inputs of a call. A problem that is not solved has zero gradients.
///
/// Arrays that were not wanted are empty. Where rows are linearly dependent, the gradients to levels and row bounds are
/// not unique; these are the ones of minimum norm.
#[derive(Clone, Debug)]
pub struct Gradients<T: Storage> {
    pub(crate) rows: (usize, usize),
    capacities: Capacities,
    pub(crate) problems: usize,
    pub(crate) total: usize,
    pub(crate) slopes: Slopes<T>,
}

/// Where the gradients are.
#[derive(Clone, Debug)]
pub(crate) enum Slopes<T: Storage> {
    Host(HostSlopes<T>),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Slopes<T>),
    #[cfg(feature = "wgpu")]
    Wgpu(wgpu::Slopes<T>),
}

/// Gradients in host memory.
#[derive(Clone, Debug)]
pub struct HostSlopes<T> {
    pub(crate) predictions: Vec<T>,
    pub(crate) lo: Vec<T>,
    pub(crate) hi: Vec<T>,
    pub(crate) weights: Vec<T>,
    pub(crate) labels: Vec<T>,
    pub(crate) coefficients: Vec<T>,
    pub(crate) levels: Vec<f64>,
    pub(crate) lower: Vec<f64>,
    pub(crate) upper: Vec<f64>,
}

impl<T: Storage> HostSlopes<T> {
    /// Room for the gradients that are wanted.
    pub(crate) fn new(set: &ConstraintSet, capacities: Capacities, wanted: Wanted) -> Self {
        let Capacities { problems, total, .. } = capacities;
        let elements = |want: bool| vec![T::default(); if want { total } else { 0 }];
        let dense = if wanted.coefficients { set.dense().len() } else { 0 };
        Self {
            predictions: elements(true),
            lo: elements(wanted.bounds),
            hi: elements(wanted.bounds),
            weights: elements(wanted.weights),
            labels: elements(wanted.labels),
            coefficients: vec![T::default(); total * dense],
            levels: vec![0.0; problems * set.spreads().len()],
            lower: vec![0.0; problems * set.bounded_rows()],
            upper: vec![0.0; problems * set.bounded_rows()],
        }
    }
}

impl<T: Storage> Gradients<T> {
    pub(crate) fn new(set: &ConstraintSet, capacities: Capacities, slopes: Slopes<T>) -> Self {
        let rows = (set.spreads().len(), set.bounded_rows());
        Self { rows, capacities, problems: 0, total: 0, slopes }
    }

    /// Whether these are gradients of a plan like this one.
    pub(crate) fn check_belongs(&self, set: &ConstraintSet, planned: Capacities) -> Result<()> {
        let rows = (set.spreads().len(), set.bounded_rows());
        let Capacities { problems, total, .. } = planned;
        let belongs = self.rows == rows && self.capacities.total == total && self.capacities.problems == problems;
        if belongs { Ok(()) } else { Err(Error::Foreign { what: "the gradients", make: "gradients()" }) }
    }

    pub(crate) fn begin(&mut self, offsets: &Offsets<'_>) {
        (self.problems, self.total) = (offsets.problems(), Capacities::of(offsets).total);
    }

    /// Where the gradients to the predictions are on a CUDA device: as [`Solution::y_address`].
    #[cfg(feature = "cuda")]
    pub fn predictions_address(&self) -> Option<u64> {
        match &self.slopes {
            Slopes::Cuda(slopes) => slopes.predictions_address(),
            _ => None,
        }
    }

    /// Forgets what [`read`](Self::read) has copied: as [`Solution::forget_read`].
    #[cfg(feature = "cuda")]
    pub fn forget_read(&mut self) {
        if let Slopes::Cuda(slopes) = &mut self.slopes {
            slopes.forget_read();
        }
    }

    /// Where the gradients to the predictions are on a wgpu device: as [`Solution::y_buffer`].
    #[cfg(feature = "wgpu")]
    pub fn predictions_buffer(&self) -> Option<&::wgpu::Buffer> {
        match &self.slopes {
            Slopes::Host(_) => None,
            #[cfg(feature = "cuda")]
            Slopes::Cuda(_) => None,
            Slopes::Wgpu(slopes) => slopes.predictions_buffer(),
        }
    }

    /// The gradients, in host memory. On a GPU this call waits for them; on the CPU they are there.
    pub fn read(&self) -> Result<GradientsView<'_, T>> {
        #[allow(clippy::infallible_destructuring_match, reason = "other devices are features")]
        let host = match &self.slopes {
            Slopes::Host(host) => host,
            #[cfg(feature = "cuda")]
            Slopes::Cuda(slopes) => slopes.read((self.problems, self.total), self.rows)?,
            #[cfg(feature = "wgpu")]
            Slopes::Wgpu(slopes) => slopes.read(self.problems, self.total, self.rows)?,
        };
        let elements = |array: &'_ [T]| array.len().min(self.total);
        let per_element = host.coefficients.len() / host.predictions.len().max(1);
        Ok(GradientsView {
            predictions: &host.predictions[..self.total],
            lo: &host.lo[..elements(&host.lo)],
            hi: &host.hi[..elements(&host.hi)],
            weights: &host.weights[..elements(&host.weights)],
            labels: &host.labels[..elements(&host.labels)],
            coefficients: &host.coefficients[..self.total * per_element],
            levels: &host.levels[..self.problems * self.rows.0],
            lower: &host.lower[..self.problems * self.rows.1],
            upper: &host.upper[..self.problems * self.rows.1],
        })
    }
}

/// [`Gradients`] in host memory.
#[derive(Clone, Copy, Debug)]
pub struct GradientsView<'a, T> {
    /// To the predictions, `[n]`.
    pub predictions: &'a [T],
    /// To every element's lower bound, `[n]` or empty. For a scalar bound, sum them.
    pub lo: &'a [T],
    /// To every element's upper bound, `[n]` or empty.
    pub hi: &'a [T],
    /// To the sample weights, `[n]` or empty.
    pub weights: &'a [T],
    /// To the labels, `[n]` or empty.
    pub labels: &'a [T],
    /// To the coefficients of the dense rows, problem by problem `[m, n]`, or empty. Of coefficients that problems share:
    /// sum them.
    pub coefficients: &'a [T],
    /// To the spreads' levels (epsilon or ratio), `[B, spreads]`.
    pub levels: &'a [f64],
    /// To the bounded rows' lower bounds, `[B, bounded rows]`.
    pub lower: &'a [f64],
    /// To the bounded rows' upper bounds, `[B, bounded rows]`. Of an equality (lower = upper), lower and upper move together:
    /// its gradient is the sum of both.
    pub upper: &'a [f64],
}
