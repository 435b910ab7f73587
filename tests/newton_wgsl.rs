//! The Newton machine of the WGSL kernels, driven by a plain pass of its own, against the f64 reference.
//!
//! `FAIRLAYER_STRESS=100000 cargo test --release --test newton_wgsl -- --nocapture` runs so many problems and prints the
//! counts; `FAIRLAYER_SEED` picks others, `FAIRLAYER_LARGEST` sets their largest size.

#![cfg(feature = "wgpu")]

mod common;
#[path = "newton_wgsl/device.rs"]
mod device;

use common::kkt::{Stated, judge};
use common::planted::{contrast, flat, mask};
use common::problems::{Case, Kind, Scores, draw_case};
use device::Gpu;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use std::io::Write;
use std::sync::OnceLock;

const FILES: [&str; 10] = [
    "two_floats",
    "rows",
    "rows_of_cells",
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
const STATE: usize = 481;
/// Dispatches of a submission.
const REPEATS: usize = 32;

/// A driver's text with that of shaders; read at run time, so that a change of them needs no build.
fn shader(driver: &str, files: &[&str]) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let shaders = std::env::var("FAIRLAYER_SHADERS").unwrap_or(format!("{root}/shaders"));
    let read = |path: String| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let driver = read(format!("{root}/tests/newton_wgsl/{driver}.wgsl"));
    files.iter().fold(driver, |text, file| text + "\n" + &read(format!("{shaders}/{file}.wgsl")))
}

