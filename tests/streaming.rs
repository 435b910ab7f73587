//! Streams: what they promise, and how far they are from the projection of all data at once.

use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

fn normal(rng: &mut Pcg64) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// The data of the prototypes: two groups, 0.4 of the samples in group 1, whose scores are `shift` higher.
fn prototype_data(n: usize, shift: f64, drift: bool, seed: u64) -> (Vec<f64>, Vec<u8>) {
    let mut rng = Pcg64::seed_from_u64(seed);
    (0..n)
        .map(|i| {
            let group = u8::from(rng.random::<f64>() < 0.4);
            let sign = if drift && i >= n / 2 { -0.5 } else { 1.0 };
            let z: f64 = 0.5 + 0.2 * normal(&mut rng) + shift * (f64::from(group) - 0.4) * sign;
            (z.clamp(0.0, 1.0), group)
        })
        .unzip()
}

#[derive(Default)]
struct Simulated {
    end: f64,
    worst: f64,
    square: f64,
    y: Vec<f64>,
}

fn simulate(set: &ConstraintSet, settings: StreamSettings, z: &[f64], cells: &[u8], b: usize) -> Simulated {
    let mut stream = Streaming::new(set, settings).unwrap();
    let mut y = vec![f64::NAN; z.len()];
    let mut worst = 0.0_f64;
    let gap = |stream: &Streaming| stream.gaps().iter().flatten().map(|gap| gap.after.abs()).fold(0.0, f64::max);
    for first in (0..z.len()).step_by(b) {
        let range = first..(first + b).min(z.len());
        let batch = Batch::single(&z[range.clone()]).cells(&cells[range.clone()]);
        let answered = stream.answer_into(&batch, &mut y[range.clone()]).unwrap();
        assert_eq!((answered.status, answered.projected), (Status::Solved, b >= settings.b_tau));
        if first > z.len() / 10 {
            worst = worst.max(gap(&stream));
        }
    }
    let square = z.iter().zip(&y).map(|(z, y)| (y - z).powi(2)).sum::<f64>() / z.len() as f64;
    Simulated { end: gap(&stream), worst, square, y }
}

fn parity(epsilon: f64) -> ConstraintSet {
    DemographicParity::within(epsilon).constraints(&Population::one_feature(2)).unwrap()
}

fn probabilities() -> StreamSettings {
    StreamSettings { bounds: (0.0, 1.0), b_tau: usize::MAX, ..StreamSettings::default() }
}

/// The mean square distance of the projection of all data at once: the least that there is.
fn least_square(set: &ConstraintSet, z: &[f64], cells: &[u8]) -> f64 {
    let capacities = Capacities::single(z.len());
    let mut projector = Projector::<f64>::plan(Device::cpu(), set, capacities, Settings::default()).unwrap();
    let solution = projector.project(&Batch::single(z).cells(cells).bounds(0.0, 1.0)).unwrap();
    let y = solution.read().unwrap().y;
    z.iter().zip(y).map(|(z, y)| (y - z).powi(2)).sum::<f64>() / z.len() as f64
}

