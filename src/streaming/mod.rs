//! Online inference: batches that are too small to be projected by themselves are answered as they come, so that what was
//! answered, *pooled*, is fair.
//!
//! ```
//! use fairlayer::*;
//!
//! let set = DemographicParity::within(0.05).constraints(&Population::one_feature(2))?;
//! let settings = StreamSettings { bounds: (0.0, 1.0), ..StreamSettings::default() };
//! let mut stream = Streaming::new(&set, settings)?;
//! for i in 0..2000 {
//!     let (group, chance) = ((i % 2) as u8, (i * 379 % 1000) as f64 / 1000.0);
//!     let (y, _) = stream.answer(&Batch::single(&[0.6 * chance + 0.3 * f64::from(group)]).cells(&[group]))?;
//!     assert!((0.0..=1.0).contains(&y[0]));
//! }
//! let gap = stream.gaps()[0].expect("both groups have come");
//! assert!(gap.before > 0.29 && gap.after <= 0.05);
//! # Ok::<(), Error>(())
//! ```
//!
//! # The rule `pooled`
//! What is controlled are the rows of the set themselves, over all `N` samples answered so far: for a spread the means of its
//! unions, for a contrast `mean(U) - scale mean(V)`, for a residual row the same of `y - label`. All of them are known from
//! sums by cell: the number of samples `N_c`, the sum of `y`, the sum of the labels.
//!
//! A sample that comes can still be moved; those that came are what they are. So the next samples have to make up for
//! them, with as little distortion as possible, and that is a projection again:
//!
//! ```text
//! minimise over y    1/2 sum_c h_c mean over cell c of (y - z)^2          the samples to come
//! subject to         the rows, over N_c samples that are what they were (their mean), and h_c to come, in every cell
//!                    lo <= y <= hi
//! ```
//!
//! It is given to the crate's own [`Projector`]: what a cell was answered is one sample of weight `N_c` whose
//! bounds hold it where it is, what is to come are recent predictions of the cell, of weight `h_c` together. So every form of
//! row that the projector takes is streamed, without a rule of its own for any. The signed multipliers `nu` of the solution
//! make a shift for every cell, `shift = W^-1 A^T nu`, and until the next plan a sample is answered by `clip(z - shift)`. The
//! bounds hold bit for bit.
//!
//! * **Why a fair model is left alone.** Where what was answered and what is expected meet the rows, the projection is where
//!   it began: `nu = 0`, and not a bit of a prediction changes. (Inside its bounds, that is.)
//! * **Why the pooled gap ends within epsilon.** Let `D = N (gap - target)` be what is owed. A plan makes the next `h` samples
//!   pay it, so that `D` falls by `D / h` a sample, while a sample adds noise of variance `v`, and an error `d` of what was
//!   expected: `D` settles at `h d`, with variance `h v / 2`; the gap at `target + h d / N`, with a deviation of
//!   `sqrt(h v / 2) / N`. With `h = N^(2/3)` both vanish as `N` grows, and faster than `N^(-1/2)`, which the mean of
//!   samples that nobody controls would have. The target lies below epsilon by a margin of that deviation (twice the sum of
//!   its cells' deviations, at most half of epsilon): every cell's own mean is taken to lie further from the middle than it is.
//!   This holds if the bounds leave room for the rows, and if predictions of a cell are exchangeable or change slowly
//!   beside `h`. An epsilon of 0 is approached and not met.
//! * **Why little is moved.** A longer `h` makes the noise of the shifts smaller, whose cost is `v / (2 h)` in the square of
//!   what is moved, a shorter one the margin, whose cost grows as `sqrt(h) / N`. `N^(2/3)` makes them equal in order.
//! * **First samples.** `h` is `N_c^(2/3)`, at least 32, so that what chance made of the first few is paid back over many; where
//!   that would leave more noise than a margin of a quarter of epsilon has room for, it is shorter, down to 8. A cell with `n`
//!   samples is expected to be like its stratum (all with its label or control value) but for `n / (n + 16)` of the difference:
//!   a model is fair until there is reason to think that it is not. In the first hundreds of samples the gap may be above
//!   epsilon, as that of any small sample.
//! * **A group that is absent** for long owes what it owes: `N_c` and `h_c` are its own, and a shift is in proportion to one over
//!   the weight of the union, so a rare group is moved and not the many others.
//! * **Drift.** What is expected is the past, in which a sample that came at the fraction `t` of its cell's counts as `t^4`: after a
//!   change of `d` the gap goes astray by at most `h d / N` and comes back as the change makes up more of that past.
//!
//! Predicted for 20,000 samples of two groups (0.4 of them 0.3 higher, deviation 0.2, epsilon 0.05, bounds 0 and 1): a gap
//! at the end of 0.05 less a margin of 0.0014, with a deviation of at most 0.0005; all data at once have to be moved by 0.01426 in
//! the mean square, and the margin adds 1.1 parts in 100, the noise 0.3. What is found README says how to print.
//!
//! Planning costs a projection of some hundreds to thousands of samples. It is done when an eighth of the shortest horizon has
//! come, or later where cells are many, so that a sample pays for at most 100 in a projection.
//!
//! # The rule `max_gap`
//! The published one, for comparison: [`StreamRule::MaxGap`]. One multiplier for all rows; gaps of every batch by itself, so
//! that a batch of one sample has none and is never moved.
//!
//! # Batches
//! A batch of at least `b_tau` samples is projected by itself (its own gaps are then within epsilon), whatever the rule;
//! smaller ones are streamed. Both count in the same sums. A batch need not have all groups: [`Answered::incomplete`] says so.
//! Numbers and ids that cannot be used are [`Status::BadNumber`], as elsewhere.
//!
//! # State
//! [`Streaming::save`] and [`Streaming::restore`] carry a stream from one process to the next, bit for bit;
//! [`Streaming::regrouped`] to more groups.

