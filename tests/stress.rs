//! Random problems by the thousand, every answer judged by its KKT residual in float64.
//!
//! `FAIRLAYER_STRESS=1000000 cargo test --release --test stress -- --nocapture` runs a million and prints the counts;
//! `FAIRLAYER_SEED` picks others, `FAIRLAYER_LARGEST` sets their largest size.

mod common;

use common::kkt::{Stated, judge, proves};
use common::planted::{contrast, flat, mask};
use common::problems::{Case, Kind, Scores, draw_case};
use common::rows::Limits;
use fairlayer::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

#[derive(Default)]
struct Tally {
    steps: Vec<u32>,
    passes: Vec<u32>,
    ordinary_passes: Vec<u32>,
    infeasible: usize,
    limits: Vec<(u64, usize)>,
    wrong: Vec<(u64, usize, f64)>,
    worst: f64,
    /// Called infeasible without a proof, or against what is known.
    unproven: Vec<(u64, usize, String)>,
    leaks: Vec<(u64, usize, f64)>,
}

fn largest_y(y: &[f64]) -> f64 {
    y.iter().fold(0.0, |most, y| most.max(y.abs()))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn solve<T: Storage>(case: &Case) -> Solution<T> {
    let narrow = |values: &[f64]| -> Vec<T> { values.iter().map(|value| T::from_f64(*value)).collect() };
    let p = &case.stated;
    let (z, lo, hi) = (narrow(&p.z), narrow(&p.lo), narrow(&p.hi));
    let mut batch = Batch::single(&z).cells(&p.cells).labels(&p.labels);
    batch = if case.scalar_bounds { batch.bounds(lo[0], hi[0]) } else { batch.element_bounds(&lo, &hi) };
    if case.weighted {
        batch = batch.weights(&p.weights);
    }
    let coefficients = p.coefficients.concat();
    if !coefficients.is_empty() {
        batch = batch.coefficients(&coefficients);
    }
    let capacities = Capacities::single(z.len());
    Projector::<T>::plan(Device::cpu(), &case.set, capacities, Settings::default()).unwrap().project(&batch).unwrap()
}

fn draw_narrowed<T: Storage>(kind: Kind, seed: u64, largest: usize) -> Case {
    let mut case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed), kind, largest);
    for values in [&mut case.stated.z, &mut case.stated.lo, &mut case.stated.hi] {
        values.iter_mut().for_each(|value| *value = T::from_f64(*value).to_f64());
    }
    if kind == Kind::DenseCorner && T::DTYPE != Dtype::F64 {
        // A corner of rounded bounds is another.
        case.feasible = None;
    }
    case
}

fn run<T: Storage>(kind: Kind, count: usize, largest: usize, seed: u64) -> Tally {
    let mut tally = Tally::default();
    for index in 0..count {
        let seed = seed ^ ((kind as u64) << 40) ^ index as u64;
        let case = draw_narrowed::<T>(kind, seed, largest);
        let solution = solve::<T>(&case);
        let view = solution.read().unwrap();
        let outcome = view.outcomes[0];
        let n = case.stated.z.len();
        match outcome.status {
            Status::Solved => {
                let y: Vec<f64> = view.y.iter().map(|y| y.to_f64()).collect();
                let nothing = if T::DTYPE == Dtype::F64 { 1e-9 } else { 1e-6 };
                let residual = judge(&case.set, &case.stated, &y, view.multipliers, nothing).worst();
                let scale = case.stated.z.iter().fold(1.0_f64, |most, z| most.max(z.abs()));
                // In f32 the margin is 8 roundings, grown 8 times at the most, and 8 margins are the most that is accepted.
                let limit = if T::DTYPE == Dtype::F64 { 1e-9 } else { 512.0 * T::UNIT_ROUNDOFF * scale };
                tally.worst = tally.worst.max(residual);
                if residual.is_nan() || residual > limit {
                    tally.wrong.push((seed, n, residual));
                }
                if case.epsilon >= 1e-4 && !matches!(kind, Kind::Ratio | Kind::RatioFeatures | Kind::RandomContrasts) {
                    let promised = case.epsilon >= largest_y(&y) / 2_f64.powi(18);
                    if promised && outcome.excess > 0.0 {
                        tally.leaks.push((seed, n, outcome.excess));
                    }
                }
                tally.steps.push(outcome.iterations);
                tally.passes.push(outcome.passes);
                if case.scores.ordinary() {
                    tally.ordinary_passes.push(outcome.passes);
                }
            }
            Status::Infeasible => {
                tally.infeasible += 1;
                let ray = view.multipliers;
                let proof = proves(&case.set, &case.stated, &Limits::of(&case.set), ray);
                let proof = if case.feasible == Some(true) { Err("it has a solution".into()) } else { proof };
                proof.unwrap_or_else(|why| tally.unproven.push((seed, n, why)));
            }
            Status::IterationLimit | Status::BadNumber | Status::Relaxed => tally.limits.push((seed, n)),
        }
    }
    tally
}

