//! The CUDA kernels: what NVRTC makes of them, and what they compute, on a GPU where there is one and on the emulation.

#![cfg(feature = "cuda")]

mod common;

use common::devices::{run_on, takes};
use common::problems::{Kind, draw_case};
use common::rows::{Limits, excess, live_rows};
use common::run::{Inputs, largest, widened};
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use std::io::Write;

/// Problems of a few groups, of different sizes, in one batch.
struct Problems<T> {
    offsets: Vec<usize>,
    z: Vec<T>,
    groups: Vec<u8>,
    levels: Vec<f64>,
    bounds: (T, T),
}

/// How scores are drawn: what is easy, and what is hard.
const KINDS: usize = 7;

fn draw<T: Storage>(rng: &mut Pcg64Mcg, count: usize, sizes: &[usize], bounds: (f64, f64)) -> Problems<T> {
    let mut pairs = Problems {
        offsets: vec![0],
        z: Vec::new(),
        groups: Vec::new(),
        levels: Vec::new(),
        bounds: (T::from_f64(bounds.0), T::from_f64(bounds.1)),
    };
    for (index, &n) in sizes.iter().enumerate() {
        let share = [0.5, 0.1, 0.9, 0.02, 1.0][rng.random_range(0..5)];
        let kind = index % KINDS;
        for _ in 0..n {
            // (With the last share there is no other group.)
            let is_last = rng.random_range(0.0..1.0) < share;
            let group = if is_last { count - 1 } else { rng.random_range(0..count - 1) } as u8;
            let part = f64::from(group) / (count - 1) as f64;
            let (u, ahead): (f64, f64) = (rng.random_range(0.0..1.0), 0.3 * part);
            let score = match kind {
                0 => u + ahead - 0.2,
                1 => 1.0 / (1.0 + (-(8.0 * u - 4.0 + 4.0 * ahead)).exp()),
                2 => f64::from(u < 0.3 + ahead),
                3 => 40.0 * (part - 0.5) + u,
                4 => (4.0 * u).floor() / 4.0 + ahead,
                5 => part,
                _ => 1e3 * (u - 0.5),
            };
            pairs.z.push(T::from_f64(score));
            pairs.groups.push(group);
        }
        pairs.offsets.push(pairs.z.len());
        pairs.levels.push([0.0, 1e-5, 0.01, 0.05, 0.3][rng.random_range(0..5)]);
    }
    pairs
}

impl<T: Storage> Problems<T> {
    fn batch(&self) -> Batch<'_, T> {
        let batch = Batch::new(&self.z, Offsets::Ragged(&self.offsets)).cells(&self.groups);
        batch.levels(&self.levels).bounds(self.bounds.0, self.bounds.1)
    }

    fn wide(&self) -> Problems<f64> {
        Problems {
            offsets: self.offsets.clone(),
            z: self.z.iter().map(|z| z.to_f64()).collect(),
            groups: self.groups.clone(),
            levels: self.levels.clone(),
            bounds: (self.bounds.0.to_f64(), self.bounds.1.to_f64()),
        }
    }

    fn part(&self, problem: usize) -> Self {
        let range = self.offsets[problem]..self.offsets[problem + 1];
        Problems {
            offsets: vec![0, range.len()],
            z: self.z[range.clone()].to_vec(),
            groups: self.groups[range].to_vec(),
            levels: vec![self.levels[problem]],
            bounds: self.bounds,
        }
    }
}

/// What a device makes of problems, and of a gradient.
struct Found<T> {
    y: Vec<T>,
    nu: Vec<f64>,
    outcomes: Vec<Outcome>,
    states: Vec<ClampState>,
    gradient: Vec<T>,
    to_levels: Vec<f64>,
}

fn solve<T: Storage>(device: &Device, set: &ConstraintSet, pairs: &Problems<T>, g: &[T]) -> Found<T> {
    let batch = pairs.batch();
    let capacities = Capacities::of(&batch.offsets());
    let mut projector = Projector::plan(device, set, capacities, Settings::default()).expect("a plan");
    let (mut solution, mut gradients) = (projector.solution(), projector.gradients(Wanted::default()));
    projector.project_into(&batch, &mut solution).expect("a projection");
    projector.vjp(&batch, &solution, g, &mut gradients).expect("gradients");
    let (answer, slopes) = (solution.read().expect("answers"), gradients.read().expect("gradients"));
    let sizes = pairs.offsets.windows(2).map(|pair| pair[1] - pair[0]).enumerate();
    let states = sizes.flat_map(|(problem, n)| (0..n).map(move |i| (problem, i)));
    Found {
        y: answer.y.to_vec(),
        nu: answer.multipliers.to_vec(),
        outcomes: answer.outcomes.to_vec(),
        states: states.map(|(problem, i)| answer.clamp_state(problem, i)).collect(),
        gradient: slopes.predictions.to_vec(),
        to_levels: slopes.levels.to_vec(),
    }
}