/// The prototype `queue`: integral control of one signed multiplier. Returns the pooled gap at the end, the worst after a
/// tenth, and the mean square distance.
fn queue(z: &[f64], groups: &[u8], b: usize, epsilon: f64) -> (f64, f64, f64) {
    let (mut nu, mut sums, mut counts) = (0.0_f64, [0.0; 2], [0.0; 2]);
    let (mut square, mut gap, mut worst) = (0.0, 0.0_f64, 0.0_f64);
    for first in (0..z.len()).step_by(b) {
        let range = first..(first + b).min(z.len());
        range.clone().for_each(|i| counts[usize::from(groups[i])] += 1.0);
        let total = counts[0] + counts[1];
        let share = counts.map(|count| (count + 1.0) / (total + 2.0));
        for i in range.clone() {
            let group = usize::from(groups[i]);
            let sign = if group == 0 { 1.0 } else { -1.0 };
            let y = (z[i] - nu * sign / share[group] * share[0].min(share[1])).clamp(0.0, 1.0);
            sums[group] += y;
            square += (y - z[i]).powi(2);
        }
        let both = counts[0] > 0.0 && counts[1] > 0.0;
        gap = if both { sums[0] / counts[0] - sums[1] / counts[1] } else { 0.0 };
        let rate = 0.5 * range.len() as f64 / (range.len() as f64 + total.sqrt());
        let moved: f64 = nu + rate * gap;
        nu = moved.signum() * (moved.abs() - rate * epsilon * 0.8).max(0.0);
        worst = if first > z.len() / 10 { worst.max(gap.abs()) } else { worst };
    }
    (gap.abs(), worst, square / z.len() as f64)
}

/// README's figures: `cargo test --release --test streaming within_epsilon -- --nocapture`.
#[test]
fn the_pooled_gap_ends_within_epsilon_and_little_is_moved() {
    let set = parity(0.05);
    let published = StreamSettings { rule: StreamRule::MaxGap { eta: 0.5 }, ..probabilities() };
    println!("means over 5 streams: gap at the end, the worst after a tenth, mean square moved");
    for shift in [0.3, 0.15] {
        for b in [1, 4, 16, 64] {
            let mut sums = [0.0; 9];
            for seed in 0..5 {
                let (z, cells) = prototype_data(20_000, shift, false, seed);
                let least = least_square(&set, &z, &cells);
                let run = simulate(&set, probabilities(), &z, &cells, b);
                let case = format!("shift {shift}, seed {seed}, batches of {b}: {:.5}, {:.5}", run.end, run.worst);
                assert!(run.end <= 0.05 && run.worst <= 0.0501, "{case}");
                // Its margin, and the noise of what it learns, cost 1 to 10 parts in 100 of what has to be moved.
                assert!(run.square <= 1.02 * least + 0.0002, "{case}: {:.6}, {least:.6}", run.square);
                let (end, worst, square) = queue(&z, &cells, b, 0.05);
                assert!(run.square < square, "{case}: {square} {:.6}", run.square);
                let few = if seed == 0 { simulate(&set, published, &z, &cells, b) } else { Simulated::default() };
                let found =
                    [run.end, run.worst, run.square, least, end, worst, square, 5.0 * few.end, 5.0 * few.square];
                sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found / 5.0);
            }
            let [end, worst, square, least, queue_end, queue_worst, queue_square, few_end, few_square] = sums;
            println!(
                "shift {shift} batches of {b:2}: pooled {end:.4} {worst:.4} {square:.5}, all at once 0.0500 {least:.5}, \
                 queue {queue_end:.4} {queue_worst:.4} {queue_square:.5}, max_gap (1 stream) {few_end:.4} {few_square:.5}"
            );
        }
    }
}

#[test]
fn a_fair_model_is_left_alone() {
    for (shift, most) in [(0.0, 5e-5), (0.04, 1e-4)] {
        for seed in 0..5 {
            let (z, cells) = prototype_data(20_000, shift, false, seed);
            for b in [1, 4, 16, 64] {
                let run = simulate(&parity(0.05), probabilities(), &z, &cells, b);
                assert!(run.end <= 0.05 && run.square < most, "{shift} {seed} {b}: {} {}", run.end, run.square);
                // At the end, when chance has little to say, not a bit changes.
                let last = z.len() * 9 / 10;
                assert!(shift > 0.0 || run.y[last..] == z[last..], "{shift} {seed} {b}");
            }
        }
    }
    // Groups with the same scores: not a bit changes from the first sample on.
    let z: Vec<f64> = (0..1000).map(|i| f64::from(i / 2 * 379 % 1000) / 1000.0).collect();
    let cells: Vec<u8> = (0..1000).map(|i| (i % 2) as u8).collect();
    assert_eq!(simulate(&parity(0.05), probabilities(), &z, &cells, 2).y, z);
}

