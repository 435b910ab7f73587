//! `cells_newton`: projection onto spreads and contrasts by a proximal Newton method on the dual.
//!
//! All that a step needs of the data are per-cell sums, so a pass over the data is the unit of cost and the driver below
//! sees nothing else of it: it is the same for the plain pass in this file and for the vectorised one of the CPU device.

use super::active_set::ActiveSet;
use super::cells_prepare::{CHUNK, CellTotals};
use super::certificate::proves_infeasible;
use super::line_search::{Sample, root_between, support_slope};
use super::rows::{NO_BLOCK, Rows};
use crate::batch::{Problem, RealSlice};
use crate::constraints::ConstraintSet;
use crate::solution::{CLAMP_LANES, Outcome, Status};
use crate::storage::Storage;

/// Per-cell sums of one pass, over weights that sum to 1.
#[derive(Clone, Debug)]
pub(crate) struct CellSums {
    /// Sum of w y, y as it would be stored.
    pub(crate) y: Vec<f64>,
    /// Sum of w |y|.
    pub(crate) size: Vec<f64>,
    /// Sum of w over free elements, `lo <= t <= hi`: the curvature.
    pub(crate) free: Vec<f64>,
    /// Sum of w |t - y|: how far the elements lie beyond their bounds.
    pub(crate) beyond: Vec<f64>,
}

impl CellSums {
    pub(crate) fn new(cells: usize) -> Self {
        Self { y: vec![0.0; cells], size: vec![0.0; cells], free: vec![0.0; cells], beyond: vec![0.0; cells] }
    }

    pub(crate) fn arrays(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.y, &mut self.size, &mut self.free, &mut self.beyond]
    }
}

/// What a problem's data can be asked.
pub(crate) trait CellPass {
    /// The sums at these shifts, `[cells]`.
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums);
}

/// One element: shifted, and as it will be stored. The shift comes as two numbers, so that an `f32` output is as fine as
/// `f32` allows.
#[inline(always)]
pub(crate) fn element<T: Storage>(
    z: T,
    (shift, rest): (T::Arithmetic, T::Arithmetic),
    lo: T,
    hi: T,
) -> (T::Arithmetic, T) {
    let t = (z.widen() - shift) - rest;
    (t, T::narrow(t).clip(lo, hi))
}

/// A shift as the sum of two numbers of the arithmetic type. Large ones are cut, so that no infinity arises.
#[inline]
pub(crate) fn split_shift<A: Storage>(shift: f64) -> (A, A) {
    let shift = shift.clamp(-1e30, 1e30);
    let first = A::from_f64(shift);
    (first, A::from_f64(shift - first.to_f64()))
}

/// The plain pass: element by element, chunk by chunk.
pub(crate) struct PlainPass<'a, T> {
    pub(crate) problem: &'a Problem<'a, T>,
    pub(crate) cells: &'a [u8],
    /// Sum of the weights.
    pub(crate) total: f64,
    /// Scratch for the sums of one chunk.
    pub(crate) chunk: &'a mut CellSums,
}

impl<T: Storage> CellPass for PlainPass<'_, T> {
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums) {
        sums.arrays().into_iter().for_each(|array| array.fill(0.0));
        for start in (0..self.cells.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(self.cells.len());
            self.chunk.arrays().into_iter().for_each(|array| array.fill(0.0));
            for i in start..end {
                let cell = usize::from(self.cells[i]);
                let (lo, hi) = (self.problem.lo.at(i), self.problem.hi.at(i));
                let (t, y) = element(self.problem.z[i], split_shift(shift[cell]), lo, hi);
                let w = self.problem.weights.map_or(1.0, |weights: RealSlice<'_>| weights.at(i));
                let y = y.to_f64();
                self.chunk.y[cell] += w * y;
                self.chunk.size[cell] += w * y.abs();
                self.chunk.free[cell] += if lo.widen() <= t && t <= hi.widen() { w } else { 0.0 };
                self.chunk.beyond[cell] += w * (t.to_f64() - y).abs();
            }
            for (total, part) in sums.arrays().into_iter().zip(self.chunk.arrays()) {
                total.iter_mut().zip(part).for_each(|(total, part)| *total += *part);
            }
        }
        for array in sums.arrays() {
            array.iter_mut().for_each(|sum| *sum /= self.total);
        }
    }
}

