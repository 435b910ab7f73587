//! Dense rows: by hand, said in other ways, dependent, and unusable.

use crate::common::devices::{enough, has, takes};
use crate::common::kkt::{Stated, judge, proves};
use crate::common::planted::{flat, planted_problems, with_dense};
use crate::common::problems::{Kind, draw_case};
use crate::common::rows::{Limits, Origin, dot, live_rows};
use crate::common::run::{
    Answer, EVERYTHING, Inputs, Rig, assert_close, bits, by_weight, exact, gradient_bits, largest, stored, widened,
};
use crate::for_each_storage;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const INF: f64 = f64::INFINITY;

/// Only dense rows, with these bounds.
fn dense(bounds: &[(f64, f64)]) -> ConstraintSet {
    let mut set = flat(1);
    for (lower, upper) in bounds {
        set.push_dense(DenseRow::new("dense", *lower, *upper)).expect("a dense row");
    }
    set
}

/// A problem without labels and with bounds for all.
fn stated(z: &[f64], weights: &[f64], (lo, hi): (f64, f64), coefficients: &[&[f64]]) -> Stated {
    let of = |value: f64| vec![value; z.len()];
    Stated {
        z: z.to_vec(),
        cells: vec![0; z.len()],
        weights: weights.to_vec(),
        labels: of(0.0),
        lo: of(lo),
        hi: of(hi),
        coefficients: coefficients.iter().map(|a| a.to_vec()).collect(),
    }
}

/// What rounding to the storage type allows for numbers of this size.
fn allowance<T: Storage>(size: f64) -> f64 {
    1e-10 + 16.0 * T::UNIT_ROUNDOFF * size
}

fn solve(device: &Device, set: &ConstraintSet, p: &Stated) -> (Answer, Vec<f64>, Vec<f64>) {
    solve_by(device, set, p, Method::Newton)
}

fn solve_by(device: &Device, set: &ConstraintSet, p: &Stated, method: Method) -> (Answer, Vec<f64>, Vec<f64>) {
    match has(device, Dtype::F64) {
        true => solve_in::<f64>(device, set, p, method),
        false => solve_in::<f32>(device, set, p, method),
    }
}

fn solve_in<T: Storage>(
    device: &Device,
    set: &ConstraintSet,
    p: &Stated,
    method: Method,
) -> (Answer, Vec<f64>, Vec<f64>) {
    let inputs = Inputs::<T>::new(&[p]);
    let mut rig = Rig::with_settings(device, set, &inputs.offsets(), Settings { method, ..exact() });
    let view = rig.project(&inputs.batch());
    (Answer::of(&view, 0), widened(view.y), view.multipliers.to_vec())
}

/// A problem as `solve` stores it.
fn as_stored(device: &Device, p: &Stated) -> Stated {
    if has(device, Dtype::F64) { p.clone() } else { Inputs::<f32>::new(&[p]).stated(0) }
}

/// What answers of `solve` may be off by, where in double precision it is this.
fn within(device: &Device, tolerance: f64) -> f64 {
    if has(device, Dtype::F64) { tolerance } else { 5e-6 }
}

/// Checks that both methods call a problem infeasible, and that their rays prove it.
#[track_caller]
fn is_infeasible(device: &Device, set: &ConstraintSet, p: &Stated) {
    let p = &as_stored(device, p);
    for method in [Method::Newton, Method::Admm] {
        let (answer, y, ray) = solve_by(device, set, p, method);
        assert_eq!(answer.status, Status::Infeasible, "{method:?}: {:?} of {p:?}", set.dense());
        let clipped: Vec<f64> = (0..y.len()).map(|i| p.z[i].max(p.lo[i]).min(p.hi[i])).collect();
        assert_eq!(y, clipped);
        proves(set, p, &Limits::of(set), &ray).unwrap_or_else(|why| panic!("{why}; {:?} of {p:?}", set.dense()));
    }
}

fn random(rng: &mut Pcg64Mcg, n: usize, (from, to): (f64, f64)) -> Vec<f64> {
    (0..n).map(|_| from + (to - from) * rng.random::<f64>()).collect()
}

pub fn one_equality_by_hand(device: &Device) {
    for_each_storage!(device, one_equality);
}

/// `y = z - W^-1 a nu` with `nu = (a.z - b) / (a W^-1 a)`.
fn one_equality<T: Storage>(device: &Device) {
    let (z, w, a) = ([0.75, -0.5, 0.25, 1.0], [1.0, 2.0, 0.5, 4.0], [1.0, -2.0, 0.5, 3.0]);
    for (weights, b) in [(w, 0.5), ([1.0; 4], -1.0)] {
        let nu = (dot(&a, &z) - b) / (0..4).map(|i| a[i] * a[i] / weights[i]).sum::<f64>();
        let expected: Vec<f64> = (0..4).map(|i| z[i] - a[i] * nu / weights[i]).collect();
        let inputs = Inputs::<T>::new(&[&stated(&z, &weights, (-INF, INF), &[&a])]);
        let mut rig = Rig::new(device, &dense(&[(b, b)]), &inputs.offsets());
        let view = rig.project(&inputs.batch());
        assert_eq!(view.outcomes[0].status, Status::Solved);
        assert_close("y", &widened(view.y), &expected, allowance::<T>(4.0));
        assert_close("nu", view.multipliers, &[nu], allowance::<T>(4.0));
        assert!((0..4).all(|i| view.clamp_state(0, i) == ClampState::Free));
        // dL/db of L = y_0 is a_0 / (w_0 a W^-1 a): how far the first sample moves with the bound.
        let view = rig.vjp(&inputs.batch(), &stored(&[1.0, 0.0, 0.0, 0.0]));
        let slope = nu_slope(&a, &weights) * a[0] / weights[0];
        assert_close("row bounds", &[view.lower[0] + view.upper[0]], &[slope], allowance::<T>(1.0));
    }
}

