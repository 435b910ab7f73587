//! The line search along a Newton direction, by slopes only: the objective itself drowns in rounding.

use super::active_set::ActiveSet;
use super::cells_prepare::CellTotals;
use super::curvature::Curvature;
use super::point::Point;
use super::rows::{Block, Rows};
use super::sums::largest_size;
use super::two_floats::two_sum;

/// Trials after which any step down is taken.
const MAX_TRIALS: u32 = 8;

/// A step and the slope of the smooth part there.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    step: f64,
    slope: f64,
}

/// The bracket of the step along one direction, with its memory.
#[derive(Clone, Debug)]
pub(crate) struct LineSearch {
    step: f64,
    max_step: f64,
    start_slope: f64,
    lo: Sample,
    hi: Option<Sample>,
    trials: u32,
    /// The point at `lo`, if that is not the start.
    kept: Point,
    has_kept: bool,
    /// `[m]`: what is taken out of the means before they meet the direction.
    centre: Vec<f64>,
    /// `[cells]`: the shifts of the direction.
    shift: Vec<f64>,
    kinks: Vec<f64>,
    moved: Vec<f64>,
}

impl LineSearch {
    /// For `m` rows over `cells` cells.
    pub(crate) fn new(m: usize, cells: usize) -> Self {
        Self {
            step: 0.0,
            max_step: 1.0,
            start_slope: 0.0,
            lo: Sample::default(),
            hi: None,
            trials: 0,
            kept: Point::new(m, cells),
            has_kept: false,
            centre: vec![0.0; m],
            shift: vec![0.0; cells],
            kinks: Vec::with_capacity(m + 2),
            moved: vec![0.0; m],
        }
    }

    /// Changes the number of cells, within what there was room for.
    pub(crate) fn resize(&mut self, cells: usize) {
        self.kept.sums.resize(cells);
        self.shift.resize(cells, 0.0);
    }

    /// Sets up the search from `at`, whose residual is `error`, along the step of `model`. False if phi does not fall.
    pub(crate) fn begin(
        &mut self,
        rows: &Rows,
        totals: &CellTotals,
        (lower, upper): (&[f64], &[f64]),
        at: &Point,
        error: f64,
        (model, curvature): (&ActiveSet, &Curvature),
    ) -> bool {
        let d = &model.d[..rows.m];
        self.set_centre(rows, &at.nu, model);
        let smooth = self.smooth_slope(d, &at.means);
        self.start_slope = support_slope(lower, upper, &at.nu, d, false) + smooth;
        if self.start_slope >= 0.0 || self.start_slope.is_nan() {
            return false;
        }
        // No farther than to where all elements are free; most steps are far shorter.
        let reach = 2.0 * error + 4.0 * at.sums.farthest(rows, &totals.weight);
        let is_short = rows.largest_shift_size(d) <= reach;
        if !is_short || curvature.may_be_floored() {
            rows.shifts(d, &mut self.shift);
        }
        self.step = if is_short { 1.0 } else { (reach / largest_size(&self.shift)).min(1.0) };
        self.max_step = if curvature.is_floored(&at.sums.free, &self.shift) { 1e9 } else { 1.0 };
        for block in rows.blocks.iter().filter(|block| block.is_ratio()) {
            self.max_step = self.max_step.min(longest_ratio_step(block, &at.nu, model));
        }
        (self.lo, self.hi) = (Sample { step: 0.0, slope: smooth }, None);
        (self.has_kept, self.trials) = (false, 0);
        true
    }

    /// Moves `trial` to the step to be tried.
    pub(crate) fn place(&self, rows: &Rows, at: &Point, model: &ActiveSet, trial: &mut Point) {
        for r in 0..rows.m {
            let moved = self.step * model.d[r];
            let (value, rest) = two_sum(at.nu[r], moved);
            let (value, rest) = two_sum(value, rest + at.rest[r]);
            // A step onto a kink of sigma lands on it exactly.
            let kink = value.abs() <= 1e-13 * moved.abs();
            (trial.nu[r], trial.rest[r]) = if kink { (0.0, 0.0) } else { (value, rest) };
        }
        if self.step > 1.0 {
            // A long step magnifies what rounding left of the balance.
            trial.balance(rows);
        }
    }

    /// Judges the trial by its slope. True if the search ends, with `trial` as its result; else there is a next step.
    pub(crate) fn ends_at(
        &mut self,
        rows: &Rows,
        (lower, upper): (&[f64], &[f64]),
        at: &Point,
        model: &ActiveSet,
        trial: &mut Point,
    ) -> bool {
        let d = &model.d[..rows.m];
        let smooth = self.smooth_slope(d, &trial.means);
        let slope_from = |left: bool| support_slope(lower, upper, &trial.nu, d, left) + smooth;
        let slope = slope_from(true);
        self.trials += 1;
        let here = Sample { step: self.step, slope: smooth };
        let too_far = slope > -0.5 * self.start_slope;
        if too_far {
            self.hi = Some(here);
        } else if self.step < self.max_step && slope < 0.5 * self.start_slope && slope_from(false) < 0.0 {
            self.lo = here;
            self.has_kept = true;
            std::mem::swap(trial, &mut self.kept);
        } else {
            return true;
        }
        match self.hi {
            Some(_) if self.has_kept && self.trials >= MAX_TRIALS => {
                // Enough: phi falls all the way to the step kept.
                std::mem::swap(trial, &mut self.kept);
                return true;
            }
            Some(hi) if hi.step - self.lo.step <= 1e-14 * hi.step => {
                if !too_far {
                    std::mem::swap(trial, &mut self.kept);
                }
                return true;
            }
            Some(hi) => {
                let (nu, bisect) = (&at.nu[..rows.m], self.trials.is_multiple_of(3));
                let (kinks, moved) = (&mut self.kinks, &mut self.moved);
                self.step = root_between((lower, upper), nu, d, (self.lo, hi), bisect, kinks, moved);
            }
            None => self.step = (4.0 * self.step).min(self.max_step),
        }
        false
    }