fn parity(groups: usize) -> ConstraintSet {
    DemographicParity::within(0.02).constraints(&Population::one_feature(groups)).expect("constraints")
}

/// Sizes up to the teams' limits, and beside them.
fn sizes(rng: &mut Pcg64Mcg) -> Vec<usize> {
    let mut sizes: Vec<usize> = (0..3 * KINDS).map(|_| rng.random_range(1..80)).collect();
    sizes
        .extend([0, 1, 2, 63, 64, 65, 255, 256, 257, 512, 1000, 1024, 1500, 2048, 4000, 4096, 5000, 8192, 9000, 20000]);
    sizes
}

fn agrees<T: Storage>(device: &Device, groups: usize) {
    let mut rng = Pcg64Mcg::seed_from_u64(8);
    let set = parity(groups);
    for bounds in [(0.0, 1.0), (-0.25, 0.75), (f64::NEG_INFINITY, f64::INFINITY), (0.5, f64::INFINITY)] {
        let sizes = sizes(&mut rng);
        let pairs = draw::<T>(&mut rng, groups, &sizes, bounds);
        let g: Vec<T> = pairs.z.iter().map(|_| T::from_f64(rng.random_range(-1.0..1.0))).collect();
        let wide_g: Vec<f64> = g.iter().map(|g| g.to_f64()).collect();
        let found = solve(device, &set, &pairs, &g);
        let wide = solve(&Device::cpu(), &set, &pairs.wide(), &wide_g);
        for problem in 0..sizes.len() {
            let range = pairs.offsets[problem]..pairs.offsets[problem + 1];
            let here =
                format!("{:?}, {groups} groups, problem {problem}, n {}, bounds {bounds:?}", T::DTYPE, range.len());
            let (outcome, expected) = (found.outcomes[problem], wide.outcomes[problem]);
            assert_eq!(outcome.status, expected.status, "{here}: {outcome:?}");
            let size = pairs.z[range.clone()].iter().fold(1.0, |size: f64, z| size.max(z.to_f64().abs()));
            let unit = T::UNIT_ROUNDOFF;
            let tolerance = Settings::default().tolerance.max(8.0 * unit * size);
            // A union whose samples are nearly all clamped is moved far by little.
            let (mut counts, mut free) = (vec![0.0_f64; groups], vec![0.0_f64; groups]);
            let (mut sums, mut worst) = (vec![0.0; groups], 0.0_f64);
            for i in range.clone() {
                let (y, group) = (found.y[i].to_f64(), usize::from(pairs.groups[i]));
                assert!(y >= pairs.bounds.0.to_f64() && y <= pairs.bounds.1.to_f64(), "{here}: {y}");
                worst = worst.max((y - wide.y[i]).abs());
                sums[group] += y;
                counts[group] += 1.0;
                free[group] += f64::from(u8::from(wide.states[i] == ClampState::Free));
            }
            let shares = counts.iter().zip(&free).filter(|(_, free)| **free > 0.0).map(|(count, free)| count / free);
            let spare = shares.fold(1.0, f64::max);
            // Here and there, means are within twice the tolerance of where they have to be: bounds are tightened by one,
            // and one is accepted.
            let allowed = 4.0 * tolerance * spare + 4.0 * unit * size;
            assert!(worst <= allowed, "{here}: {worst}, {outcome:?}");
            let means = sums.iter().zip(&counts).filter(|(_, count)| **count > 0.0).map(|(sum, count)| sum / count);
            let (top, bottom) =
                means.fold((f64::MIN, f64::MAX), |(top, bottom), mean| (top.max(mean), bottom.min(mean)));
            let gap = (top - bottom).max(0.0);
            let level = pairs.levels[problem];
            if unit < 1e-6 && level >= 1e-6_f64.max(64.0 * unit * size) {
                assert!(gap <= level, "{here}: {gap} beyond {level}, {outcome:?}");
            }
            let excess = (gap - level).max(0.0);
            assert!((outcome.excess - excess).abs() <= 1e-13 * size, "{here}: {excess}, {outcome:?}");
            // Where the states are the same the gradients are.
            let held = |nu: &[f64]| nu[groups * problem..][..groups].iter().map(|nu| *nu == 0.0).collect::<Vec<_>>();
            let same = held(&found.nu) == held(&wide.nu);
            if same && range.clone().all(|i| found.states[i] == wide.states[i]) {
                for i in range.clone() {
                    let error = (found.gradient[i].to_f64() - wide.gradient[i]).abs();
                    assert!(error <= 20.0 * unit + 1e-12, "{here}: gradient off by {error}");
                }
                let error = (found.to_levels[problem] - wide.to_levels[problem]).abs();
                let scale = 1.0 + wide.to_levels[problem].abs();
                assert!(error <= 1e3 * unit.max(1e-12) * scale, "{here}: {error} of {scale}");
            }
        }
        // Again, in the next order of threads; and each alone.
        let again = solve(device, &set, &pairs, &g);
        assert_eq!((&again.y, &again.gradient), (&found.y, &found.gradient));
        assert_eq!(again.nu, found.nu);
        for problem in (0..sizes.len()).step_by(3).filter(|problem| sizes[*problem] > 0) {
            let range = pairs.offsets[problem]..pairs.offsets[problem + 1];
            let alone = solve(device, &set, &pairs.part(problem), &g[range.clone()]);
            assert_eq!(alone.y, found.y[range.clone()], "problem {problem}");
            assert_eq!(alone.gradient, found.gradient[range], "problem {problem}");
            assert_eq!(alone.nu, found.nu[groups * problem..][..groups]);
        }
    }
}

