//! `pooled`: shifts of the cells under which what was answered and what is to come are fair together.
//!
//! The mathematics is on the page of the [module](super).

use super::Arrivals;
use super::forecast::{Forecast, Seen, kept};
use crate::batch::{Batch, Capacities};
use crate::cells::CellMask;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::Result;
use crate::projector::Projector;
use crate::settings::{AdmmSettings, Infeasible, Settings};
use crate::solution::{Solution, Status};
use crate::totals::Totals;

/// The number of samples that a cell has to make up for what it was answered is at least this, where the margin allows it,
/// and at least that, where the margin needs it.
const HORIZON: f64 = 32.0;
const LEAST_HORIZON: f64 = 8.0;
/// Where a horizon of fewer samples than this were needed, nothing helps.
const NO_HORIZON: f64 = 0.01;
/// How many standard deviations of what is left of the noise there is room for.
const MARGIN: f64 = 2.0;
/// The part of what is allowed that the margin of a cell may take.
const MOST_MARGIN: f64 = 0.25;
/// How many times a horizon is planned anew before it ends.
const PLANS: f64 = 8.0;
/// The samples whose noise a plan has not made up for, as a part of the horizon: half of it, and those between two plans.
const SPAN: f64 = 0.5 + 1.0 / PLANS;
/// The most Newton steps of a plan.
const MOST_STEPS: u32 = 60;
/// How many samples of the forecasts a new sample pays for.
const PACE: u64 = 100;

/// What `pooled` carries from batch to batch.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct PooledState {
    pub(crate) forecasts: Vec<Forecast>,
    /// The multipliers of the last plan, and the shifts of the cells that they make.
    multipliers: Vec<f64>,
    shifts: Vec<f64>,
    /// How many samples are to come before the next plan.
    wait: u64,
}

impl PooledState {
    fn new(set: &ConstraintSet) -> Self {
        let cells = set.layout().cells();
        let forecasts = vec![Forecast::default(); cells];
        Self { forecasts, multipliers: vec![0.0; set.rows()], shifts: vec![0.0; cells], wait: 0 }
    }

    /// Whether this is what a stream over this set may have left.
    pub(crate) fn is_usable(&self, set: &ConstraintSet) -> bool {
        let cells = set.layout().cells();
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let fits = (self.forecasts.len(), self.shifts.len(), self.multipliers.len()) == (cells, cells, set.rows());
        fits && finite(&self.multipliers)
            && finite(&self.shifts)
            && self.forecasts.iter().all(|forecast| forecast.is_usable(kept(cells)))
    }

    /// The same of a set with more cells; `places` says where each of these went. It is planned anew.
    pub(crate) fn moved_to(&self, set: &ConstraintSet, places: &[usize]) -> Self {
        let mut moved = Self::new(set);
        for (&place, forecast) in places.iter().zip(&self.forecasts) {
            moved.forecasts[place] = forecast.clone();
            moved.forecasts[place].truncate(kept(set.layout().cells()));
        }
        moved
    }
}

/// The rule, and the memory that it plans in.
#[derive(Debug)]
pub(crate) struct Pooled {
    pub(crate) state: PooledState,
    planner: Planner,
}

impl Pooled {
    pub(crate) fn new(set: &ConstraintSet, state: Option<PooledState>) -> Result<Self> {
        Ok(Self { state: state.unwrap_or_else(|| PooledState::new(set)), planner: Planner::new(set)? })
    }

    /// The multipliers of the last plan, `[rows]`.
    pub(crate) fn multipliers(&self) -> &[f64] {
        &self.state.multipliers
    }

    /// Answers a batch.
    pub(crate) fn answer(&mut self, arrivals: &Arrivals<'_>, totals: &Totals, y: &mut [f64]) -> Result<()> {
        self.learn(arrivals);
        if self.state.wait == 0 {
            self.planner.plan(&mut self.state, arrivals.bounds, totals, y.len())?;
        }
        for (index, y) in y.iter_mut().enumerate() {
            let shift = self.state.shifts[usize::from(arrivals.cells[index])];
            // (What is not moved keeps its bits, the sign of a zero among them.)
            let moved = if shift == 0.0 { arrivals.z[index] } else { arrivals.z[index] - shift };
            *y = moved.clamp(arrivals.bounds.0, arrivals.bounds.1);
        }
        Ok(())
    }