/// `1 / (a W^-1 a)`.
fn nu_slope(a: &[f64], weights: &[f64]) -> f64 {
    1.0 / a.iter().zip(weights).map(|(a, w)| a * a / w).sum::<f64>()
}

pub fn a_budget_by_hand(device: &Device) {
    for_each_storage!(device, a_budget);
}

/// Costs 1, 2, 1, 1 and a multiplier of 1/8 leave 1, 0.5, 0.375, 0.125 of the scores: 2.5 is spent.
fn a_budget<T: Storage>(device: &Device) {
    let (z, costs) = ([1.5, 0.75, 0.5, 0.25], [1.0, 2.0, 1.0, 1.0]);
    let inputs = Inputs::<T>::new(&[&stated(&z, &[1.0; 4], (0.0, 1.0), &[&costs])]);
    let mut rig = Rig::new(device, &dense(&[(-INF, 2.5)]), &inputs.offsets());
    let view = rig.project(&inputs.batch());
    assert_close("y", &widened(view.y), &[1.0, 0.5, 0.375, 0.125], allowance::<T>(2.0));
    assert_close("nu", view.multipliers, &[0.125], allowance::<T>(2.0));
    assert_eq!((view.clamp_state(0, 0), view.clamp_state(0, 1)), (ClampState::AtUpper, ClampState::Free));
    // With more to spend nothing is moved.
    let mut rig = Rig::new(device, &dense(&[(-INF, 3.5)]), &inputs.offsets());
    let view = rig.project(&inputs.batch());
    assert_eq!(bits(view.y), bits(&stored::<T>(&[1.0, 0.75, 0.5, 0.25])));
    assert_eq!((view.multipliers, view.outcomes[0].iterations), (&[0.0][..], 0));
}

/// Covariance with a feature becomes 0: y loses what the centred feature explains of it, and keeps its mean.
pub fn no_covariance_by_hand(device: &Device) {
    let (s, z) = ([20.0, 30.0, 40.0, 70.0], [0.2, 0.1, 0.6, 0.7]);
    let mean = 40.0;
    let a: Vec<f64> = s.iter().map(|s| (s - mean) / 4.0).collect();
    let explained = dot(&a, &z) / dot(&a, &a);
    let expected: Vec<f64> = z.iter().zip(&a).map(|(z, a)| z - explained * a).collect();
    let (_, y, _) = solve(device, &dense(&[(0.0, 0.0)]), &stated(&z, &[1.0; 4], (-INF, INF), &[&a]));
    assert_close("y", &y, &expected, 1e-12);
    assert_close("covariance and mean", &[dot(&a, &y), y.iter().sum::<f64>()], &[0.0, 1.6], 1e-11);
}

/// The rows of contrasts, and of a spread over two groups, written as coefficients.
pub fn means_as_dense_rows_equal_contrasts(device: &Device) {
    let mut held = 0;
    for kind in [Kind::TwoGroups, Kind::Overall, Kind::OverallOdds, Kind::MeanResidual] {
        for seed in 0..60 {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, 200);
            let (rows, limits) = (live_rows(&case.set, &case.stated), Limits::of(&case.set));
            let mut bounds = Vec::new();
            let mut coefficients = Vec::new();
            for row in &rows {
                if let Origin::Bounded(k) = row.origin {
                    bounds.push((limits.lower[k] + row.target, limits.upper[k] + row.target));
                    coefficients.push(row.a.clone());
                }
            }
            if let ([first, second], Kind::TwoGroups) = (&rows[..], kind) {
                bounds.push((-limits.levels[0], limits.levels[0]));
                coefficients.push(first.a.iter().zip(&second.a).map(|(a, b)| a - b).collect());
            }
            let of_means = solve(device, &case.set, &case.stated);
            let as_dense = Stated { cells: vec![0; case.stated.z.len()], coefficients, ..case.stated.clone() };
            let of_dense = solve(device, &dense(&bounds), &as_dense);
            assert_eq!(of_means.0.status, of_dense.0.status, "{kind:?}, seed {seed}");
            if of_means.0.status == Status::Solved && !bounds.is_empty() {
                held += usize::from(of_means.2.iter().any(|nu| *nu != 0.0));
                let known = |y: &[f64]| by_weight(y, &case.stated.weights);
                let tolerance = 1e-9 * largest(&case.stated.z).max(1.0);
                assert_close(&format!("{kind:?}, seed {seed}"), &known(&of_dense.1), &known(&of_means.1), tolerance);
            }
        }
    }
    assert!(held > 100, "only {held} problems have anything held");
}