fn agree_with_the_reference(device: &Device, groups: usize) {
    agrees::<f32>(device, groups);
    agrees::<f64>(device, groups);
    agrees::<f16>(device, groups);
    agrees::<bf16>(device, groups);
}

fn two_groups_agree_with_the_reference(device: &Device) {
    agree_with_the_reference(device, 2);
}

fn three_groups_agree_with_the_reference(device: &Device) {
    agree_with_the_reference(device, 3);
}

fn fourteen_groups_agree_with_the_reference(device: &Device) {
    agree_with_the_reference(device, 14);
}

/// Sets of several kinds over two features, of two and of five groups: up to twenty cells.
fn sets() -> Vec<ConstraintSet> {
    let people = Population::of_features([SensitiveFeature::new("sex", 2), SensitiveFeature::new("age", 5)]);
    let criteria: [&dyn Criterion; 5] = [
        &DemographicParity::within(0.02),
        &DemographicParity(Parity::Overall { epsilon: 0.01 }),
        &DemographicParity(Parity::Ratio { ratio: 0.9 }),
        &EqualizedOdds::within(0.02),
        &MeanResidual::within(0.02),
    ];
    criteria.map(|criterion| criterion.constraints(&people).expect("constraints")).to_vec()
}

/// All that a run finds: `y`, the element gradients one after the other, those of the rows, states and outcomes.
type Everything = (Vec<f64>, [Vec<f64>; 5], Vec<f64>, Vec<ClampState>, Vec<Outcome>);

fn everything<T: Storage>(
    device: &Device,
    set: &ConstraintSet,
    batch: &Batch<'_, T>,
    g: &[T],
    sizes: &[usize],
) -> Everything {
    let (problems, total) = (sizes.len(), sizes.iter().sum());
    let capacities = Capacities { problems, total, largest: sizes.iter().copied().max().unwrap_or(0) };
    let mut projector = Projector::plan(device, set, capacities, Settings::default()).expect("a plan");
    let wanted = Wanted { bounds: true, weights: true, labels: true, coefficients: false };
    let (solution, mut gradients) = (projector.project(batch).expect("a projection"), projector.gradients(wanted));
    projector.vjp(batch, &solution, g, &mut gradients).expect("gradients");
    let (answer, slopes) = (solution.read().expect("answers"), gradients.read().expect("gradients"));
    let wide = |array: &[T]| array.iter().map(|value| value.to_f64()).collect::<Vec<_>>();
    let of_elements = [slopes.predictions, slopes.lo, slopes.hi, slopes.weights, slopes.labels].map(wide);
    let states = sizes.iter().enumerate().flat_map(|(problem, &n)| (0..n).map(move |i| (problem, i)));
    let states = states.map(|(problem, i)| answer.clamp_state(problem, i)).collect();
    let of_rows = [slopes.levels, slopes.lower, slopes.upper].concat();
    (wide(answer.y), of_elements, of_rows, states, answer.outcomes.to_vec())
}