#[test]
fn after_a_drift_the_pooled_gap_is_near_epsilon_and_comes_back() {
    for seed in 0..5 {
        let (z, cells) = prototype_data(20_000, 0.3, true, seed);
        for b in [1, 16] {
            let run = simulate(&parity(0.05), probabilities(), &z, &cells, b);
            assert!(run.end <= 0.0501 && run.worst <= 0.051, "{seed} {b}: {} {}", run.end, run.worst);
        }
    }
}

/// Samples of two features (of three groups, of which one is rare, and of two), with labels and control values.
struct People {
    z: Vec<f64>,
    groups: [Vec<u8>; 2],
    labels: Vec<f64>,
    control: Vec<u8>,
}

impl People {
    fn draw(n: usize, seed: u64) -> Self {
        let mut rng = Pcg64::seed_from_u64(seed);
        let mut people = Self { z: vec![], groups: [vec![], vec![]], labels: vec![], control: vec![] };
        for _ in 0..n {
            let first = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2][rng.random_range(0..10)];
            let second = u8::from(rng.random::<f64>() < 0.5 + 0.2 * f64::from(first == 1));
            let label = f64::from(rng.random::<f64>() < 0.4 + 0.1 * f64::from(second));
            let mean = 0.4 + 0.2 * label - 0.12 * f64::from(first) + 0.1 * f64::from(second);
            people.z.push(mean + 0.15 * normal(&mut rng));
            people.groups[0].push(first);
            people.groups[1].push(second);
            people.labels.push(label);
            people.control.push(rng.random_range(0..2));
        }
        people
    }

    fn stream(&self, set: &ConstraintSet, settings: StreamSettings, b: usize) -> (Streaming, Vec<f64>) {
        let mut stream = Streaming::new(set, settings).unwrap();
        let mut y = vec![f64::NAN; self.z.len()];
        for first in (0..self.z.len()).step_by(b) {
            self.answer(&mut stream, first..(first + b).min(self.z.len()), &mut y);
        }
        (stream, y)
    }

    fn answer(&self, stream: &mut Streaming, range: std::ops::Range<usize>, y: &mut [f64]) -> Answered {
        let features = stream.constraints().layout().group_counts().len();
        let groups: Vec<Buffer<'_, u8>> =
            self.groups[..features].iter().map(|groups| Buffer::from(&groups[range.clone()])).collect();
        let batch = Batch::single(&self.z[range.clone()])
            .groups(&groups)
            .labels(&self.labels[range.clone()])
            .control(&self.control[range.clone()]);
        stream.answer_into(&batch, &mut y[range]).unwrap()
    }
}

fn criteria(parity: Parity) -> Vec<Box<dyn Criterion>> {
    vec![
        Box::new(DemographicParity(parity)),
        Box::new(EqualizedOdds(parity)),
        Box::new(TruePositiveRateParity(parity)),
        Box::new(FalsePositiveRateParity(parity)),
        Box::new(ConditionalParity(parity)),
    ]
}