    /// Whether the last step was no shorter than the model asked for.
    pub(crate) fn took_whole_step(&self) -> bool {
        self.step >= 1.0
    }

    /// What is taken out of the means: d is balanced, so that a spread's centre drops out of `d . means`.
    fn set_centre(&mut self, rows: &Rows, nu: &[f64], model: &ActiveSet) {
        for (index, block) in rows.blocks.iter().enumerate() {
            // The balance of a ratio depends on the signs: where one changes along d, the centre stays in.
            let stays = block.is_ratio() && block.rows().any(|r| nu[r] * model.v[r] < 0.0);
            for r in block.rows() {
                let side = if nu[r] != 0.0 { nu[r] } else { model.v[r] };
                let centre = model.centre[index] * block.centre_coefficient(side);
                self.centre[r] = if stays { 0.0 } else { centre };
            }
        }
        rows.contrasts().for_each(|r| self.centre[r] = 0.0);
    }

    /// The slope of the smooth part of phi along `d`. Taking the centre out first keeps the difference from rounding.
    fn smooth_slope(&self, d: &[f64], means: &[f64]) -> f64 {
        -d.iter().zip(means).zip(&self.centre).map(|((d, mean), centre)| d * (mean - centre)).sum::<f64>()
    }
}

/// How far the step can be followed without leaving a ratio's cone of balanced multipliers. The cone is convex and v lies
/// on its boundary: beyond 1 it can be followed only along the boundary, up to the first change of sign.
fn longest_ratio_step(block: &Block, nu: &[f64], model: &ActiveSet) -> f64 {
    let (balance, size) = block.balance(nu);
    if balance.abs() > 1e-9 * size {
        return 1.0;
    }
    let step_to_zero = |r: usize| match (nu[r], model.d[r], model.v[r]) {
        (nu, d, _) if nu * d >= 0.0 => f64::INFINITY,
        (nu, _, v) if nu * v <= 0.0 => 1.0,
        (nu, d, _) => -nu / d,
    };
    block.rows().map(step_to_zero).fold(f64::INFINITY, f64::min)
}

/// The derivative of `sigma` along `d` at `nu`, seen from the left (`a` rising to it) or the right.
fn support_slope(lower: &[f64], upper: &[f64], nu: &[f64], d: &[f64], from_left: bool) -> f64 {
    let mut slope = 0.0;
    for r in 0..d.len() {
        if d[r] != 0.0 {
            let at = if nu[r] != 0.0 {
                nu[r]
            } else if from_left {
                -d[r]
            } else {
                d[r]
            };
            slope += d[r] * if at > 0.0 { upper[r] } else { lower[r] };
        }
    }
    slope
}

/// The step between `lo` and `hi` where the slope is zero if the smooth part is linear in between. Kinks of sigma, where
/// a multiplier passes zero, are met exactly. `kinks` is scratch; with `bisect` the middle is taken instead, so that a
/// smooth part that is far from linear cannot hold the search up.
fn root_between(
    (lower, upper): (&[f64], &[f64]),
    nu: &[f64],
    d: &[f64],
    (lo, hi): (Sample, Sample),
    bisect: bool,
    kinks: &mut Vec<f64>,
    moved: &mut [f64],
) -> f64 {
    let width = hi.step - lo.step;
    let smooth = |a: f64| lo.slope + (hi.slope - lo.slope) * (a - lo.step) / width;
    kinks.clear();
    kinks.push(lo.step);
    let zeros = nu.iter().zip(d).filter(|(_, d)| **d != 0.0).map(|(nu, d)| -nu / d);
    kinks.extend(zeros.filter(|a| *a > lo.step && *a < hi.step));
    kinks.push(hi.step);
    kinks.sort_unstable_by(f64::total_cmp);
    kinks.dedup();
    let mut root = hi.step;
    for pair in kinks.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let middle = a / 2.0 + b / 2.0;
        for r in 0..d.len() {
            moved[r] = nu[r] + middle * d[r];
        }
        let kinked = support_slope(lower, upper, &moved[..d.len()], d, true);
        if kinked + smooth(b) >= 0.0 {
            if kinked + smooth(a) >= 0.0 && a > lo.step {
                return a;
            }
            let rise = (smooth(b) - smooth(a)).max(1e-300);
            root = a + (b - a) * (-(kinked + smooth(a))).max(0.0) / rise;
            break;
        }
    }
    if bisect {
        let geometric = lo.step > 0.0 && lo.step < 0.01 * hi.step;
        root = if geometric { (lo.step * hi.step).sqrt() } else { lo.step + 0.5 * width };
    }
    root.max(lo.step + 0.05 * width).min(hi.step - 0.05 * width)
}