/// Writes the projected values and their clamp states at these shifts: by the very arithmetic of the pass, so that the
/// last sums are those of what is stored.
pub(crate) fn write<T: Storage>(
    problem: &Problem<'_, T>,
    cells: &[u8],
    shift: &[f64],
    y: &mut [T],
    clamp: &mut [u32],
) {
    for (chunk, word) in clamp.iter_mut().enumerate().take(cells.len().div_ceil(CLAMP_LANES)) {
        *word = 0;
        let first = chunk * CLAMP_LANES;
        for i in first..(first + CLAMP_LANES).min(cells.len()) {
            let (lo, hi) = (problem.lo.at(i), problem.hi.at(i));
            let (t, value) = element(problem.z[i], split_shift(shift[usize::from(cells[i])]), lo, hi);
            y[i] = value;
            *word |= u32::from(t < lo.widen()) << (i - first);
            *word |= u32::from(t > hi.widen()) * (1 | 1 << CLAMP_LANES) << (i - first);
        }
    }
}

/// `y = clip(z)` and no element free: what a problem gets that is not solved.
pub(crate) fn write_unsolved<T: Storage>(problem: &Problem<'_, T>, y: &mut [T], clamp: &mut [u32]) {
    for (i, value) in y.iter_mut().enumerate() {
        *value = problem.z[i].clip(problem.lo.at(i), problem.hi.at(i));
    }
    clamp.fill((1 << CLAMP_LANES) - 1);
}

/// Limits of the method that no user needs to set.
const MAX_PASSES: u32 = 600;
const LINE_TRIALS: u32 = 8;
const PROX: f64 = 1e-9;

/// A point of the dual: multipliers, the rows' means there, and the sums that gave them.
#[derive(Clone, Debug)]
struct Point {
    nu: Vec<f64>,
    means: Vec<f64>,
    sums: CellSums,
}

impl Point {
    fn new(m: usize, cells: usize) -> Self {
        Self { nu: vec![0.0; m], means: vec![0.0; m], sums: CellSums::new(cells) }
    }

    fn evaluate(&mut self, rows: &Rows, pass: &mut impl CellPass, shift: &mut [f64]) {
        rows.shifts(&self.nu[..rows.m], shift);
        pass.evaluate(shift, &mut self.sums);
        rows.means(&self.sums.y, &mut self.means);
    }
}

/// The memory of the solver, for one problem at a time.
#[derive(Clone, Debug)]
pub(crate) struct NewtonScratch {
    at: Point,
    trial: Point,
    kept: Point,
    active_set: ActiveSet,
    h: Vec<f64>,
    d: Vec<f64>,
    lower: Vec<f64>,
    upper: Vec<f64>,
    /// `[cells]`: floored free weights; scratch for shifts of directions.
    curvature: Vec<f64>,
    direction_shift: Vec<f64>,
    /// `[cells]`: the shifts of the answer.
    pub(crate) shift: Vec<f64>,
    kinks: Vec<f64>,
    moved: Vec<f64>,
    moved_centre: Vec<f64>,
}

impl NewtonScratch {
    pub(crate) fn new(set: &ConstraintSet) -> Self {
        let (m, cells) = (set.rows(), set.layout().cells());
        let rows = || vec![0.0; m];
        Self {
            at: Point::new(m, cells),
            trial: Point::new(m, cells),
            kept: Point::new(m, cells),
            active_set: ActiveSet::with_capacity(m, set.spreads().len()),
            h: vec![0.0; m * m],
            d: rows(),
            lower: rows(),
            upper: rows(),
            curvature: vec![0.0; cells],
            direction_shift: vec![0.0; cells],
            shift: vec![0.0; cells],
            kinks: Vec::with_capacity(m + 2),
            moved: rows(),
            moved_centre: rows(),
        }
    }

