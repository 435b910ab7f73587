//! `dense_admm`: projection onto dense rows and spreads by OSQP's operator splitting, one problem at a time.
//!
//! The second method beside the dual Newton: slower, but its step has neither a curvature that can vanish nor a line
//! search that can stall. (Stellato, Banjac, Goulart, Bemporad, Boyd: OSQP, an operator splitting solver for quadratic
//! programs, 2020; the letters are theirs but for the multipliers: `nu` of the rows, `q` of the bounds.)
//!
//! With `A = M W` the problem is `min 1/2 |x - z|_W^2` where `s = A x` lies in the rows' set and `b = x` in the bounds.
//! Everything that belongs to a sample is measured in the norm of `W`, so that each `q_i` is in units of y and nothing
//! depends on n. With `D_i = 1 + sigma + rho_i`, `R` the rows' penalties and `h = z + sigma x + rho b - q`, a step is
//!
//! ```text
//! (R^-1 + M W D^-1 M^T) nu~ = M W D^-1 h - s + R^-1 nu      x~ = D^-1 (h - M^T nu~)      s~ = s + R^-1 (nu~ - nu)
//! x' = a x~ + (1 - a) x
//! v = a s~ + (1 - a) s + R^-1 nu      s' = project(v)      nu' = R (v - s')
//! v = a x~ + (1 - a) b + q / rho      b' = clip(v)         q' = rho (v - b')
//! ```
//!
//! `R_r = rho / (M W M^T)_rr`, more for equalities. It differs within a spread, whose set is projected onto in the norm
//! of R. A sample with `lo = hi` is no variable, one without bounds has `rho_i = 0`.
//!
//! At the stop `y = clip(z - M^T nu)` differs from b by no more than the sum of both residuals, and nu is normal to the
//! rows' set at s: so small residuals prove a small violation and complementarity of (y, nu).
//!
//! Of a problem without a solution `nu' - nu` tends to a ray that proves it. Where samples lack a bound it must vanish
//! there exactly, which the iterates do not reach: what is left is projected out.

use super::certificate::{BoxSums, Within, proves_infeasible};
use super::linear::{jacobi_eigen, ldl_factor, ldl_solve_refined};
use super::rows::{Block, NO_BLOCK, Rows};
use crate::settings::AdmmSettings;
use crate::solution::Status;
use crate::storage::Storage;

/// The samples of one problem, `[n]` each; weights are above 0 and sum to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmmData<'a> {
    pub(crate) z: &'a [f64],
    pub(crate) weight: &'a [f64],
    pub(crate) lo: &'a [f64],
    pub(crate) hi: &'a [f64],
}

/// What became of a problem.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AdmmOutcome {
    /// `Solved`, `IterationLimit` or `Infeasible`. Numbers that are not finite end in `IterationLimit`.
    pub(crate) status: Status,
    pub(crate) iterations: u32,
    /// `max(|A x - s|, |x - b|)`.
    pub(crate) primal_residual: f64,
    /// `|x - z + M^T nu + q|`.
    pub(crate) dual_residual: f64,
}

/// Iterations between two looks at the residuals.
const CHECK_INTERVAL: u32 = 5;
/// Iterations between two looks at the penalty, at first.
const ADAPT_INTERVAL: u32 = 10;
/// Iterations before a ray is first mended.
const FIRST_MEND: u32 = 20;
/// The penalty is changed where it is off by this factor. (OSQP waits for 5; here a factor is cheap.)
const ADAPT_FACTOR: f64 = 2.0;
const RHO_RANGE: (f64, f64) = (1e-6, 1e6);
/// The penalty of equalities, over that of inequalities. (OSQP's 1000 took three times the iterations here.)
const EQUALITY_FACTOR: f64 = 10.0;
/// Parts of a ray that are smaller than this, relatively, are on their way to zero.
const NEGLIGIBLE: f64 = 1e-4;
/// Eigenvalues below this part of the largest are those of a null space.
const NULL: f64 = 1e-12;
/// A bracket halves at least every third time: enough for any root that a number can hold.
const MAX_ROOT_STEPS: u32 = 200;

/// A residual, and the largest of what it is the difference of.
#[derive(Clone, Copy, Debug, Default)]
struct Residual {
    value: f64,
    size: f64,
}

impl Residual {
    #[inline]
    fn add(&mut self, difference: f64, terms: [f64; 3]) {
        let value = difference.abs();
        // A NaN comes in, and stays.
        self.value = if value > self.value || value.is_nan() { value } else { self.value };
        self.size = terms.into_iter().fold(self.size, |most, term| most.max(term.abs()));
    }

    fn is_within(&self, settings: &AdmmSettings) -> bool {
        self.value <= settings.eps_abs + settings.eps_rel * self.size
    }

    fn relative(&self) -> f64 {
        self.value / self.size.max(f64::MIN_POSITIVE)
    }
}

/// The method, with its memory.
#[derive(Clone, Debug)]
pub(crate) struct Admm {
    rho: f64,
    /// The iteration from which on the penalty may change, and that from which on a ray is mended.
    next_adapt: u32,
    next_mend: u32,
    // Of the rows, `[m]`.
    s: Vec<f64>,
    nu: Vec<f64>,
    /// A x.
    ax: Vec<f64>,
    /// The last change of nu.
    change: Vec<f64>,
    /// nu~, and the right side of its system; then v.
    solved: Vec<f64>,
    right: Vec<f64>,
    /// A ray to be tried.
    ray: Vec<f64>,
    scratch: Vec<f64>,
    /// The diagonal of R.
    penalty: Vec<f64>,
    /// `[m, m]`: `M W M^T` over the samples that have bounds, and over those that have none.
    bounded: Vec<f64>,
    unbounded: Vec<f64>,
    /// `[m, m]`: the system and its factor.
    system: Vec<f64>,
    factor: Vec<f64>,
    /// `[m, m]`: what a ray must not do, diagonalised, and its eigenvectors.
    barred: Vec<f64>,
    vectors: Vec<f64>,
    /// `[blocks]`: where the centres were found last.
    centre: Vec<f64>,
    // Of the samples, `[n]`.
    x: Vec<f64>,
    b: Vec<f64>,
    q: Vec<f64>,
    /// D^-1 h; of a frozen sample its value.
    h: Vec<f64>,
    kind: Vec<Kind>,
    /// `[n]`: M^T times multipliers.
    shift: Vec<f64>,
    /// `[n]`: what the rows take the means of; at the end y.
    y: Vec<f64>,
}

