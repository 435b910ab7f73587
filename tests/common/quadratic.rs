//! Quadratic programs for clarabel, an interior-point method that is good to about 1e-8: the independent solver of all tests.

use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettings, DefaultSolver, IPSolver, NonnegativeConeT, SolverStatus};

/// `a . x <= bound`.
pub struct Inequality {
    pub a: Vec<f64>,
    pub bound: f64,
}

/// Adds `sign a . x + extra <= bound`, if that bounds anything; `extra` is a coefficient of another variable. `a` may be
/// shorter than there are variables. Whether it was added.
pub fn push(
    all: &mut Vec<Inequality>,
    variables: usize,
    (sign, a): (f64, &[f64]),
    extra: Option<(usize, f64)>,
    bound: f64,
) -> bool {
    if bound.is_finite() {
        let mut full: Vec<f64> = a.iter().map(|a| sign * a).collect();
        full.resize(variables, 0.0);
        if let Some((at, value)) = extra {
            full[at] = value;
        }
        all.push(Inequality { a: full, bound });
    }
    bound.is_finite()
}

/// Adds `lo <= x <= hi` for the first variables.
pub fn push_bounds(all: &mut Vec<Inequality>, variables: usize, (lo, hi): (&[f64], &[f64])) {
    for i in 0..lo.len() {
        let mut unit = vec![0.0; lo.len()];
        unit[i] = 1.0;
        push(all, variables, (1.0, &unit), None, hi[i]);
        push(all, variables, (-1.0, &unit), None, -lo[i]);
    }
}

/// `min 1/2 sum diagonal x^2 + linear . x` under the inequalities.
pub fn solve(diagonal: &[f64], linear: &[f64], inequalities: &[Inequality]) -> (SolverStatus, Vec<f64>) {
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