#[test]
fn every_criterion_over_groups_comes_to_its_limit() {
    let features = || [SensitiveFeature::new("first", 3), SensitiveFeature::new("second", 2)];
    let people = Population::of_features(features()).with_control(2);
    let (none, unit) = ((f64::NEG_INFINITY, f64::INFINITY), (0.0, 1.0));
    let mut sets = Vec::new();
    for population in [people.clone(), people.clone().intersectional(), Population::one_feature(3).with_control(2)] {
        let forms = [
            (Parity::Pairwise { epsilon: 0.03 }, none),
            (Parity::Pairwise { epsilon: 0.03 }, unit),
            (Parity::Overall { epsilon: 0.02 }, unit),
            (Parity::Ratio { ratio: 0.9 }, unit),
        ];
        for (parity, bounds) in forms {
            sets.extend(criteria(parity).iter().map(|criterion| (criterion.constraints(&population).unwrap(), bounds)));
        }
        for bounds in [none, unit] {
            sets.push((MeanResidual::within(0.03).constraints(&population).unwrap(), bounds));
            sets.push((Calibration::within(0.03).constraints(&population).unwrap(), bounds));
        }
    }
    let people = People::draw(6_000, 7);
    for (index, (set, bounds)) in sets.iter().enumerate() {
        let b = [1, 7][index % 2];
        let (stream, y) = people.stream(set, StreamSettings { bounds: *bounds, ..StreamSettings::default() }, b);
        assert!(y.iter().all(|y| (bounds.0..=bounds.1).contains(y)));
        let (gaps, names) = (stream.gaps(), set.row_names().collect::<Vec<_>>());
        assert_eq!(gaps.len(), set.spreads().len() + set.contrasts().len());
        // The rarest cell has some 60 samples, so that its last one is worth 0.005.
        let worst = gaps.iter().flatten().map(|gap| gap.excess).fold(0.0, f64::max);
        assert!(gaps.iter().all(Option::is_some) && worst <= 0.002, "{index}: {worst} {gaps:?} {names:?}");
        assert!(stream.multipliers().iter().any(|nu| *nu != 0.0), "{index}: there was something to do");
    }
}

#[test]
fn a_group_may_come_late_and_stay_away() {
    let mut rng = Pcg64::seed_from_u64(3);
    // Group 1 comes from 5,000 to 8,000 only, one sample in ten.
    let (z, cells): (Vec<f64>, Vec<u8>) = (0..20_000)
        .map(|i| {
            let group = u8::from((5_000..8_000).contains(&i) && i % 10 == 0);
            ((0.6 + 0.15 * normal(&mut rng) - 0.3 * f64::from(group)).clamp(0.0, 1.0), group)
        })
        .unzip();
    let run = simulate(&parity(0.05), probabilities(), &z, &cells, 1);
    assert_eq!(run.y[..5_000], z[..5_000], "nothing is compared before it comes");
    // Its first samples do not drag all others along, and what has to be moved is moved where it is cheapest.
    let others = z.iter().zip(&run.y).zip(&cells).filter(|(_, group)| **group == 0);
    let square = others.map(|((z, y), _)| (y - z).powi(2)).sum::<f64>() / 20_000.0;
    assert!(run.end <= 0.05 && square < 1e-4, "{} {square}", run.end);
}

/// The primal step by bisection on the one multiplier that two groups have.
fn published_step(z: &[f64], groups: &[u8], lambda: f64) -> (Vec<f64>, f64) {
    let count = |group: u8| groups.iter().filter(|&&other| other == group).count() as f64;
    let (n0, n1) = (count(0), count(1));
    if n0 == 0.0 || n1 == 0.0 {
        return (z.to_vec(), 0.0);
    }
    let a = |group: u8| if group == 0 { 1.0 / n0 } else { -1.0 / n1 };
    let at = |q: f64| -> Vec<f64> { z.iter().zip(groups).map(|(z, &g)| (z - q * a(g)).clamp(0.0, 1.0)).collect() };
    let gap = |q: f64| at(q).iter().zip(groups).map(|(y, &g)| y * a(g)).sum::<f64>();
    let most = lambda * z.len() as f64 / 2.0;
    let (mut lo, mut hi) = (-most, most);
    let q = if gap(hi) > 0.0 {
        hi
    } else if gap(lo) < 0.0 {
        lo
    } else {
        for _ in 0..100 {
            let middle = 0.5 * (lo + hi);
            if gap(middle) > 0.0 { lo = middle } else { hi = middle }
        }
        0.5 * (lo + hi)
    };
    (at(q), gap(q).abs())
}

