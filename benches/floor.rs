//! The yardstick of the CPU figures: one plain vectorised clip-and-sum pass over one cell, f32, with a count of the free
//! elements, on one thread and with the instruction set that the crate's own passes choose.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use std::hint::black_box;

const LANES: usize = 32;

/// Sum of `clip(z - shift, lo, hi)` and the number of elements that were not clipped.
#[inline(always)]
fn pass(z: &[f32], shift: f32, lo: f32, hi: f32) -> (f32, f32) {
    let mut sum = [0.0_f32; LANES];
    let mut free = [0.0_f32; LANES];
    let (chunks, rest) = z.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let t = chunk[lane] - shift;
            let y = if lo > t { lo } else { t };
            let y = if hi < y { hi } else { y };
            sum[lane] += y;
            free[lane] += if y == t { 1.0 } else { 0.0 };
        }
    }
    let (mut total, mut count) = (sum.iter().sum::<f32>(), free.iter().sum::<f32>());
    for z in rest {
        let t = z - shift;
        total += t.clamp(lo, hi);
        count += if lo <= t && t <= hi { 1.0 } else { 0.0 };
    }
    (total, count)
}

struct Pass<'a>(&'a [f32], f32);

impl pulp::WithSimd for Pass<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> (f32, f32) {
        pass(self.0, self.1, 0.0, 1.0)
    }
}

fn floor(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    let arch = pulp::Arch::new();
    for n in [32, 512, 8192, 1_000_000] {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(7);
        let z: Vec<f32> = (0..n).map(|_| rng.random_range(-0.2..1.2)).collect();
        group.throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::new("pass", n), &z, |b, z| {
            b.iter(|| arch.dispatch(Pass(black_box(z), black_box(0.01))));
        });
    }
    group.finish();
}

criterion_group!(benches, floor);
criterion_main!(benches);