fn any_rows_agree<T: Storage>(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(12);
    // For a warp, for a block, and for several.
    let sizes = [700, 1024, 1025, 3001, 33_000];
    for set in sets() {
        let n: usize = sizes.iter().sum();
        let mut draw = |from: f64, to: f64| (0..n).map(|_| rng.random_range(from..to)).collect::<Vec<f64>>();
        let (weights, g, noise) = (draw(0.5, 1.5), draw(-1.0, 1.0), draw(-0.3, 1.3));
        let groups: [Vec<u8>; 2] = [draw(0.0, 2.0), draw(0.0, 5.0)].map(|x| x.into_iter().map(|x| x as u8).collect());
        let labels: Vec<f64> = draw(0.0, 1.0).into_iter().map(f64::round).collect();
        let (mut lo, mut hi) = (draw(0.0, 0.1), draw(0.9, 1.0));
        let (a, b) = (&groups[0], &groups[1]);
        let mut z: Vec<f64> = (0..n).map(|i| noise[i] + 0.2 * f64::from(a[i]) - 0.05 * f64::from(b[i])).collect();
        // (Both runs see the same numbers.)
        let mut g = g;
        for array in [&mut lo, &mut hi, &mut z, &mut g] {
            array.iter_mut().for_each(|value| *value = T::from_f64(*value).to_f64());
        }
        let groups = [Buffer::host(a), Buffer::host(b)];
        let stored = |array: &[f64]| array.iter().map(|value| T::from_f64(*value)).collect::<Vec<T>>();
        let (z_here, lo_here, hi_here, g_here) = (stored(&z), stored(&lo), stored(&hi), stored(&g));
        let mut offsets = vec![0];
        sizes.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
        let here = Batch::new(&z_here, Offsets::Ragged(&offsets)).groups(&groups).labels(&labels).weights(&weights);
        let there = Batch::new(&z, Offsets::Ragged(&offsets)).groups(&groups).labels(&labels).weights(&weights);
        let found = everything(device, &set, &here.element_bounds(&lo_here, &hi_here), &g_here, &sizes);
        let expected = everything(&Device::cpu(), &set, &there.element_bounds(&lo, &hi), &g, &sizes);
        let name = format!("{:?}, {} rows", T::DTYPE, set.rows());
        let unit = T::UNIT_ROUNDOFF;
        assert!(found.4.iter().all(|outcome| outcome.status == Status::Solved), "{name}: {:?}", found.4);
        let off = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
        // Of the elements of every cell and label some hundreds are free, of about as many: no mean is moved far by little.
        let error = off(&found.0, &expected.0);
        assert!(error <= 4.0 * f64::max(1e-11, 8.0 * unit) * 4.0, "{name}: {error}");
        // Elements whose state depends on rounding are few; gradients depend on all of them by one in some hundreds.
        let other = found.3.iter().zip(&expected.3).filter(|(a, b)| a != b).count();
        assert!(other <= usize::from(unit > 1e-12), "{name}: {other} states");
        if other == 0 {
            for (found, expected) in found.1.iter().zip(&expected.1) {
                let error = off(found, expected);
                assert!(error <= 20.0 * unit + 1e-10, "{name}: gradient off by {error}");
            }
            let size = expected.2.iter().fold(1.0, |most: f64, slope| most.max(slope.abs()));
            let error = off(&found.2, &expected.2);
            assert!(error <= (1e3 * unit + 1e-9) * size, "{name}: row gradients off by {error} of {size}");
        }
        let again = everything(device, &set, &here.element_bounds(&lo_here, &hi_here), &g_here, &sizes);
        assert_eq!((&again.0, &again.1, &again.2), (&found.0, &found.1, &found.2), "{name}");
    }
}

fn any_rows_agree_with_the_reference(device: &Device) {
    any_rows_agree::<f32>(device);
    any_rows_agree::<f64>(device);
}