/// What bounds a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bounded,
    Unbounded,
    Frozen,
}

impl Kind {
    fn of(lo: f64, hi: f64) -> Self {
        match () {
            () if lo == hi => Self::Frozen,
            () if lo == f64::NEG_INFINITY && hi == f64::INFINITY => Self::Unbounded,
            () => Self::Bounded,
        }
    }
}

impl Admm {
    /// Room for problems of up to this size.
    pub(crate) fn new(rows: usize, samples: usize, blocks: usize) -> Self {
        let of_rows = || Vec::with_capacity(rows);
        let square = || Vec::with_capacity(rows * rows);
        let of_samples = || Vec::with_capacity(samples);
        Self {
            rho: 1.0,
            next_adapt: 0,
            next_mend: 0,
            s: of_rows(),
            nu: of_rows(),
            ax: of_rows(),
            change: of_rows(),
            solved: of_rows(),
            right: of_rows(),
            ray: of_rows(),
            scratch: of_rows(),
            penalty: of_rows(),
            bounded: square(),
            unbounded: square(),
            system: square(),
            factor: square(),
            barred: square(),
            vectors: square(),
            centre: Vec::with_capacity(blocks),
            x: of_samples(),
            b: of_samples(),
            q: of_samples(),
            h: of_samples(),
            kind: Vec::with_capacity(samples),
            shift: of_samples(),
            y: of_samples(),
        }
    }

    /// The rows' multipliers, `y = clip(z - M^T nu)`, those of a difference spread with sum zero; of an infeasible
    /// problem the ray that proves it. `[m]`
    pub(crate) fn multipliers(&self) -> &[f64] {
        &self.nu
    }

    /// `clip(z - M^T nu)`; of an infeasible problem `clip(z)`. `[n]`
    #[cfg(test)]
    pub(crate) fn y(&self) -> &[f64] {
        &self.y
    }

    /// Solves a problem: each sample a cell of `rows`, `bounds` with `w lo` and `w hi` of each.
    pub(crate) fn solve(
        &mut self,
        settings: &AdmmSettings,
        rows: &Rows,
        bounds: &BoxSums,
        data: AdmmData<'_>,
    ) -> AdmmOutcome {
        self.start(settings, rows, data);
        let mut outcome = AdmmOutcome { status: Status::IterationLimit, ..AdmmOutcome::default() };
        loop {
            let (primal, dual) = self.residuals(rows, data);
            (outcome.primal_residual, outcome.dual_residual) = (primal.value, dual.value);
            if primal.is_within(settings) && dual.is_within(settings) {
                outcome.status = Status::Solved;
                break;
            }
            let finite = (primal.value + dual.value).is_finite();
            if outcome.iterations >= settings.max_iterations || !finite {
                break;
            }
            if outcome.iterations > 0 && self.finds_ray(outcome.iterations, rows, bounds, data) {
                outcome.status = Status::Infeasible;
                break;
            }
            if outcome.iterations >= self.next_adapt {
                self.adapt(settings, rows, primal, dual);
                // Ever more seldom: with a penalty that keeps changing nothing need converge.
                self.next_adapt = outcome.iterations + outcome.iterations / 10 + ADAPT_INTERVAL;
            }
            for _ in 0..CHECK_INTERVAL.min(settings.max_iterations - outcome.iterations) {
                self.step(settings, rows, data);
                outcome.iterations += 1;
            }
        }
        self.finish(rows, data, outcome.status);
        outcome
    }

    /// Begins at nu = 0, where `q = z - clip(z)` leaves no dual residual.
    fn start(&mut self, settings: &AdmmSettings, rows: &Rows, data: AdmmData<'_>) {
        let (m, n) = (rows.m, data.z.len());
        for array in [&mut self.nu, &mut self.s, &mut self.ax, &mut self.change, &mut self.solved, &mut self.right] {
            refill(array, m);
        }
        for array in [&mut self.ray, &mut self.scratch, &mut self.penalty] {
            refill(array, m);
        }
        for array in [
            &mut self.bounded,
            &mut self.unbounded,
            &mut self.system,
            &mut self.factor,
            &mut self.barred,
            &mut self.vectors,
        ] {
            refill(array, m * m);
        }
        refill(&mut self.centre, rows.blocks.len());
        for array in [&mut self.x, &mut self.b, &mut self.q, &mut self.h, &mut self.shift, &mut self.y] {
            refill(array, n);
        }
        self.kind.clear();
        self.kind.extend(data.lo.iter().zip(data.hi).map(|(lo, hi)| Kind::of(*lo, *hi)));
        for i in 0..n {
            self.x[i] = data.z[i].clip(data.lo[i], data.hi[i]);
            self.b[i] = self.x[i];
            self.q[i] = data.z[i] - self.x[i];
            self.y[i] = data.weight[i] * self.x[i];
        }
        rows.means(&self.y, &mut self.ax);
        for r in 0..m {
            for p in 0..=r {
                let (mut bounded, mut unbounded) = (0.0, 0.0);
                for ((a, b), (w, kind)) in rows.row(r).iter().zip(rows.row(p)).zip(data.weight.iter().zip(&self.kind)) {
                    match kind {
                        Kind::Bounded => bounded += a * b * w,
                        Kind::Unbounded => unbounded += a * b * w,
                        Kind::Frozen => {}
                    }
                }
                (self.bounded[r * m + p], self.bounded[p * m + r]) = (bounded, bounded);
                (self.unbounded[r * m + p], self.unbounded[p * m + r]) = (unbounded, unbounded);
            }
        }
        self.rho = settings.rho;
        (self.next_adapt, self.next_mend) = (ADAPT_INTERVAL, FIRST_MEND);
        self.factorise(settings, rows);
        self.right.copy_from_slice(&self.ax);
        self.project(rows);
    }

