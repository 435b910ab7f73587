//! An independent solver, clarabel (an interior-point method, good to about 1e-8).

use super::kkt::Stated;
use super::rows::{Limits, Origin, Row};
use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettings, DefaultSolver, IPSolver, NonnegativeConeT, SolverStatus};
use fairlayer::{ConstraintSet, SpreadLimit};

/// What it makes of a problem.
pub enum Verdict {
    Solved(Vec<f64>),
    Infeasible,
    Undecided,
}

/// `a . x <= bound` over the samples and one more variable for every spread.
struct Inequality {
    a: Vec<f64>,
    bound: f64,
    /// The spread that it is of, and the coefficient of its centre.
    spread: Option<(usize, f64)>,
}

/// The rows and bounds of a problem, every spread with its centre (of a ratio: its largest mean) as a variable.
fn inequalities(set: &ConstraintSet, p: &Stated, rows: &[Row]) -> Vec<Inequality> {
    let n = p.z.len();
    let limits = Limits::of(set);
    let variables = n + set.spreads().len();
    let mut all = Vec::new();
    let mut push = |sign: f64, a: &[f64], extra: Option<(usize, f64)>, bound: f64| {
        if bound.is_finite() {
            let mut full: Vec<f64> = a.iter().map(|a| sign * a).collect();
            full.resize(variables, 0.0);
            if let Some((at, value)) = extra {
                full[n + at] = value;
            }
            all.push(Inequality { a: full, bound, spread: extra });
        }
    };
    for row in rows {
        match row.origin {
            Origin::Bounded(k) => {
                let a: Vec<f64> = row.a.iter().map(|a| row.unit * a).collect();
                push(1.0, &a, None, row.unit * (limits.upper[k] + row.target));
                push(-1.0, &a, None, -row.unit * (limits.lower[k] + row.target));
            }
            Origin::Spread(s) => {
                let (ratio, room) = match set.spreads()[s].limit {
                    SpreadLimit::Difference(epsilon) => (1.0, epsilon / 2.0),
                    SpreadLimit::Ratio(ratio) => (ratio, 0.0),
                };
                push(1.0, &row.a, Some((s, -1.0)), room);
                push(-1.0, &row.a, Some((s, ratio)), room);
            }
        }
    }
    for i in 0..n {
        let mut unit = vec![0.0; n];
        unit[i] = 1.0;
        push(1.0, &unit, None, p.hi[i]);
        push(-1.0, &unit, None, -p.lo[i]);
    }
    all
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
    let (status, x) = solve(&diagonal, &linear, &inequalities(set, p, rows));
    match status {
        SolverStatus::Solved => Verdict::Solved(x[..n].to_vec()),
        SolverStatus::PrimalInfeasible => Verdict::Infeasible,
        _ => Verdict::Undecided,
    }
}

/// `min 1/2 sum diagonal x^2 + linear . x` under the inequalities.
fn solve(diagonal: &[f64], linear: &[f64], inequalities: &[Inequality]) -> (SolverStatus, Vec<f64>) {
    let variables = diagonal.len();
    let all = || (0..variables).collect::<Vec<_>>();
    let objective = CscMatrix::new(variables, variables, (0..=variables).collect(), all(), diagonal.to_vec());
    let mut matrix = CscMatrix::<f64>::zeros((inequalities.len(), variables));
    for j in 0..variables {
        for (i, inequality) in inequalities.iter().enumerate().filter(|(_, inequality)| inequality.a[j] != 0.0) {
            matrix.rowval.push(i);
            matrix.nzval.push(inequality.a[j]);
        }
        matrix.colptr[j + 1] = matrix.rowval.len();
    }
    let bounds: Vec<f64> = inequalities.iter().map(|inequality| inequality.bound).collect();
    let settings = DefaultSettings {
        verbose: false,
        tol_gap_abs: 1e-11,
        tol_gap_rel: 1e-11,
        tol_feas: 1e-11,
        ..DefaultSettings::default()
    };
    let cones = [NonnegativeConeT(bounds.len())];
    let mut solver = DefaultSolver::new(&objective, linear, &matrix, &bounds, &cones, settings).expect("a problem");
    solver.solve();
    (solver.solution.status, solver.solution.x.clone())
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
    let mut inequalities = inequalities(set, p, rows);
    let variables = p.z.len() + set.spreads().len() + 1;
    let of_rows = inequalities.len() - p.lo.iter().chain(&p.hi).filter(|bound| bound.is_finite()).count();
    for (i, inequality) in inequalities.iter_mut().enumerate() {
        // Spreads are relaxed by half on either side; the largest mean of a ratio is not.
        let share = match inequality.spread {
            _ if i >= of_rows => 0.0,
            None => 1.0,
            Some((s, extra)) => match set.spreads()[s].limit {
                SpreadLimit::Difference(_) => 0.5,
                SpreadLimit::Ratio(_) => f64::from(u8::from(extra > 0.0)),
            },
        };
        inequality.a.push(-share);
    }
    let mut never_less = vec![0.0; variables];
    never_less[variables - 1] = -1.0;
    inequalities.push(Inequality { a: never_less, bound: 0.0, spread: None });
    let mut linear = vec![0.0; variables];
    linear[variables - 1] = 1.0;
    let (status, x) = solve(&vec![0.0; variables], &linear, &inequalities);
    (status == SolverStatus::Solved).then(|| x[variables - 1])
}