/// A dense row that allows everything sends a problem through the dense kernels, and changes no answer.
pub fn the_dense_way_equals_the_cells_way(device: &Device) {
    let (mut solved, mut tried) = (0, 0);
    for kind in Kind::ALL.into_iter().filter(|kind| !Kind::DENSE.contains(kind)) {
        for seed in 0..60 {
            let mut rng = Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64);
            let case = draw_case(&mut rng, kind, 200);
            let set = with_dense(case.set.clone(), 1);
            if !takes(device, &set) {
                continue;
            }
            tried += 1;
            let coefficients = vec![random(&mut rng, case.stated.z.len(), (-1.0, 1.0))];
            let p = Stated { coefficients, ..case.stated.clone() };
            let (of_cells, of_samples) = (solve(device, &case.set, &case.stated), solve(device, &set, &p));
            let what = format!("{kind:?}, seed {seed}");
            assert_eq!(of_cells.0.status, of_samples.0.status, "{what}");
            assert_eq!(of_cells.0.inactive[..], of_samples.0.inactive[..case.set.rows()], "{what}");
            let scale = largest(&p.z).max(1.0);
            if of_cells.0.status == Status::Solved {
                solved += 1;
                let known = |y: &[f64]| by_weight(y, &p.weights);
                assert_close(&what, &known(&of_samples.1), &known(&of_cells.1), 1e-9 * scale);
                let kkt = judge(&set, &p, &of_samples.1, &of_samples.2, 1e-9);
                assert!(kkt.worst() <= 1e-9, "{what}: {kkt:?}");
            } else if of_cells.0.status == Status::Infeasible {
                proves(&set, &p, &Limits::of(&set), &of_samples.2).expect("a proof");
            }
        }
    }
    assert!(solved > tried * 3 / 4 && tried > 800, "only {solved} of {tried} problems were solved");
}

/// The same for all gradients, on planted problems.
pub fn the_dense_way_back_equals_the_cells_way(device: &Device) {
    for seed in 0..10 {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        for p in planted_problems(&mut rng).into_iter().filter(|p| p.set.dense().is_empty()) {
            let g = random(&mut rng, p.y.len(), (-1.0, 1.0));
            let mut limits = p.limits.clone();
            limits.lower.push(-INF);
            limits.upper.push(INF);
            let with_row = Stated { coefficients: vec![g.clone()], ..p.stated.clone() };
            let cells = Inputs::<f64>::new(&[&p.stated]).limited(&p.limits);
            let samples = Inputs::<f64>::new(&[&with_row]).limited(&limits);
            let arrays = |set: &ConstraintSet, inputs: &Inputs<f64>| {
                let mut rig = Rig::with_settings(device, set, &inputs.offsets(), exact());
                rig.project(&inputs.batch());
                let view = rig.vjp(&inputs.batch(), &g);
                let contrasts = set.contrasts().len();
                let elements = [view.predictions, view.lo, view.hi, view.weights, view.labels];
                let rows = [view.levels, &view.lower[..contrasts], &view.upper[..contrasts]];
                elements.into_iter().chain(rows).map(<[f64]>::to_vec).collect::<Vec<_>>()
            };
            let (of_cells, of_samples) = (arrays(&p.set, &cells), arrays(&with_dense(p.set.clone(), 1), &samples));
            for (i, (expected, got)) in of_cells.iter().zip(&of_samples).enumerate() {
                assert_close(&format!("array {i} of {}", p.name), got, expected, 1e-9 * largest(expected).max(1.0));
            }
        }
    }
}

/// A row of zeros is met or cannot be, whatever y is.
pub fn rows_of_zeros(device: &Device) {
    let (z, zeros, a) = ([0.9, 0.4, 0.7], [0.0; 3], [1.0, 1.0, 1.0]);
    let p = stated(&z, &[1.0, 2.0, 1.0], (0.0, 1.0), &[&zeros, &a]);
    let alone = solve(device, &dense(&[(-INF, 1.5)]), &stated(&z, &[1.0, 2.0, 1.0], (0.0, 1.0), &[&a]));
    for met in [(0.0, 0.0), (-1.0, 0.0), (0.0, INF), (-INF, 3.0)] {
        let (answer, y, nu) = solve(device, &dense(&[met, (-INF, 1.5)]), &p);
        assert_eq!(answer.status, Status::Solved, "{met:?}");
        assert_close("y", &y, &alone.1, within(device, 1e-11));
        assert_close("nu", &nu[1..], &alone.2, within(device, 1e-10));
    }
    for unmet in [(0.5, 0.5), (1e-3, INF), (-INF, -1.0)] {
        is_infeasible(device, &dense(&[unmet, (-INF, 1.5)]), &p);
        let free = Stated { lo: vec![-INF; 3], hi: vec![INF; 3], ..p.clone() };
        is_infeasible(device, &dense(&[unmet, (-INF, 1.5)]), &free);
    }
}