    /// The penalties, and the system's factor, for the present rho.
    fn factorise(&mut self, settings: &AdmmSettings, rows: &Rows) {
        let m = rows.m;
        for r in 0..m {
            let equality = match block_at(rows, r) {
                None => rows.lower[r] == rows.upper[r],
                Some(block) => block.is_equality(),
            };
            let length = self.bounded[r * m + r] + self.unbounded[r * m + r];
            let length = if length > 0.0 { length } else { rows.scale[r] };
            let rho = if equality { EQUALITY_FACTOR * self.rho } else { self.rho };
            self.penalty[r] = rho.clamp(RHO_RANGE.0, RHO_RANGE.1) / length;
        }
        let (with, without) = (1.0 + settings.sigma + self.rho, 1.0 + settings.sigma);
        for (k, system) in self.system.iter_mut().enumerate() {
            *system = self.bounded[k] / with + self.unbounded[k] / without;
        }
        (0..m).for_each(|r| self.system[r * m + r] += 1.0 / self.penalty[r]);
        self.factor.copy_from_slice(&self.system);
        ldl_factor(&mut self.factor, m);
    }

    /// One iteration.
    fn step(&mut self, settings: &AdmmSettings, rows: &Rows, data: AdmmData<'_>) {
        let m = rows.m;
        let (sigma, rho, a) = (settings.sigma, self.rho, settings.relaxation);
        let (with, without) = (1.0 / (1.0 + sigma + rho), 1.0 / (1.0 + sigma));
        for (i, &kind) in self.kind.iter().enumerate() {
            let near = data.z[i] + sigma * self.x[i];
            self.h[i] = match kind {
                Kind::Bounded => (near + rho * self.b[i] - self.q[i]) * with,
                Kind::Unbounded => near * without,
                Kind::Frozen => data.lo[i],
            };
            self.y[i] = data.weight[i] * self.h[i];
        }
        rows.means(&self.y, &mut self.right);
        for r in 0..m {
            self.right[r] += self.nu[r] / self.penalty[r] - self.s[r];
        }
        ldl_solve_refined(&self.system, &self.factor, m, &self.right, &mut self.solved, &mut self.scratch);
        rows.shifts(&self.solved, &mut self.shift);
        for (i, &kind) in self.kind.iter().enumerate() {
            match kind {
                Kind::Bounded => {
                    let x = self.h[i] - self.shift[i] * with;
                    self.x[i] = a * x + (1.0 - a) * self.x[i];
                    let v = a * x + (1.0 - a) * self.b[i] + self.q[i] / rho;
                    self.b[i] = v.clip(data.lo[i], data.hi[i]);
                    self.q[i] = rho * (v - self.b[i]);
                }
                Kind::Unbounded => {
                    let x = self.h[i] - self.shift[i] * without;
                    self.x[i] = a * x + (1.0 - a) * self.x[i];
                    self.b[i] = self.x[i];
                }
                Kind::Frozen => {}
            }
        }
        for r in 0..m {
            let ahead = self.s[r] + (self.solved[r] - self.nu[r]) / self.penalty[r];
            self.ax[r] = a * ahead + (1.0 - a) * self.ax[r];
            self.right[r] = a * ahead + (1.0 - a) * self.s[r] + self.nu[r] / self.penalty[r];
            self.change[r] = self.nu[r];
        }
        self.project(rows);
        for r in 0..m {
            self.nu[r] = self.penalty[r] * (self.right[r] - self.s[r]);
            self.change[r] = self.nu[r] - self.change[r];
        }
    }

    /// `s = project(right)` in the norm of the penalties.
    fn project(&mut self, rows: &Rows) {
        for (block, centre) in rows.blocks.iter().zip(&mut self.centre) {
            *centre = centre_of(block, rows, &self.right, &self.penalty, *centre);
            for r in block.rows() {
                let least = rows.lower[r] + block.centre_coefficient(-1.0) * *centre;
                let most = rows.upper[r] + block.centre_coefficient(1.0) * *centre;
                self.s[r] = self.right[r].clip(least, most);
            }
        }
        for r in rows.contrasts() {
            self.s[r] = self.right[r].clip(rows.lower[r], rows.upper[r]);
        }
    }

    /// The primal and the dual residual.
    fn residuals(&mut self, rows: &Rows, data: AdmmData<'_>) -> (Residual, Residual) {
        rows.shifts(&self.nu, &mut self.shift);
        let (mut primal, mut dual) = (Residual::default(), Residual::default());
        for (ax, s) in self.ax.iter().zip(&self.s) {
            primal.add(ax - s, [*ax, *s, 0.0]);
        }
        for (i, &kind) in self.kind.iter().enumerate() {
            let (x, z) = (self.x[i], data.z[i]);
            primal.add(x - self.b[i], [x, self.b[i], 0.0]);
            if kind != Kind::Frozen {
                let pull = self.shift[i] + if kind == Kind::Bounded { self.q[i] } else { 0.0 };
                dual.add(x - z + pull, [x, z, pull]);
            }
        }
        (primal, dual)
    }

    /// OSQP's rule: the penalty that would make both residuals alike.
    fn adapt(&mut self, settings: &AdmmSettings, rows: &Rows, primal: Residual, dual: Residual) {
        let rho = self.rho * (primal.relative() / dual.relative().max(1e-300)).sqrt();
        let rho = rho.clamp(RHO_RANGE.0, RHO_RANGE.1);
        if rho > ADAPT_FACTOR * self.rho || rho < self.rho / ADAPT_FACTOR {
            self.rho = rho;
            self.factorise(settings, rows);
        }
    }

    /// Whether the last change of the multipliers proves that there is no solution; if so the ray is left in `ray`.
    fn finds_ray(&mut self, iterations: u32, rows: &Rows, bounds: &BoxSums, data: AdmmData<'_>) -> bool {
        let size = self.change.iter().fold(0.0_f64, |most, change| most.max(change.abs()));
        if size == 0.0 {
            return false;
        }
        for r in 0..rows.m {
            let part = self.change[r] / size;
            let allowed = if part > 0.0 { rows.upper[r] } else { rows.lower[r] };
            self.ray[r] = if allowed.is_finite() { part } else { 0.0 };
        }
        rows.balance_plainly(&mut self.ray);
        rows.blocks.iter().filter(|block| block.is_ratio()).for_each(|block| lower_balance(block, &mut self.ray));
        let size = self.x.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let within = Within { bounds, weight: data.weight, size };
        if proves_infeasible(rows, within, &self.ray, &mut self.shift) {
            return true;
        }
        if iterations < self.next_mend {
            return false;
        }
        self.next_mend = iterations + iterations / 2;
        self.mend_ray(rows, data);
        proves_infeasible(rows, within, &self.ray, &mut self.shift)
    }