mod forecast;
mod max_gap;
mod pooled;
mod state;

pub use max_gap::MaxGapState;
pub use state::StreamState;

use std::cmp::Ordering;

use crate::backend::Device;
use crate::batch::{Batch, Bound, Capacities, CellSource, Problem, RealSlice};
use crate::cells::CellMask;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::{Error, Result};
use crate::projector::Projector;
use crate::reference::cells_prepare::compute_cells;
use crate::settings::Settings;
use crate::solution::{Solution, Status};
use crate::totals::{PooledGap, Totals};

use max_gap::MaxGap;
use pooled::Pooled;
use state::{RuleState, VERSION, held_to};

/// The largest size of a prediction or a label in a stream, whose sums go on and on.
pub const LARGEST: f64 = 1e15;

/// How small batches are answered.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum StreamRule {
    /// The gaps of all that was answered, pooled, end within their limits. The rule to use.
    #[default]
    Pooled,
    /// The update that was published with `fairness_training`, to the letter, for comparison: it bounds the mean over the
    /// samples of the gap that their batch has by itself, which says nothing about the pooled gap.
    MaxGap {
        /// The first step of its multiplier; published with 0.5.
        eta: f64,
    },
}

/// Settings of a [`Streaming`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamSettings {
    /// How batches below `b_tau` are answered.
    pub rule: StreamRule,
    /// Batches of at least this many samples are projected, each by itself. Default 64; 0 projects all, `usize::MAX` none.
    pub b_tau: usize,
    /// The bounds of the answers; infinite where there is none. Default: none.
    pub bounds: (f64, f64),
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { rule: StreamRule::default(), b_tau: 64, bounds: (f64::NEG_INFINITY, f64::INFINITY) }
    }
}

impl StreamSettings {
    fn arrivals<'a>(&self, problem: &Problem<'a, f64>, cells: &'a [u8]) -> Arrivals<'a> {
        Arrivals { z: problem.z, cells, labels: problem.labels, bounds: self.bounds }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// [`Status::Solved`] where all went well. A batch with a number or an id that cannot be used is
    /// [`Status::BadNumber`]; one that was to be projected may be [`Status::Infeasible`] or end at the iteration limit. Then
    /// `y = clip(z)`.
    pub status: Status,
    /// Whether it was projected by itself, rather than streamed.
    pub projected: bool,
    /// Whether some group (in some stratum) that the rows compare had no sample in it.
    pub incomplete: bool,
}

/// The samples of a batch, as the rules read them.
pub(crate) struct Arrivals<'a> {
    pub(crate) z: &'a [f64],
    pub(crate) cells: &'a [u8],
    labels: Option<RealSlice<'a>>,
    pub(crate) bounds: (f64, f64),
}

impl Arrivals<'_> {
    pub(crate) fn clipped(&self, index: usize) -> f64 {
        self.z[index].clamp(self.bounds.0, self.bounds.1)
    }

    /// 0 without labels.
    pub(crate) fn label(&self, index: usize) -> f64 {
        self.labels.map_or(0.0, |labels| labels.at(index))
    }

    pub(crate) fn labels(&self) -> Vec<f64> {
        (0..self.z.len()).map(|index| self.label(index)).collect()
    }

    fn count_into(&self, totals: &mut Totals, y: &[f64]) {
        for (index, &y) in y.iter().enumerate() {
            let (cell, z) = (usize::from(self.cells[index]), self.z[index]);
            totals.add_sample(cell, z, self.clipped(index), self.label(index), y);
        }
    }

    /// Whether all numbers can be used. Those that are too large could not be summed for long.
    fn are_usable(&self) -> bool {
        let usable = |value: f64| value.abs() <= LARGEST;
        (0..self.z.len()).all(|index| usable(self.z[index]) && usable(self.label(index)))
    }
}