#[test]
fn two_floats_have_48_bits() {
    let gpu = Gpu::new(&shader("two_floats_driver", &FILES[..1]));
    let Some(gpu) = found(&gpu) else { return };
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
    let text = shader("driver", &FILES);
    let module =
        wgpu::naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
    let mut validator = wgpu::naga::valid::Validator::new(
        wgpu::naga::valid::ValidationFlags::all(),
        wgpu::naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32,
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

/// The device with the machine's kernel, which is compiled once. Where there is no device the tests say SKIP; if
/// `FAIRLAYER_REQUIRE` (a list with commas) names wgpu, they fail.
fn machine() -> Option<&'static Gpu> {
    static GPU: OnceLock<std::result::Result<Gpu, String>> = OnceLock::new();
    found(GPU.get_or_init(|| Gpu::new(&shader("driver", &FILES))))
}

fn found(gpu: &std::result::Result<Gpu, String>) -> Option<&Gpu> {
    let required = std::env::var("FAIRLAYER_REQUIRE").unwrap_or_default();
    match gpu {
        Ok(gpu) => Some(gpu),
        Err(reason) if required.split(',').any(|name| name.trim() == "wgpu") => {
            panic!("FAIRLAYER_REQUIRE names wgpu, but: {reason}")
        }
        Err(reason) => {
            let test = std::thread::current().name().unwrap_or("newton_wgsl").to_owned();
            writeln!(std::io::stderr(), "SKIP {test}: {reason}").expect("stderr takes a line");
            None
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn two_floats(value: f64) -> [u32; 2] {
    let high = value as f32;
    let low = if high.is_finite() { (value - f64::from(high)) as f32 } else { 0.0 };
    [high.to_bits(), low.to_bits()]
}

/// A problem of numbers of the storage type, weights and labels of f32, with at most 31 cells in use (the last stands for
/// one without samples). `None` if it has too many rows.
fn draw<T: Storage>(kind: Kind, seed: u64, largest: usize) -> Option<Case> {
    let mut case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed), kind, largest);
    if case.set.rows() > 32 {
        return None;
    }
    let p = &mut case.stated;
    for values in [&mut p.z, &mut p.lo, &mut p.hi] {
        values.iter_mut().for_each(|value| *value = T::from_f64(*value).to_f64());
    }
    for values in [&mut p.weights, &mut p.labels] {
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

/// A problem as the driver reads it, appended to all tables and elements.
fn encode<T: Storage>(
    case: &Case,
    settings: &Settings,
    warm_start: Option<&[f64]>,
    tables: &mut Vec<u32>,
    elements: &mut Vec<u32>,
) {
    let (p, set) = (&case.stated, &case.set);
    let used = used_cells(&p.cells);
    let mask = |mask: &CellMask| -> u32 {
        used.iter().enumerate().filter(|(_, cell)| mask.contains(usize::from(**cell))).map(|(bit, _)| 1 << bit).sum()
    };
    let first = elements.len() / 6;
    let contrast_rows = set.rows() - set.contrasts().len();
    let counts = [used.len(), set.rows(), set.spreads().len(), contrast_rows, first, first + p.z.len()];
    tables.extend(counts.map(|count| count as u32));
    tables.extend(two_floats(settings.tolerance));
    tables.extend([(T::UNIT_ROUNDOFF as f32).to_bits(), settings.max_iterations]);
    let relax = settings.infeasible == Infeasible::NearestFeasible;
    tables.extend([u32::from(relax), u32::from(warm_start.is_some())]);
    let unions = set.spreads().iter().flat_map(|spread| &spread.unions).map(|union| (union.cells, CellMask::EMPTY));
    let contrasts = set.contrasts().iter().map(|contrast| (contrast.plus.cells, contrast.minus));
    let total: f64 = weights(case).iter().sum();
    let parts = components(set);
    for (row, (plus, minus)) in unions.chain(contrasts).enumerate() {
        // A second mean without samples is not the same as none: such a row is not live.
        let absent = if minus.is_empty() || mask(&minus) != 0 { mask(&minus) } else { 1 << 31 };
        tables.extend([mask(&plus), absent, parts[row]]);
        tables.extend(two_floats(warm_start.map_or(0.0, |nu| nu[row] / total)));
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
    for (i, weight) in weights(case).into_iter().enumerate() {
        elements.extend([p.z[i], p.lo[i], p.hi[i], weight, p.labels[i]].map(|value| (value as f32).to_bits()));
        elements.push(used.iter().position(|cell| *cell == p.cells[i]).unwrap() as u32);
    }
}

/// Which component every row belongs to: rows with a cell in common are of one.
fn components(set: &ConstraintSet) -> Vec<u32> {
    let unions = set.spreads().iter().map(|spread| {
        let cells = spread.unions.iter().fold(CellMask::EMPTY, |all, union| all.or(&union.cells));
        vec![cells; spread.unions.len()]
    });
    let contrasts = set.contrasts().iter().map(|contrast| vec![contrast.plus.cells.or(&contrast.minus)]);
    let mut cells: Vec<CellMask> = unions.chain(contrasts).flatten().collect();
    for _ in 0..cells.len() {
        for r in 0..cells.len() {
            let meet = |other: &&CellMask| !other.and(&cells[r]).is_empty();
            cells[r] = cells.iter().filter(meet).fold(CellMask::EMPTY, |all, other| all.or(other));
        }
    }
    cells.iter().map(|own| cells.iter().position(|other| other == own).unwrap() as u32).collect()
}

fn weights(case: &Case) -> Vec<f64> {
    if case.weighted { case.stated.weights.clone() } else { vec![1.0; case.stated.z.len()] }
}

#[derive(Clone, Debug)]
struct Answer {
    y: Vec<f64>,
    multipliers: Vec<f64>,
    status: u32,
    steps: u32,
    passes: u32,
    excess: f64,
    attempt: u32,
}

/// Solves the problems on the device, all at once; `warm_starts` are multipliers of each.
fn solve_wgsl<T: Storage>(
    gpu: &Gpu,
    cases: &[Case],
    settings: &Settings,
    warm_starts: Option<&[Answer]>,
) -> Vec<Answer> {
    let (mut tables, mut elements, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for (index, case) in cases.iter().enumerate() {
        starts.push((cases.len() + tables.len()) as u32);
        let warm_start = warm_starts.map(|starts| &starts[index].multipliers[..]);
        encode::<T>(case, settings, warm_start, &mut tables, &mut elements);
    }
    let nan = |length| vec![f32::NAN.to_bits(); length];
    let (mut outcomes, mut all_y) = (nan(OUTCOME * cases.len()), nan(elements.len() / 6));
    let mut state = vec![0; STATE * cases.len()];
    let inputs = [&[starts, tables].concat()[..], &elements];
    // (An attempt has 1,200 passes at the most.)
    for _ in 0..6000 / REPEATS {
        if state.chunks(STATE).all(|state| state[0] == 2) {
            break;
        }
        [outcomes, all_y, state] = gpu.run(cases.len(), REPEATS, &inputs, [&outcomes, &all_y, &state]);
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
            excess: pair(3),
            attempt: outcome[7],
        }
    };
    cases.iter().zip(outcomes.chunks(OUTCOME)).map(answer).collect()
}

/// The crate's own answer in that storage type, on the CPU.
fn solve_reference<T: Storage>(case: &Case, settings: &Settings) -> (Vec<f64>, Outcome) {
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
    (view.y.iter().map(|y| y.to_f64()).collect(), view.outcomes[0])
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

fn quantiles(values: &mut [u32]) -> String {
    values.sort_unstable();
    let quantile = |q: f64| values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(0);
    format!("{}/{}/{}", quantile(0.5), quantile(0.99), quantile(1.0))
}

/// What became of the problems of one kind.
#[derive(Default)]
struct Tally {
    solved: usize,
    infeasible: usize,
    /// Whatever is not as it should be.
    failures: Vec<String>,
    worst: f64,
    farthest: f64,
    steps: Vec<u32>,
    passes: Vec<u32>,
    restarts: usize,
    reference_steps: Vec<u32>,
    reference_passes: Vec<u32>,
}

impl Tally {
    fn add(&mut self, kind: Kind, seed: u64, case: &Case, answer: &Answer, (y, outcome): &(Vec<f64>, Outcome)) {
        let n = case.stated.z.len();
        self.restarts += usize::from(answer.attempt > 0);
        if answer.status != outcome.status as u32 {
            let Answer { status, .. } = answer;
            self.failures.push(format!("status {status}, of the reference {:?}: seed {seed}, n {n}", outcome.status));
            return;
        }
        if outcome.status != Status::Solved {
            self.infeasible += 1;
            return;
        }
        self.solved += 1;
        self.steps.push(answer.steps);
        self.passes.push(answer.passes);
        self.reference_steps.push(outcome.iterations);
        self.reference_passes.push(outcome.passes);
        let stated = Stated { weights: weights(case), ..case.stated.clone() };
        let residual = judge(&case.set, &stated, &answer.y, &answer.multipliers, 1e-6).worst();
        let scale = largest(&stated.z).max(1.0);
        let distance = answer.y.iter().zip(y).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
        (self.worst, self.farthest) = (self.worst.max(residual / scale), self.farthest.max(distance / scale));
        // The margin is 8 roundings, grown 8 times at the most, and 8 margins are the most that is accepted.
        let allowed = 512.0 * 2_f64.powi(-24) * scale;
        if residual.is_nan() || residual > allowed {
            self.failures.push(format!("residual {residual:.1e}: seed {seed}, n {n}"));
        }
        let promised = case.epsilon >= 1e-4 && case.epsilon >= largest(&answer.y) / 2_f64.powi(18);
        let exact = !matches!(kind, Kind::Ratio | Kind::RatioFeatures | Kind::RandomContrasts);
        if promised && exact && answer.excess > 0.0 {
            self.failures.push(format!("{:.1e} above epsilon: seed {seed}, n {n}", answer.excess));
        }
    }
}

/// Draws problems of a kind, 256 at a time.
fn draw_some<T: Storage>(kind: Kind, count: usize, most: usize) -> impl Iterator<Item = (Vec<u64>, Vec<Case>)> {
    let first = number("FAIRLAYER_SEED", 1) << 48;
    let seeds: Vec<u64> = (0..count).map(|index| first ^ ((kind as u64) << 40) ^ index as u64).collect();
    let some = move |seeds: &[u64]| -> (Vec<u64>, Vec<Case>) {
        seeds.iter().filter_map(|seed| draw::<T>(kind, *seed, most).map(|case| (*seed, case))).unzip()
    };
    let chunks: Vec<Vec<u64>> = seeds.chunks(256).map(<[u64]>::to_vec).collect();
    chunks.into_iter().map(move |seeds| some(&seeds))
}

#[test]
fn random_problems_are_solved() {
    let Some(gpu) = machine() else { return };
    let count = (number("FAIRLAYER_STRESS", 850) as usize).div_ceil(17);
    let most = number("FAIRLAYER_LARGEST", 300) as usize;
    let only = std::env::var("FAIRLAYER_KIND").ok();
    let settings = Settings::default();
    let mut failures = 0;
    // (The last kinds have dense rows.)
    let kinds = Kind::ALL.into_iter().take_while(|kind| *kind != Kind::Dense);
    for kind in kinds.filter(|kind| only.as_ref().is_none_or(|only| *only == format!("{kind:?}"))) {
        let mut tally = Tally::default();
        for (seeds, cases) in draw_some::<f32>(kind, count, most) {
            let answers = solve_wgsl::<f32>(gpu, &cases, &settings, None);
            let references: Vec<_> = cases.par_iter().map(|case| solve_reference::<f32>(case, &settings)).collect();
            for (((seed, case), answer), reference) in seeds.iter().zip(&cases).zip(&answers).zip(&references) {
                tally.add(kind, *seed, case, answer, reference);
            }
        }
        println!(
            "{kind:?}: {} solved, {} infeasible, {} failures, worst residual {:.1e}, {:.1e} from the CPU, steps {} ({}), passes {} ({}), {} begun anew",
            tally.solved,
            tally.infeasible,
            tally.failures.len(),
            tally.worst,
            tally.farthest,
            quantiles(&mut tally.steps),
            quantiles(&mut tally.reference_steps),
            quantiles(&mut tally.passes),
            quantiles(&mut tally.reference_passes),
            tally.restarts,
        );
        tally.failures.iter().take(4).for_each(|failure| println!("    {failure}"));
        // As on the CPU: dependent contrasts at epsilon 0 may defeat rounding.
        let allowed = if kind == Kind::RandomContrasts { (count * 2).div_ceil(1000) } else { 0 };
        failures += tally.failures.len().saturating_sub(allowed);
    }
    assert_eq!(failures, 0);
}

#[test]
fn a_solution_is_a_warm_start_that_needs_no_step() {
    let Some(gpu) = machine() else { return };
    for kind in [Kind::ManyGroups, Kind::ManyMarginals, Kind::Overall, Kind::Ratio, Kind::SpreadsAndContrasts] {
        for (_, cases) in draw_some::<f32>(kind, 40, 200) {
            let settings = Settings::default();
            let cold = solve_wgsl::<f32>(gpu, &cases, &settings, None);
            let warm = solve_wgsl::<f32>(gpu, &cases, &settings, Some(&cold));
            let solved = cold.iter().zip(&warm).filter(|(cold, _)| cold.status == 0 && cold.steps > 0);
            let mut starts = 0;
            for (cold, warm) in solved {
                assert_eq!(warm.status, 0);
                starts += 1;
                let far = cold.y.iter().zip(&warm.y).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
                assert!(
                    warm.steps == 0 && far <= 2e-7 * largest(&cold.y).max(1.0),
                    "{kind:?}: {warm:?}, {far:.1e} away"
                );
            }
            assert!(starts >= 20, "{kind:?}: {starts} problems with steps");
        }
    }
}

#[test]
fn rows_that_nothing_meets_are_relaxed_by_the_least() {
    let Some(gpu) = machine() else { return };
    let relaxing = Settings { infeasible: Infeasible::NearestFeasible, ..Settings::default() };
    let mut relaxed = 0;
    for (seeds, mut cases) in draw_some::<f32>(Kind::MeanResidual, 60, 200) {
        for case in &mut cases {
            // Labels out of reach: the means cannot come near them.
            case.stated.labels.iter_mut().for_each(|label| *label = f64::from((*label + 1.5) as f32));
            case.stated.lo.iter_mut().for_each(|lo| *lo = lo.max(0.0));
            case.stated.hi.iter_mut().for_each(|hi| *hi = hi.min(1.0));
            case.scalar_bounds &= !case.stated.lo.is_empty();
        }
        let answers = solve_wgsl::<f32>(gpu, &cases, &relaxing, None);
        for ((seed, case), answer) in seeds.iter().zip(&cases).zip(&answers) {
            let (y, outcome) = solve_reference::<f32>(case, &relaxing);
            assert_eq!(answer.status, outcome.status as u32, "seed {seed}");
            if outcome.status == Status::Relaxed {
                relaxed += 1;
                let (excess, expected) = (answer.excess, outcome.excess);
                assert!((excess - expected).abs() <= 1e-7, "seed {seed}: excess {excess:e}, expected {expected:e}");
                // (Where all of a group is at its bounds, a light element may take what room there is.)
                let weights = weights(case);
                let square: f64 = (0..y.len()).map(|i| weights[i] * (answer.y[i] - y[i]).powi(2)).sum();
                let far = (square / weights.iter().sum::<f64>()).sqrt();
                assert!(far <= 1e-5 * largest(&case.stated.z).max(1.0), "seed {seed}: {far:.1e}");
            }
        }
    }
    assert!(relaxed >= 50, "{relaxed} relaxed");
}

#[test]
fn half_precision_is_solved_to_its_ulp() {
    let Some(gpu) = machine() else { return };
    let settings = Settings::default();
    for kind in [Kind::TwoGroups, Kind::ManyMarginals, Kind::Overall, Kind::MeanResidual, Kind::SpreadsAndContrasts] {
        let (mut solved, mut other) = (0, 0);
        for (seeds, cases) in draw_some::<f16>(kind, 60, 200) {
            let answers = solve_wgsl::<f16>(gpu, &cases, &settings, None);
            for ((seed, case), answer) in seeds.iter().zip(&cases).zip(&answers) {
                let (y, outcome) = solve_reference::<f16>(case, &settings);
                other += usize::from(answer.status != outcome.status as u32);
                if answer.status == 0 && outcome.status == Status::Solved {
                    solved += 1;
                    let size = largest(&y).max(largest(&case.stated.z).min(8.0));
                    let allowed = 8.0 * f16::UNIT_ROUNDOFF * size + outcome.excess;
                    assert!(answer.excess <= allowed, "{kind:?}, seed {seed}: excess {:.1e}", answer.excess);
                }
            }
        }
        println!("f16 {kind:?}: {solved} solved, {other} of other status");
        assert!(solved >= 50 && other == 0, "{kind:?}: {solved} solved, {other} other");
    }
}

/// A row whose sides cancel takes 0 whatever y is: it is met, or nothing can meet it.
#[test]
fn rows_without_coefficients_are_met_or_prove_infeasibility() {
    let Some(gpu) = machine() else { return };
    let case = |lower: f64, upper: f64| {
        let mut set = flat(2);
        set.push_contrast(contrast(mask([0]), mask([1]), 1.0, -0.1, 0.1)).unwrap();
        set.push_contrast(contrast(mask([0, 1]), mask([0, 1]), 1.0, lower, upper)).unwrap();
        let z = vec![0.125, 0.25, 0.5, 0.875, 0.75, 0.625];
        let stated = Stated {
            z,
            cells: vec![0, 0, 0, 1, 1, 1],
            weights: vec![1.0; 6],
            labels: vec![0.0; 6],
            lo: vec![0.0; 6],
            hi: vec![1.0; 6],
            coefficients: vec![],
        };
        Case { set, stated, epsilon: 0.1, scores: Scores::Normal, scalar_bounds: true, weighted: false, feasible: None }
    };
    let cases = [case(-0.5, 0.5), case(0.25, 0.5), case(f64::NEG_INFINITY, -0.25)];
    let settings = Settings::default();
    let answers = solve_wgsl::<f32>(gpu, &cases, &settings, None);
    for ((case, answer), expected) in
        cases.iter().zip(&answers).zip([Status::Solved, Status::Infeasible, Status::Infeasible])
    {
        assert_eq!(answer.status, expected as u32);
        assert_eq!(solve_reference::<f32>(case, &settings).1.status, expected);
    }
}
