//! Problems of few samples, summed as they lie: sorting them would cost more than it saves. What the first pass needs to
//! know beside (the samples of each cell, and whether all can be used) is found on the way.
//!
//! Sample `i` is added to lane `i % LANES` of its cell's sum, in order, and lanes are added as a tree. This file does just
//! that; `avx512` does the same with vectors, to the same bits.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::sort::Chunk;
use super::{LANES, LaneProblem, sum_lanes};
use crate::reference::cells_newton::{element, split_shift};
use crate::storage::{Arithmetic, Storage};

/// Most samples of a problem in this form.
const MAX_SAMPLES: usize = 256;
/// Most cells: there is a sum for each of them in every lane.
pub(super) const MAX_SMALL_CELLS: usize = 8;

/// Whether a problem of so many samples in so many cells is summed as it lies. (Numbers of `f64` are sorted all the same:
/// twice as many vectors hold them.)
pub(crate) fn is_small<T: Storage>(n: usize, cells: usize) -> bool {
    n <= MAX_SAMPLES && cells <= MAX_SMALL_CELLS && size_of::<T::Arithmetic>() == size_of::<f32>()
}

/// The sums of a cell.
#[derive(Clone, Copy, Default)]
struct Sums<A> {
    y: [f64; LANES],
    size: [f64; LANES],
    beyond: [A; LANES],
    free: u32,
    /// Usable samples.
    count: u32,
}

/// Counts the samples of each cell, and sums at shifts of zero. False if a number cannot be used.
pub(crate) fn look<T: Storage>(problem: &LaneProblem<'_, T>, chunk: &mut Chunk) -> bool {
    let usable = match problem.arch {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(simd) => avx512::look(simd, problem, chunk),
        _ => {
            let cells = cell_sums(problem, &[]);
            chunk.set_counts(&cells.map(|cell| cell.count));
            set_sums(chunk, &cells);
            chunk.counts.iter().sum()
        }
    };
    usable as usize == problem.n()
}

/// The sums at these shifts: y, |y|, free, and if they are `full`, beyond.
pub(crate) fn sums<T: Storage>(problem: &LaneProblem<'_, T>, shift: &[f64], full: bool, chunk: &mut Chunk) {
    match problem.arch {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(simd) => avx512::sums(simd, problem, shift, full, chunk),
        _ => set_sums(chunk, &cell_sums(problem, shift)),
    }
}

fn set_sums<A: Arithmetic>(chunk: &mut Chunk, cells: &[Sums<A>; MAX_SMALL_CELLS]) {
    for (sums, cell) in chunk.sums.iter_mut().zip(cells) {
        *sums = [sum_lanes(cell.y), sum_lanes(cell.size), f64::from(cell.free), sum_lanes(cell.beyond).to_f64()];
    }
}

fn cell_sums<T: Storage>(problem: &LaneProblem<'_, T>, shift: &[f64]) -> [Sums<T::Arithmetic>; MAX_SMALL_CELLS] {
    let zero = T::Arithmetic::default();
    let mut shifts = [(zero, zero); MAX_SMALL_CELLS];
    shifts.iter_mut().zip(shift).for_each(|(split, shift)| *split = split_shift(*shift));
    let bounds = (problem.lo.widen(), problem.hi.widen());
    let mut cells = [Sums::default(); MAX_SMALL_CELLS];
    for (i, (z, &cell)) in problem.z.iter().zip(problem.cells).enumerate() {
        let cell = usize::from(cell);
        if cell >= problem.count {
            continue;
        }
        let z = z.widen();
        let (t, clipped) = element(z, shifts[cell], bounds);
        let y = T::narrow(clipped).to_f64();
        let distance = if t < clipped { clipped - t } else { t - clipped };
        let (sums, lane) = (&mut cells[cell], i % LANES);
        sums.y[lane] += y;
        sums.size[lane] += y.abs();
        sums.beyond[lane] = sums.beyond[lane] + distance;
        sums.free += u32::from(clipped == t);
        sums.count += u32::from(z.is_finite());
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn bits(chunk: &Chunk, count: usize, kinds: usize) -> Vec<u64> {
        let sums = chunk.sums[..count].iter().flat_map(|sums| sums[..kinds].iter().map(|sum| sum.to_bits()));
        chunk.counts.iter().map(|count| u64::from(*count)).chain(sums).collect()
    }

    /// The vectors of this machine, against the loops of this file.
    fn agree<T: Storage>(count: usize, n: usize, (lo, hi): (f64, f64)) {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64((count * 1009 + n) as u64);
        let z: Vec<T> = (0..n).map(|_| T::from_f64(rng.random_range(-0.6..1.6))).collect();
        let cells: Vec<u8> = (0..n).map(|_| rng.random_range(0..count) as u8).collect();
        let shift: Vec<f64> = (0..count).map(|_| rng.random_range(-0.3..0.3)).collect();
        let problem = |arch| {
            let (z, cells) = (z.as_slice(), cells.as_slice());
            LaneProblem { arch, z, cells, count, lo: T::from_f64(lo), hi: T::from_f64(hi) }
        };
        let [here, plain] = [pulp::Arch::new(), pulp::Arch::Scalar].map(|arch| {
            let mut out = Vec::new();
            let mut chunk = Chunk::default();
            assert!(look(&problem(arch), &mut chunk));
            out.extend(bits(&chunk, count, 4));
            sums(&problem(arch), &shift, true, &mut chunk);
            out.extend(bits(&chunk, count, 4));
            sums(&problem(arch), &shift, false, &mut chunk);
            out.extend(bits(&chunk, count, 3));
            out
        });
        assert_eq!(here, plain, "{count} cells, {n} samples");
    }

    #[test]
    fn vectors_and_loops_agree_to_the_bit() {
        for count in 1..=MAX_SMALL_CELLS {
            for n in [1, 15, 16, 17, 64, 100, MAX_SAMPLES] {
                agree::<f32>(count, n, (0.0, 1.0));
                agree::<f32>(count, n, (-0.25, f64::INFINITY));
                agree::<half::f16>(count, n, (-0.25, 0.75));
                agree::<half::bf16>(count, n, (0.0, 1.0));
            }
        }
    }
}