/// A row that is stated again, or as a multiple of itself, changes neither answers nor gradients to the predictions.
pub fn a_row_stated_twice(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(31);
    for round in 0..40 {
        let n = rng.random_range(2..30);
        let (z, w, a) =
            (random(&mut rng, n, (-0.2, 1.2)), random(&mut rng, n, (0.3, 3.0)), random(&mut rng, n, (0.0, 1.0)));
        let g = random(&mut rng, n, (-1.0, 1.0));
        let limit = 0.3 * a.iter().sum::<f64>();
        let factor = [1.0, -2.0, 1e5, -1e-6][round % 4];
        let scaled: Vec<f64> = a.iter().map(|a| factor * a).collect();
        for equality in [false, true] {
            let lower = if equality { limit } else { -INF };
            let other = if factor > 0.0 { (factor * lower, factor * limit) } else { (factor * limit, factor * lower) };
            let run = |bounds: &[(f64, f64)], rows: &[&[f64]]| {
                let inputs = Inputs::<f64>::new(&[&stated(&z, &w, (0.0, 1.0), rows)]);
                let mut rig = Rig::with_settings(device, &dense(bounds), &inputs.offsets(), exact());
                let view = rig.project(&inputs.batch());
                assert!(view.all_solved());
                let y = view.y.to_vec();
                (y, rig.vjp(&inputs.batch(), &g).predictions.to_vec())
            };
            let once = run(&[(lower, limit)], &[&a]);
            let twice = run(&[(lower, limit), other], &[&a, &scaled]);
            assert_close("y", &once.0, &twice.0, 1e-9);
            assert_close("predictions", &once.1, &twice.1, 1e-8);
        }
    }
}

/// Many rows through one point, of few samples: the point is all that they allow.
pub fn more_rows_than_samples(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(32);
    for _ in 0..60 {
        let n = rng.random_range(1..6);
        let m = n + rng.random_range(1..20);
        let point = random(&mut rng, n, (0.2, 0.8));
        let rows: Vec<Vec<f64>> = (0..m).map(|_| random(&mut rng, n, (-1.0, 1.0))).collect();
        let bounds: Vec<(f64, f64)> = rows.iter().map(|a| (dot(a, &point), dot(a, &point))).collect();
        let (z, w) = (random(&mut rng, n, (-0.5, 1.5)), random(&mut rng, n, (0.3, 3.0)));
        let p = stated(&z, &w, (0.0, 1.0), &rows.iter().map(|a| &a[..]).collect::<Vec<_>>());
        let (answer, y, _) = solve(device, &dense(&bounds), &p);
        assert_eq!(answer.status, Status::Solved);
        // The rows are known to the tolerance, the point by the condition of the rows.
        assert_close("y", &y, &point, within(device, 1e-7));
        let mut apart = bounds;
        apart[0] = (apart[0].0 + 0.1, apart[0].0 + 0.1);
        is_infeasible(device, &dense(&apart), &p);
    }
}

/// Rows all of whose elements cannot move.
pub fn rows_over_frozen_elements(device: &Device) {
    let a = [1.0, 1.0, 0.0, 0.0];
    let mut p = stated(&[0.5, 0.2, 0.9, 0.8], &[1.0, 2.0, 1.0, 1.0], (0.0, 1.0), &[&a, &[0.0, 0.0, 1.0, 1.0]]);
    (p.lo[0], p.hi[0], p.lo[1], p.hi[1]) = (0.25, 0.25, 0.5, 0.5);
    for met in [(0.75, 0.75), (-INF, 0.75), (0.5, 1.0)] {
        let (answer, y, nu) = solve(device, &dense(&[met, (-INF, 1.5)]), &p);
        assert_eq!(answer.status, Status::Solved, "{met:?}");
        assert_close("y", &y, &[0.25, 0.5, 0.8, 0.7], within(device, 1e-11));
        assert_close("nu", &nu[1..], &[0.1], within(device, 1e-11));
    }
    for unmet in [(0.875, INF), (-INF, 0.625)] {
        is_infeasible(device, &dense(&[unmet, (-INF, 1.5)]), &p);
    }
    for_each_storage!(device, all_at_their_bounds);
}

/// With a gradient: what is clamped passes nothing on but to its bound.
fn all_at_their_bounds<T: Storage>(device: &Device) {
    let p = stated(&[3.0, 4.0], &[1.0; 2], (0.0, 1.0), &[&[1.0, 2.0]]);
    let inputs = Inputs::<T>::new(&[&p]);
    let mut rig = Rig::new(device, &dense(&[(-INF, 3.5)]), &inputs.offsets());
    assert_eq!(widened(rig.project(&inputs.batch()).y), [1.0, 1.0]);
    let view = rig.vjp(&inputs.batch(), &stored(&[1.0, 2.0]));
    let [to_z, to_hi, to_rows] = [view.predictions, view.hi, view.coefficients].map(widened);
    assert_eq!((to_z, to_hi, to_rows), (vec![0.0; 2], vec![1.0, 2.0], vec![0.0; 2]));
}

pub fn shared_coefficients_equal_repeated_ones(device: &Device) {
    for_each_storage!(device, shared_coefficients);
}

fn shared_coefficients<T: Storage>(device: &Device) {
    let (problems, n, m) = (5, 17, 3);
    let mut rng = Pcg64Mcg::seed_from_u64(33);
    let z: Vec<T> = stored(&random(&mut rng, problems * n, (0.0, 1.0)));
    let coefficients = random(&mut rng, m * n, (-1.0, 1.0));
    let set = dense(&[(0.0, 0.0), (-INF, -1.0), (-0.1, 0.1)]);
    let offsets = Offsets::Equal { problems, n };
    let starts: Vec<usize> = (0..=problems).map(|problem| problem * n).collect();
    let repeated = coefficients.repeat(problems);
    let batch = Batch::new(&z, offsets);
    let run = |batch: &Batch<'_, T>| {
        let mut rig = Rig::new(device, &set, &offsets);
        let answers = Answer::all(&rig.project(batch));
        (answers, gradient_bits(&rig.vjp(batch, &z), &starts))
    };
    let expected = run(&batch.coefficients(&repeated));
    assert!(expected.0.iter().all(|answer| answer.status == Status::Solved && answer.counts.0 > 0));
    assert_eq!(run(&batch.coefficients(Reals::from(&coefficients).shared())), expected);
}