#[test]
fn max_gap_is_the_published_update() {
    let settings = StreamSettings { rule: StreamRule::MaxGap { eta: 0.5 }, ..probabilities() };
    for (b, seed) in [(1, 0), (4, 1), (16, 2), (64, 3)] {
        let (z, groups) = prototype_data(1_600, 0.3, false, seed);
        let mut stream = Streaming::new(&parity(0.05), settings).unwrap();
        let (mut lambda_max, mut weighted) = (0.0_f64, 0.0);
        for (t, (z, groups)) in z.chunks(b).zip(groups.chunks(b)).enumerate() {
            // Step by step from the same lambda: the update is unstable, and makes much of the last digits.
            let lambda = stream.max_gap().unwrap().lambda;
            let (y, _) = stream.answer(&Batch::single(z).cells(groups)).unwrap();
            let (expected, gap) = published_step(z, groups, lambda);
            let apart = y.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-9, "batches of {b}, batch {t}: {apart}, lambda {lambda}");
            let updated = (lambda + 0.5 / ((t + 1) as f64).sqrt() * b as f64 * (gap - 0.05)).max(0.0);
            lambda_max = lambda_max.max(updated);
            weighted += b as f64 * gap;
            let state = stream.max_gap().unwrap();
            let (apart, most_apart) = ((state.lambda - updated).abs(), (state.lambda_max - lambda_max).abs());
            assert!(apart < 1e-8 && most_apart < 1e-8, "batches of {b}, batch {t}: {apart} {most_apart}");
        }
        let (state, n) = (stream.max_gap().unwrap(), z.len() as f64);
        let (mean, bound) = (state.mean_gap(0.05).unwrap(), state.bound(0.05, 0.5).unwrap());
        assert!((mean - weighted / n).abs() < 1e-9);
        // What was published is true of what was published, and says little of the pooled gap.
        assert!(mean <= bound, "{mean} {bound}");
        assert!(b > 1 || stream.gaps()[0].unwrap().after > 0.25);
    }
}

#[test]
fn max_gap_takes_several_rows_and_no_more_than_was_published() {
    let people = Population::of_features([SensitiveFeature::new("first", 3), SensitiveFeature::new("second", 2)]);
    let settings = StreamSettings { rule: StreamRule::MaxGap { eta: 0.5 }, ..probabilities() };
    let drawn = People::draw(960, 5);
    let sets = [
        EqualizedOdds::within(0.02).constraints(&people).unwrap(),
        MeanResidual::within(0.02).constraints(&people).unwrap(),
        DemographicParity(Parity::Overall { epsilon: 0.02 }).constraints(&people).unwrap(),
    ];
    for set in sets {
        let (stream, y) = drawn.stream(&set, settings, 32);
        let state = stream.max_gap().unwrap();
        assert!(state.mean_gap(0.02).unwrap() <= state.bound(0.02, 0.5).unwrap() && state.lambda_max > 0.0);
        assert!(y.iter().all(|y| (0.0..=1.0).contains(y)));
    }
    let ratio = DemographicParity(Parity::Ratio { ratio: 0.8 }).constraints(&people).unwrap();
    let refused = Streaming::new(&ratio, settings).unwrap_err().to_string();
    assert!(refused.contains("max_gap") && refused.contains("ratio"), "{refused}");
}