/// Problems that have several blocks each, more than can be there at once: with arrays that they share, with arrays of their
/// own, and alone.
fn large_problems_are_what_they_are_alone(device: &Device) {
    const PROBLEMS: usize = 3;
    let overall = DemographicParity(Parity::Overall { epsilon: 0.01 });
    let overall = overall.constraints(&Population::one_feature(5)).expect("constraints");
    for (set, n, is_plain) in [(parity(2), 20_000, true), (parity(5), 20_000, true), (overall, 40_000, false)] {
        let mut rng = Pcg64Mcg::seed_from_u64(31);
        let mut draw =
            |count: usize, from: f32, to: f32| -> Vec<f32> { (0..count).map(|_| rng.random_range(from..to)).collect() };
        let (weights, lo, hi) = (draw(n, 0.5, 1.5), draw(n, 0.0, 0.1), draw(n, 0.9, 1.0));
        let cells: Vec<u8> = draw(n, 0.0, set.layout().cells() as f32).into_iter().map(|cell| cell as u8).collect();
        let (mut z, g) = (draw(PROBLEMS * n, -0.3, 1.2), draw(PROBLEMS * n, -1.0, 1.0));
        z.iter_mut().enumerate().for_each(|(i, z)| *z += 0.1 * f32::from(cells[i % n]));
        let repeated_cells = cells.repeat(PROBLEMS);
        let repeated = [&weights, &lo, &hi].map(|array| array.repeat(PROBLEMS));
        let offsets = Offsets::Equal { problems: PROBLEMS, n };
        let mut shared = Batch::new(&z, offsets).cells(Buffer::host(&cells).shared()).bounds(0.0, 1.0);
        let mut own = Batch::new(&z, offsets).cells(&repeated_cells).bounds(0.0, 1.0);
        if !is_plain {
            let bounds = [&lo, &hi].map(|array| Buffer::host(array).shared());
            shared = shared.weights(Reals::from(&weights).shared()).element_bounds(bounds[0], bounds[1]);
            own = own.weights(&repeated[0]).element_bounds(&repeated[1], &repeated[2]);
        }
        let sizes = [n; PROBLEMS];
        let found = everything(device, &set, &own, &g, &sizes);
        let same = everything(device, &set, &shared, &g, &sizes);
        assert!(found.4.iter().all(|outcome| outcome.status == Status::Solved), "{:?}", found.4);
        assert!(found.4.iter().all(|outcome| outcome.iterations > 0), "{:?}", found.4);
        assert_eq!((&found.0, &found.1, &found.2), (&same.0, &same.1, &same.2));
        assert_eq!((&found.3, &found.4), (&same.3, &same.4));
        let of_last = (PROBLEMS - 1) * n..PROBLEMS * n;
        let mut alone = Batch::single(&z[of_last.clone()]).cells(&cells).bounds(0.0, 1.0);
        if !is_plain {
            alone = alone.weights(&weights).element_bounds(&lo, &hi);
        }
        let alone = everything(device, &set, &alone, &g[of_last.clone()], &[n]);
        assert_eq!(alone.0, found.0[of_last.clone()]);
        assert_eq!(alone.1[0], found.1[0][of_last]);
        assert_eq!(alone.4[0], found.4[PROBLEMS - 1]);
    }
}

/// What a run of rows over samples finds: statuses, `y`, and the gradients of the elements, of coefficients and of the rows.
type OfSamples = (Vec<Status>, [Vec<f64>; 5]);

fn of_samples<T: Storage>(
    device: &Device,
    set: &ConstraintSet,
    method: Method,
    batch: &Batch<'_, T>,
    g: &[T],
) -> OfSamples {
    let settings = Settings { method, ..Settings::default() };
    let mut projector = Projector::plan(device, set, Capacities::of(&batch.offsets()), settings).expect("a plan");
    let wanted = Wanted { bounds: true, weights: true, labels: false, coefficients: true };
    let (solution, mut gradients) = (projector.project(batch).expect("a projection"), projector.gradients(wanted));
    projector.vjp(batch, &solution, g, &mut gradients).expect("gradients");
    let (answer, slopes) = (solution.read().expect("answers"), gradients.read().expect("gradients"));
    let wide = |array: &[T]| array.iter().map(|value| value.to_f64()).collect::<Vec<_>>();
    let rows = [slopes.levels, slopes.lower, slopes.upper].concat();
    let of_elements = [answer.y, slopes.predictions, slopes.weights, slopes.coefficients].map(wide);
    let [y, to_z, to_weights, to_rows] = of_elements;
    (answer.outcomes.iter().map(|outcome| outcome.status).collect(), [y, to_z, to_weights, to_rows, rows])
}