pub fn bad_coefficients_spoil_their_problem(device: &Device) {
    for_each_storage!(device, bad_coefficients);
}

fn bad_coefficients<T: Storage>(device: &Device) {
    let set = dense(&[(0.0, 0.1), (-INF, 0.5)]);
    let mut rng = Pcg64Mcg::seed_from_u64(34);
    let problems: Vec<Stated> = [4, 5, 3]
        .into_iter()
        .map(|n| {
            let rows = [random(&mut rng, n, (0.1, 1.0)), random(&mut rng, n, (-1.0, 1.0))];
            stated(
                &random(&mut rng, n, (0.0, 1.2)),
                &random(&mut rng, n, (0.5, 2.0)),
                (0.0, 1.0),
                &[&rows[0], &rows[1]],
            )
        })
        .collect();
    let run = |problems: &[Stated]| {
        let inputs = Inputs::<T>::new(&problems.iter().collect::<Vec<_>>());
        let mut rig = Rig::new(device, &set, &inputs.offsets());
        let answers = Answer::all(&rig.project(&inputs.batch()));
        let gradients = gradient_bits(&rig.vjp(&inputs.batch(), &inputs.z), &inputs.offsets);
        (answers, gradients, inputs)
    };
    let healthy = run(&problems);
    assert!(healthy.0.iter().all(|answer| answer.status == Status::Solved && answer.counts.0 > 0));
    for (row, i) in [(0, 0), (0, 4), (1, 2)] {
        for bad in [f64::NAN, INF, -INF] {
            let mut spoilt = problems.clone();
            spoilt[1].coefficients[row][i] = bad;
            let (answers, gradients, inputs) = run(&spoilt);
            assert_eq!(answers[1].status, Status::BadNumber, "{bad} in row {row}");
            let one = T::from_f64(1.0);
            let clipped: Vec<T> = inputs.z[4..9].iter().map(|z| if *z > one { one } else { *z }).collect();
            assert_eq!(answers[1].y, bits(&clipped));
            assert!(gradients[1].iter().all(|g| f64::from_bits(*g) == 0.0));
            for neighbour in [0, 2] {
                assert_eq!(answers[neighbour], healthy.0[neighbour], "{bad} in row {row}");
                assert_eq!(gradients[neighbour], healthy.1[neighbour], "{bad} in row {row}");
            }
        }
    }
}

/// Missing, too short, too long, or shared by problems that differ in size: an `Err` that says so.
pub fn coefficients_that_do_not_fit(device: &Device) {
    let set = dense(&[(0.0, 1.0), (0.0, 1.0)]);
    let z = [0.5; 6];
    let numbers = [0.25; 20];
    let offsets = [0, 2, 6];
    let even = Batch::<f64>::new(&z, Offsets::Equal { problems: 2, n: 3 });
    let uneven = Batch::<f64>::new(&z, Offsets::Ragged(&offsets));
    let shared = |length: usize| Reals::from(&numbers[..length]).shared();
    let error = |batch: &Batch<'_, f64>| {
        let capacities = Capacities { problems: 2, total: 6, largest: 4 };
        let mut projector = Projector::plan(device, &set, capacities, Settings::default()).expect("a plan");
        let mut solution = projector.solution();
        let error = projector.project_into(batch, &mut solution).expect_err("misuse");
        let good = uneven.coefficients(&numbers[..12]);
        projector.project_into(&good, &mut solution).expect("this one fits");
        let mut gradients = projector.gradients(EVERYTHING);
        assert!(projector.vjp(batch, &solution, &z, &mut gradients).is_err());
        error
    };
    let missing = error(&even);
    assert!(
        matches!(missing, Error::Missing { .. }) && missing.to_string().contains("Batch::coefficients"),
        "{missing}"
    );
    for (batch, got, expected) in [
        (even.coefficients(&numbers[..6]), 6, 12),
        (even.coefficients(&numbers[..13]), 13, 12),
        (even.coefficients(&numbers[..0]), 0, 12),
        (even.coefficients(shared(12)), 12, 6),
        (even.coefficients(shared(5)), 5, 6),
    ] {
        let error = error(&batch);
        assert!(matches!(error, Error::Shape { expected: e, got: g, .. } if (e, g) == (expected, got)), "{error}");
        assert!(error.to_string().contains("coefficients"), "{error}");
    }
    let error_of_sizes = error(&uneven.coefficients(shared(6)));
    assert!(error_of_sizes.to_string().contains("equal size"), "{error_of_sizes}");
    let bounds = even.coefficients(&numbers[..12]).row_bounds(&numbers[..2], &numbers[..4]);
    assert!(matches!(error(&bounds), Error::Shape { expected: 4, got: 2, .. }));
    // A set without dense rows takes none.
    let mut projector =
        Projector::plan(device, &flat(1), Capacities::equal(2, 3), Settings::default()).expect("a plan");
    assert!(projector.project(&even.coefficients(&numbers[..6])).is_err());
    for (lower, upper) in [(1.0, 0.0), (f64::NAN, 0.0), (0.0, f64::NAN), (INF, INF), (-INF, -INF)] {
        assert!(flat(1).push_dense(DenseRow::new("row", lower, upper)).is_err(), "[{lower}, {upper}]");
    }
}

