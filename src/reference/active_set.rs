//! The Newton sub-problem: a small quadratic program over the multipliers, solved by an active set of signs.
//!
//! `v = argmin sigma(v) - means.(v - nu) + 1/2 (v - nu)^T H (v - nu)`, the multipliers of a difference spread summing to
//! zero and those of a ratio spread balanced. On the rows with a sign, the support, this is a linear system. It is solved
//! for the increment from nu, which near the solution is far more exact than solving for v.

use super::linear::{ldl_factor, ldl_solve_refined};
use super::rows::{NO_BLOCK, Rows};
use super::two_floats::TwoSum;

/// Scratch and results of the sub-problem.
#[derive(Clone, Debug)]
pub(crate) struct ActiveSet {
    /// `[m]`: the multipliers that minimise the model.
    pub(crate) v: Vec<f64>,
    /// `[m]`: how far they are from nu, to more digits than `v - nu`.
    pub(crate) d: Vec<f64>,
    /// `[blocks]`: the centre of each block's means.
    pub(crate) centre: Vec<f64>,
    sign: Vec<f64>,
    /// `[m]`: the increment that solves the system on the support.
    x: Vec<f64>,
    q: Vec<f64>,
    jacobi: Vec<f64>,
    support: Vec<usize>,
    used: Vec<usize>,
    border: Vec<f64>,
    system: Vec<f64>,
    factor: Vec<f64>,
    rhs: Vec<f64>,
    solution: Vec<f64>,
    scratch: Vec<f64>,
}

impl ActiveSet {
    /// Room for `m` rows in `blocks` blocks.
    pub(crate) fn with_capacity(m: usize, blocks: usize) -> Self {
        let n = m + blocks;
        Self {
            v: vec![0.0; m],
            d: vec![0.0; m],
            centre: vec![0.0; blocks],
            sign: vec![0.0; m],
            x: vec![0.0; m],
            q: vec![0.0; m],
            jacobi: vec![0.0; m],
            support: Vec::with_capacity(m),
            used: Vec::with_capacity(blocks),
            border: vec![0.0; m],
            system: vec![0.0; n * n],
            factor: vec![0.0; n * n],
            rhs: vec![0.0; n],
            solution: vec![0.0; n],
            scratch: vec![0.0; n],
        }
    }

    /// Minimises the model at the multipliers `nu + rest`, whose gradient there is `-means` and whose curvature is `h`,
    /// `[m, m]`; optimality is met to `tolerance` in units of the predictions. Every addition lowers the model, so this
    /// ends; the count is only a guard against rounding.
    pub(crate) fn minimise(
        &mut self,
        rows: &Rows,
        (lower, upper): (&[f64], &[f64]),
        h: &[f64],
        means: &[f64],
        (nu, rest): (&[f64], &[f64]),
        tolerance: f64,
    ) {
        let m = rows.m;
        let largest = means[..m].iter().fold(0.0_f64, |most, mean| most.max(mean.abs()));
        let tolerance = tolerance.max(4.0 * f64::EPSILON * largest);
        for (r, &nu) in nu.iter().enumerate().take(m) {
            self.jacobi[r] = 1.0 / h[r * m + r].sqrt();
            self.d[r] = 0.0;
            self.sign[r] = sign(nu);
        }
        for _ in 0..12 * m + 20 {
            self.collect_support(rows);
            if !self.support.is_empty() {
                self.solve_on_support(rows, (lower, upper), h, means, (nu, rest));
                if self.walk_to_first_sign_change(rows, nu) {
                    continue;
                }
            }
            for (r, &nu) in nu.iter().enumerate().take(m) {
                self.d[r] = if self.sign[r] == 0.0 { -nu } else { self.x[r] };
                self.v[r] = nu + self.d[r];
            }
            for r in 0..m {
                let pull: f64 = (0..m).map(|s| h[r * m + s] * self.d[s]).sum();
                self.q[r] = means[r] - pull;
            }
            if !self.add_worst_row(rows, (lower, upper), tolerance) {
                return;
            }
        }
    }