/// A stream of batches that are answered as they come.
#[derive(Debug)]
pub struct Streaming {
    set: ConstraintSet,
    settings: StreamSettings,
    totals: Totals,
    rule: Rule,
    whole: Whole,
    cells: Vec<u8>,
}

#[derive(Debug)]
enum Rule {
    Pooled(Box<Pooled>),
    MaxGap(MaxGap),
}

/// What projects a batch by itself, planned as large as the batches get.
#[derive(Debug)]
struct Whole {
    projector: Projector<f64>,
    solution: Solution<f64>,
}

impl Whole {
    fn plan(set: &ConstraintSet, samples: usize) -> Result<Self> {
        let projector = Projector::plan(Device::cpu(), set, Capacities::single(samples), Settings::default())?;
        let solution = projector.solution();
        Ok(Self { projector, solution })
    }

    fn make_room(&mut self, samples: usize) -> Result<()> {
        if samples > self.projector.capacities().largest {
            *self = Self::plan(self.projector.constraints(), samples.saturating_mul(2))?;
        }
        Ok(())
    }
}

impl Streaming {
    /// A stream that has answered nothing yet.
    ///
    /// # Errors
    /// Rows with a coefficient for every sample, bounds that hold no number (or, with a ratio, negative numbers), a rule that
    /// does not fit the rows, or more memory than can be had.
    pub fn new(set: &ConstraintSet, settings: StreamSettings) -> Result<Self> {
        Self::begin(set, settings, Totals::new(set), None)
    }

    /// Goes on from a saved state: what follows has the very bits that it would have had without the interruption.
    ///
    /// # Errors
    /// As [`new`](Self::new); a state that was made under other rows, bounds or rule, by another version, or is damaged.
    /// `b_tau` may differ.
    pub fn restore(set: &ConstraintSet, settings: StreamSettings, state: StreamState) -> Result<Self> {
        state.check(set, &held_to(set, settings.bounds, &name(settings.rule)))?;
        Self::begin(set, settings, state.totals, Some(state.rule))
    }

    fn begin(set: &ConstraintSet, settings: StreamSettings, totals: Totals, state: Option<RuleState>) -> Result<Self> {
        check(set, &settings)?;
        let rule = match (settings.rule, state) {
            (StreamRule::Pooled, None) => Rule::Pooled(Box::new(Pooled::new(set, None)?)),
            (StreamRule::Pooled, Some(RuleState::Pooled(state))) => {
                Rule::Pooled(Box::new(Pooled::new(set, Some(state))?))
            }
            (StreamRule::MaxGap { eta }, None) => Rule::MaxGap(MaxGap::new(set, eta, None)?),
            (StreamRule::MaxGap { eta }, Some(RuleState::MaxGap(state))) => {
                Rule::MaxGap(MaxGap::new(set, eta, Some(state))?)
            }
            _ => return Err(Error::value("the state of the stream", "it is of another rule")),
        };
        let whole = Whole::plan(set, settings.b_tau.clamp(1, 256))?;
        Ok(Self { set: set.clone(), settings, totals, rule, whole, cells: Vec::new() })
    }

    /// What was learnt so far.
    pub fn save(&self) -> StreamState {
        StreamState {
            version: VERSION,
            held_to: held_to(&self.set, self.settings.bounds, &name(self.settings.rule)),
            totals: self.totals.clone(),
            rule: match &self.rule {
                Rule::Pooled(pooled) => RuleState::Pooled(pooled.state.clone()),
                Rule::MaxGap(max_gap) => RuleState::MaxGap(max_gap.state),
            },
        }
    }

