//! Random problems by the thousand, every answer judged by its KKT residual in float64.
//!
//! `FAIRLAYER_STRESS=1000000 cargo test --release --test stress -- --nocapture` runs a million and prints the counts;
//! `FAIRLAYER_SEED` picks others, `FAIRLAYER_LARGEST` sets their largest size.

mod common;

use common::kkt::{judge, proves};
use common::problems::{Case, Kind, draw_case};
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
            Status::IterationLimit | Status::BadNumber => tally.limits.push((seed, n)),
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
        // The user's own dependent contrasts at epsilon 0 may defeat rounding.
        let per_mille = if T::DTYPE == Dtype::F64 { 1 } else { 2 };
        let allowed = if kind == Kind::RandomContrasts { (count * per_mille).div_ceil(1000) } else { 0 };
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