    /// The multipliers of the answer, of live rows, over weights that sum to 1; of an infeasible problem the ray.
    pub(crate) fn multipliers(&self) -> &[f64] {
        &self.at.nu
    }
}

/// What the solver is asked.
pub(crate) struct NewtonTask<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) totals: &'a CellTotals,
    pub(crate) tolerance: f64,
    pub(crate) max_iterations: u32,
    pub(crate) unit_roundoff: f64,
    /// Multipliers of all rows of the set to start from.
    pub(crate) warm: Option<RealSlice<'a>>,
}

/// Solves one problem; multipliers and shifts are left in the scratch. 
pub(crate) fn solve(task: &NewtonTask<'_>, pass: &mut impl CellPass, s: &mut NewtonScratch) -> Outcome {
    let rows = task.rows;
    let m = rows.m;
    let mut outcome = Outcome { passes: 1, ..Outcome::default() };
    for (r, nu) in s.at.nu[..m].iter_mut().enumerate() {
        *nu = task.warm.map_or(0.0, |warm| warm.at(rows.source[r]) / task.totals.total);
    }
    s.at.evaluate(rows, pass, &mut s.shift);
    let needed = |sums: &CellSums| rows.rounding(task.unit_roundoff, &sums.size);
    let mut growth = 1.0;
    let mut tolerance = task.tolerance.max(needed(&s.at.sums));
    if task.warm.is_none() && rows.residual(&rows.lower, &rows.upper, &s.at.means, &s.at.nu, tolerance).1 <= 0.0 {
        return outcome;
    }
    let mut prox = PROX;
    let mut tightened = true;
    let (mut best, mut stall) = (f64::INFINITY, 0_u32);
    outcome.status = loop {
        tolerance = task.tolerance.max(needed(&s.at.sums)) * growth;
        if tightened {
            rows.tighten(tolerance, &mut s.lower, &mut s.upper);
        } else {
            s.lower[..m].copy_from_slice(&rows.lower);
            s.upper[..m].copy_from_slice(&rows.upper);
        }
        let within = |s: &NewtonScratch| {
            rows.residual(&rows.lower, &rows.upper, &s.at.means, &s.at.nu, tolerance).1 <= 0.0
        };
        let error = rows.residual(&s.lower, &s.upper, &s.at.means, &s.at.nu, tolerance).0;
        outcome.residual = error;
        if std::env::var("TRACE").is_ok() { eprintln!("it {} passes {} err {error:.3e} tol {tolerance:.1e} nu {:?} means {:?} l {:?} u {:?} free {:?} beyond {:?}", outcome.iterations, outcome.passes, &s.at.nu[..m], &s.at.means[..m], &s.lower[..m], &s.upper[..m], s.at.sums.free, s.at.sums.beyond); }
        if error <= tolerance {
            break Status::Solved;
        }
        (best, stall) = if error < 0.5 * best { (error, 0) } else { (best, stall + 1) };
        if stall >= 4 && error <= 100.0 * tolerance {
            // The rounding floor: what is left is accepted if it keeps the true bounds, else the margin grows.
            if tightened && error <= 8.0 * tolerance && within(s) {
                break Status::Solved;
            }
            if tightened && growth < 8.0 {
                growth *= 2.0;
                stall = 2;
                continue;
            }
            if tightened {
                tightened = false;
                (best, stall) = (f64::INFINITY, 0);
                continue;
            }
            if error <= 8.0 * tolerance {
                break Status::Solved;
            }
            if stall >= 8 {
                break Status::IterationLimit;
            }
        }
        if outcome.iterations >= task.max_iterations || outcome.passes >= MAX_PASSES {
            break Status::IterationLimit;
        }
        outcome.iterations += 1;
        curvature(task, s, error, prox);
        let NewtonScratch { at, active_set, h, lower, upper, .. } = s;
        active_set.minimise(rows, (lower, upper), h, &at.means, &at.nu, tolerance * 1e-3);
        if !s.active_set.v[..m].iter().all(|v| v.is_finite()) {
            prox *= 100.0;
            if prox > 1.0 {
                break Status::IterationLimit;
            }
            continue;
        }
        for r in 0..m {
            s.d[r] = s.active_set.v[r] - s.at.nu[r];
        }
        let bounds = &task.totals.bounds;
        if proves_infeasible(rows, bounds, &s.d[..m], &mut s.direction_shift) {
            s.at.nu[..m].copy_from_slice(&s.d[..m]);
            break Status::Infeasible;
        }
        if proves_infeasible(rows, bounds, &s.active_set.v[..m], &mut s.direction_shift) {
            s.at.nu[..m].copy_from_slice(&s.active_set.v[..m]);
            break Status::Infeasible;
        }
        match search(task, pass, s, error, &mut outcome.passes) {
            Search::Moved => {}
            Search::NoDescent if error <= 100.0 * tolerance && stall < 8 => {
                (best, stall) = (0.0, stall.max(if tightened { 4 } else { 7 }));
            }
            Search::NoDescent => break Status::IterationLimit,
        }
    };
    rows.shifts(&s.at.nu[..m], &mut s.shift);
    outcome.excess = rows.excess(&s.at.means[..m]);
    outcome
}