    fn collect_support(&mut self, rows: &Rows) {
        self.support.clear();
        self.used.clear();
        for r in 0..rows.m {
            if self.sign[r] != 0.0 {
                self.support.push(r);
                let block = rows.block_of[r];
                if block != NO_BLOCK && self.used.last() != Some(&block) {
                    self.used.push(block);
                }
            }
        }
    }

    /// Minimises with the signs fixed: `[H E; E^T 0] [dx; c] = [means - target + H nu_out; -E^T nu]` on the support.
    fn solve_on_support(
        &mut self,
        rows: &Rows,
        (lower, upper): (&[f64], &[f64]),
        h: &[f64],
        means: &[f64],
        (nu, rest): (&[f64], &[f64]),
    ) {
        let (m, k) = (rows.m, self.support.len());
        let n = k + self.used.len();
        self.system[..n * n].fill(0.0);
        self.rhs[..n].fill(0.0);
        for (i, &r) in self.support.iter().enumerate() {
            for (j, &s) in self.support.iter().enumerate().take(i + 1) {
                let value = h[r * m + s] * self.jacobi[r] * self.jacobi[s];
                self.system[i * n + j] = value;
                self.system[j * n + i] = value;
            }
            let target = if self.sign[r] > 0.0 { upper[r] } else { lower[r] };
            let dropped: f64 = (0..m).filter(|&s| self.sign[s] == 0.0).map(|s| h[r * m + s] * nu[s]).sum();
            self.rhs[i] = (means[r] - target + dropped) * self.jacobi[r];
            if rows.block_of[r] != NO_BLOCK {
                let column = k + self.used.iter().position(|&block| block == rows.block_of[r]).unwrap_or(0);
                self.border[r] = rows.blocks[rows.block_of[r]].centre_coefficient(self.sign[r]);
                let value = self.border[r] * self.jacobi[r];
                self.system[i * n + column] = value;
                self.system[column * n + i] = value;
            }
        }
        for i in 0..self.used.len() {
            self.rhs[k + i] = -self.imbalance(rows, self.used[i], |r| (nu[r], rest[r]));
        }
        if let (2, [_]) = (k, &self.used[..]) {
            solve_pair(&self.system, &self.rhs, &mut self.solution);
        } else {
            self.factor[..n * n].copy_from_slice(&self.system[..n * n]);
            ldl_factor(&mut self.factor, n);
            let scratch = &mut self.scratch[..n];
            ldl_solve_refined(&self.system, &self.factor, n, &self.rhs, &mut self.solution[..n], scratch);
        }
        for (i, &r) in self.support.iter().enumerate() {
            self.x[r] = self.solution[i] * self.jacobi[r];
        }
        for i in 0..self.used.len() {
            let block = self.used[i];
            self.centre[block] = self.solution[k + i];
            self.balance(rows, block, (nu, rest));
        }
    }

    /// The balance of the block's multipliers on the support, each as two numbers.
    fn imbalance(&self, rows: &Rows, block: usize, multiplier: impl Fn(usize) -> (f64, f64)) -> f64 {
        let mut sum = TwoSum::default();
        for r in rows.blocks[block].rows().filter(|&r| self.sign[r] != 0.0) {
            sum.add_product(self.border[r], multiplier(r));
        }
        sum.value()
    }

    /// Makes the block's balance exact: the row that is moved the easiest pays for the rounding.
    fn balance(&mut self, rows: &Rows, block: usize, (nu, rest): (&[f64], &[f64])) {
        let held = rows.blocks[block].rows().filter(|&r| self.sign[r] != 0.0);
        let payer = held.reduce(|payer, r| if self.jacobi[r] > self.jacobi[payer] { r } else { payer });
        if let Some(payer) = payer {
            let sum = self.imbalance(rows, block, |r| (nu[r], rest[r] + self.x[r]));
            self.x[payer] -= sum / self.border[payer];
        }
    }