fn dense_rows_agree<T: Storage>(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(21);
    // For a warp, and for a block; in fours, and not.
    let sizes = [5, 700, 1024, 1025, 2052];
    let n: usize = sizes.iter().sum();
    let mut offsets = vec![0];
    sizes.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
    let shares = offsets.clone();
    for (m, method) in [(1, Method::Newton), (3, Method::Newton), (3, Method::Admm), (13, Method::Newton)] {
        // (With a spread over cells beside them.)
        let mut set = parity(2);
        for row in 0..m {
            set.push_dense(DenseRow::new(format!("row {row}"), -1.0, 1.0)).expect("a row");
        }
        // A part of what rows are by chance, so that most are held.
        let upper: Vec<f64> = sizes.iter().flat_map(|n| vec![0.11 / f64::from(*n as u32).sqrt(); m]).collect();
        let lower: Vec<f64> = upper.iter().map(|upper| -upper).collect();
        let mut draw = |from: f64, to: f64, count: usize| -> Vec<f64> {
            (0..count).map(|_| T::from_f64(rng.random_range(from..to)).to_f64()).collect()
        };
        let (z, g, weights) = (draw(-0.3, 1.3, n), draw(-1.0, 1.0, n), draw(0.5, 1.5, n));
        let groups: Vec<u8> = draw(0.0, 2.0, n).into_iter().map(|x| x.min(1.0) as u8).collect();
        let share =
            |at: usize| shares.windows(2).find(|pair| at < m * pair[1]).map_or(1.0, |pair| (pair[1] - pair[0]) as f64);
        let doubles: Vec<f64> = draw(-1.0, 1.0, m * n).into_iter().enumerate().map(|(at, a)| a / share(at)).collect();
        let singles: Vec<f32> = doubles.iter().map(|a| *a as f32).collect();
        let doubles: Vec<f64> = singles.iter().map(|a| f64::from(*a)).collect();
        let stored = |array: &[f64]| array.iter().map(|value| T::from_f64(*value)).collect::<Vec<T>>();
        let (z_here, g_here) = (stored(&z), stored(&g));
        let here = Batch::new(&z_here, Offsets::Ragged(&offsets)).cells(&groups).weights(&weights);
        let here = here.bounds(T::from_f64(0.0), T::from_f64(1.0)).row_bounds(&lower, &upper);
        let there = Batch::new(&z, Offsets::Ragged(&offsets)).cells(&groups).weights(&weights).bounds(0.0, 1.0);
        let there = there.row_bounds(&lower, &upper);
        let found = of_samples(device, &set, method, &here.coefficients(&singles), &g_here);
        let expected = of_samples(&Device::cpu(), &set, method, &there.coefficients(&doubles), &g);
        let name = format!("{:?}, {m} rows, {method:?}", T::DTYPE);
        assert_eq!(found.0, expected.0, "{name}");
        assert!(found.0.iter().all(|status| *status == Status::Solved), "{name}: {:?}", found.0);
        let held = expected.1[4][sizes.len()..].iter().filter(|slope| **slope != 0.0).count();
        assert!(2 * held > sizes.len() * m, "{name}: {held} rows are held");
        let unit = T::UNIT_ROUNDOFF;
        for (which, (found, expected)) in found.1.iter().zip(&expected.1).enumerate() {
            let size = expected.iter().fold(1.0, |most: f64, value| most.max(value.abs()));
            let error = found.iter().zip(expected).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
            assert!(error <= (1e3 * unit + 1e-9) * size, "{name}, array {which}: {error} of {size}");
        }
        assert_eq!(of_samples(device, &set, method, &here.coefficients(&doubles), &g_here), found, "{name}, in f64");
    }
}

fn dense_rows_agree_with_the_reference(device: &Device) {
    dense_rows_agree::<f32>(device);
    dense_rows_agree::<f64>(device);
}

/// ADMM takes as many iterations as the reference, whatever penalty it begins with: it finds better ones.
fn admm_adapts_its_penalty_as_the_reference_does(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(22);
    let mut set = ConstraintSet::new(CellLayout::flat(1).expect("a layout"));
    for row in 0..3 {
        set.push_dense(DenseRow::new(format!("row {row}"), -0.01, 0.01)).expect("a row");
    }
    for n in [60, 1300] {
        let z: Vec<f64> = (0..n).map(|_| rng.random_range(-0.3..1.3)).collect();
        let a: Vec<f64> = (0..3 * n).map(|_| rng.random_range(-0.5..1.0) / n as f64).collect();
        let batch = Batch::single(&z).coefficients(&a).bounds(0.0, 1.0);
        for rho in [1e-4, 0.1, 1e3] {
            let admm = AdmmSettings { rho, ..AdmmSettings::default() };
            let settings = Settings { method: Method::Admm, admm, ..Settings::default() };
            let [found, expected] = [device, &Device::cpu()].map(|device| {
                let mut projector =
                    Projector::<f64>::plan(device, &set, Capacities::single(n), settings).expect("a plan");
                let solution = projector.project(&batch).expect("a projection");
                let view = solution.read().expect("answers");
                assert_eq!(view.outcomes[0].status, Status::Solved);
                view.outcomes[0].iterations
            });
            assert!(found.abs_diff(expected) <= 5, "{n} samples from {rho}: {found} iterations, not {expected}");
        }
    }
}