fn quantile(values: &mut [u32], q: f64) -> u32 {
    values.sort_unstable();
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(0)
}

fn report<T: Storage>(total: usize, largest: usize) {
    let count = total.div_ceil(Kind::ALL.len());
    let seed = number("FAIRLAYER_SEED", 1) << 48;
    let one = |kind: &Kind| (*kind, run::<T>(*kind, count, largest, seed));
    let tallies: Vec<(Kind, Tally)> = Kind::ALL.par_iter().map(one).collect();
    let mut failures = 0;
    let mut all = Tally::default();
    for (kind, mut tally) in tallies {
        println!(
            "{:?} {kind:?}: {count} problems, {} infeasible, {} at the limit, {} unproven, {} wrong, worst residual {:.1e}, {} above epsilon, steps {}/{}/{}, passes {}/{}/{}, ordinary p99 {}",
            T::DTYPE,
            tally.infeasible,
            tally.limits.len(),
            tally.unproven.len(),
            tally.wrong.len(),
            tally.worst,
            tally.leaks.len(),
            quantile(&mut tally.steps, 0.5),
            quantile(&mut tally.steps, 0.99),
            quantile(&mut tally.steps, 1.0),
            quantile(&mut tally.passes, 0.5),
            quantile(&mut tally.passes, 0.99),
            quantile(&mut tally.passes, 1.0),
            quantile(&mut tally.ordinary_passes, 0.99),
        );
        for (seed, n) in tally.limits.iter().take(3) {
            println!("    limit: seed {seed}, n {n}");
        }
        for (seed, n, residual) in tally.wrong.iter().take(3) {
            println!("    wrong: seed {seed}, n {n}, residual {residual:.1e}");
        }
        for (seed, n, excess) in tally.leaks.iter().take(3) {
            println!("    above epsilon: seed {seed}, n {n}, excess {excess:.1e}");
        }
        for (seed, n, why) in tally.unproven.iter().take(3) {
            println!("    unproven: seed {seed}, n {n}, {why}");
        }
        // The user's own dependent contrasts at epsilon 0 may defeat rounding; dense rows that of f32.
        let per_mille = match (kind, T::DTYPE == Dtype::F64) {
            (Kind::RandomContrasts, true) => 1,
            (Kind::RandomContrasts, false) => 2,
            (_, false) if Kind::DENSE.contains(&kind) => 3,
            _ => 0,
        };
        let allowed = (count * per_mille).div_ceil(1000);
        failures +=
            tally.wrong.len() + tally.leaks.len() + tally.unproven.len() + tally.limits.len().saturating_sub(allowed);
        all.steps.append(&mut tally.steps);
        all.passes.append(&mut tally.passes);
        all.ordinary_passes.append(&mut tally.ordinary_passes);
    }
    let medians = (quantile(&mut all.steps, 0.5), quantile(&mut all.passes, 0.5));
    println!(
        "median steps {}, passes {}; ordinary p99 {} passes",
        medians.0,
        medians.1,
        quantile(&mut all.ordinary_passes, 0.99)
    );
    assert_eq!(failures, 0, "failures");
}

#[test]
fn random_problems_f64() {
    report::<f64>(number("FAIRLAYER_STRESS", 10_000) as usize, number("FAIRLAYER_LARGEST", 3_000) as usize);
}

#[test]
fn random_problems_f32() {
    report::<f32>(number("FAIRLAYER_STRESS", 10_000) as usize, number("FAIRLAYER_LARGEST", 3_000) as usize);
}

/// Solves a problem that is written out, and judges it as the random ones are.
fn check(set: ConstraintSet, epsilon: f64, stated: Stated) {
    let case = Case {
        set,
        stated,
        epsilon,
        scores: Scores::AllBeyond,
        scalar_bounds: false,
        weighted: true,
        feasible: Some(true),
    };
    let solution = solve::<f64>(&case);
    let view = solution.read().unwrap();
    assert_eq!(view.outcomes[0].status, Status::Solved);
    let residual = judge(&case.set, &case.stated, view.y, view.multipliers, 1e-9).worst();
    assert!(residual <= 1e-9, "residual {residual:.1e}");
}