#[test]
fn large_batches_are_projected_and_count() {
    let (z, cells) = prototype_data(500, 0.3, false, 1);
    let set = parity(0.05);
    for rule in [StreamRule::Pooled, StreamRule::MaxGap { eta: 0.5 }] {
        let settings = StreamSettings { rule, b_tau: 64, ..probabilities() };
        let mut stream = Streaming::new(&set, settings).unwrap();
        let (y, answered) = stream.answer(&Batch::single(&z).cells(&cells)).unwrap();
        let expected = Answered { status: Status::Solved, projected: true, incomplete: false };
        assert_eq!(answered, expected);
        let mut projector =
            Projector::<f64>::plan(Device::cpu(), &set, Capacities::single(500), Settings::default()).unwrap();
        let solution = projector.project(&Batch::single(&z).cells(&cells).bounds(0.0, 1.0)).unwrap();
        assert_eq!(y, solution.read().unwrap().y);
        assert_eq!(stream.count(), 500);
        let gap = stream.gaps()[0].unwrap();
        assert!(gap.before > 0.2 && gap.after <= 0.05 && gap.excess == 0.0, "{gap:?}");
        let (_, answered) = stream.answer(&Batch::single(&[0.5]).cells(&[1])).unwrap();
        assert_eq!((answered.projected, answered.incomplete, stream.count()), (false, true, 501));
    }
}

#[test]
fn a_saved_stream_goes_on_with_the_same_bits() {
    let people = Population::of_features([SensitiveFeature::new("first", 3), SensitiveFeature::new("second", 2)]);
    let drawn = People::draw(700, 11);
    let pooled = EqualizedOdds::within(0.02).constraints(&people).unwrap();
    let residual = MeanResidual::within(0.02).constraints(&people).unwrap();
    for (set, rule) in
        [(&pooled, StreamRule::Pooled), (&residual, StreamRule::Pooled), (&pooled, StreamRule::MaxGap { eta: 0.5 })]
    {
        let settings = StreamSettings { rule, b_tau: 40, ..probabilities() };
        let sizes = [1, 3, 1, 50, 7];
        let (mut whole, mut interrupted) =
            (Streaming::new(set, settings).unwrap(), Streaming::new(set, settings).unwrap());
        let (mut y, mut other) = (vec![0.0; 700], vec![1.0; 700]);
        let mut first = 0;
        for turn in 0.. {
            let range = first..(first + sizes[turn % sizes.len()]).min(700);
            if range.is_empty() {
                break;
            }
            first = range.end;
            drawn.answer(&mut whole, range.clone(), &mut y);
            drawn.answer(&mut interrupted, range, &mut other);
            #[cfg(feature = "serde")]
            let saved: StreamState = serde_json::from_slice(&serde_json::to_vec(&interrupted.save()).unwrap()).unwrap();
            #[cfg(not(feature = "serde"))]
            let saved = interrupted.save();
            assert_eq!(saved, whole.save(), "batch {turn}");
            interrupted = Streaming::restore(set, settings, saved).unwrap();
        }
        let bits = |y: &[f64]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        assert_eq!((first, bits(&y)), (700, bits(&other)));
    }
}

#[test]
fn a_state_goes_on_under_the_same_only() {
    let saved = Streaming::new(&parity(0.05), probabilities()).unwrap().save();
    let refused = |set: &ConstraintSet, settings: StreamSettings, told: &[&str]| {
        let error = Streaming::restore(set, settings, saved.clone()).unwrap_err().to_string();
        told.iter().for_each(|text| assert!(error.contains(text), "no {text} in {error}"));
    };
    refused(&parity(0.06), probabilities(), &["0.05", "0.06"]);
    refused(&parity(0.05), StreamSettings { bounds: (0.0, 2.0), ..probabilities() }, &["0 to 1", "0 to 2"]);
    refused(&parity(0.05), StreamSettings { rule: StreamRule::MaxGap { eta: 0.5 }, ..probabilities() }, &["pooled"]);
    let three = DemographicParity::within(0.05).constraints(&Population::one_feature(3)).unwrap();
    refused(&three, probabilities(), &["[2]", "[3]"]);
    assert!(Streaming::restore(&parity(0.05), StreamSettings { b_tau: 3, ..probabilities() }, saved.clone()).is_ok());
}