    /// Takes in what has come, whoever answers it.
    pub(crate) fn learn(&mut self, arrivals: &Arrivals<'_>) {
        let kept = kept(self.state.forecasts.len());
        for (index, &cell) in arrivals.cells.iter().enumerate() {
            let seen = Seen { z: arrivals.z[index], label: arrivals.label(index) };
            self.state.forecasts[usize::from(cell)].add(seen, arrivals.clipped(index), kept);
        }
        self.state.wait = self.state.wait.saturating_sub(arrivals.cells.len() as u64);
    }
}

/// The problem of what was answered and what is to come.
#[derive(Debug)]
struct Planner {
    projector: Projector<f64>,
    solution: Solution<f64>,
    z: Vec<f64>,
    lo: Vec<f64>,
    hi: Vec<f64>,
    label: Vec<f64>,
    weight: Vec<f64>,
    cell: Vec<u8>,
    /// `[cells]`: the weights of what was answered and of what is to come, together.
    mass: Vec<f64>,
    /// `[strata]`: how many samples are expected, and their means.
    strata: Vec<(f64, Seen)>,
    /// The shortest horizon of the cells, in samples of all cells.
    horizon: f64,
    /// `[cells]`: which way a cell is from the middle.
    lean: Vec<f64>,
}

impl Planner {
    fn new(set: &ConstraintSet) -> Result<Self> {
        let cells = set.layout().cells();
        let most = cells * (kept(cells) + 1);
        // What is hard to plan is planned anew soon, so little time is spent on it.
        let admm = AdmmSettings { max_iterations: 0, ..AdmmSettings::default() };
        let infeasible = Infeasible::NearestFeasible;
        let settings = Settings { infeasible, admm, max_iterations: MOST_STEPS, ..Settings::default() };
        let projector = Projector::plan(crate::Device::cpu(), set, Capacities::single(most), settings)?;
        let solution = projector.solution();
        let empty = || Vec::with_capacity(most);
        Ok(Self {
            projector,
            solution,
            z: empty(),
            lo: empty(),
            hi: empty(),
            label: empty(),
            weight: empty(),
            cell: Vec::with_capacity(most),
            mass: vec![0.0; cells],
            strata: vec![(0.0, Seen::default()); set.layout().strata().count()],
            horizon: 0.0,
            lean: vec![0.0; cells],
        })
    }

    /// Finds the shifts for the samples to come. Where the rows cannot be met within the horizon, what violates them the
    /// least; where that is not found either, the shifts stay.
    fn plan(&mut self, state: &mut PooledState, bounds: (f64, f64), totals: &Totals, came: usize) -> Result<()> {
        self.set_up(state, bounds, totals, came as f64);
        let batch = Batch::single(&self.z)
            .cells(&self.cell)
            .labels(&self.label)
            .weights(&self.weight)
            .element_bounds(&self.lo, &self.hi);
        self.projector.project_into(&batch, &mut self.solution)?;
        let found = self.solution.read()?;
        if matches!(found.outcomes[0].status, Status::Solved | Status::Relaxed) {
            state.multipliers.copy_from_slice(found.problem_multipliers(0));
            shifts(self.projector.constraints(), &self.mass, &state.multipliers, &mut state.shifts);
        }
        let pace = self.z.len() as u64 / PACE;
        state.wait = ((self.horizon / PLANS) as u64).max(pace).max(1);
        Ok(())
    }