/// Cells are asked for only by rows about cells; given ones do no harm.
pub fn no_cells_are_needed(device: &Device) {
    let z = [0.5, 0.25, 1.0];
    let batch = Batch::<f64>::single(&z).coefficients(&[1.0, 1.0, 1.0]);
    let set = dense(&[(-INF, 1.0)]);
    let mut rig = Rig::new(device, &set, &batch.offsets());
    assert_close("y", rig.project(&batch).y, &[0.25, 0.0, 0.75], 1e-10);
    assert_close("y", rig.project(&batch.cells(&[0, 0, 0])).y, &[0.25, 0.0, 0.75], 1e-10);
    let mut both = set;
    both.push_spread(crate::common::planted::spread([CellMask::first(1)], SpreadLimit::Difference(0.1))).expect("one");
    let mut projector = Projector::plan(device, &both, Capacities::single(3), Settings::default()).expect("a plan");
    assert!(matches!(projector.project(&batch).expect_err("no cells"), Error::Missing { .. }));
}

/// A row and its bounds times a factor say the same: bit for bit if the factor is a power of two.
pub fn the_scale_of_a_row_does_not_matter(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(35);
    for _ in 0..50 {
        let (n, m) = (rng.random_range(4..40), rng.random_range(1..4));
        let rows: Vec<Vec<f64>> = (0..m).map(|_| random(&mut rng, n, (-1.0, 1.0))).collect();
        let point = random(&mut rng, n, (0.2, 0.8));
        let bounds: Vec<f64> = rows.iter().map(|a| dot(a, &point)).collect();
        let (z, w, g) =
            (random(&mut rng, n, (-0.5, 1.5)), random(&mut rng, n, (0.3, 3.0)), random(&mut rng, n, (-1.0, 1.0)));
        let run = |scales: &[f64]| {
            let scaled: Vec<Vec<f64>> =
                rows.iter().zip(scales).map(|(a, s)| a.iter().map(|a| s * a).collect()).collect();
            let bounds: Vec<(f64, f64)> = bounds.iter().zip(scales).map(|(b, s)| (s * b, s * b)).collect();
            let p = stated(&z, &w, (0.0, 1.0), &scaled.iter().map(|a| &a[..]).collect::<Vec<_>>());
            let inputs = Inputs::<f64>::new(&[&p]);
            let mut rig = Rig::with_settings(device, &dense(&bounds), &inputs.offsets(), exact());
            let view = rig.project(&inputs.batch());
            assert!(view.all_solved(), "{scales:?}");
            let (y, nu) = (view.y.to_vec(), view.multipliers.to_vec());
            let unscaled = nu.iter().zip(scales).map(|(nu, s)| nu * s).collect::<Vec<_>>();
            (y, unscaled, rig.vjp(&inputs.batch(), &g).predictions.to_vec())
        };
        let plain = run(&vec![1.0; m]);
        let cycle = |values: &[f64]| -> Vec<f64> { values.iter().copied().cycle().take(m).collect() };
        let two = 2.0_f64;
        let shifted = run(&cycle(&[two.powi(27), two.powi(-31), two.powi(60)]));
        assert_eq!((bits(&shifted.0), bits(&shifted.1)), (bits(&plain.0), bits(&plain.1)));
        for scales in [[1e8, 1e-8, 1.0], [1e-8, 1e-8, 1e8], [-1.0, 1e100, -1e-100]] {
            let scaled = run(&cycle(&scales));
            assert_close("y", &scaled.0, &plain.0, 1e-10);
            assert_close("nu", &scaled.1, &plain.1, 1e-9 * largest(&plain.1).max(1.0));
            assert_close("predictions", &scaled.2, &plain.2, 1e-9);
        }
    }
}

/// Coefficients whose squares are below all numbers are still a row: it is kept, or the problem says that it cannot be.
pub fn tiny_coefficients_are_not_lost(device: &Device) {
    for tiny in [1e-150, 1e-170, 1e-300] {
        let p = stated(&[0.5, 0.75], &[1.0; 2], (0.0, 1.0), &[&[tiny, tiny]]);
        let (answer, y, _) = solve(device, &dense(&[(0.25 * tiny, 0.25 * tiny)]), &p);
        if answer.status != Status::BadNumber {
            assert_eq!(answer.status, Status::Solved);
            assert_close(&format!("y with coefficients of {tiny:e}"), &y, &[0.0, 0.25], 1e-9);
        }
    }
}