    /// A ray must not pull a sample to where it has no bound, nor move a spread's centre, and the iterates only tend to
    /// one that does not: this takes out of it what is left of either, by the null space of those rows.
    fn mend_ray(&mut self, rows: &Rows, data: AdmmData<'_>) {
        let m = rows.m;
        let length = |part: f64, r: usize| part.abs() * rows.scale[r].sqrt();
        let longest = self.ray.iter().enumerate().fold(0.0_f64, |most, (r, part)| most.max(length(*part, r)));
        for (r, part) in self.ray.iter_mut().enumerate() {
            *part = if length(*part, r) > NEGLIGIBLE * longest { *part } else { 0.0 };
        }
        rows.shifts(&self.ray, &mut self.shift);
        self.barred.fill(0.0);
        for (i, &shift) in self.shift.iter().enumerate() {
            let (lo, hi) = (data.lo[i], data.hi[i]);
            if lo.is_finite() && hi.is_finite() {
                continue;
            }
            let wrong = if shift > 0.0 { !lo.is_finite() } else { !hi.is_finite() };
            let near: f64 = (0..m).map(|r| (rows.row(r)[i] * self.ray[r]).abs()).sum();
            if wrong || shift.abs() <= NEGLIGIBLE * near {
                for r in (0..m).filter(|&r| self.ray[r] != 0.0) {
                    for p in 0..=r {
                        self.barred[r * m + p] += data.weight[i] * rows.row(r)[i] * rows.row(p)[i];
                    }
                }
            }
        }
        for r in 0..m {
            for p in 0..=r {
                let both = self.ray[r] != 0.0 && self.ray[p] != 0.0;
                let value = if both { self.barred[r * m + p] / (rows.scale[r] * rows.scale[p]).sqrt() } else { 0.0 };
                (self.barred[r * m + p], self.barred[p * m + r]) = (value, value);
            }
            // What is no part of the ray stays none.
            self.barred[r * m + r] += if self.ray[r] == 0.0 { 1.0 } else { 0.0 };
        }
        for block in &rows.blocks {
            let part = |r: usize| {
                let coefficient = block.centre_coefficient(self.ray[r]) / rows.scale[r].sqrt();
                if self.ray[r] == 0.0 { 0.0 } else { coefficient }
            };
            let square: f64 = block.rows().map(|r| part(r) * part(r)).sum();
            for r in block.rows().filter(|_| square > 0.0) {
                for p in block.rows() {
                    self.barred[r * m + p] += part(r) * part(p) / square;
                }
            }
        }
        jacobi_eigen(&mut self.barred, m, &mut self.vectors);
        let largest = (0..m).fold(0.0_f64, |most, k| most.max(self.barred[k * m + k]));
        self.scratch.copy_from_slice(&self.ray);
        self.ray.fill(0.0);
        for k in (0..m).filter(|&k| self.barred[k * m + k] <= NULL * largest) {
            let dot: f64 = (0..m).map(|r| self.vectors[r * m + k] * self.scratch[r] * rows.scale[r].sqrt()).sum();
            (0..m).for_each(|r| self.ray[r] += dot * self.vectors[r * m + k] / rows.scale[r].sqrt());
        }
        (0..m).filter(|&r| self.scratch[r] == 0.0).for_each(|r| self.ray[r] = 0.0);
        rows.balance_plainly(&mut self.ray);
    }

    fn finish(&mut self, rows: &Rows, data: AdmmData<'_>, status: Status) {
        if status == Status::Infeasible {
            self.nu.copy_from_slice(&self.ray);
            self.shift.fill(0.0);
        } else {
            rows.balance_plainly(&mut self.nu);
            rows.blocks.iter().filter(|block| block.is_ratio()).for_each(|block| raise_balance(block, &mut self.nu));
            rows.shifts(&self.nu, &mut self.shift);
        }
        for (i, y) in self.y.iter_mut().enumerate() {
            *y = (data.z[i] - self.shift[i]).clip(data.lo[i], data.hi[i]);
        }
    }
}

/// The block that a row belongs to.
fn block_at(rows: &Rows, r: usize) -> Option<&Block> {
    if rows.block_of[r] == NO_BLOCK { None } else { rows.blocks.get(rows.block_of[r]) }
}

/// Shortens the positive multipliers of a ratio spread so that its balance is not above zero.
fn lower_balance(block: &Block, nu: &mut [f64]) {
    let (balance, _) = block.balance(nu);
    let held: f64 = block.rows().map(|r| nu[r].max(0.0)).sum();
    if balance > 0.0 {
        let factor = ((held - balance) / held).max(0.0);
        nu[block.rows()].iter_mut().filter(|nu| **nu > 0.0).for_each(|nu| *nu *= factor);
    }
}

/// Shortens the negative multipliers of a ratio spread so that its balance is not below zero. It is so only where the
/// means are all zero: the samples lie at a lower bound of zero, and may be pushed up less than they are.
fn raise_balance(block: &Block, nu: &mut [f64]) {
    let (balance, _) = block.balance(nu);
    let held: f64 = block.rows().map(|r| block.centre_coefficient(-1.0) * nu[r].min(0.0)).sum();
    if balance < 0.0 {
        let factor = ((held - balance) / held).max(0.0);
        nu[block.rows()].iter_mut().filter(|nu| **nu < 0.0).for_each(|nu| *nu *= factor);
    }
}

/// The centre c of the point nearest to v among those with `a_l c + l <= v_r <= a_u c + u`: the root of the rising,
/// piecewise linear `sum_r penalty_r a (held_r - v_r)` over the rows held at a side. With a ratio c is not below 0.
fn centre_of(block: &Block, rows: &Rows, v: &[f64], penalty: &[f64], start: f64) -> f64 {
    let (below, above) = (block.centre_coefficient(-1.0), block.centre_coefficient(1.0));
    let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
    for r in block.rows() {
        lo = lo.min((v[r] - rows.lower[r]) / below);
        hi = hi.max((v[r] - rows.upper[r]) / above);
    }
    if hi <= lo {
        return hi / 2.0 + lo / 2.0;
    }
    if block.is_ratio() {
        (lo, hi) = (lo.max(0.0), hi.max(0.0));
    }
    let unit = 2.0 * f64::EPSILON * lo.abs().max(hi.abs());
    let mut centre = if block.is_ratio() { lo } else { start.clip(lo, hi) };
    for trial in 1..=MAX_ROOT_STEPS {
        let (mut value, mut slope) = (0.0, 0.0);
        for r in block.rows() {
            let (least, most) = (rows.lower[r] + below * centre, rows.upper[r] + above * centre);
            let (held, a) = if v[r] > most { (most, above) } else { (least, below) };
            if v[r] > most || v[r] < least {
                value += penalty[r] * a * (held - v[r]);
                slope += penalty[r] * a * a;
            }
        }
        if value >= 0.0 && block.is_ratio() && centre == 0.0 {
            return 0.0;
        }
        if value > 0.0 {
            hi = centre;
        } else {
            lo = centre;
        }
        let next = centre - value / slope;
        if !slope.is_normal() || (next - centre).abs() <= unit {
            break;
        }
        let inside = lo < next && next < hi && !trial.is_multiple_of(3);
        centre = if inside { next } else { lo / 2.0 + hi / 2.0 };
    }
    centre
}