    fn set_up(&mut self, state: &PooledState, (lo, hi): (f64, f64), totals: &Totals, came: f64) {
        self.expect_of_strata(state);
        let all: f64 = self.strata.iter().map(|(count, _)| count).sum();
        self.horizon = f64::INFINITY;
        totals.lean(self.projector.constraints(), &mut self.lean);
        for array in [&mut self.z, &mut self.lo, &mut self.hi, &mut self.label, &mut self.weight] {
            array.clear();
        }
        self.cell.clear();
        let set = self.projector.constraints();
        let residual = set.needs_label_means();
        for (cell, forecast) in state.forecasts.iter().enumerate() {
            self.mass[cell] = 0.0;
            if forecast.count == 0 {
                continue;
            }
            let stratum = self.strata[cell % self.strata.len()].1;
            let correction = forecast.correction(stratum, lo, hi);
            let total = &totals.cells[cell];
            let answered = total.count as f64;
            let deviation = forecast.deviation(|seen| seen.z.clamp(lo, hi) - if residual { seen.label } else { 0.0 });
            let room = MOST_MARGIN * room(set, stratum.z.abs(), deviation);
            // (The batch that has come is answered by one plan.)
            let share = forecast.count as f64 / all;
            let to_come = horizon(answered, deviation, room).max(came * share);
            self.horizon = self.horizon.min(to_come / share);
            let mut push = |z: f64, label: f64, weight: f64, (lo, hi): (f64, f64)| {
                self.z.push(z);
                self.label.push(label);
                self.weight.push(weight);
                self.lo.push(lo);
                self.hi.push(hi);
                self.cell.push(cell as u8);
                self.mass[cell] += weight;
            };
            if total.count > 0 {
                // What was answered is one sample that cannot be moved, a margin further from the middle than it is.
                let (mean, label) = (total.mean(), total.mean_label());
                let margin = room.min(MARGIN * deviation * (SPAN * to_come).sqrt() / answered);
                let outward = if self.lean[cell] < 0.0 { mean - margin } else { mean + margin };
                let mean = outward.clamp(lo, hi);
                push(mean, label, answered, (mean, mean));
            }
            let weight = to_come / forecast.samples.len() as f64;
            for seen in &forecast.samples {
                push(seen.z + correction.z, seen.label + correction.label, weight, (lo, hi));
            }
        }
    }

    fn expect_of_strata(&mut self, state: &PooledState) {
        self.strata.fill((0.0, Seen::default()));
        let strata = self.strata.len();
        for (cell, forecast) in state.forecasts.iter().enumerate().filter(|(_, forecast)| forecast.count > 0) {
            let (count, mean) = &mut self.strata[cell % strata];
            let added = forecast.count as f64;
            *count += added;
            mean.z += (forecast.mean.z - mean.z) * added / *count;
            mean.label += (forecast.mean.label - mean.label) * added / *count;
        }
    }
}

/// How many samples a cell with so many answers has to make up for them: so few that the margin has room for their noise.
fn horizon(answered: f64, deviation: f64, room: f64) -> f64 {
    let longest = answered.powf(2.0 / 3.0).max(HORIZON);
    let fitting = (room * answered / (MARGIN * deviation)).powi(2) / SPAN;
    if fitting >= NO_HORIZON && answered > 0.0 { fitting.clamp(LEAST_HORIZON, longest) } else { longest }
}

/// How far apart the rows allow means to be, the strictest of them; `otherwise` where a row has one bound only.
fn room(set: &ConstraintSet, size: f64, otherwise: f64) -> f64 {
    let of_spreads = set.spreads().iter().map(|spread| match spread.limit {
        SpreadLimit::Difference(epsilon) => epsilon,
        SpreadLimit::Ratio(ratio) => (1.0 - ratio) * size,
    });
    let of_contrasts = set.contrasts().iter().map(|contrast| (contrast.upper - contrast.lower) / 2.0);
    of_spreads
        .chain(of_contrasts.map(|half| if half.is_finite() { half } else { otherwise }))
        .fold(f64::INFINITY, f64::min)
}

/// The shifts that multipliers make: `W^-1 A^T nu`, one number a cell. A mean over a union has the coefficient 1 / mass of
/// the union for a unit of weight.
fn shifts(set: &ConstraintSet, mass: &[f64], multipliers: &[f64], shifts: &mut [f64]) {
    shifts.fill(0.0);
    let mut add = |cells: &CellMask, nu: f64| {
        let total: f64 = cells.iter().map(|cell| mass[cell]).sum();
        if nu != 0.0 && total > 0.0 {
            cells.iter().for_each(|cell| shifts[cell] += nu / total);
        }
    };
    let unions = set.spreads().iter().flat_map(|spread| &spread.unions);
    let (of_unions, of_contrasts) = multipliers.split_at(multipliers.len() - set.contrasts().len());
    unions.zip(of_unions).for_each(|(union, &nu)| add(&union.cells, nu));
    for (contrast, &nu) in set.contrasts().iter().zip(of_contrasts) {
        add(&contrast.plus.cells, nu);
        add(&contrast.minus, -contrast.scale * nu);
    }
}
