//! The Newton machine of the WGSL kernels, driven by a plain pass of its own, against the f64 reference.
//!
//! `FAIRLAYER_STRESS=100000 cargo test --release --test newton_wgsl -- --nocapture` runs so many problems and prints the
//! counts; `FAIRLAYER_SEED` picks others, `FAIRLAYER_LARGEST` sets their largest size.

#![cfg(feature = "wgpu")]

mod common;
#[path = "newton_wgsl/device.rs"]
mod device;

use common::kkt::judge;
use common::problems::{Case, Kind, draw_case};
use device::Gpu;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

const FILES: [&str; 9] = [
    "two_floats",
    "rows",
    "stop_test",
    "curvature",
    "active_set",
    "line_search",
    "certificate",
    "newton",
    "newton_state",
];

/// Words of a problem in the driver's outcome.
const OUTCOME: usize = 72;
/// Words of a problem between two passes: `MACHINE_WORDS` and one.
const STATE: usize = 417;

/// The machine's text; read at run time, so that a change of it needs no build.
fn shader(driver: &str, files: &[&str]) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let shaders = std::env::var("FAIRLAYER_SHADERS").unwrap_or(format!("{root}/shaders"));
    let read = |path: String| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let driver = read(format!("{root}/tests/newton_wgsl/{driver}.wgsl"));
    files.iter().fold(driver, |text, file| text + "\n" + &read(format!("{shaders}/{file}.wgsl")))
}

#[test]
fn two_floats_have_48_bits() {
    let gpu = Gpu::new(&shader("two_floats_driver", &FILES[..1])).unwrap();
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut number = || {
        let size = 2_f64.powi(rng.random_range(-20..20));
        let value = size * rng.random_range(-1.0..1.0);
        let high = value as f32;
        (high, ((value - f64::from(high)) as f32))
    };
    let mut pairs: Vec<[(f32, f32); 2]> = (0..20_000).map(|_| [number(), number()]).collect();
    // Such as nearly cancel.
    let near: Vec<_> = pairs.iter().take(5_000).map(|[a, b]| [*a, (-a.0, b.1 * (a.0 / b.0))]).collect();
    pairs.extend(near);
    let operands: Vec<u32> = pairs.as_flattened().iter().flat_map(|(x, y)| [x.to_bits(), y.to_bits()]).collect();
    let [results] = gpu.run(pairs.len().div_ceil(32), 1, &[&operands], [&vec![f32::NAN.to_bits(); 16 * pairs.len()]]);
    let wide = |(x, y): (f32, f32)| f64::from(x) + f64::from(y);
    for ([a, b], results) in pairs.iter().zip(results.chunks(16)) {
        let result: Vec<(f32, f32)> =
            results.chunks(2).map(|pair| (f32::from_bits(pair[0]), f32::from_bits(pair[1]))).collect();
        let (wide_a, wide_b) = (wide(*a), wide(*b));
        let allowed = 2_f64.powi(-45);
        let of_sum = allowed * (wide_a.abs() + wide_b.abs());
        for (value, expected, error) in [
            (result[0], wide_a + wide_b, of_sum),
            (result[1], wide_a - wide_b, of_sum),
            (result[2], wide_a * wide_b, allowed * (wide_a * wide_b).abs()),
            (result[3], wide_a / wide_b, allowed * (wide_a / wide_b).abs()),
            (result[4], f64::from(a.0) + f64::from(b.0), 0.0),
            (result[5], f64::from(a.0) * f64::from(b.0), 0.0),
            (result[6], wide_a * f64::from(b.0), allowed * (wide_a * f64::from(b.0)).abs()),
        ] {
            assert!((wide(value) - expected).abs() <= error, "{a:?} {b:?}: {value:?} is not {expected:e}");
            assert!(value.0 == (value.0 + value.1), "{value:?} overlaps");
        }
        assert_eq!(result[7], (f32::from(u8::from(wide_a < wide_b)), f32::from(u8::from(wide_b < wide_a))));
    }
}