/// One row, or a row and what bounds and another row leave of it, just within reach or just out of it.
pub fn nearly_infeasible_is_decided(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(36);
    for round in 0..200 {
        let n = rng.random_range(1..40);
        let (a, w) = (random(&mut rng, n, (-1.0, 1.0)), random(&mut rng, n, (0.3, 3.0)));
        let (z, mean) = (random(&mut rng, n, (-0.5, 1.5)), w.iter().sum::<f64>() / n as f64);
        let w: Vec<f64> = w.iter().map(|w| w / mean / n as f64).collect();
        let unit = crate::common::rows::unit_of(&a, &w);
        let b: Vec<f64> = a.iter().map(|a| -0.5 * a).collect();
        let most: f64 = a.iter().map(|a| a.max(0.0)).sum();
        for beyond in [1e-6, 1e-8, 1e-9, -1e-9, -1e-8, -1e-6] {
            let (gap, half) = (beyond / unit, 0.5 * most);
            let (bounds, rows, bound): (Vec<_>, Vec<&[f64]>, _) = match round % 3 {
                // The greatest value of the row within [0, 1].
                0 => (vec![(most + gap, INF)], vec![&a], (0.0, 1.0)),
                // Against its own multiple, without bounds.
                1 => (vec![(half + gap, INF), (-0.5 * half, INF)], vec![&a, &b], (-INF, INF)),
                _ => (vec![(half + gap, half + gap), (-0.5 * half, -0.5 * half)], vec![&a, &b], (-INF, INF)),
            };
            let p = stated(&z, &w, bound, &rows);
            let set = dense(&bounds);
            if beyond > 0.0 || round % 3 == 2 {
                is_infeasible(device, &set, &p);
            } else {
                for method in [Method::Newton, Method::Admm] {
                    let (answer, y, nu) = solve_by(device, &set, &p, method);
                    assert_eq!(answer.status, Status::Solved, "{method:?}: {beyond:e} within reach, {bounds:?}, {p:?}");
                    let kkt = judge(&set, &p, &y, &nu, 1e-9);
                    assert!(kkt.worst() <= 1e-9, "{kkt:?}");
                }
            }
        }
    }
}

/// A problem with a solution and without upper bounds: heavy samples, which a ray pulls by a ten-billionth of what it
/// pulls light ones by, are pulled all the same.
pub fn heavy_samples_count_in_a_proof(device: &Device) {
    let case = draw_case(&mut Pcg64Mcg::seed_from_u64(304_564_720_894_121), Kind::DenseCorner, 4096);
    assert_eq!((case.feasible, case.stated.z.len()), (Some(true), 3));
    let inputs = Inputs::<f64>::new(&[&case.stated]);
    let mut rig = Rig::new(device, &case.set, &inputs.offsets());
    let view = rig.project(&inputs.batch());
    assert_eq!(view.outcomes[0].status, Status::Solved);
    let kkt = judge(&case.set, &case.stated, view.y, view.multipliers, 1e-9);
    assert!(kkt.worst() <= 1e-9, "{kkt:?}");
}

/// Two rows that say nearly opposite things, by coefficients that differ in their last bit: scaling rounds that away, and
/// what is left, of either sign, must not be a proof. (Such a problem came up among a million random ones.)
pub fn what_scaling_rounds_away_proves_nothing(device: &Device) {
    let (a, b) = (0.06868440310464777, 0.015065221330504964);
    let set = dense(&[(-INF, 0.0), (8.673617379884035e-19, INF), (-INF, 0.23970228247366016)]);
    let rows: [&[f64]; 3] = [&[a, -a], &[b, -0.015065221330504962], &[0.21349591924194292, 0.2659086457053774]];
    let p = stated(&[-0.6038746724138322, 1.702298551524124], &[1.0; 2], (0.0, 1.0), &rows);
    for method in [Method::Newton, Method::Admm] {
        let (answer, y, _) = solve_by(device, &set, &p, method);
        assert_eq!(answer.status, Status::Solved, "{method:?}");
        assert!(
            dot(rows[0], &y) <= 1e-12 && dot(rows[1], &y) >= -1e-12 && dot(rows[2], &y) <= 0.23970228247366016 + 1e-12,
            "{y:?}"
        );
    }
}

/// Without weights the Jacobian is an orthogonal projection, however dependent the rows are.
pub fn the_jacobian_of_dependent_rows_is_a_projection(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(37);
    for _ in 0..30 {
        let n = rng.random_range(4..16);
        let mut rows: Vec<Vec<f64>> = (0..3).map(|_| random(&mut rng, n, (-1.0, 1.0))).collect();
        let sum: Vec<f64> = (0..n).map(|i| rows[0][i] + rows[1][i]).collect();
        let multiple: Vec<f64> = rows[2].iter().map(|a| 1e3 * a).collect();
        rows.extend([sum, multiple, vec![0.0; n], rows[0].clone()]);
        let point = random(&mut rng, n, (0.3, 0.7));
        let bounds: Vec<(f64, f64)> = rows.iter().map(|a| (dot(a, &point), dot(a, &point))).collect();
        let z = random(&mut rng, n, (-0.3, 1.3));
        let p = stated(&z, &vec![1.0; n], (0.0, 1.0), &rows.iter().map(|a| &a[..]).collect::<Vec<_>>());
        let inputs = Inputs::<f64>::new(&[&p]);
        let mut rig = Rig::with_settings(device, &dense(&bounds), &inputs.offsets(), exact());
        assert!(rig.project(&inputs.batch()).all_solved());
        let mut row_of = |i: usize| {
            let mut g = vec![0.0; n];
            g[i] = 1.0;
            rig.vjp(&inputs.batch(), &g).predictions.to_vec()
        };
        let jacobian: Vec<Vec<f64>> = (0..n).map(&mut row_of).collect();
        let column = |j: usize| jacobian.iter().map(|row| row[j]).collect::<Vec<f64>>();
        for (i, row) in jacobian.iter().enumerate() {
            assert_close("symmetry", row, &column(i), 1e-10);
            let square: Vec<f64> = (0..n).map(|j| dot(row, &column(j))).collect();
            assert_close("square", row, &square, 1e-10);
            // y moves along every row.
            rows.iter().for_each(|a| assert!(dot(a, &column(i)).abs() <= 1e-9 * largest(a).max(1.0)));
        }
    }
}

