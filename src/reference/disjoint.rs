//! The commonest component, with its step in closed form: one difference spread whose unions share no cell.
//!
//! Union `g` of mass `m_g` moves by one shift `s_g`, its multiplier is `m_g s_g`, and its mean falls by `p_g`, its free
//! part, as `s_g` rises by 1. A Newton step then has one unknown, the centre `c` that all means must come within
//! `epsilon / 2` of: `s_g(c) = soft(mean_g + p_g s_g - c, epsilon / 2) / p_g`, where `sum_g m_g s_g(c) = 0`. It asks and is
//! told like [`Newton`](super::newton::Newton), and hands over to it whatever is not solved in a few passes.

use super::cells_prepare::CellTotals;
use super::cells_vjp::VjpSums;
use super::components::Component;
use super::newton::{CellSums, NewtonTask};
use super::pair::Pair;
use crate::batch::RealSlice;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::solution::{Outcome, Status};
use crate::storage::Storage;

/// Passes after which the general method takes over.
const MAX_PASSES: u32 = 24;
/// A union with this part of its mass free needs no floor under its curvature.
const PLENTY: f64 = 0.25;
/// A bracket halves at least every other time: enough for any root that a number can hold.
const MAX_ROOT_STEPS: u32 = 200;

/// Whether a component has this form.
pub(crate) fn is_disjoint(set: &ConstraintSet, component: &Component) -> bool {
    let (&[(spread, _)], []) = (&component.spreads[..], &component.contrasts[..]) else {
        return false;
    };
    let spread = &set.spreads()[spread];
    let apart = |(index, union): (usize, &crate::constraints::Union)| {
        spread.unions[..index].iter().all(|other| other.cells.and(&union.cells).is_empty())
    };
    matches!(spread.limit, SpreadLimit::Difference(_)) && spread.unions.iter().enumerate().all(apart)
}

/// What a pass leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The sums at the new shifts are needed.
    Ask,
    /// Solved.
    Solved,
    /// Too hard for this method.
    HandOver,
}

/// A union that holds samples.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Which union of the spread it is.
    union: usize,
    mass: f64,
    inverse_mass: f64,
    /// Means over the union at the present shift: of y, of |y|, of being free.
    mean: f64,
    size: f64,
    free: f64,
    /// How far its elements lie beyond their bounds, on average over its farthest cell.
    beyond: f64,
    /// The shift asked for, the one that the step began at, and the step.
    shift: f64,
    start: f64,
    step: f64,
    /// `p_g`, floored, and its inverse.
    slope: f64,
    inverse_slope: f64,
    /// Of the backward solve.
    lambda: f64,
}

impl Group {
    /// The mean at a shift of zero, as the model has it.
    #[inline]
    fn ahead(&self) -> f64 {
        self.mean + self.slope * self.start
    }
}

