//! An independent solver, clarabel (an interior-point method, good to about 1e-8), on small problems of every kind.

use crate::common::kkt::Stated;
use crate::common::problems::{Kind, draw_case};
use crate::common::rows::{Limits, Origin, Row, live_rows};
use crate::common::run::{Inputs, Rig, assert_close, by_weight, largest};
use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettings, DefaultSolver, IPSolver, NonnegativeConeT, SolverStatus};
use fairlayer::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

/// `a . x <= bound` over the samples and one more variable for every spread.
struct Inequality {
    a: Vec<f64>,
    bound: f64,
}

/// The rows and bounds of a problem, every spread with its centre (of a ratio: its largest mean) as a variable.
fn inequalities(set: &ConstraintSet, p: &Stated, rows: &[Row]) -> Vec<Inequality> {
    let n = p.z.len();
    let variables = n + set.spreads().len();
    let mut all = Vec::new();
    let mut push = |sign: f64, a: &[f64], extra: Option<(usize, f64)>, bound: f64| {
        if bound.is_finite() {
            let mut full: Vec<f64> = a.iter().map(|a| sign * a).collect();
            full.resize(variables, 0.0);
            if let Some((at, value)) = extra {
                full[n + at] = value;
            }
            all.push(Inequality { a: full, bound });
        }
    };
    for row in rows {
        match row.origin {
            Origin::Contrast(k) => {
                let contrast = &set.contrasts()[k];
                push(1.0, &row.a, None, contrast.upper + row.target);
                push(-1.0, &row.a, None, -(contrast.lower + row.target));
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

/// Clarabel's answer; weights are normalised, as the problem does not depend on their unit.
fn clarabel(set: &ConstraintSet, p: &Stated, rows: &[Row]) -> (SolverStatus, Vec<f64>) {
    let n = p.z.len();
    let variables = n + set.spreads().len();
    let mean_weight = p.weights.iter().sum::<f64>() / n as f64;
    let diagonal: Vec<f64> = p.weights.iter().map(|w| w / mean_weight).collect();
    let objective = CscMatrix::new(
        variables,
        variables,
        (0..=variables).map(|j| j.min(n)).collect(),
        (0..n).collect(),
        diagonal.clone(),
    );
    let mut linear: Vec<f64> = diagonal.iter().zip(&p.z).map(|(w, z)| -w * z).collect();
    linear.resize(variables, 0.0);
    let inequalities = inequalities(set, p, rows);
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
    let mut solver = DefaultSolver::new(&objective, &linear, &matrix, &bounds, &cones, settings).expect("a problem");
    solver.solve();
    (solver.solution.status, solver.solution.x[..n].to_vec())
}

/// `1/2 sum w (y - z)^2 / sum w`.
fn distance(p: &Stated, y: &[f64]) -> f64 {
    let terms = p.weights.iter().zip(y.iter().zip(&p.z)).map(|(w, (y, z))| w * (y - z) * (y - z));
    0.5 * terms.sum::<f64>() / p.weights.iter().sum::<f64>()
}

/// The least distance that is possible if every limit may be exceeded by `slack`: `slack` times the multipliers lower.
/// An interior-point answer is a little outside of its limits, and is the closer for it.
fn worth_of(slack: f64, p: &Stated, nu: &[f64]) -> f64 {
    slack * nu.iter().map(|nu| nu.abs()).sum::<f64>() / p.weights.iter().sum::<f64>()
}

pub fn answers_agree_with_clarabel(device: &Device) {
    let (mut solved, mut infeasible, mut undecided) = (0, 0, 0);
    for kind in Kind::ALL {
        for seed in 0..16 {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, 60);
            let what = format!("{kind:?} (seed {seed})");
            let p = &case.stated;
            let rows = live_rows(&case.set, p);
            let (verdict, theirs) = clarabel(&case.set, p, &rows);
            let inputs = Inputs::<f64>::new(&[p]);
            let mut rig = Rig::new(device, &case.set, &inputs.offsets());
            let view = rig.project(&inputs.batch());
            let status = view.outcomes[0].status;
            match verdict {
                SolverStatus::Solved => {
                    solved += 1;
                    assert_eq!(status, Status::Solved, "{what}");
                    let scale = largest(&p.z).max(1.0);
                    let known = |y: &[f64]| by_weight(y, &p.weights);
                    assert_close(&format!("y of {what}"), &known(view.y), &known(&theirs), 2e-5 * scale);
                    let (ours, other) = (distance(p, view.y), distance(p, &theirs));
                    let beyond = crate::common::rows::excess(&case.set, &rows, &Limits::of(&case.set), &theirs);
                    let outside = (0..theirs.len()).map(|i| (theirs[i] - p.hi[i]).max(p.lo[i] - theirs[i]));
                    let bought = worth_of(beyond.max(0.0) + 1e-11, p, view.multipliers)
                        + outside.fold(0.0, f64::max) * 2.0 * scale;
                    assert!(ours <= other * (1.0 + 1e-10) + bought + 1e-15, "{what}: {ours:e} against {other:e}");
                }
                SolverStatus::PrimalInfeasible => {
                    infeasible += 1;
                    assert_eq!(status, Status::Infeasible, "{what}");
                }
                _ => undecided += 1,
            }
        }
    }
    assert!(solved >= 200 && infeasible > 0 && undecided <= 20, "{solved} solved, {infeasible}, {undecided}");
}