pub fn the_order_of_rows_does_not_matter(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(38);
    for seed in 0..100 {
        let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed), Kind::Dense, 60);
        let mut order: Vec<usize> = (0..case.set.dense().len()).collect();
        rand::seq::SliceRandom::shuffle(&mut order[..], &mut rng);
        let bounds: Vec<_> = order.iter().map(|&k| (case.set.dense()[k].lower, case.set.dense()[k].upper)).collect();
        let coefficients = order.iter().map(|&k| case.stated.coefficients[k].clone()).collect();
        let first = solve(device, &case.set, &case.stated);
        let second = solve(device, &dense(&bounds), &Stated { coefficients, ..case.stated.clone() });
        assert_eq!(first.0.status, second.0.status, "seed {seed}");
        let known = |y: &[f64]| by_weight(y, &case.stated.weights);
        let scale = largest(&case.stated.z).max(1.0);
        assert_close(&format!("y of seed {seed}"), &known(&second.1), &known(&first.1), 1e-8 * scale);
    }
}

/// Raw powers of large values that differ little are nearly one row: what is left of the third power is a millionth.
pub fn raw_powers_of_large_values(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(39);
    let mut held = 0;
    // (By ADMM some take thousands of iterations.)
    let rounds = enough(device, 150);
    for round in 0..rounds {
        let n = rng.random_range(5..120);
        let spread = 10_f64.powf(rng.random_range(3.0..6.0));
        let values: Vec<f64> = (0..n).map(|_| 1e6 + spread * (rng.random::<f64>() - 0.5)).collect();
        let moments = rng.random_range(1..=3);
        let covariance = Covariance { moments, ..Covariance::within(1e-3).features(["value"]) };
        let set = covariance.constraints(&Population::one_feature(1)).expect("constraints");
        let z = random(&mut rng, n, (-0.2, 1.2));
        let a = covariance.coefficients(&[&values], &Offsets::Equal { problems: 1, n }, None).expect("coefficients");
        let p = stated(&z, &vec![1.0; n], (0.0, 1.0), &a.chunks(n).collect::<Vec<_>>());
        for method in [Method::Newton, Method::Admm] {
            let (answer, y, nu) = solve_by(device, &set, &p, method);
            assert_eq!(answer.status, Status::Solved, "round {round}, {method:?}, {moments} moments, spread {spread}");
            let kkt = judge(&set, &p, &y, &nu, 1e-9);
            assert!(kkt.worst() <= 1e-9 && kkt.rounding <= 1e-6, "round {round}, {method:?}: {kkt:?}");
            held += u32::from(nu.iter().any(|nu| *nu != 0.0));
        }
    }
    assert!(3 * held > 4 * rounds, "only {held} answers are held by a row");
}

/// Both methods keep the rows, agree in y, and `y = clip(z - A^T nu)` at the multipliers that they report.
pub fn both_methods_find_the_answer(device: &Device) {
    for_each_storage!(device, both_find_the_answer, [f32, f64]);
}

fn both_find_the_answer<T: Storage>(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut held = 0;
    let rounds = enough(device, 200);
    for round in 0..rounds {
        let (n, m) = (rng.random_range(2..200_usize), rng.random_range(1..6_usize));
        let mut set = ConstraintSet::new(CellLayout::flat(1).expect("cells"));
        for row in 0..m {
            set.push_dense(DenseRow::new(format!("row {row}"), -0.01, 0.01)).expect("bounds");
        }
        let a: Vec<f64> = (0..m * n).map(|_| rng.random_range(-0.5..0.5) / n as f64).collect();
        let z: Vec<T> = stored(&(0..n).map(|_| rng.random_range(-0.3..1.3)).collect::<Vec<_>>());
        let batch = Batch::single(&z).coefficients(&a).bounds(T::from_f64(0.0), T::from_f64(1.0));
        let answers = [Method::Newton, Method::Admm].map(|method| {
            let settings = Settings { method, ..Settings::default() };
            let mut projector = Projector::<T>::plan(device, &set, Capacities::single(n), settings).expect("a plan");
            let solution = projector.project(&batch).expect("the batch fits");
            let view = solution.read().expect("solution");
            let (z, y) = (widened(&z), widened(view.y));
            let what = format!("round {round}, {method:?}");
            assert_eq!(view.outcomes[0].status, Status::Solved, "{what}");
            for row in 0..m {
                let value: f64 = (0..n).map(|i| a[row * n + i] * y[i]).sum();
                assert!(value.abs() <= 0.01 + 1e-15, "{what}: {value}");
            }
            for i in 0..n {
                let shift: f64 = (0..m).map(|row| view.multipliers[row] * a[row * n + i]).sum();
                let off = ((z[i] - shift).clamp(0.0, 1.0) - y[i]).abs();
                assert!(off <= 1e-12 + 4.0 * T::UNIT_ROUNDOFF, "{what}: element {i} is {off:e} off");
            }
            held += u32::from(view.multipliers.iter().any(|nu| *nu != 0.0));
            y
        });
        assert_close(&format!("y of round {round}"), &answers[0], &answers[1], 1e-8 + 80.0 * T::UNIT_ROUNDOFF);
    }
    assert!(held > 3 * rounds / 2, "only {held} answers are held by a row");
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