#[cfg(feature = "serde")]
#[test]
fn a_damaged_state_is_refused() {
    let (z, cells) = prototype_data(300, 0.3, false, 2);
    let mut stream = Streaming::new(&parity(0.05), probabilities()).unwrap();
    z.chunks(4)
        .zip(cells.chunks(4))
        .for_each(|(z, cells)| drop(stream.answer(&Batch::single(z).cells(cells)).unwrap()));
    let saved = serde_json::to_value(stream.save()).unwrap();
    let restored = |value: &serde_json::Value| {
        let state = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        Streaming::restore(&parity(0.05), probabilities(), state).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(restored(&saved), Ok(()));
    for (place, value) in [
        ("/version", serde_json::json!(2)),
        ("/totals/cells", serde_json::json!([])),
        ("/rule/Pooled/shifts", serde_json::json!([0.0])),
        ("/rule/Pooled/multipliers", serde_json::json!([])),
        ("/rule/Pooled/forecasts/0/next", serde_json::json!(100_000)),
        ("/rule/Pooled/forecasts/0/samples", serde_json::json!([])),
        ("/rule/Pooled/forecasts/0/due", serde_json::json!(2.0)),
    ] {
        let mut damaged = saved.clone();
        *damaged.pointer_mut(place).unwrap() = value;
        assert!(restored(&damaged).is_err(), "{place}");
    }
}

#[test]
fn more_groups_may_come() {
    let sets =
        [2, 3].map(|groups| DemographicParity::within(0.05).constraints(&Population::one_feature(groups)).unwrap());
    let (z, cells) = prototype_data(2_000, 0.3, false, 4);
    let mut stream = Streaming::new(&sets[0], probabilities()).unwrap();
    for (z, cell) in z.iter().zip(&cells) {
        stream.answer(&Batch::single(&[*z]).cells(&[*cell])).unwrap();
    }
    let before = stream.gaps();
    // The groups change places, too.
    let mut stream = stream.regrouped(&sets[1], &[2, 0]).unwrap();
    assert_eq!((stream.gaps(), stream.count()), (before, 2_000));
    for (index, (z, cell)) in z.iter().zip(&cells).enumerate() {
        let cell = if index % 9 == 0 { 1 } else { [2, 0][usize::from(*cell)] };
        stream.answer(&Batch::single(&[*z]).cells(&[cell])).unwrap();
    }
    assert!(stream.gaps()[0].unwrap().after <= 0.05, "{:?}", stream.gaps());
    for places in [&[0][..], &[0, 0, 1], &[0, 1, 3], &[0, 1, 300]] {
        assert!(stream.regrouped(&sets[1], places).is_err(), "{places:?}");
    }
}

#[test]
fn what_cannot_be_used_leaves_no_trace() {
    let mut stream = Streaming::new(&parity(0.05), probabilities()).unwrap();
    stream.answer(&Batch::single(&[0.2, 0.9, 0.4]).cells(&[0, 1, 0])).unwrap();
    let before = stream.save();
    for (z, cells) in [
        ([0.5, f64::NAN], [0, 1]),
        ([0.5, f64::INFINITY], [0, 1]),
        ([1.1e15, 2.0], [0, 1]),
        ([0.5, 2.0], [0, 2]),
        ([0.5, 2.0], [255, 1]),
    ] {
        let (y, answered) = stream.answer(&Batch::single(&z).cells(&cells)).unwrap();
        assert_eq!(answered.status, Status::BadNumber);
        assert!(y.iter().zip(&z).all(|(y, z)| *y == z.clamp(0.0, 1.0) || (y.is_nan() && z.is_nan())), "{y:?}");
        assert_eq!(stream.save(), before);
    }
    let (y, answered) = stream.answer(&Batch::single(&[] as &[f64]).cells(&[])).unwrap();
    assert!(y.is_empty() && answered.status == Status::Solved && stream.save() == before);
}

#[test]
fn misuse_is_an_error_that_changes_nothing() {
    let set = parity(0.05);
    let mut stream = Streaming::new(&set, probabilities()).unwrap();
    let before = stream.save();
    let (z, cells) = ([0.2, 0.9], [0, 1]);
    let batch = || Batch::single(&z).cells(&cells);
    let offsets = Offsets::Ragged(&[0, 1, 2]);
    for (batch, told) in [
        (Batch::single(&z), "groups"),
        (Batch::single(&z).cells(&[0]), "cells"),
        (Batch::new(&z, offsets).cells(&cells), "one problem at a time"),
        (batch().bounds(0.0, 1.0), "StreamSettings::bounds"),
        (batch().element_bounds(&[0.0, 0.0], &[1.0, 1.0]), "StreamSettings::bounds"),
        (batch().weights(&[1.0, 2.0]), "weights"),
        (batch().levels(&[0.1]), "levels"),
    ] {
        let error = stream.answer(&batch).unwrap_err().to_string();
        assert!(error.contains(told), "no {told} in {error}");
    }
    assert!(stream.answer_into(&batch(), &mut [0.0]).unwrap_err().to_string().contains("the answers"));
    assert_eq!(stream.save(), before);
    let budget = Budget::at_most(1.0).constraints(&Population::default()).unwrap();
    assert!(Streaming::new(&budget, probabilities()).unwrap_err().to_string().contains("a stream does not take"));
    for bounds in [(1.0, 0.0), (0.0, 0.0), (f64::NAN, 1.0), (0.0, f64::NAN)] {
        assert!(Streaming::new(&set, StreamSettings { bounds, ..probabilities() }).is_err(), "{bounds:?}");
    }
    for eta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Streaming::new(&set, StreamSettings { rule: StreamRule::MaxGap { eta }, ..probabilities() }).is_err());
    }
    let ratio = DemographicParity(Parity::Ratio { ratio: 0.8 }).constraints(&Population::one_feature(2)).unwrap();
    assert!(Streaming::new(&ratio, StreamSettings::default()).unwrap_err().to_string().contains("ratio"));
}

