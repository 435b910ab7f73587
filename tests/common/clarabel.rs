//! What clarabel, an independent solver, makes of a problem.

use super::kkt::Stated;
use super::quadratic::{self, Inequality, push, push_bounds};
use super::rows::{Limits, Origin, Row};
use clarabel::solver::SolverStatus;
use fairlayer::{ConstraintSet, SpreadLimit};

/// What it makes of a problem.
pub enum Verdict {
    Solved(Vec<f64>),
    Infeasible,
    Undecided,
}

/// Inequalities over the samples and one more variable for every spread, its centre (of a ratio: its largest mean).
struct Stands {
    all: Vec<Inequality>,
    /// Of the first of them, which are the rows', the spread and the coefficient of its centre; of rows of no spread none.
    spreads: Vec<Option<(usize, f64)>>,
}

/// The rows and bounds of a problem.
fn inequalities(set: &ConstraintSet, p: &Stated, rows: &[Row]) -> Stands {
    let n = p.z.len();
    let limits = Limits::of(set);
    let variables = n + set.spreads().len();
    let (mut all, mut spreads) = (Vec::new(), Vec::new());
    let mut push_row = |sign: f64, a: &[f64], spread: Option<(usize, f64)>, bound: f64| {
        if push(&mut all, variables, (sign, a), spread.map(|(s, centre)| (n + s, centre)), bound) {
            spreads.push(spread);
        }
    };
    for row in rows {
        match row.origin {
            Origin::Bounded(k) => {
                let a: Vec<f64> = row.a.iter().map(|a| row.unit * a).collect();
                push_row(1.0, &a, None, row.unit * (limits.upper[k] + row.target));
                push_row(-1.0, &a, None, -row.unit * (limits.lower[k] + row.target));
            }
            Origin::Spread(s) => {
                let (ratio, room) = match set.spreads()[s].limit {
                    SpreadLimit::Difference(epsilon) => (1.0, epsilon / 2.0),
                    SpreadLimit::Ratio(ratio) => (ratio, 0.0),
                };
                push_row(1.0, &row.a, Some((s, -1.0)), room);
                push_row(-1.0, &row.a, Some((s, ratio)), room);
            }
        }
    }
    push_bounds(&mut all, variables, (&p.lo, &p.hi));
    Stands { all, spreads }
}

/// Its verdict; weights are normalised, as the problem does not depend on their unit.
pub fn ask(set: &ConstraintSet, p: &Stated, rows: &[Row]) -> Verdict {
    let n = p.z.len();
    let mean_weight = p.weights.iter().sum::<f64>() / n as f64;
    let mut diagonal: Vec<f64> = p.weights.iter().map(|w| w / mean_weight).collect();
    let mut linear: Vec<f64> = diagonal.iter().zip(&p.z).map(|(w, z)| -w * z).collect();
    for array in [&mut diagonal, &mut linear] {
        array.resize(n + set.spreads().len(), 0.0);
    }
    let (status, x) = quadratic::solve(&diagonal, &linear, &inequalities(set, p, rows).all);
    match status {
        SolverStatus::Solved => Verdict::Solved(x[..n].to_vec()),
        SolverStatus::PrimalInfeasible => Verdict::Infeasible,
        _ => Verdict::Undecided,
    }
}

/// `1/2 sum w (y - z)^2 / sum w`.
pub fn distance(p: &Stated, y: &[f64]) -> f64 {
    let terms = p.weights.iter().zip(y.iter().zip(&p.z)).map(|(w, (y, z))| w * (y - z) * (y - z));
    0.5 * terms.sum::<f64>() / p.weights.iter().sum::<f64>()
}

/// The least distance that is possible if every limit may be exceeded by `slack`: `slack` times the multipliers lower.
/// An interior-point answer is a little outside of its limits, and is the closer for it.
pub fn worth_of(slack: f64, p: &Stated, rows: &[Row], nu: &[f64]) -> f64 {
    let worth = rows.iter().map(|row| nu[row.index].abs() / row.unit);
    slack * worth.sum::<f64>() / p.weights.iter().sum::<f64>()
}

/// The least by which all rows have to be relaxed for a problem to have a solution, in units of the predictions. `None` if
/// undecided.
pub fn least_relaxation(set: &ConstraintSet, p: &Stated, rows: &[Row]) -> Option<f64> {
    let Stands { mut all, spreads } = inequalities(set, p, rows);
    let variables = p.z.len() + set.spreads().len() + 1;
    for (i, inequality) in all.iter_mut().enumerate() {
        // Spreads are relaxed by half on either side; the largest mean of a ratio is not.
        let share = match spreads.get(i) {
            None => 0.0,
            Some(None) => 1.0,
            Some(Some((s, extra))) => match set.spreads()[*s].limit {
                SpreadLimit::Difference(_) => 0.5,
                SpreadLimit::Ratio(_) => f64::from(u8::from(*extra > 0.0)),
            },
        };
        inequality.a.push(-share);
    }
    let mut never_less = vec![0.0; variables];
    never_less[variables - 1] = -1.0;
    all.push(Inequality { a: never_less, bound: 0.0 });
    let mut linear = vec![0.0; variables];
    linear[variables - 1] = 1.0;
    let (status, x) = quadratic::solve(&vec![0.0; variables], &linear, &all);
    (status == SolverStatus::Solved).then(|| x[variables - 1])
}
