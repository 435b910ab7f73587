//! Dense rows through the public API on a planned projector, beside a plain matrix-vector product: what one pass over the
//! coefficients costs at the least.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fairlayer::{Batch, Capacities, CellLayout, ConstraintSet, DenseRow, Device, Offsets, Projector, Settings, Wanted};
use rand::{RngExt, SeedableRng};
use std::hint::black_box;

/// `A y`, row by row, compiled for the vectors of this machine.
struct Product<'a> {
    coefficients: &'a [f64],
    y: &'a [f64],
    out: &'a mut [f64],
}

impl pulp::WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        const LANES: usize = 32;
        for (row, out) in self.coefficients.chunks_exact(self.y.len()).zip(self.out) {
            let mut lanes = [0.0; LANES];
            let (blocks, rest) = row.as_chunks::<LANES>();
            let (y_blocks, y_rest) = self.y.as_chunks::<LANES>();
            for (block, y) in blocks.iter().zip(y_blocks) {
                for lane in 0..LANES {
                    lanes[lane] += block[lane] * y[lane];
                }
            }
            *out = lanes.iter().sum::<f64>() + rest.iter().zip(y_rest).map(|(a, y)| a * y).sum::<f64>();
        }
    }
}

fn bench_case(c: &mut Criterion, n: usize, m: usize) {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64((n * 100 + m) as u64);
    let z: Vec<f32> = (0..n).map(|_| rng.random_range(-0.3..1.3)).collect();
    let g: Vec<f32> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
    // Centred features, as of covariances, that the predictions depend on.
    let coefficients: Vec<f64> =
        (0..m * n).map(|i| (rng.random_range(-1.0..1.0) + 0.3 * (f64::from(z[i % n]) - 0.5)) / n as f64).collect();
    let mut set = ConstraintSet::new(CellLayout::flat(1).unwrap());
    for row in 0..m {
        set.push_dense(DenseRow::new(row.to_string(), -0.005, 0.005)).unwrap();
    }
    let mut projector =
        Projector::<f32>::plan(Device::cpu(), &set, Capacities::single(n), Settings::default()).unwrap();
    let batch = Batch::new(&z, Offsets::Equal { problems: 1, n }).coefficients(&coefficients).bounds(0.0, 1.0);
    let mut solution = projector.solution();
    let mut gradients = projector.gradients(Wanted::default());
    projector.project_into(&batch, &mut solution).unwrap();
    let view = solution.read().unwrap();
    assert!(view.all_solved());
    let (steps, passes) = (view.outcomes[0].iterations, view.outcomes[0].passes);
    let id = |part: &str| BenchmarkId::new(part, format!("{m}x{n} ({steps} steps, {passes} passes)"));
    let mut group = c.benchmark_group("dense");
    group.bench_function(id("forward"), |b| b.iter(|| projector.project_into(&batch, &mut solution).unwrap()));
    group.bench_function(id("backward"), |b| {
        b.iter(|| projector.vjp(&batch, &solution, &g, &mut gradients).unwrap());
    });
    group.bench_function(id("both"), |b| {
        b.iter(|| {
            projector.project_into(&batch, &mut solution).unwrap();
            projector.vjp(&batch, &solution, &g, &mut gradients).unwrap();
        });
    });
    let (arch, y, mut out) = (pulp::Arch::new(), vec![0.5; n], vec![0.0; m]);
    group.bench_function(id("matrix-vector product"), |b| {
        b.iter(|| arch.dispatch(Product { coefficients: black_box(&coefficients), y: black_box(&y), out: &mut out }));
    });
    group.finish();
}

fn dense(c: &mut Criterion) {
    for (n, m) in [(512, 1), (512, 4), (512, 32), (4096, 4), (100_000, 4)] {
        bench_case(c, n, m);
    }
}

criterion_group!(benches, dense);
criterion_main!(benches);