fn what_cannot_be_used_spoils_one_problem(device: &Device) {
    for (count, n) in [(2, 8), (2, 100), (2, 3000), (5, 10), (5, 3000)] {
        let set = parity(count);
        let mut z = vec![0.5_f32; 5 * n];
        let mut groups: Vec<u8> = (0..5 * n).map(|i| u8::from(i % 3 == 0)).collect();
        z[n + 1] = f32::NAN;
        z[n + 3] = 2.0;
        z[2 * n + n / 2] = f32::INFINITY;
        groups[4 * n - 1] = count as u8;
        let levels = [0.1, 0.1, 0.1, 0.1, f64::NAN];
        let batch = Batch::new(&z, Offsets::Equal { problems: 5, n }).cells(&groups).levels(&levels).bounds(0.0, 1.0);
        let mut projector =
            Projector::<f32>::plan(device, &set, Capacities::equal(5, n), Settings::default()).expect("a plan");
        let solution = projector.project(&batch).expect("a projection");
        let answer = solution.read().expect("answers");
        let statuses: Vec<Status> = answer.outcomes.iter().map(|outcome| outcome.status).collect();
        assert_eq!(statuses[0], Status::Solved);
        assert!(statuses[1..].iter().all(|status| *status == Status::BadNumber), "{statuses:?}");
        assert!(answer.y[n + 1].is_nan() && answer.y[n + 3] == 1.0 && answer.y[2 * n + n / 2] == 1.0);
        let mut gradients = projector.gradients(Wanted::default());
        projector.vjp(&batch, &solution, &vec![1.0; 5 * n], &mut gradients).expect("gradients");
        let slopes = gradients.read().expect("gradients");
        assert!(slopes.predictions[..n].iter().all(|g| *g == 1.0));
        assert!(slopes.predictions[n..].iter().all(|g| *g == 0.0));
    }
}

fn the_iteration_limit_leaves_the_clipped_input(device: &Device) {
    for (set, n) in [(parity(2), 300), (parity(3), 301), (parity(2), 9000), (parity(3), 20_001)] {
        let z: Vec<f32> = (0..n).map(|i| (i % 7) as f32 / 4.0 + (i % 2) as f32 / 8.0).collect();
        let groups: Vec<u8> = (0..n).map(|i| (i % 2) as u8).collect();
        let settings = Settings { max_iterations: 0, ..Settings::default() };
        let batch = Batch::single(&z).cells(&groups).bounds(0.0, 1.0);
        let mut projector = Projector::<f32>::plan(device, &set, Capacities::single(n), settings).expect("a plan");
        let solution = projector.project(&batch).expect("a projection");
        let answer = solution.read().expect("answers");
        assert_eq!(answer.outcomes[0].status, Status::IterationLimit);
        assert!(answer.outcomes[0].excess > 0.0);
        assert!(answer.y.iter().zip(&z).all(|(y, z)| *y == z.clamp(0.0, 1.0)));
        assert!((0..n).all(|i| answer.clamp_state(0, i) != ClampState::Free));
    }
}

fn what_is_not_taken_is_refused(device: &Device) {
    let plan = |set: &ConstraintSet, n, settings| Projector::<f32>::plan(device, set, Capacities::single(n), settings);
    let is_unsupported = |error: Option<Error>| matches!(error, Some(Error::Unsupported { device: "cuda", .. }));
    let set = parity(2);
    assert!(is_unsupported(plan(&set, (1 << 24) + 1, Settings::default()).err()));
    assert!(matches!(plan(&parity(33), 10, Settings::default()).err(), Some(Error::TooManyCells { .. })));
}

/// What is called solved keeps epsilon, as `f64` measures what is stored: random problems as the suite draws them, small and
/// odd ones too.
fn what_is_solved_keeps_epsilon(device: &Device) {
    let mut kept = 0;
    for kind in [Kind::TwoGroups, Kind::ManyGroups, Kind::TinyGroups] {
        for seed in 0..100 {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, 400);
            if !takes(device, &case.set) {
                continue;
            }
            let inputs = Inputs::<f32>::new(&[&case.stated]);
            let capacities = Capacities::of(&inputs.offsets());
            let plan = Projector::<f32>::plan(device, &case.set, capacities, Settings::default());
            let solution = plan.and_then(|mut projector| projector.project(&inputs.batch())).expect("a projection");
            let view = solution.read().expect("answers");
            let y = widened(view.y);
            if view.all_solved() && case.epsilon >= f64::max(1e-6, largest(&y) / 262_144.0) {
                let rows = live_rows(&case.set, &inputs.stated(0));
                let over = excess(&case.set, &rows, &Limits::of(&case.set), &y);
                let outcome = view.outcomes[0];
                assert!(over <= 2.0 * f64::EPSILON * largest(&y), "{kind:?}, seed {seed}: {over:e}; {outcome:?}");
                kept += 1;
            }
        }
    }
    assert!(kept > 50, "only {kept} problems were taken");
}

macro_rules! on_cuda {
    ($($body:ident),+ $(,)?) => {
        mod cuda_emu {
            $(#[test]
            fn $body() {
                super::run_on("cuda_emu", super::$body);
            })+
        }
        mod cuda {
            $(#[test]
            fn $body() {
                super::run_on("cuda", super::$body);
            })+
        }
    };
}

