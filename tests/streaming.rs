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

#[test]
#[ignore]
fn table() {
    let set = DemographicParity::within(0.05).constraints(&Population::one_feature(2)).unwrap();
    let settings = StreamSettings { bounds: (0.0, 1.0), b_tau: usize::MAX, ..StreamSettings::default() };
    let n: usize = std::env::var("N").map_or(20000, |n| n.parse().unwrap());
    let seeds: u64 = std::env::var("SEEDS").map_or(5, |n| n.parse().unwrap());
    for (shift, drift) in [(0.3, false), (0.15, false), (0.0, false), (0.04, false), (0.3, true)] {
        for b in [1, 4, 16, 64] {
            let mut rows = Vec::new();
            let start = std::time::Instant::now();
            for seed in 0..seeds {
                let (z, cells) = prototype_data(n, shift, drift, seed);
                let run = simulate(&set, settings, &z, &cells, b);
                let mut projector =
                    Projector::<f64>::plan(Device::cpu(), &set, Capacities::single(n), Settings::default()).unwrap();
                let all = projector.project(&Batch::single(&z).cells(&cells).bounds(0.0, 1.0)).unwrap();
                let best = z.iter().zip(all.read().unwrap().y).map(|(z, y)| (y - z).powi(2)).sum::<f64>() / n as f64;
                rows.push((run.end, run.worst, run.square, best));
            }
            let mean = |f: fn(&(f64, f64, f64, f64)) -> f64| rows.iter().map(f).sum::<f64>() / rows.len() as f64;
            let most = |f: fn(&(f64, f64, f64, f64)) -> f64| rows.iter().map(f).fold(0.0, f64::max);
            println!(
                "shift {shift} drift {drift} b {b:2}: end mean {:.5} max {:.5} over {}/{}  worst mean {:.5} max {:.5}  mse {:.6} (best {:.6}) {:.2} us/row",
                mean(|r| r.0),
                most(|r| r.0),
                rows.iter().filter(|r| r.0 > 0.05).count(),
                rows.len(),
                mean(|r| r.1),
                most(|r| r.1),
                mean(|r| r.2),
                mean(|r| r.3),
                start.elapsed().as_secs_f64() * 1e6 / (n as f64 * seeds as f64)
            );
        }
    }
}