    /// If `nu + x` leaves the orthant of its signs: moves `nu + d` towards it up to the first sign change, drops the rows
    /// that reach zero there, and says so.
    fn walk_to_first_sign_change(&mut self, rows: &Rows, nu: &[f64]) -> bool {
        let step_of = |nu: f64, d: f64, x: f64| if x == d { 0.0 } else { ((nu + d) / (x - d)).abs() };
        let leaves = |value: f64, sign: f64| value * sign <= 0.0;
        let mut step = f64::INFINITY;
        for &r in &self.support {
            if leaves(nu[r] + self.x[r], self.sign[r]) {
                step = step.min(step_of(nu[r], self.d[r], self.x[r]));
            }
        }
        if step == f64::INFINITY {
            return false;
        }
        for (r, &nu) in nu.iter().enumerate().take(rows.m) {
            if self.sign[r] == 0.0 {
                self.d[r] = -nu;
            } else if leaves(nu + self.x[r], self.sign[r]) && step_of(nu, self.d[r], self.x[r]) <= step {
                (self.d[r], self.sign[r]) = (-nu, 0.0);
            } else {
                self.d[r] += step * (self.x[r] - self.d[r]);
            }
        }
        for &block in &self.used {
            let block = &rows.blocks[block];
            let mut members = block.rows().filter(|&r| self.sign[r] != 0.0);
            // A balanced block of one member can only be zero.
            if let (Some(lone), None) = (members.next(), members.next()) {
                (self.d[lone], self.sign[lone]) = (-nu[lone], 0.0);
            }
        }
        true
    }

    /// Gives a sign to the row that most violates `q - c in [lower, upper]`, or to the widest pair of a spread without
    /// support. False if none violates by more than the tolerance.
    fn add_worst_row(&mut self, rows: &Rows, (lower, upper): (&[f64], &[f64]), tolerance: f64) -> bool {
        let mut worst = tolerance;
        let mut add: [Option<(usize, f64)>; 2] = [None, None];
        let mut consider = |violation: f64, rows: [Option<(usize, f64)>; 2]| {
            if violation > worst {
                (worst, add) = (violation, rows);
            }
        };
        for (index, block) in rows.blocks.iter().enumerate() {
            let (up, down) = (block.centre_coefficient(1.0), block.centre_coefficient(-1.0));
            if self.used.contains(&index) {
                let centre = self.centre[index];
                for r in block.rows().filter(|&r| self.sign[r] == 0.0) {
                    consider(self.q[r] - up * centre - upper[r], [Some((r, 1.0)), None]);
                    consider(lower[r] - (self.q[r] - down * centre), [Some((r, -1.0)), None]);
                }
                continue;
            }
            let (mut top, mut least) = (block.first, f64::NEG_INFINITY);
            let (mut bottom, mut most) = (block.first, f64::INFINITY);
            for r in block.rows() {
                let (from_above, from_below) = ((self.q[r] - upper[r]) / up, (self.q[r] - lower[r]) / down);
                if from_above > least {
                    (top, least) = (r, from_above);
                }
                if from_below < most {
                    (bottom, most) = (r, from_below);
                }
            }
            self.centre[index] = least / 2.0 + most / 2.0;
            if top != bottom {
                consider(least - most, [Some((top, 1.0)), Some((bottom, -1.0))]);
            }
        }
        for r in rows.contrasts() {
            if self.sign[r] == 0.0 {
                consider(self.q[r] - upper[r], [Some((r, 1.0)), None]);
                consider(lower[r] - self.q[r], [Some((r, -1.0)), None]);
            }
        }
        for (r, sign) in add.into_iter().flatten() {
            self.sign[r] = sign;
        }
        add[0].is_some()
    }
}

/// Two rows of one spread, the commonest system by far: `[a b e; b d f; e f 0] x = r`. The border is eliminated, which
/// leaves one number to divide by: the curvature along the direction that keeps the balance.
fn solve_pair(system: &[f64], r: &[f64], x: &mut [f64]) {
    let (a, b, d, e, f) = (system[0], system[1], system[4], system[2], system[5]);
    // x = r2 (p, 0) + s (f, -e) with e p = 1.
    let p = r[2] / e;
    let along = a * f * f - 2.0 * b * e * f + d * e * e;
    let s = (f * (r[0] - a * p) - e * (r[1] - b * p)) / along;
    x[0] = p + s * f;
    x[1] = -s * e;
    x[2] = (r[0] - a * x[0] - b * x[1]) / e;
}

fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}