/// Fills `h` with the rows' curvature. The free weight of a cell is floored while its elements lie beyond their bounds,
/// so that a cell without a free element does not look flat.
fn curvature(task: &NewtonTask<'_>, s: &mut NewtonScratch, error: f64, prox: f64) {
    let rows = task.rows;
    let m = rows.m;
    for (cell, &weight) in task.totals.weight.iter().enumerate() {
        let distance = s.at.sums.beyond[cell] / weight.max(1e-300);
        s.curvature[cell] = s.at.sums.free[cell].max(weight * error / (error + distance));
    }
    for r in 0..m {
        for q in 0..=r {
            let product = rows.row(r).iter().zip(rows.row(q)).zip(&s.curvature);
            let value: f64 = product.map(|((a, b), c)| a * b * c).sum();
            s.h[r * m + q] = value;
            s.h[q * m + r] = value;
        }
        s.h[r * m + r] += prox * rows.scale[r];
    }
}

enum Search {
    Moved,
    NoDescent,
}

/// Moves `at` along `d` to where the slope of phi is small enough.
fn search(
    task: &NewtonTask<'_>,
    pass: &mut impl CellPass,
    s: &mut NewtonScratch,
    error: f64,
    passes: &mut u32,
) -> Search {
    let rows = task.rows;
    let m = rows.m;
    let NewtonScratch { at, trial, kept, active_set, d, lower, upper, curvature, direction_shift, shift, kinks, moved, moved_centre, .. } =
        s;
    let (d, lower, upper) = (&d[..m], &lower[..m], &upper[..m]);
    // d is balanced, so the centre drops out of d.means exactly; taking it out first keeps the difference from rounding.
    // (The balance of a ratio depends on the signs: the centre stays where one changes along d.)
    for block in &rows.blocks {
        let flips = |r: usize| at.nu[r] * active_set.v[r] < 0.0;
        let keep = block.is_ratio() && block.rows().any(flips);
        for r in block.rows() {
            let side = if at.nu[r] != 0.0 { at.nu[r] } else { active_set.v[r] };
            let centre = active_set.centre[rows.block_of[r]] * block.centre_coefficient(side);
            moved_centre[r] = if keep { 0.0 } else { centre };
        }
    }
    let moved_centre = &*moved_centre;
    let centre = |r: usize| if rows.block_of[r] == NO_BLOCK { 0.0 } else { moved_centre[r] };
    let smooth_slope = |means: &[f64]| -> f64 { -(0..m).map(|r| d[r] * (means[r] - centre(r))).sum::<f64>() };
    let start_slope = support_slope(lower, upper, &at.nu[..m], d, false) + smooth_slope(&at.means);
    if std::env::var("TRACE").is_ok() { eprintln!("   v {:?} d {:?} centre {:?} slope {start_slope:.3e}", &active_set.v[..m], d, active_set.centre); }
    if start_slope >= 0.0 || start_slope.is_nan() {
        return Search::NoDescent;
    }
    rows.shifts(d, direction_shift);
    let longest = direction_shift.iter().fold(0.0_f64, |most, shift| most.max(shift.abs()));
    // (Where nothing lies beyond the bounds the floor is the free weight but for rounding.)
    let floored = (0..rows.cells).any(|c| curvature[c] > 1.000_001 * at.sums.free[c] && direction_shift[c] != 0.0);
    let mut max_step = if floored { 1e9 } else { 1.0 };
    for r in rows.blocks.iter().filter(|block| block.is_ratio()).flat_map(|block| block.rows()) {
        // A ratio's cone is convex and both ends of d lie on its boundary: beyond 1, the first change of sign leaves it.
        let (nu, v) = (at.nu[r], active_set.v[r]);
        if nu * d[r] < 0.0 {
            max_step = f64::min(max_step, if nu * v <= 0.0 { 1.0 } else { -nu / d[r] });
        }
    }
    let farthest = (0..rows.cells).map(|c| at.sums.beyond[c] / task.totals.weight[c].max(1e-300)).fold(0.0, f64::max);
    let mut step = if longest > 0.0 { ((2.0 * error + 4.0 * farthest) / longest).min(1.0) } else { 1.0 };
    let mut lo = Sample { step: 0.0, slope: smooth_slope(&at.means) };
    let mut hi: Option<Sample> = None;
    let mut have_kept = false;
    for count in 1.. {
        for r in 0..m {
            let value = if step == 1.0 { active_set.v[r] } else { at.nu[r] + step * d[r] };
            // A step onto a kink of sigma lands on it exactly.
            trial.nu[r] = if value.abs() <= 1e-13 * (step * d[r]).abs() { 0.0 } else { value };
        }
        if step > 1.0 {
            // A long step magnifies what rounding left of the balance.
            rows.balance(&mut trial.nu);
        }
        trial.evaluate(rows, pass, shift);
        *passes += 1;
        let smooth = smooth_slope(&trial.means);
        let slope = support_slope(lower, upper, &trial.nu[..m], d, true) + smooth;
        if *passes >= MAX_PASSES {
            break;
        }
        if std::env::var("TRACE").is_ok() { eprintln!("     step {step:e} slope {slope:.3e} smooth {smooth:.3e}"); }
        let too_far = slope > -0.5 * start_slope;
        if too_far {
            hi = Some(Sample { step, slope: smooth });
        } else if step < max_step
            && slope < 0.5 * start_slope
            && support_slope(lower, upper, &trial.nu[..m], d, false) + smooth < 0.0
        {
            lo = Sample { step, slope: smooth };
            std::mem::swap(trial, kept);
            have_kept = true;
        } else {
            break;
        }
        if let Some(hi) = hi {
            if have_kept && count >= LINE_TRIALS {
                // Enough: phi falls all the way to the step kept.
                std::mem::swap(trial, kept);
                break;
            }
            if hi.step - lo.step <= 1e-14 * hi.step {
                if !too_far {
                    std::mem::swap(trial, kept);
                }
                break;
            }
            step = root_between((lower, upper), &at.nu[..m], d, (lo, hi), count % 3 == 0, kinks, moved);
        } else {
            step = (4.0 * step).min(max_step);
        }
    }
    std::mem::swap(at, trial);
    Search::Moved
}
