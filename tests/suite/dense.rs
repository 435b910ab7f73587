//! Rows with a coefficient for every sample, by either method.

use crate::common::run::assert_close;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Both methods keep the rows, agree in y, and `y = clip(z - A^T nu)` at the multipliers that they report.
pub fn both_methods_find_the_answer(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut held = 0;
    for round in 0..200 {
        let (n, m) = (rng.random_range(2..200_usize), rng.random_range(1..6_usize));
        let mut set = ConstraintSet::new(CellLayout::flat(1).expect("cells"));
        for row in 0..m {
            set.push_dense(DenseRow::new(format!("row {row}"), -0.01, 0.01)).expect("bounds");
        }
        let a: Vec<f64> = (0..m * n).map(|_| rng.random_range(-0.5..0.5) / n as f64).collect();
        let z: Vec<f64> = (0..n).map(|_| rng.random_range(-0.3..1.3)).collect();
        let batch = Batch::single(&z).coefficients(&a).bounds(0.0, 1.0);
        let answers = [Method::Newton, Method::Admm].map(|method| {
            let settings = Settings { method, ..Settings::default() };
            let mut projector = Projector::<f64>::plan(device, &set, Capacities::single(n), settings).expect("a plan");
            let solution = projector.project(&batch).expect("the batch fits");
            let view = solution.read().expect("solution");
            let what = format!("round {round}, {method:?}");
            assert_eq!(view.outcomes[0].status, Status::Solved, "{what}");
            for row in 0..m {
                let value: f64 = (0..n).map(|i| a[row * n + i] * view.y[i]).sum();
                assert!(value.abs() <= 0.01 + 1e-15, "{what}: {value}");
            }
            for i in 0..n {
                let shift: f64 = (0..m).map(|row| view.multipliers[row] * a[row * n + i]).sum();
                assert!(((z[i] - shift).clamp(0.0, 1.0) - view.y[i]).abs() < 1e-12, "{what}: element {i}");
            }
            held += usize::from(view.multipliers.iter().any(|nu| *nu != 0.0));
            view.y.to_vec()
        });
        assert_close(&format!("y of round {round}"), &answers[0], &answers[1], 1e-8);
    }
    assert!(held > 300, "only {held} answers are held by a row");
}

/// A group's mean as a dense row: the same answer and gradients as the contrast over cells, with weights.
pub fn means_are_dense_rows(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(2);
    for round in 0..60 {
        let n = rng.random_range(4..40_usize);
        let cells: Vec<u8> = (0..n).map(|i| (i % 2) as u8).collect();
        let z: Vec<f64> = (0..n).map(|_| rng.random_range(-0.3..1.3)).collect();
        let g: Vec<f64> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
        let weights: Vec<f64> = (0..n).map(|_| rng.random_range(0.5..2.0)).collect();
        let mass = |group: u8| (0..n).filter(|&i| cells[i] == group).map(|i| weights[i]).sum::<f64>();
        let masses = [mass(0), mass(1)];
        let sign = |i: usize| if cells[i] == 0 { 1.0 } else { -1.0 };
        let a: Vec<f64> = (0..n).map(|i| sign(i) * weights[i] / masses[usize::from(cells[i])]).collect();
        let layout = || CellLayout::flat(2).expect("cells");
        let (mut means, mut dense) = (ConstraintSet::new(layout()), ConstraintSet::new(layout()));
        means
            .push_contrast(Contrast {
                plus: Union::new(CellMask::of([0]).expect("cell"), "gap"),
                minus: CellMask::of([1]).expect("cell"),
                scale: 1.0,
                lower: 0.02,
                upper: 0.05,
                residual: false,
            })
            .expect("row");
        dense.push_dense(DenseRow::new("gap", 0.02, 0.05)).expect("row");
        let batch = Batch::single(&z).cells(&cells).weights(&weights).coefficients(&a).bounds(0.0, 1.0);
        let answers = [&means, &dense].map(|set| {
            let coefficients = if set.dense().is_empty() { &[][..] } else { &a[..] };
            let batch = batch.coefficients(coefficients);
            let capacities = Capacities::single(n);
            let mut projector = Projector::<f64>::plan(device, set, capacities, Settings::default()).expect("a plan");
            let mut gradients = projector.gradients(Wanted { bounds: true, coefficients: true, ..Wanted::default() });
            let solution = projector.project(&batch).expect("the batch fits");
            projector.vjp(&batch, &solution, &g, &mut gradients).expect("the batch fits");
            let (view, to) = (solution.read().expect("solution"), gradients.read().expect("gradients"));
            assert!(view.all_solved());
            let rows = [view.multipliers, to.lower, to.upper].concat();
            (view.y.to_vec(), to.predictions.to_vec(), to.lo.to_vec(), rows)
        });
        let [(y, to_z, to_lo, rows), (other_y, other_z, other_lo, other_rows)] = &answers;
        for (what, a, b) in
            [("y", y, other_y), ("dL/dz", to_z, other_z), ("dL/dlo", to_lo, other_lo), ("rows", rows, other_rows)]
        {
            assert_close(&format!("{what} of round {round}"), a, b, 1e-8);
        }
    }
}