#[test]
fn shaders_are_valid() {
    let text = machine();
    let module =
        wgpu::naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
    let mut validator = wgpu::naga::valid::Validator::new(
        wgpu::naga::valid::ValidationFlags::all(),
        wgpu::naga::valid::Capabilities::empty(),
    );
    if let Err(error) = validator.validate(&module) {
        panic!("{}", error.emit_to_string(&text));
    }
    let bytes: u32 = module
        .global_variables
        .iter()
        .filter(|(_, variable)| variable.space == wgpu::naga::AddressSpace::WorkGroup)
        .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()))
        .sum();
    println!("{bytes} bytes of workgroup memory");
    assert!(bytes <= 16384);
}

fn machine() -> String {
    shader("driver", &FILES)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn two_floats(value: f64) -> [u32; 2] {
    let high = value as f32;
    let low = if high.is_finite() { (value - f64::from(high)) as f32 } else { 0.0 };
    [high.to_bits(), low.to_bits()]
}

/// A problem of f32 numbers with at most 31 cells in use (the last stands for one without samples). `None` if it has too many rows.
fn draw(kind: Kind, seed: u64, largest: usize) -> Option<Case> {
    let mut case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed), kind, largest);
    if case.set.rows() > 32 {
        return None;
    }
    let p = &mut case.stated;
    for values in [&mut p.z, &mut p.lo, &mut p.hi, &mut p.weights, &mut p.labels] {
        values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
    }
    let used = used_cells(&p.cells);
    let keep: Vec<bool> = p.cells.iter().map(|cell| used.iter().take(31).any(|other| other == cell)).collect();
    let mut at = keep.iter();
    p.cells.retain(|_| *at.next().unwrap());
    for values in [&mut p.z, &mut p.lo, &mut p.hi, &mut p.weights, &mut p.labels] {
        let mut at = keep.iter();
        values.retain(|_| *at.next().unwrap());
    }
    Some(case)
}

/// The cells in use, in the order in which they are met.
fn used_cells(cells: &[u8]) -> Vec<u8> {
    let mut used = Vec::new();
    cells.iter().for_each(|cell| {
        if !used.contains(cell) {
            used.push(*cell);
        }
    });
    used
}

/// The problem as the driver reads it.
fn encode(case: &Case, settings: &Settings, tables: &mut Vec<u32>, elements: &mut Vec<u32>) {
    let (p, set) = (&case.stated, &case.set);
    let used = used_cells(&p.cells);
    let mask = |mask: &CellMask| -> u32 {
        used.iter().enumerate().filter(|(_, cell)| mask.contains(usize::from(**cell))).map(|(bit, _)| 1 << bit).sum()
    };
    let first = elements.len() / 6;
    let contrast_rows = set.rows() - set.contrasts().len();
    tables.extend(
        [used.len(), set.rows(), set.spreads().len(), contrast_rows, first, first + p.z.len()].map(|x| x as u32),
    );
    tables.extend(two_floats(settings.tolerance));
    tables.extend([2_f32.powi(-24).to_bits(), settings.max_iterations]);
    tables.extend([u32::from(settings.infeasible == Infeasible::NearestFeasible), 0]);
    let unions = set.spreads().iter().flat_map(|spread| &spread.unions).map(|union| (union.cells, CellMask::EMPTY));
    // A second mean without samples is not the same as none: such a row is not live.
    for (plus, minus) in unions.chain(set.contrasts().iter().map(|contrast| (contrast.plus.cells, contrast.minus))) {
        let absent = if minus.is_empty() || mask(&minus) != 0 { mask(&minus) } else { 1 << 31 };
        tables.extend([mask(&plus), absent, 0, 0]);
    }
    let mut row = 0;
    for spread in set.spreads() {
        let (ratio, level) = match spread.limit {
            SpreadLimit::Difference(epsilon) => (0, epsilon),
            SpreadLimit::Ratio(ratio) => (1, ratio),
        };
        tables.extend([row, row + spread.unions.len() as u32, ratio]);
        tables.extend(two_floats(level));
        row += spread.unions.len() as u32;
    }
    for contrast in set.contrasts() {
        tables.extend(two_floats(contrast.scale));
        tables.push(u32::from(contrast.residual));
        tables.extend([contrast.lower, contrast.upper].map(two_floats).as_flattened());
    }
    for i in 0..p.z.len() {
        let weight = if case.weighted { p.weights[i] } else { 1.0 };
        elements.extend([p.z[i], p.lo[i], p.hi[i], weight, p.labels[i]].map(|value| (value as f32).to_bits()));
        elements.push(used.iter().position(|cell| *cell == p.cells[i]).unwrap() as u32);
    }
}

