//! Forward, backward and both through the public API on a planned projector, f32, data in cache.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fairlayer::{
    Batch, Capacities, Criterion as _, DemographicParity, Device, EqualizedOdds, Offsets, Population, Projector,
    Settings, Wanted,
};
use rand::{RngExt, SeedableRng};

struct Data {
    z: Vec<f32>,
    cells: Vec<u8>,
    g: Vec<f32>,
}

/// Scores of mean 0.5 that depend on the cell; about one in seven lies beyond [0, 1].
fn data(n: usize, cells: u8) -> Data {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(n as u64);
    let ids: Vec<u8> = (0..n).map(|_| rng.random_range(0..cells)).collect();
    let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
    let z = ids.iter().map(|id| 0.5 + 0.35 * normal() + 0.25 * (f32::from(*id) / f32::from(cells - 1) - 0.4)).collect();
    let g = ids.iter().map(|_| normal()).collect();
    Data { z, cells: ids, g }
}

fn bench_case(c: &mut Criterion, name: &str, set: &fairlayer::ConstraintSet, problems: usize, n: usize) {
    let data = data(problems * n, set.layout().cells() as u8);
    let capacities = Capacities::equal(problems, n);
    let mut projector = Projector::<f32>::plan(Device::cpu(), set, capacities, Settings::default()).unwrap();
    let batch = Batch::new(&data.z, Offsets::Equal { problems, n }).cells(&data.cells).bounds(0.0, 1.0);
    let mut solution = projector.solution();
    let mut gradients = projector.gradients(Wanted::default());
    projector.project_into(&batch, &mut solution).unwrap();
    let view = solution.read().unwrap();
    assert!(view.all_solved());
    let passes = view.outcomes.iter().map(|outcome| outcome.passes).max().unwrap();
    let id = |part| BenchmarkId::new(format!("{name}/{part}"), format!("{problems}x{n} ({passes} passes)"));
    let mut group = c.benchmark_group("projection");
    group.bench_function(id("forward"), |b| b.iter(|| projector.project_into(&batch, &mut solution).unwrap()));
    group.bench_function(id("backward"), |b| {
        b.iter(|| projector.vjp(&batch, &solution, &data.g, &mut gradients).unwrap());
    });
    group.bench_function(id("both"), |b| {
        b.iter(|| {
            projector.project_into(&batch, &mut solution).unwrap();
            projector.vjp(&batch, &solution, &data.g, &mut gradients).unwrap();
        });
    });
    group.finish();
}

fn projection(c: &mut Criterion) {
    let two = DemographicParity::within(0.05).constraints(&Population::one_feature(2)).unwrap();
    for (problems, n) in [(1, 32), (1, 64), (1, 512), (1, 8192), (1, 1_000_000), (256, 64)] {
        bench_case(c, "parity of 2", &two, problems, n);
    }
    let eight = DemographicParity::within(0.05).constraints(&Population::one_feature(8)).unwrap();
    let odds = EqualizedOdds::within(0.05).constraints(&Population::one_feature(2)).unwrap();
    for (problems, n) in [(1, 32), (1, 64), (1, 512), (1, 8192), (1, 1_000_000), (256, 64)] {
        bench_case(c, "odds of 2", &odds, problems, n);
        bench_case(c, "parity of 8", &eight, problems, n);
    }
}

criterion_group!(benches, projection);
criterion_main!(benches);