/// The larger of two numbers, the second if the first is NaN. (The standard library's takes longer.)
#[inline]
fn most(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The smaller of two numbers, the second if the first is NaN.
#[inline]
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// Sets the shifts that a step of two unions aims at, and returns the centre. They have one multiplier between them, as
/// much as moves the means to `2 half` of each other.
fn aim_two(a: &mut Group, b: &mut Group, half: f64) -> f64 {
    let gap = a.ahead() - b.ahead();
    let over = gap.abs() - 2.0 * half;
    if over <= 0.0 {
        (a.shift, b.shift) = (0.0, 0.0);
        return 0.5 * (a.ahead() + b.ahead());
    }
    let nu = over.copysign(gap) / (a.slope * a.inverse_mass + b.slope * b.inverse_mass);
    (a.shift, b.shift) = (nu * a.inverse_mass, -nu * b.inverse_mass);
    a.ahead() - a.slope * a.shift - half.copysign(gap)
}

/// The search along a step.
#[derive(Clone, Copy, Debug, Default)]
struct Search {
    length: f64,
    /// The slope at its beginning, below zero.
    start_slope: f64,
    trials: u32,
}

/// The method, with its memory.
#[derive(Clone, Debug)]
pub(crate) struct Disjoint {
    /// `[cells]`: the union that each cell is in.
    union_of: Vec<usize>,
    unions: usize,
    /// `[cells]`: index into `groups`; of a cell without samples any.
    group_of: Vec<usize>,
    groups: Vec<Group>,
    /// The smallest mass of a group.
    lightest: f64,
    epsilon: f64,
    /// The centre that the last step aims at.
    centre: f64,
    search: Search,
    outcome: Outcome,
    shift: Vec<f64>,
}

impl Disjoint {
    pub(crate) fn new(set: &ConstraintSet, component: &Component) -> Self {
        let unions = component.spreads.iter().flat_map(|&(spread, _)| &set.spreads()[spread].unions);
        let unions: Vec<_> = unions.collect();
        let union_of = |cell: &usize| unions.iter().position(|union| union.cells.contains(*cell)).unwrap_or(0);
        Self {
            union_of: component.cells.iter().map(union_of).collect(),
            unions: unions.len(),
            group_of: vec![0; component.cells.len()],
            groups: Vec::with_capacity(unions.len()),
            lightest: 0.0,
            epsilon: 0.0,
            centre: 0.0,
            search: Search::default(),
            outcome: Outcome::default(),
            shift: vec![0.0; component.cells.len()],
        }
    }

    /// Begins with a problem at zero multipliers; `totals` are of all cells. False if its level cannot be used.
    pub(crate) fn start(
        &mut self,
        set: &ConstraintSet,
        component: &Component,
        levels: Option<RealSlice<'_>>,
        totals: &CellTotals,
    ) -> bool {
        let spread = component.spreads[0].0;
        let limit = set.spreads()[spread].limit;
        let limit = levels.map_or(limit, |levels| limit.at_level(levels.at(spread)));
        self.epsilon = limit.level();
        self.outcome = Outcome::default();
        self.shift.fill(0.0);
        self.groups.clear();
        self.groups.extend((0..self.unions).map(|union| Group { union, ..Group::default() }));
        for (&cell, &union) in component.cells.iter().zip(&self.union_of) {
            self.groups[union].mass += totals.weight[cell];
        }
        if self.groups.iter().all(|group| group.mass > 0.0) {
            self.group_of.copy_from_slice(&self.union_of);
        } else {
            self.groups.retain(|group| group.mass > 0.0);
            for (group, union) in self.group_of.iter_mut().zip(&self.union_of) {
                *group = self.groups.iter().position(|group| group.union == *union).unwrap_or(0);
            }
        }
        if self.groups.len() < 2 {
            self.groups.clear();
        }
        self.lightest = f64::INFINITY;
        for group in &mut self.groups {
            group.inverse_mass = 1.0 / group.mass;
            self.lightest = least(group.mass, self.lightest);
        }
        limit.check().is_ok()
    }

    /// Whether there is nothing to compare.
    #[inline]
    pub(crate) fn is_trivial(&self) -> bool {
        self.groups.is_empty()
    }

    /// The problem as it is now begun, if it is one of two unions of a cell each.
    #[inline]
    pub(crate) fn pair(&self, totals: &CellTotals) -> Option<Pair> {
        let (&[first, second], [_, _]) = (&self.group_of[..], &self.groups[..]) else {
            return None;
        };
        let groups = [&self.groups[first], &self.groups[second]];
        let (mass, inverse_mass) = (groups.map(|group| group.mass), groups.map(|group| group.inverse_mass));
        Some(Pair { mass, inverse_mass, epsilon: self.epsilon, total: totals.total })
    }

    /// Ends with the shifts of a pair's answer. (What became of it is known to who solved it.)
    #[inline]
    pub(crate) fn accept(&mut self, shift: [f64; 2]) {
        for (&group, shift) in self.group_of.iter().zip(shift) {
            self.groups[group].shift = shift;
        }
    }

    /// The unions that constrain nothing here, counted from the spread's first.
    #[inline]
    pub(crate) fn inactive(&self) -> impl Iterator<Item = usize> {
        let some = self.groups.len() < self.unions;
        let unions = if some { self.unions } else { 0 };
        (0..unions).filter(|union| self.groups.iter().all(|group| group.union != *union))
    }

    /// The shifts of the point asked for; when it has ended, of the answer. `[cells]`
    #[inline]
    pub(crate) fn shift(&self) -> &[f64] {
        &self.shift
    }

    /// The multipliers of the answer, over weights that sum to 1, each with its union.
    #[inline]
    pub(crate) fn multipliers(&self) -> impl Iterator<Item = (usize, f64)> {
        self.groups.iter().map(|group| (group.union, group.mass * group.shift))
    }

    #[inline]
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Takes the sums at the point asked for, over all cells.
    pub(crate) fn receive(
        &mut self,
        task: &NewtonTask,
        component: &Component,
        totals: &CellTotals,
        sums: &CellSums,
    ) -> Step {
        self.outcome.passes += 1;
        self.gather(component, totals, sums);
        let (gap, largest) = self.gap();
        if self.outcome.passes == 1 && gap <= self.epsilon {
            return self.solved(gap, largest);
        }
        let size = self.groups.iter().fold(0.0, |size, group| most(group.size, size));
        // What rounding may move two means by at the worst, four times: as in `Rows::rounding`.
        let tolerance = task.needed(8.0 * task.unit_roundoff * size);
        let half = 0.5 * (self.epsilon - tolerance).max(0.0);
        let residual = self.residual(half, tolerance);
        self.outcome.residual = residual;
        // (What is too large for its type has an infinite rounding error, and is no solution.)
        if residual <= tolerance && tolerance < f64::INFINITY {
            return self.solved(gap, largest);
        }
        if self.outcome.passes >= MAX_PASSES || self.outcome.iterations >= task.max_iterations {
            return Step::HandOver;
        }
        if self.outcome.passes > 1 && self.shorten(half) {
            self.ask();
            return Step::Ask;
        }
        self.outcome.iterations += 1;
        if self.step(half, residual) {
            self.ask();
            Step::Ask
        } else {
            Step::HandOver
        }
    }

    /// By how much the spread is exceeded at these sums.
    pub(crate) fn excess_of(&mut self, component: &Component, totals: &CellTotals, sums: &CellSums) -> f64 {
        self.gather(component, totals, sums);
        let (gap, largest) = self.gap();
        self.excess(gap, largest)
    }

    fn gather(&mut self, component: &Component, totals: &CellTotals, sums: &CellSums) {
        for group in &mut self.groups {
            (group.mean, group.size, group.free, group.beyond) = (0.0, 0.0, 0.0, 0.0);
        }
        if self.groups.is_empty() {
            return;
        }
        for (&cell, &index) in component.cells.iter().zip(&self.group_of) {
            let group = &mut self.groups[index];
            group.mean += sums.y[cell];
            group.size += sums.size[cell];
            group.free += sums.free[cell];
            let beyond = sums.beyond[cell];
            if beyond > 0.0 {
                group.beyond = most(beyond / totals.weight[cell], group.beyond);
            }
        }
        for group in &mut self.groups {
            group.mean *= group.inverse_mass;
            group.size *= group.inverse_mass;
            group.free *= group.inverse_mass;
        }
    }

    /// The gap of the means, and the largest of them.
    fn gap(&self) -> (f64, f64) {
        let (mut top, mut bottom) = (f64::NEG_INFINITY, f64::INFINITY);
        for group in &self.groups {
            (top, bottom) = (most(group.mean, top), least(group.mean, bottom));
        }
        if top >= bottom { (top - bottom, top.abs().max(bottom.abs())) } else { (0.0, 0.0) }
    }

    /// The excess as it is reported: 0 below what the measurement itself rounds.
    fn excess(&self, gap: f64, largest: f64) -> f64 {
        let excess = gap - self.epsilon;
        if excess > 4.0 * f64::EPSILON * largest { excess } else { 0.0 }
    }

    /// The worst of violation and complementarity: as `Rows::residual`.
    fn residual(&self, half: f64, tolerance: f64) -> f64 {
        // The centre must lie above all of `from_above` and below all of `from_below`.
        let (mut from_above, mut from_below) = (f64::NEG_INFINITY, f64::INFINITY);
        // A multiplier counts as zero if it would not move even the lightest union by more than the tolerance.
        let zero = tolerance * self.lightest;
        let mut finite = true;
        for group in &self.groups {
            let nu = group.shift * group.mass;
            from_above = most(group.mean - if nu < -zero { -half } else { half }, from_above);
            from_below = least(group.mean - if nu > zero { half } else { -half }, from_below);
            finite &= (group.mean + group.shift).is_finite();
        }
        if finite { from_above - from_below } else { f64::INFINITY }
    }

    /// Judges the trial by its slope along the step. True if it went too far, and then a shorter one is set.
    fn shorten(&mut self, half: f64) -> bool {
        const MOST_TRIALS: u32 = 8;
        let slope = self.slope(half, |group| if group.shift != 0.0 { group.shift } else { -group.step });
        let Search { length, start_slope, trials } = self.search;
        if slope <= -0.5 * start_slope || trials >= MOST_TRIALS {
            return false;
        }
        // Where the slope would be zero if it were linear; every third time the middle.
        let part = if (trials + 1).is_multiple_of(3) { 0.5 } else { -start_slope / (slope - start_slope) };
        self.search = Search { length: length * part.clamp(0.05, 0.95), trials: trials + 1, ..self.search };
        true
    }

    /// The slope of the dual along the step, where the multipliers have these signs.
    fn slope(&self, half: f64, sign: impl Fn(&Group) -> f64) -> f64 {
        let term = |group: &Group| group.mass * group.step * (half.copysign(sign(group)) - (group.mean - self.centre));
        self.groups.iter().map(term).sum()
    }

    /// Sets up the step from the present point. False if there is none.
    fn step(&mut self, half: f64, residual: f64) -> bool {
        let mut farthest = 0.0_f64;
        for group in &mut self.groups {
            group.start = group.shift;
            farthest = most(group.beyond, farthest);
            // A union without free elements is not flat: some come free as it moves.
            let floored = || group.free.max(residual / (residual + group.beyond));
            group.slope = if group.free >= PLENTY { group.free } else { floored() };
        }
        match &mut self.groups[..] {
            [a, b] => self.centre = aim_two(a, b, half),
            _ => self.aim(half),
        }
        let mut longest = 0.0_f64;
        for group in &mut self.groups {
            group.step = group.shift - group.start;
            longest = most(group.step.abs(), longest);
        }
        let start_slope = self.slope(half, |group| if group.start != 0.0 { group.start } else { group.step });
        let far_enough = 2.0 * residual + 4.0 * farthest;
        let length = if longest > far_enough { far_enough / longest } else { 1.0 };
        self.search = Search { length, start_slope, trials: 0 };
        start_slope < 0.0 && longest.is_finite()
    }

    /// Sets the centre and the shifts that the step aims at.
    fn aim(&mut self, half: f64) {
        self.groups.iter_mut().for_each(|group| group.inverse_slope = 1.0 / group.slope);
        self.centre = self.root(half);
        let mut balance = 0.0;
        for group in &mut self.groups {
            let ahead = group.mean - self.centre + group.slope * group.start;
            let bound = ahead.clip(-half, half);
            let moved = group.start + (group.mean - self.centre - bound) * group.inverse_slope;
            group.shift = if bound == ahead { 0.0 } else { moved };
            balance += group.mass * group.shift;
        }
        // What rounding left of the balance is paid by the heaviest union: it moves the least.
        let held = self.groups.iter_mut().filter(|group| group.shift != 0.0);
        if let Some(payer) = held.max_by(|a, b| a.mass.total_cmp(&b.mass)) {
            payer.shift -= balance * payer.inverse_mass;
        }
    }

    /// The centre at which the shifts balance: the root of a falling function that is linear between kinks.
    fn root(&self, half: f64) -> f64 {
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for group in &self.groups {
            (lo, hi) = (least(group.ahead(), lo), most(group.ahead(), hi));
        }
        let accuracy = f64::EPSILON * lo.abs().max(hi.abs());
        let mut centre = 0.5 * (lo + hi);
        for _ in 0..MAX_ROOT_STEPS {
            let (mut value, mut weights) = (0.0, 0.0);
            for group in &self.groups {
                let distance = group.ahead() - centre;
                let over = distance - distance.clip(-half, half);
                let weight = group.mass * group.inverse_slope;
                value += weight * over;
                weights += if over == 0.0 { 0.0 } else { weight };
            }
            // (No weight: all shifts are zero, and balanced.)
            if value.abs() <= accuracy * weights {
                break;
            }
            let newton = centre + value / weights;
            if value > 0.0 {
                lo = centre;
            } else {
                hi = centre;
            }
            let next = if newton > lo && newton < hi { newton } else { 0.5 * (lo + hi) };
            centre = next;
        }
        centre
    }

    /// Asks for the sums at the search's length.
    fn ask(&mut self) {
        let length = self.search.length;
        if length < 1.0 {
            for group in &mut self.groups {
                group.shift = group.start + length * group.step;
            }
        }
        for (shift, &group) in self.shift.iter_mut().zip(&self.group_of) {
            *shift = self.groups[group].shift;
        }
    }

    fn solved(&mut self, gap: f64, largest: f64) -> Step {
        self.outcome.excess = self.excess(gap, largest);
        self.outcome.status = Status::Solved;
        Step::Solved
    }

    /// The backward solve: adds to `pull` (of all cells) what a unit of weight is pulled by, and returns the gradient to
    /// epsilon. `nu` are the multipliers of the spread's unions; groups are those that [`start`](Self::start) found.
    ///
    /// With `h_g = free_g / m_g^2` and `r_g` the mean gradient: `lambda_g = (r_g - c) / h_g` over the unions held, whose
    /// sum is zero. Where some of those have no free element, they balance the others, which then need no `c`.
    pub(crate) fn pull_back(&mut self, component: &Component, nu: &[f64], sums: &VjpSums, pull: &mut [f64]) -> f64 {
        for group in &mut self.groups {
            (group.free, group.mean) = (0.0, 0.0);
        }
        if self.groups.is_empty() {
            return 0.0;
        }
        for (&cell, &group) in component.cells.iter().zip(&self.group_of) {
            self.groups[group].free += sums.free[cell];
            self.groups[group].mean += sums.gradient[cell];
        }
        let equality = self.epsilon == 0.0;
        let held = |group: &Group| equality || nu[group.union] != 0.0;
        self.groups.iter_mut().for_each(|group| group.mean *= group.inverse_mass);
        match &mut self.groups[..] {
            [a, b] if held(a) && held(b) && a.free > 0.0 && b.free > 0.0 => {
                let h = |group: &Group| group.free * group.inverse_mass * group.inverse_mass;
                let lambda = (a.mean - b.mean) / (h(a) + h(b));
                (a.lambda, b.lambda) = (lambda, -lambda);
            }
            _ => self.solve_held(held),
        }
        let mut to_epsilon = 0.0;
        for group in &mut self.groups {
            if nu[group.union] != 0.0 {
                to_epsilon += 0.5 * nu[group.union].signum() * group.lambda;
            }
        }
        for (&cell, &group) in component.cells.iter().zip(&self.group_of) {
            pull[cell] = self.groups[group].lambda * self.groups[group].inverse_mass;
        }
        to_epsilon
    }

    /// Finds lambda of every union from the mean gradients and free parts.
    fn solve_held(&mut self, held: impl Fn(&Group) -> bool) {
        let (mut weights, mut weighted, mut fixed) = (0.0, 0.0, 0.0);
        for group in &mut self.groups {
            // 1 / h_g; of a union that is not held 0, of one without free elements infinity.
            group.inverse_slope = if held(group) { group.mass * group.mass / group.free } else { 0.0 };
            if group.inverse_slope < f64::INFINITY {
                weights += group.inverse_slope;
                weighted += group.mean * group.inverse_slope;
            } else {
                fixed += 1.0;
            }
        }
        let (centre, rest) = match () {
            () if fixed > 0.0 => (0.0, -weighted / fixed),
            () if weights > 0.0 => (weighted / weights, 0.0),
            () => return self.groups.iter_mut().for_each(|group| group.lambda = 0.0),
        };
        for group in &mut self.groups {
            let plain = group.inverse_slope < f64::INFINITY;
            group.lambda = if plain { (group.mean - centre) * group.inverse_slope } else { rest };
        }
    }
}