struct Answer {
    y: Vec<f64>,
    multipliers: Vec<f64>,
    status: u32,
    steps: u32,
    passes: u32,
    excess: f64,
    attempt: u32,
}

/// Solves the problems on the device, all at once.
fn solve_wgsl(gpu: &Gpu, cases: &[Case], settings: &Settings) -> Vec<Answer> {
    let (mut tables, mut elements, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases {
        starts.push(tables.len() as u32);
        encode(case, settings, &mut tables, &mut elements);
    }
    let header: Vec<u32> = starts.iter().map(|start| start + cases.len() as u32).collect();
    let nan = |length| vec![f32::NAN.to_bits(); length];
    let (mut outcomes, mut all_y) = (nan(OUTCOME * cases.len()), nan(elements.len() / 6));
    let mut state = vec![0; STATE * cases.len()];
    let inputs = [&[header, tables].concat()[..], &elements];
    for _ in 0..200 {
        if state.chunks(STATE).all(|state| state[0] == 2) {
            break;
        }
        [outcomes, all_y, state] = gpu.run(cases.len(), 32, &inputs, [&outcomes, &all_y, &state]);
    }
    let mut first = 0;
    let answer = |(case, outcome): (&Case, &[u32])| {
        let pair = |at: usize| f64::from(f32::from_bits(outcome[at])) + f64::from(f32::from_bits(outcome[at + 1]));
        let y = all_y[first..first + case.stated.z.len()].iter().map(|y| f64::from(f32::from_bits(*y))).collect();
        first += case.stated.z.len();
        Answer {
            y,
            multipliers: (0..case.set.rows()).map(|row| pair(8 + 2 * row) * pair(5)).collect(),
            status: outcome[0],
            steps: outcome[1],
            passes: outcome[2],
            excess: f64::from(f32::from_bits(outcome[4])),
            attempt: outcome[7],
        }
    };
    cases.iter().zip(outcomes.chunks(OUTCOME)).map(answer).collect()
}

fn solve_reference<T: Storage>(case: &Case, settings: &Settings) -> (Status, Vec<f64>, Outcome) {
    let narrow = |values: &[f64]| -> Vec<T> { values.iter().map(|value| T::from_f64(*value)).collect() };
    let p = &case.stated;
    let (z, lo, hi) = (narrow(&p.z), narrow(&p.lo), narrow(&p.hi));
    let mut batch = Batch::single(&z).cells(&p.cells).labels(&p.labels);
    batch = if case.scalar_bounds { batch.bounds(lo[0], hi[0]) } else { batch.element_bounds(&lo, &hi) };
    if case.weighted {
        batch = batch.weights(&p.weights);
    }
    let mut projector = Projector::<T>::plan(Device::cpu(), &case.set, Capacities::single(z.len()), *settings).unwrap();
    let solution = projector.project(&batch).unwrap();
    let view = solution.read().unwrap();
    (view.outcomes[0].status, view.y.iter().map(|y| y.to_f64()).collect(), view.outcomes[0])
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

#[derive(Default, Debug)]
struct Tally {
    solved: usize,
    infeasible: usize,
    /// The reference has another status.
    other: Vec<(u64, usize, u32, u32)>,
    wrong: Vec<(u64, usize, f64, f64)>,
    leaks: Vec<(u64, usize, f64)>,
    worst: f64,
    worst_distance: f64,
    steps: Vec<u32>,
    passes: Vec<u32>,
    attempts: [usize; 5],
    reference_steps: Vec<u32>,
    reference_passes: Vec<u32>,
}

fn quantile(values: &mut [u32], q: f64) -> u32 {
    values.sort_unstable();
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(0)
}

fn examine(gpu: &Gpu, kind: Kind, count: usize, most: usize, first_seed: u64) -> Tally {
    let settings = Settings::default();
    let mut tally = Tally::default();
    for start in (0..count).step_by(256) {
        let seeds = (start..count.min(start + 256)).map(|index| first_seed ^ ((kind as u64) << 40) ^ index as u64);
        let (seeds, cases): (Vec<u64>, Vec<Case>) =
            seeds.filter_map(|seed| draw(kind, seed, most).map(|case| (seed, case))).unzip();
        let answers = solve_wgsl(gpu, &cases, &settings);
        let references: Vec<_> = cases
            .par_iter()
            .map(|case| (solve_reference::<f32>(case, &settings), solve_reference::<f64>(case, &settings)))
            .collect();
        for (((seed, case), answer), (narrow, wide)) in seeds.iter().zip(&cases).zip(&answers).zip(&references) {
            let n = case.stated.z.len();
            let (status, passes) = (narrow.2.status, narrow.2.passes);
            tally.attempts[answer.attempt.min(4) as usize] += 1;
            if answer.status != status as u32 {
                tally.other.push((*seed, n, answer.status, status as u32));
                continue;
            }
            if status != Status::Solved {
                tally.infeasible += 1;
                continue;
            }
            tally.solved += 1;
            tally.steps.push(answer.steps);
            tally.passes.push(answer.passes);
            tally.reference_steps.push(narrow.2.iterations);
            tally.reference_passes.push(passes);
            let mut stated = case.stated.clone();
            if !case.weighted {
                stated.weights.fill(1.0);
            }
            let residual = judge(&case.set, &stated, &answer.y, &answer.multipliers, 1e-6).worst();
            let scale = largest(&stated.z).max(1.0);
            let distance = answer.y.iter().zip(&narrow.1).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs())) / scale;
            (tally.worst, tally.worst_distance) =
                (tally.worst.max(residual / scale), tally.worst_distance.max(distance));
            if !(residual <= 512.0 * 2_f64.powi(-24) * scale) {
                tally.wrong.push((*seed, n, residual, distance));
            }
            let promised = case.epsilon >= 1e-4 && case.epsilon >= largest(&answer.y) / 2_f64.powi(18);
            if promised
                && answer.excess > 0.0
                && !matches!(kind, Kind::Ratio | Kind::RatioFeatures | Kind::RandomContrasts)
            {
                tally.leaks.push((*seed, n, answer.excess));
            }
        }
    }
    tally
}