    /// The same stream over a set with more cells, such as when a group comes that was not known: `places[c]` is the cell of
    /// the new set that cell `c` has become. What was answered and learnt goes with the cells.
    ///
    /// # Errors
    /// As [`new`](Self::new); places that are not one distinct cell of the new set for every cell.
    pub fn regrouped(&self, set: &ConstraintSet, places: &[usize]) -> Result<Self> {
        let (had, cells) = (self.set.layout().cells(), set.layout().cells());
        if places.len() != had {
            return Err(Error::Shape { what: "places of cells", expected: had, got: places.len() });
        }
        let mask = CellMask::of(places.iter().copied())?;
        if mask.count() != had || places.iter().any(|&place| place >= cells) {
            return Err(Error::value("places of cells", format!("they must be distinct and below {cells}")));
        }
        let state = match &self.rule {
            Rule::Pooled(pooled) => RuleState::Pooled(pooled.state.moved_to(set, places)),
            Rule::MaxGap(max_gap) => RuleState::MaxGap(max_gap.state),
        };
        Self::begin(set, self.settings, self.totals.moved_to(cells, places), Some(state))
    }

    /// Answers a batch: one problem, with cells or groups, labels and control values as the rows need them, and nothing
    /// else. `y`, `[n]`, gets the answers.
    ///
    /// A batch that cannot be used has a status and is answered by `clip(z)` (a NaN stays a NaN); it leaves no trace in what
    /// the stream has learnt.
    ///
    /// # Errors
    /// Wrong shapes, missing inputs, or inputs that a stream does not take; nothing is changed then.
    pub fn answer_into(&mut self, batch: &Batch<'_, f64>, y: &mut [f64]) -> Result<Answered> {
        let (batch, n) = (self.checked(batch, y.len())?, y.len());
        let (problem, usable) = self.find_cells(&batch);
        let arrivals = self.settings.arrivals(&problem, &self.cells);
        let projected = n >= self.settings.b_tau;
        if !(usable && arrivals.are_usable()) {
            (0..n).for_each(|index| y[index] = arrivals.clipped(index));
            return Ok(Answered { status: Status::BadNumber, projected, incomplete: false });
        }
        let incomplete = is_incomplete(&self.set, arrivals.cells)?;
        let status = if n == 0 {
            Status::Solved
        } else if projected {
            self.whole.make_room(n)?;
            self.whole.projector.project_into(&batch.cells(arrivals.cells), &mut self.whole.solution)?;
            let view = self.whole.solution.read()?;
            y.copy_from_slice(view.y);
            if let Rule::Pooled(pooled) = &mut self.rule {
                pooled.learn(&arrivals);
            }
            view.outcomes[0].status
        } else {
            match &mut self.rule {
                Rule::Pooled(pooled) => pooled.answer(&arrivals, &self.totals, y)?,
                Rule::MaxGap(max_gap) => {
                    self.whole.make_room(n)?;
                    max_gap.answer(&arrivals, &mut self.whole.projector, &mut self.whole.solution)?;
                    y.copy_from_slice(self.whole.solution.read()?.y);
                }
            }
            Status::Solved
        };
        arrivals.count_into(&mut self.totals, y);
        Ok(Answered { status, projected, incomplete })
    }

    /// Takes in a batch that was answered by others, such as one that was projected on another device: it counts as those do
    /// that this projects by itself. `y`, `[n]`, are the answers.
    ///
    /// # Errors
    /// As [`answer_into`](Self::answer_into); numbers or ids that cannot be used. Nothing is changed then.
    pub fn record(&mut self, batch: &Batch<'_, f64>, y: &[f64]) -> Result<()> {
        let batch = self.checked(batch, y.len())?;
        let (problem, usable) = self.find_cells(&batch);
        let arrivals = self.settings.arrivals(&problem, &self.cells);
        if !(usable && arrivals.are_usable() && y.iter().all(|y| y.abs() <= LARGEST)) {
            return Err(Error::value("the batch", "a number or an id in it cannot be used"));
        }
        if let Rule::Pooled(pooled) = &mut self.rule {
            pooled.learn(&arrivals);
        }
        arrivals.count_into(&mut self.totals, y);
        Ok(())
    }