/// Three samples that nearly contradict each other: their multipliers are a million times the shift that is left of them.
#[test]
fn large_multipliers_that_cancel() {
    let sizes = [("a", 2), ("b", 2), ("c", 7)].map(|(name, groups)| SensitiveFeature::new(name, groups));
    let set = EqualizedOdds::within(0.0).constraints(&Population::of_features(sizes)).unwrap();
    let stated = Stated {
        z: vec![-12.153840139302227, -12.15402925064924, -12.144659852239895],
        cells: vec![0, 2, 42],
        weights: vec![0.0010665024664356104, 0.32938229469635216, 775.2853160478057],
        labels: vec![0.0; 3],
        lo: vec![0.13176237062853982, 0.07573215145990297, 0.015099158371868461],
        hi: vec![0.9266890505531524, 0.885752648713637, 0.8611324741603358],
        coefficients: Vec::new(),
    };
    check(set, 0.0, stated);
}

/// Dependent contrasts: what rounding leaves of the one that follows from others can grow without end.
#[test]
fn multipliers_that_run_away() {
    let mut set = flat(8);
    let (never, none) = (f64::INFINITY, 0.0);
    for (plus, minus, lower, upper) in [
        (vec![2, 3, 5, 7], vec![0, 4], none, none),
        (vec![3], vec![4, 5, 7], none, none),
        (vec![3, 4, 7], vec![0, 2, 5, 6, 7], none, never),
        (vec![2, 7], vec![3, 5], none, never),
        (vec![0, 1, 2, 3, 5, 6, 7], vec![0, 3, 5], -never, none),
        (vec![2, 3, 4, 7], vec![0, 1, 2], -never, none),
        (vec![1, 2, 5, 6, 7], vec![0, 2, 7], none, none),
    ] {
        set.push_contrast(contrast(mask(plus), mask(minus), 1.0, lower, upper)).unwrap();
    }
    let stated = Stated {
        z: vec![5.724427819641945, -2.4928452314159033, 5.29239770744318, 6.063755897698179],
        cells: vec![7, 7, 0, 6],
        weights: vec![163.14158625238557, 0.02524935942010558, 0.15075201321498713, 6.101720846093109],
        labels: vec![0.0; 4],
        lo: vec![0.0; 4],
        hi: vec![1.0; 4],
        coefficients: Vec::new(),
    };
    check(set, 0.0, stated);
}

/// One multiplier moves a light group and its counterpart, the same number, moves nothing to speak of: both hold.
#[test]
fn multipliers_of_unequal_reach() {
    let sizes = [("a", 2), ("b", 5), ("c", 4)].map(|(name, groups)| SensitiveFeature::new(name, groups));
    let set = DemographicParity::within(1e-6).constraints(&Population::of_features(sizes)).unwrap();
    let stated = Stated {
        z: vec![-90.1578077578937, -90.22713436466206, -90.18636192553915, 91.18625400063401],
        cells: vec![7, 4, 4, 24],
        weights: vec![0.0012605368913358747, 1.4544739001756666, 84.91041834173262, 4.691812554185123],
        labels: vec![0.0; 4],
        lo: vec![0.0; 4],
        hi: vec![1.0; 4],
        coefficients: Vec::new(),
    };
    check(set, 1e-6, stated);
}

/// Looks at one problem: `FAIRLAYER_CASE=<kind>,<seed>,<f32|f64>`, with the `FAIRLAYER_LARGEST` that it was drawn with.
#[test]
fn one_case() {
    let Ok(text) = std::env::var("FAIRLAYER_CASE") else { return };
    let parts: Vec<&str> = text.split(',').collect();
    let kind = Kind::ALL.into_iter().find(|other| format!("{other:?}") == parts[0]).unwrap();
    let seed = parts[1].parse().unwrap();
    if parts[2] == "f32" { show::<f32>(kind, seed) } else { show::<f64>(kind, seed) }
}

fn show<T: Storage>(kind: Kind, seed: u64) {
    let case = draw_narrowed::<T>(kind, seed, number("FAIRLAYER_LARGEST", 3_000) as usize);
    let Case { epsilon, scores, weighted, scalar_bounds, stated, .. } = &case;
    let bounds = (stated.lo[0], stated.hi[0]);
    println!("epsilon {epsilon}, {scores:?}, weighted {weighted}, scalar bounds {scalar_bounds}, {bounds:?}");
    let solution = solve::<T>(&case);
    let view = solution.read().unwrap();
    let y: Vec<f64> = view.y.iter().map(|y| y.to_f64()).collect();
    println!("{:?}", view.outcomes[0]);
    println!("{:?}", judge(&case.set, stated, &y, view.multipliers, 1e-9));
    println!("{:?}", view.multipliers);
    if stated.z.len() < 30 {
        println!("{stated:?}\n{y:?}\n{:?}\n{:?}\n{:?}", case.set.spreads(), case.set.contrasts(), case.set.dense());
    }
}