fn refill(array: &mut Vec<f64>, len: usize) {
    array.clear();
    array.resize(len, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraints::SpreadLimit;
    use crate::reference::components::Component;
    use crate::reference::quadratic::{self, push, push_bounds};
    use clarabel::solver::SolverStatus;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// A problem with a place for everything that the method is given.
    struct Case {
        rows: Rows,
        bounds: BoxSums,
        z: Vec<f64>,
        weight: Vec<f64>,
        lo: Vec<f64>,
        hi: Vec<f64>,
    }

    impl Case {
        fn new(z: Vec<f64>, weight: Vec<f64>, lo: Vec<f64>, hi: Vec<f64>) -> Self {
            let total: f64 = weight.iter().sum();
            let weight: Vec<f64> = weight.iter().map(|w| w / total).collect();
            let times = |bounds: &[f64]| bounds.iter().zip(&weight).map(|(bound, w)| bound * w).collect();
            let bounds = BoxSums { lo: times(&lo), hi: times(&hi) };
            let mut rows = Rows::with_capacity(&Component::default()).of_samples();
            rows.clear(z.len());
            Self { rows, bounds, z, weight, lo, hi }
        }

        fn data(&self) -> AdmmData<'_> {
            AdmmData { z: &self.z, weight: &self.weight, lo: &self.lo, hi: &self.hi }
        }

        /// `sum row w y` within bounds.
        fn push(&mut self, row: &[f64], bounds: (f64, f64)) {
            let source = self.rows.m;
            let rough = row.iter().fold(0.0_f64, |most, a| most.max(a.abs()));
            self.rows.push(&self.weight, |i| row[i], rough, bounds, source);
        }

        /// A spread over groups of samples; all spreads are pushed before the first dense row.
        fn push_spread(&mut self, groups: &[Vec<usize>], limit: SpreadLimit) {
            self.rows.begin_block(self.rows.blocks.len(), limit);
            let half = if let SpreadLimit::Difference(epsilon) = limit { epsilon / 2.0 } else { 0.0 };
            for group in groups {
                let mass: f64 = group.iter().map(|&i| self.weight[i]).sum();
                let mut row = vec![0.0; self.z.len()];
                group.iter().for_each(|&i| row[i] = 1.0 / mass);
                self.push(&row, (-half, half));
            }
            self.rows.end_block();
        }

        fn unit(&self, row: &mut [f64]) {
            let scale: f64 = row.iter().zip(&self.weight).map(|(a, w)| a * a * w).sum();
            row.iter_mut().for_each(|a| *a /= scale.sqrt().max(1e-300));
        }

        fn mean(&self, row: &[f64], y: &[f64]) -> f64 {
            row.iter().zip(&self.weight).zip(y).map(|((a, w), y)| a * w * y).sum()
        }

        fn solve(&self, settings: &AdmmSettings) -> (Admm, AdmmOutcome) {
            let mut admm = Admm::new(self.rows.m, self.z.len(), self.rows.blocks.len());
            let outcome = admm.solve(settings, &self.rows, &self.bounds, self.data());
            (admm, outcome)
        }

        /// The KKT residual of what was found: violation and complementarity of the rows, the balance of the spreads,
        /// and `y = clip(z - M^T nu)` to the bit.
        fn kkt(&self, admm: &Admm, tolerance: f64) -> f64 {
            let (m, n) = (self.rows.m, self.z.len());
            let (mut shift, mut means) = (vec![0.0; n], vec![0.0; m]);
            let nu = admm.multipliers();
            self.rows.shifts(nu, &mut shift);
            let y: Vec<f64> = (0..n).map(|i| (self.z[i] - shift[i]).clip(self.lo[i], self.hi[i])).collect();
            assert_eq!(y, admm.y());
            let sums: Vec<f64> = y.iter().zip(&self.weight).map(|(y, w)| y * w).collect();
            self.rows.means(&sums, &mut means);
            let mut worst = self.rows.residual(&self.rows.lower, &self.rows.upper, &means, nu, tolerance).max(0.0);
            for block in &self.rows.blocks {
                let (balance, size) = block.balance(nu);
                worst = worst.max((balance.abs() - 1e-12 * size) / size.max(1.0));
            }
            worst
        }

        /// An independent answer: the samples, and a centre for every spread.
        fn clarabel(&self) -> (SolverStatus, Vec<f64>) {
            let (n, rows) = (self.z.len(), &self.rows);
            let variables = n + rows.blocks.len();
            let mut all = Vec::new();
            for r in 0..rows.m {
                let a: Vec<f64> = rows.row(r).iter().zip(&self.weight).map(|(a, w)| a * w).collect();
                let block = block_at(rows, r);
                let centre = |sign: f64| block.map(|b| (n + rows.block_of[r], -sign * b.centre_coefficient(sign)));
                push(&mut all, variables, (1.0, &a), centre(1.0), rows.upper[r]);
                push(&mut all, variables, (-1.0, &a), centre(-1.0), -rows.lower[r]);
            }
            push_bounds(&mut all, variables, (&self.lo, &self.hi));
            let mut diagonal: Vec<f64> = self.weight.iter().map(|w| w * n as f64).collect();
            let mut linear: Vec<f64> = diagonal.iter().zip(&self.z).map(|(w, z)| -w * z).collect();
            for array in [&mut diagonal, &mut linear] {
                array.resize(variables, 0.0);
            }
            let (status, x) = quadratic::solve(&diagonal, &linear, &all);
            (status, x[..n].to_vec())
        }
    }

    fn normal(rng: &mut Pcg64Mcg) -> f64 {
        (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos()
    }

    /// Bounds: scalar, of every sample, half open, none, some samples frozen.
    fn draw_bounds(rng: &mut Pcg64Mcg, n: usize) -> (Vec<f64>, Vec<f64>) {
        let infinity = f64::INFINITY;
        match rng.random_range(0..6) {
            0 | 1 => (vec![0.0; n], vec![1.0; n]),
            2 => (0..n).map(|_| (0.5 * rng.random::<f64>(), 0.5 + rng.random::<f64>())).unzip(),
            3 => (vec![0.0; n], vec![infinity; n]),
            4 => (vec![-infinity; n], vec![infinity; n]),
            _ => (0..n)
                .map(|_| match rng.random_range(0..5) {
                    0 => (0.3, 0.3),
                    1 => (0.0, infinity),
                    2 => (-infinity, infinity),
                    3 => (-infinity, 0.8),
                    _ => (0.0, 1.0),
                })
                .unzip(),
        }
    }

    fn draw_scores(rng: &mut Pcg64Mcg, n: usize) -> Vec<f64> {
        let kind = rng.random_range(0..7);
        let score = |i: usize, rng: &mut Pcg64Mcg| match kind {
            0 | 1 => 0.5 + 0.2 * normal(rng),
            2 | 3 => 0.5 + 0.6 * normal(rng),
            4 => 0.5 + 4.0 * normal(rng),
            5 => f64::from(u8::from(rng.random::<f64>() < [0.3, 0.7][i % 2])),
            _ => [20.0, -20.0][i % 2] + 0.1 * normal(rng),
        };
        (0..n).map(|i| score(i, rng)).collect()
    }

    /// A dense row: a mean, a difference of means, a feature, a feature of a few samples.
    fn draw_row(rng: &mut Pcg64Mcg, case: &Case) -> Vec<f64> {
        let n = case.z.len();
        let kind = rng.random_range(0..4);
        let coefficient = |rng: &mut Pcg64Mcg| match kind {
            0 => f64::from(u8::from(rng.random::<bool>())),
            1 => f64::from(u8::from(rng.random::<bool>())) - f64::from(u8::from(rng.random::<bool>())),
            2 => normal(rng),
            _ => {
                if rng.random::<f64>() < 0.2 {
                    normal(rng)
                } else {
                    0.0
                }
            }
        };
        let mut row: Vec<f64> = (0..n).map(|_| coefficient(rng)).collect();
        if row.iter().all(|a| *a == 0.0) {
            row[rng.random_range(0..n)] = 1.0;
        }
        case.unit(&mut row);
        row
    }

    /// A problem that a point drawn within the bounds solves: spreads, rows of every kind, duplicates, dependent rows.
    fn draw(rng: &mut Pcg64Mcg) -> Case {
        let n = if rng.random::<f64>() < 0.2 { rng.random_range(1..8) } else { rng.random_range(8..=200) };
        let weighted = rng.random::<bool>();
        let weight = (0..n).map(|_| if weighted { 0.1 + 2.0 * rng.random::<f64>() } else { 1.0 }).collect();
        let (lo, hi) = draw_bounds(rng, n);
        let flat = rng.random::<f64>() < 0.3;
        let mut inside: Vec<f64> = (0..n).map(|i| rng.random::<f64>().clip(lo[i], hi[i])).collect();
        if flat {
            inside.fill(0.5);
            inside.iter_mut().zip(lo.iter().zip(&hi)).for_each(|(y, (lo, hi))| *y = y.clip(*lo, *hi));
        }
        let z = draw_scores(rng, n);
        let mut case = Case::new(z, weight, lo, hi);
        let m = rng.random_range(1..=8);
        if rng.random::<f64>() < 0.6 && n >= 4 {
            let k = rng.random_range(2..=m.max(2).min(n));
            let overlapping = rng.random::<f64>() < 0.2;
            let mut groups = vec![Vec::new(); k];
            for i in 0..n {
                groups[if i < k { i } else { rng.random_range(0..k) }].push(i);
                let other = rng.random_range(0..k);
                if overlapping && i >= k && !groups[other].contains(&i) {
                    groups[other].push(i);
                }
            }
            let mean = |group: &Vec<usize>| {
                let mass: f64 = group.iter().map(|&i| case.weight[i]).sum();
                group.iter().map(|&i| case.weight[i] * inside[i]).sum::<f64>() / mass
            };
            let top = groups.iter().map(mean).fold(f64::NEG_INFINITY, f64::max);
            let bottom = groups.iter().map(mean).fold(f64::INFINITY, f64::min);
            let room = if rng.random::<bool>() { 1.0 + rng.random::<f64>() } else { 1.0 };
            let limit = if case.lo.iter().all(|lo| *lo >= 0.0) && bottom > 0.0 && rng.random::<f64>() < 0.4 {
                SpreadLimit::Ratio((bottom / top / room).min(1.0))
            } else {
                SpreadLimit::Difference(if top - bottom < 1e-12 { 0.0 } else { (top - bottom) * room })
            };
            case.push_spread(&groups, limit);
        }
        while case.rows.m < m {
            let dense = case.rows.contrasts();
            let row: Vec<f64> = match rng.random_range(0..8) {
                0 if !dense.is_empty() => case.rows.row(rng.random_range(dense)).iter().map(|a| -a).collect(),
                1 if dense.len() > 1 => {
                    let (a, b) = (rng.random_range(dense.clone()), rng.random_range(dense));
                    let mut sum: Vec<f64> =
                        case.rows.row(a).iter().zip(case.rows.row(b)).map(|(a, b)| a + 0.5 * b).collect();
                    case.unit(&mut sum);
                    sum
                }
                _ => draw_row(rng, &case),
            };
            let value = case.mean(&row, &inside);
            let mut room = || if rng.random::<bool>() { 0.2 * rng.random::<f64>() } else { 0.0 };
            let (below, above) = (room(), room());
            let bounds = match rng.random_range(0..5) {
                0 => (value, value),
                1 => (f64::NEG_INFINITY, value + above),
                2 => (value - below, f64::INFINITY),
                _ => (value - below, value + above),
            };
            case.push(&row, bounds);
        }
        case
    }

    const SEEDS: u64 = 600;

    /// Adds a row that contradicts the others by `gap`: beyond what the bounds allow, beyond another row or the sum of
    /// two, or against a spread.
    fn contradict(rng: &mut Pcg64Mcg, case: &mut Case, gap: f64) -> bool {
        let dense = case.rows.contrasts();
        let spread = case.rows.blocks.first().copied();
        let row = draw_row(rng, case);
        let most: f64 = (0..row.len())
            .filter(|&i| row[i] != 0.0)
            .map(|i| row[i] * case.weight[i] * if row[i] > 0.0 { case.hi[i] } else { case.lo[i] })
            .sum();
        match rng.random_range(0..4) {
            0 if most.is_finite() => {
                case.push(&row, (most + gap, f64::INFINITY));
                true
            }
            1 if dense.len() > 1 => {
                let (a, b) = (dense.start, dense.start + 1);
                let (s, t) = (rng.random_range(0.5..2.0), rng.random_range(0.5..2.0));
                let mut sum: Vec<f64> =
                    case.rows.row(a).iter().zip(case.rows.row(b)).map(|(a, b)| s * a + t * b).collect();
                let upper = s * case.rows.upper[a] + t * case.rows.upper[b];
                if upper.is_finite() {
                    let last = sum.clone();
                    case.unit(&mut sum);
                    let Some(at) = last.iter().position(|a| a.abs() > 1e-9) else { return false };
                    case.push(&sum, (upper * sum[at] / last[at] + gap, f64::INFINITY));
                    return true;
                }
                false
            }
            2 if spread.is_some_and(|block| !block.is_ratio()) => {
                let block = spread.unwrap();
                let SpreadLimit::Difference(epsilon) = block.limit else { return false };
                let (a, b) = (block.first, block.first + 1);
                let mut row: Vec<f64> = case.rows.row(a).iter().zip(case.rows.row(b)).map(|(a, b)| a - b).collect();
                let before = row.clone();
                case.unit(&mut row);
                let Some(at) = before.iter().position(|a| a.abs() > 1e-9) else { return false };
                case.push(&row, (epsilon * row[at] / before[at] + gap, epsilon * row[at] / before[at] + gap));
                true
            }
            _ if !dense.is_empty() => {
                let r = rng.random_range(dense);
                let row: Vec<f64> = case.rows.row(r).iter().map(|a| -a).collect();
                if case.rows.upper[r].is_finite() {
                    case.push(&row, (f64::NEG_INFINITY, -case.rows.upper[r] - gap));
                } else {
                    case.push(&row, (-case.rows.lower[r] + gap, f64::INFINITY));
                }
                true
            }
            _ => false,
        }
    }

    fn percentiles(counts: &mut [u32]) -> [u32; 4] {
        counts.sort_unstable();
        [0.5, 0.9, 0.99, 1.0].map(|part| counts[((counts.len() - 1) as f64 * part) as usize])
    }

    fn to(eps: f64) -> AdmmSettings {
        AdmmSettings { eps_abs: eps, eps_rel: eps, ..AdmmSettings::default() }
    }

    #[test]
    fn random_problems_are_solved() {
        for eps in [1e-6, 1e-9] {
            let (mut counts, mut worst) = (Vec::new(), 0.0_f64);
            for seed in 0..SEEDS {
                let case = draw(&mut Pcg64Mcg::seed_from_u64(seed));
                let (admm, outcome) = case.solve(&to(eps));
                assert_eq!(outcome.status, Status::Solved, "seed {seed}");
                counts.push(outcome.iterations);
                // The residuals are relative to the scores, the rows to their multipliers.
                let size = case.z.iter().fold(1.0_f64, |most, z| most.max(z.abs()));
                worst = worst.max(case.kkt(&admm, 10.0 * eps * size) / (eps * size));
            }
            let [median, p90, p99, most] = percentiles(&mut counts);
            println!("eps {eps:e}: {median} / {p90} / {p99} / {most} iterations, KKT residual {worst:.1} eps |z|");
            assert!(worst <= 10.0 && median <= 50 && p99 <= 500, "{worst} {median} {p99}");
        }
    }

    #[test]
    fn answers_agree_with_clarabel() {
        let (mut worst, mut unsolved) = (0.0_f64, 0);
        for seed in 0..SEEDS / 4 {
            let case = draw(&mut Pcg64Mcg::seed_from_u64(seed));
            let (verdict, theirs) = case.clarabel();
            if verdict != SolverStatus::Solved {
                unsolved += 1;
                continue;
            }
            let (admm, _) = case.solve(&AdmmSettings::default());
            let size = case.z.iter().fold(1.0_f64, |most, z| most.max(z.abs()));
            let apart = admm.y().iter().zip(&theirs).fold(0.0_f64, |most, (y, x)| most.max((y - x).abs()));
            worst = worst.max(apart / size);
        }
        println!("differs by {worst:e} at the most; clarabel left {unsolved}");
        assert!(worst < 1e-5 && unsolved < SEEDS / 80, "{worst} {unsolved}");
    }

    #[test]
    fn contradictions_are_proved() {
        for (gap, allowed) in [(1.0, 200), (1e-2, 500), (1e-4, 20_000)] {
            let mut counts = Vec::new();
            for seed in 0..SEEDS {
                let mut rng = Pcg64Mcg::seed_from_u64(seed);
                let mut case = draw(&mut rng);
                if contradict(&mut rng, &mut case, gap) {
                    let (admm, outcome) = case.solve(&AdmmSettings::default());
                    assert_eq!(outcome.status, Status::Infeasible, "seed {seed}");
                    assert!(proves_infeasible(
                        &case.rows,
                        Within { bounds: &case.bounds, weight: &case.weight, size: 1.0 },
                        admm.multipliers(),
                        &mut vec![0.0; case.z.len()]
                    ));
                    let clipped = |i: usize| case.z[i].clip(case.lo[i], case.hi[i]);
                    assert!((0..case.z.len()).all(|i| admm.y()[i] == clipped(i)));
                    counts.push(outcome.iterations);
                }
            }
            let [median, p90, p99, most] = percentiles(&mut counts);
            println!("gap {gap:e}: {} proofs, {median} / {p90} / {p99} / {most} iterations", counts.len());
            assert!(most <= allowed, "{most}");
        }
    }

    /// Means of four groups, half of the scores beyond the bounds.
    fn parity(n: usize, epsilon: f64) -> Case {
        let mut rng = Pcg64Mcg::seed_from_u64(n as u64);
        let z = (0..n).map(|i| 0.5 + 0.5 * normal(&mut rng) + 0.2 * (i % 4) as f64).collect();
        let mut case = Case::new(z, vec![1.0; n], vec![0.0; n], vec![1.0; n]);
        let groups: Vec<_> = (0..4).map(|g| (g..n).step_by(4).collect()).collect();
        case.push_spread(&groups, SpreadLimit::Difference(epsilon));
        case
    }

    #[test]
    fn iterations_do_not_grow_with_size() {
        let counts = [20, 200, 2_000, 20_000].map(|n| parity(n, 0.01).solve(&AdmmSettings::default()).1.iterations);
        println!("{counts:?} iterations");
        assert!(counts.iter().all(|count| *count <= 60), "{counts:?}");
    }

    #[test]
    fn a_fair_input_is_left_alone() {
        let case = parity(40, 2.0);
        let (admm, outcome) = case.solve(&AdmmSettings::default());
        assert_eq!((outcome.status, outcome.iterations), (Status::Solved, 0));
        assert!(admm.multipliers().iter().all(|nu| *nu == 0.0));
        assert!((0..40).all(|i| admm.y()[i] == case.z[i].clip(0.0, 1.0)));
    }

    #[test]
    fn memory_carries_nothing_over() {
        let mut admm = Admm::new(9, 200, 1);
        let capacity = admm.x.capacity();
        for seed in 0..40 {
            let case = draw(&mut Pcg64Mcg::seed_from_u64(seed));
            let (fresh, first) = case.solve(&AdmmSettings::default());
            let second = admm.solve(&AdmmSettings::default(), &case.rows, &case.bounds, case.data());
            assert_eq!(first.iterations, second.iterations);
            assert_eq!((fresh.y(), fresh.multipliers()), (admm.y(), admm.multipliers()));
        }
        assert_eq!(admm.x.capacity(), capacity);
    }

    #[test]
    fn what_is_no_number_ends_at_once() {
        let mut case = parity(40, 0.01);
        case.z[3] = f64::NAN;
        let (admm, outcome) = case.solve(&AdmmSettings::default());
        assert_eq!((outcome.status, outcome.iterations), (Status::IterationLimit, 0));
        assert!(admm.y()[3].is_nan());
    }

    #[test]
    fn frozen_samples_are_data() {
        let mut case = parity(40, 0.01);
        let free = [0, 5, 10, 15];
        (0..40).filter(|i| !free.contains(i)).for_each(|i| (case.lo[i], case.hi[i]) = (0.5, 0.5));
        let times = |bounds: &[f64]| bounds.iter().zip(&case.weight).map(|(bound, w)| bound * w).collect();
        case.bounds = BoxSums { lo: times(&case.lo), hi: times(&case.hi) };
        let (admm, outcome) = case.solve(&AdmmSettings::default());
        assert_eq!(outcome.status, Status::Solved);
        assert!(case.kkt(&admm, 1e-8) < 1e-8);
        // All of them: the means are what they are.
        case.lo = (0..40).map(|i| [0.2, 0.4][i % 2]).collect();
        case.hi.clone_from(&case.lo);
        let times: Vec<f64> = case.lo.iter().zip(&case.weight).map(|(bound, w)| bound * w).collect();
        case.bounds = BoxSums { lo: times.clone(), hi: times };
        assert_eq!(case.solve(&AdmmSettings::default()).1.status, Status::Infeasible);
    }

    #[test]
    fn a_ratio_of_zeros_is_balanced() {
        let mut case = Case::new(vec![-1.0, -1.0, 0.1, 0.1, 0.2], vec![1.0; 5], vec![0.0; 5], vec![1.0; 5]);
        case.push_spread(&[vec![0, 1], vec![2, 3, 4]], SpreadLimit::Ratio(0.8));
        let (admm, outcome) = case.solve(&AdmmSettings::default());
        assert_eq!(outcome.status, Status::Solved);
        assert!(admm.y().iter().all(|y| *y < 1e-8) && admm.multipliers()[1] > 0.0);
        assert!(case.kkt(&admm, 1e-8) < 1e-8);
    }

    #[test]
    fn nearest_points_of_spreads() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        for trial in 0..2000 {
            let k = rng.random_range(2..6);
            let mut case = Case::new(vec![0.0; k], vec![1.0; k], vec![0.0; k], vec![1.0; k]);
            let limit = match trial % 4 {
                0 => SpreadLimit::Difference(0.0),
                1 => SpreadLimit::Difference(rng.random()),
                2 => SpreadLimit::Ratio(0.05 + 0.95 * rng.random::<f64>()),
                _ => SpreadLimit::Ratio(1.0),
            };
            let groups: Vec<_> = (0..k).map(|i| vec![i]).collect();
            case.push_spread(&groups, limit);
            let mut admm = Admm::new(k, k, 1);
            admm.start(&AdmmSettings::default(), &case.rows, case.data());
            let block = case.rows.blocks[0];
            for _ in 0..4 {
                (0..k).for_each(|r| admm.right[r] = 0.3 + normal(&mut rng));
                (0..k).for_each(|r| admm.penalty[r] = (3.0 * normal(&mut rng)).exp());
                admm.project(&case.rows);
                let pull: Vec<f64> = (0..k).map(|r| admm.penalty[r] * (admm.right[r] - admm.s[r])).collect();
                // In the set, and the pull normal to it: balanced, and each part at its side.
                let top = admm.s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let bottom = admm.s.iter().copied().fold(f64::INFINITY, f64::min);
                let outside = match limit {
                    SpreadLimit::Difference(epsilon) => top - bottom - epsilon,
                    SpreadLimit::Ratio(ratio) => ratio * top - bottom,
                };
                assert!(outside <= 1e-15, "{limit:?} {outside}");
                let (balance, _) = block.balance(&pull);
                let rounding = 1e-14 * admm.penalty.iter().sum::<f64>();
                // At the tip of a ratio's cone the normals are not on its boundary.
                let tip = block.is_ratio() && top == 0.0;
                assert!(if tip { balance <= 0.0 } else { balance.abs() <= rounding }, "{limit:?} {balance} {rounding}");
                for r in (0..k).filter(|_| !tip) {
                    let side = if pull[r] > 0.0 { top } else { bottom };
                    assert!(pull[r] == 0.0 || (admm.s[r] - side).abs() <= 1e-15, "{limit:?}");
                }
            }
        }
    }
}