    /// The batch with the bounds of the stream, if it is one that a stream takes.
    fn checked<'a>(&self, batch: &Batch<'a, f64>, answers: usize) -> Result<Batch<'a, f64>> {
        check_batch(batch)?;
        let batch = batch.bounds(self.settings.bounds.0, self.settings.bounds.1);
        batch.check(&self.set, Capacities::single(batch.total()))?;
        if answers != batch.total() {
            return Err(Error::Shape { what: "the answers", expected: batch.total(), got: answers });
        }
        Ok(batch)
    }

    /// Finds the cells of a batch, and whether all ids are in range.
    fn find_cells<'a>(&mut self, batch: &Batch<'a, f64>) -> (Problem<'a, f64>, bool) {
        let problem = batch.problem(0, &self.set);
        self.cells.clear();
        let usable = match &problem.cells {
            CellSource::Ids(ids) => {
                self.cells.extend_from_slice(ids);
                ids.iter().all(|&id| usize::from(id) < self.set.layout().cells())
            }
            _ => {
                self.cells.resize(problem.z.len(), 0);
                compute_cells(self.set.layout(), &problem, &mut self.cells)
            }
        };
        (problem, usable)
    }

    /// As [`answer_into`](Self::answer_into), into a new vector.
    ///
    /// # Errors
    /// As `answer_into`.
    pub fn answer(&mut self, batch: &Batch<'_, f64>) -> Result<(Vec<f64>, Answered)> {
        let mut y = vec![0.0; batch.total()];
        let answered = self.answer_into(batch, &mut y)?;
        Ok((y, answered))
    }

    /// The constraints that the stream is held to.
    pub fn constraints(&self) -> &ConstraintSet {
        &self.set
    }

    /// What every spread, then every contrast comes to over all that was answered; `None` where there is nothing to compare
    /// yet.
    pub fn gaps(&self) -> Vec<Option<PooledGap>> {
        self.totals.gaps(&self.set)
    }

    /// How many samples were answered.
    pub fn count(&self) -> u64 {
        self.totals.count()
    }

    /// The mean of `(y - z)^2` over all that was answered; 0 before the first sample.
    pub fn mean_square(&self) -> f64 {
        self.totals.mean_square()
    }

    /// The multipliers that [`StreamRule::Pooled`] works with, `[rows]`: positive where a row is held from above, all 0
    /// where nothing is moved. Empty for another rule.
    pub fn multipliers(&self) -> &[f64] {
        match &self.rule {
            Rule::Pooled(pooled) => pooled.multipliers(),
            Rule::MaxGap(_) => &[],
        }
    }

    /// What [`StreamRule::MaxGap`] has come to: its multiplier, the mean gap of the batches and the published bound of that.
    pub fn max_gap(&self) -> Option<MaxGapState> {
        match &self.rule {
            Rule::Pooled(_) => None,
            Rule::MaxGap(max_gap) => Some(max_gap.state),
        }
    }
}

/// What a state calls a rule.
fn name(rule: StreamRule) -> String {
    match rule {
        StreamRule::Pooled => "pooled".to_owned(),
        StreamRule::MaxGap { eta } => format!("max_gap {eta}"),
    }
}

fn check(set: &ConstraintSet, settings: &StreamSettings) -> Result<()> {
    let (lo, hi) = settings.bounds;
    if !set.dense().is_empty() {
        let instead = "use rows over groups, or project whole batches";
        return Err(Error::Unsupported { device: "a stream", what: "rows of samples".to_owned(), instead });
    }
    if lo.partial_cmp(&hi) != Some(Ordering::Less) {
        return Err(Error::value("bounds", format!("the lower bound {lo} is not below the upper bound {hi}")));
    }
    let ratio = set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_)));
    if ratio && lo < 0.0 {
        return Err(Error::value("bounds", format!("a ratio needs lower bounds >= 0, not {lo}")));
    }
    Ok(())
}

/// Fails if the batch is several problems or has what a stream does not take.
fn check_batch(batch: &Batch<'_, f64>) -> Result<()> {
    let problem = |what: &'static str, problem: &str| Err(Error::value(what, problem));
    let (Bound::Scalar(lo), Bound::Scalar(hi)) = (batch.lo, batch.hi) else {
        return problem("bounds", "a stream has the same for all samples: StreamSettings::bounds");
    };
    if (lo, hi) != (f64::NEG_INFINITY, f64::INFINITY) {
        return problem("bounds", "those of a stream are given once: StreamSettings::bounds");
    }
    if batch.offsets.problems() != 1 {
        return problem("offsets", "a stream takes one problem at a time: Batch::single");
    }
    let others = [
        ("weights", batch.weights.is_some()),
        ("levels", batch.levels.is_some()),
        ("row bounds", batch.row_bounds.is_some()),
        ("coefficients", batch.coefficients.is_some()),
        ("warm start", batch.warm_start.is_some()),
    ];
    match others.into_iter().find(|(_, given)| *given) {
        Some((what, _)) => problem(what, "a stream takes none"),
        None => Ok(()),
    }
}

/// Whether a union of the rows has no sample among these cells.
fn is_incomplete(set: &ConstraintSet, cells: &[u8]) -> Result<bool> {
    let there = CellMask::of(cells.iter().map(|&cell| usize::from(cell)))?;
    let unions = set.spreads().iter().flat_map(|spread| &spread.unions).map(|union| &union.cells);
    let mut sides = unions.chain(set.contrasts().iter().map(|contrast| &contrast.plus.cells));
    Ok(sides.any(|union| union.and(&there).is_empty()))
}