on_cuda!(
    what_is_solved_keeps_epsilon,
    two_groups_agree_with_the_reference,
    three_groups_agree_with_the_reference,
    fourteen_groups_agree_with_the_reference,
    any_rows_agree_with_the_reference,
    large_problems_are_what_they_are_alone,
    dense_rows_agree_with_the_reference,
    admm_adapts_its_penalty_as_the_reference_does,
    what_cannot_be_used_spoils_one_problem,
    the_iteration_limit_leaves_the_clipped_input,
    what_is_not_taken_is_refused,
);

/// NVRTC compiles the kernels; none spills, has a stack, or needs more registers than it is to have. `FAIRLAYER_REQUIRE` with
/// `nvrtc` in it makes a missing NVRTC a failure. Every variant for every architecture takes minutes: by default each variant
/// has one architecture, in turn, and of the halves, which are computed in `f32` too, only the smallest teams of the quick
/// kernels are compiled. `FAIRLAYER_NVRTC=all` compiles everything.
#[test]
fn variants_compile_without_spills() {
    let required = std::env::var("FAIRLAYER_REQUIRE").is_ok_and(|names| names.split(',').any(|name| name == "nvrtc"));
    if let Err(reason) = cuda_texts::find_nvrtc() {
        assert!(!required, "FAIRLAYER_REQUIRE names nvrtc, but: {reason}");
        writeln!(std::io::stderr(), "SKIP variants_compile_without_spills: {reason}").expect("stderr takes a line");
        return;
    }
    let variants = cuda_texts::all_variants();
    let everything = std::env::var("FAIRLAYER_NVRTC").is_ok_and(|which| which == "all");
    let all = || (0..variants.len()).flat_map(|variant| (0..ARCHITECTURES.len()).map(move |which| (variant, which)));
    let in_turn = |&(variant, which): &(usize, usize)| {
        let cuda_texts::VariantText { dtype, smallest, general, .. } = &variants[variant];
        let is_half = matches!(dtype, Dtype::F16 | Dtype::Bf16);
        variant % ARCHITECTURES.len() == which && (!is_half || (*smallest && !general))
    };
    let jobs: Vec<_> = all().filter(|job| everything || in_turn(job)).collect();
    writeln!(
        std::io::stderr(),
        "variants_compile_without_spills: {} of {} combinations of a variant and an architecture; FAIRLAYER_NVRTC=all \
         compiles them all",
        jobs.len(),
        all().count()
    )
    .expect("stderr takes a line");
    let reports: Vec<_> =
        jobs.into_par_iter().map(|(variant, which)| report(&variants[variant], ARCHITECTURES[which])).collect();
    reports.iter().for_each(|(line, _)| println!("{line}"));
    let wrong: Vec<_> = reports.iter().filter(|(_, is_good)| !is_good).map(|(line, _)| line).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(reports.len() > 50);
}

/// Compute capabilities that variants are compiled for.
const ARCHITECTURES: [(u32, u32); 3] = [(8, 0), (9, 0), (10, 0)];

/// The most registers that a thread of a kernel is to have, without and with double precision: what its blocks leave room for
/// (a multiprocessor has 65,536), or a little above what it needs.
const REGISTERS: [(&str, [u32; 2]); 10] = [
    ("cells_prepare", [40, 40]),
    ("cells_pair<", [168, 240]),
    ("vjp_pair<", [128, 152]),
    ("cells_spread<", [255, 224]),
    ("vjp_spread<", [255, 168]),
    ("cells_newton<", [255, 255]),
    ("cells_vjp<", [128, 128]),
    ("dense_newton<", [255, 255]),
    ("dense_vjp<", [128, 128]),
    ("dense_admm<", [200, 200]),
];

/// Compiles a variant; a line on what came of it, and whether that is as it should be.
fn report(variant: &cuda_texts::VariantText, capability: (u32, u32)) -> (String, bool) {
    let cuda_texts::VariantText { source, expression, dtype, .. } = variant;
    let (_, allowed) = REGISTERS.iter().find(|(kernel, _)| expression.starts_with(kernel)).expect("a bound");
    let allowed = allowed[usize::from(*dtype == Dtype::F64)];
    let image = cuda_texts::compile(*source, expression, capability).unwrap_or_else(|error| panic!("{error}"));
    let figure = |after: &str| -> u32 {
        let (head, _) = image.log.split_once(after).unwrap_or_else(|| panic!("{after}: {}", image.log));
        let digits = head.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
        digits.parse().unwrap_or_else(|_| panic!("{after}: {}", image.log))
    };
    let (registers, stack) = (figure(" registers"), figure(" bytes stack frame"));
    let spills = figure(" bytes spill stores") + figure(" bytes spill loads");
    let (major, minor) = capability;
    let line = format!(
        "{expression:40} sm_{major}{minor}: {registers:3} registers of {allowed}, {stack} bytes of stack, {spills} spilled"
    );
    (line, registers <= allowed && stack == 0 && spills == 0)
}