#[test]
fn anything_finite_is_answered_within_the_bounds() {
    let mut rng = Pcg64::seed_from_u64(17);
    for case in 0..60 {
        let groups = rng.random_range(1..5);
        let people = Population::one_feature(groups);
        let parity = match case % 3 {
            0 => Parity::Pairwise { epsilon: [0.0, 1e-9, 0.1][rng.random_range(0..3)] },
            1 => Parity::Overall { epsilon: [0.0, 0.1][rng.random_range(0..2)] },
            _ => Parity::Ratio { ratio: [1.0, 0.5][rng.random_range(0..2)] },
        };
        let set = match case % 4 {
            3 => MeanResidual::within(0.01).constraints(&people).unwrap(),
            _ => DemographicParity(parity).constraints(&people).unwrap(),
        };
        let bounds = [(0.0, 1.0), (0.0, f64::INFINITY), (0.25, 0.5)][rng.random_range(0..3)];
        let rule = if case % 5 == 4 && case % 3 != 2 { StreamRule::MaxGap { eta: 0.5 } } else { StreamRule::Pooled };
        let mut stream = Streaming::new(&set, StreamSettings { rule, b_tau: 12, bounds }).unwrap();
        for _ in 0..40 {
            let n = rng.random_range(0..16);
            let scale = [0.0, 1e-300, 1.0, 1e6, 1e15][rng.random_range(0..5)];
            let z: Vec<f64> = (0..n).map(|_| rng.random_range(-1.0..1.0) * scale).collect();
            let cells: Vec<u8> = (0..n).map(|_| rng.random_range(0..groups) as u8).collect();
            let labels: Vec<f64> = (0..n).map(|_| rng.random_range(0.0..1.0)).collect();
            let (y, answered) = stream.answer(&Batch::single(&z).cells(&cells).labels(&labels)).unwrap();
            assert_ne!(answered.status, Status::BadNumber);
            assert!(y.iter().all(|y| y.is_finite() && (bounds.0..=bounds.1).contains(y)), "{case}: {y:?}");
        }
    }
}