#[test]
fn random_problems() {
    let gpu = Gpu::new(&machine()).unwrap();
    let count = (number("FAIRLAYER_STRESS", 3400) as usize).div_ceil(Kind::ALL.len());
    let most = number("FAIRLAYER_LARGEST", 300) as usize;
    let only = std::env::var("FAIRLAYER_KIND").ok();
    let mut failures = 0;
    for kind in Kind::ALL.into_iter().filter(|kind| only.as_ref().is_none_or(|only| *only == format!("{kind:?}"))) {
        let start = std::time::Instant::now();
        let mut tally = examine(&gpu, kind, count, most, number("FAIRLAYER_SEED", 1) << 48);
        println!(
            "{kind:?}: {} solved, {} infeasible, {} other, {} wrong, {} above epsilon, residual {:.1e}, distance {:.1e}, steps {}/{}/{} ({}/{}/{}), passes {}/{}/{} ({}/{}/{}), attempts {:?}, {:.1?}",
            tally.solved,
            tally.infeasible,
            tally.other.len(),
            tally.wrong.len(),
            tally.leaks.len(),
            tally.worst,
            tally.worst_distance,
            quantile(&mut tally.steps, 0.5),
            quantile(&mut tally.steps, 0.99),
            quantile(&mut tally.steps, 1.0),
            quantile(&mut tally.reference_steps, 0.5),
            quantile(&mut tally.reference_steps, 0.99),
            quantile(&mut tally.reference_steps, 1.0),
            quantile(&mut tally.passes, 0.5),
            quantile(&mut tally.passes, 0.99),
            quantile(&mut tally.passes, 1.0),
            quantile(&mut tally.reference_passes, 0.5),
            quantile(&mut tally.reference_passes, 0.99),
            quantile(&mut tally.reference_passes, 1.0),
            tally.attempts,
            start.elapsed(),
        );
        for (seed, n, status, reference) in tally.other.iter().take(4) {
            println!("    status {status}, reference {reference}: seed {seed}, n {n}");
        }
        for (seed, n, residual, distance) in tally.wrong.iter().take(4) {
            println!("    wrong: seed {seed}, n {n}, residual {residual:.1e}, distance {distance:.1e}");
        }
        for (seed, n, excess) in tally.leaks.iter().take(4) {
            println!("    above epsilon: seed {seed}, n {n}, excess {excess:.1e}");
        }
        failures += tally.other.len() + tally.wrong.len() + tally.leaks.len();
    }
    assert_eq!(failures, 0);
}
