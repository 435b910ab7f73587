//! The passes of `reference::pair` over problems of two cells: two sums a pass of the samples as they lie, and no sorting.
//!
//! Sample `i` of a chunk is added to lane `i % LANES` of its cell's sum, in order, and lanes are added as a tree. Rough sums
//! are kept in the arithmetic type for a while. This file does just that; `avx512` does the same with
//! instructions chosen by hand, to the same bits, and sums and writes in one go.

#[cfg(target_arch = "x86_64")]
mod avx512;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::avx512::holds;
use super::backward::unpack;
use super::forward::write_chunk;
use super::sort::{Chunk, Sorted, count, covers, total_sums};
use super::{LANES, LaneProblem, STAGE, Table, filled_up, is_large, mask, sum_lanes, vectorised};
use crate::reference::cells_newton::split_shift;
use crate::reference::cells_prepare::{CHUNK, CellTotals};
use crate::reference::disjoint::Disjoint;
use crate::reference::newton::NewtonTask;
use crate::reference::pair::{Grade, Pair, Rough};
use crate::solution::Outcome;
use crate::storage::{Arithmetic, Storage};

/// Problems of more samples than this are steered by rough sums; in others a pass costs next to nothing.
const MAX_EXACT: usize = 256;
/// Rough sums are kept in the arithmetic type for so many samples.
const ROUGH_STAGE: usize = 1024;

impl<A: Arithmetic> Sorted<A> {
    /// Counts the samples of each cell, and sums roughly at shifts of zero. False if a number cannot be used.
    pub(crate) fn look_at_pair<T: Storage<Arithmetic = A>>(&mut self, problem: &LaneProblem<'_, T>) -> bool {
        let chunks = self.chunks_mut(problem.n());
        super::for_chunks(chunks, |index, chunk| {
            let (z, cells) = (problem.z_of(index), problem.cells_of(index));
            let of_chunk = OfChunk { z, cells, bounds: (problem.lo, problem.hi) };
            let finite = of_chunk.look(problem.arch, chunk);
            chunk.usable = finite && covers(&chunk.counts[..2], cells);
        });
        chunks.iter().all(|chunk| chunk.usable)
    }
}

/// What a pass over a chunk writes to.
type Outputs<'a, T> = ((&'a mut Chunk, &'a mut [T]), &'a mut [u32]);

/// Solves a problem that was looked at, if it is one of two unions and an easy one, and writes the answer; if not, says how
/// many passes it took to see that.
pub(crate) fn solve<T: Storage>(
    problem: &LaneProblem<'_, T>,
    task: &NewtonTask,
    (disjoint, totals): (&mut Disjoint, &CellTotals),
    sorted: &mut Sorted<T::Arithmetic>,
    out: (&mut [T], &mut [u32], &mut Outcome),
) -> Result<(), u32> {
    let pair = disjoint.pair(totals);
    disjoint.accept(solve_pair(problem, (task, pair.as_ref().ok_or(0_u32)?), sorted, out)?);
    Ok(())
}

fn solve_pair<T: Storage>(
    problem: &LaneProblem<'_, T>,
    (task, pair): (&NewtonTask, &Pair),
    sorted: &mut Sorted<T::Arithmetic>,
    (y, clamp, outcome): (&mut [T], &mut [u32], &mut Outcome),
) -> Result<[f64; 2], u32> {
    let n = problem.n();
    let chunks = sorted.chunks_mut(n);
    // Each of the additions to a lane rounds, and so does what is stored.
    let additions = (ROUGH_STAGE / LANES) as f64;
    let error = T::UNIT_ROUNDOFF + additions * <T::Arithmetic as Storage>::UNIT_ROUNDOFF;
    let rough = Rough { pays: n > MAX_EXACT, error };
    let first = of_both(chunks);
    let bounds = (problem.lo, problem.hi);
    if let [chunk] = chunks {
        let of_chunk = OfChunk { z: problem.z, cells: problem.cells, bounds };
        #[cfg(target_arch = "x86_64")]
        if let (pulp::Arch::V4(simd), true) = (problem.arch, holds::<T>()) {
            return avx512::solve(simd, of_chunk, (task, pair, rough), first, chunk, (y, clamp, outcome));
        }
        let pass = |grade, shift| {
            of_chunk.pass(problem.arch, grade, shift, chunk, (y, clamp));
            of_both(std::slice::from_ref(chunk))
        };
        return pair.solve(task, rough, first, pass, outcome);
    }
    let pass = |grade, shift| {
        let pass = |(index, ((chunk, y), clamp)): (usize, Outputs<'_, T>)| {
            let of_chunk = OfChunk { z: problem.z_of(index), cells: problem.cells_of(index), bounds };
            of_chunk.pass(problem.arch, grade, shift, chunk, (y, clamp));
        };
        if is_large(n) {
            let (y, clamp) = (y.par_chunks_mut(CHUNK), clamp.par_chunks_mut(CHUNK / LANES));
            chunks.par_iter_mut().zip(y).zip(clamp).enumerate().for_each(pass);
        } else {
            let (y, clamp) = (y.chunks_mut(CHUNK), clamp.chunks_mut(CHUNK / LANES));
            chunks.iter_mut().zip(y).zip(clamp).enumerate().for_each(pass);
        }
        of_both(chunks)
    };
    pair.solve(task, rough, first, pass, outcome)
}

/// The sums of both cells: y, |y|, free.
#[inline(always)]
fn of_both(chunks: &[Chunk]) -> [[f64; 3]; 2] {
    [0, 1].map(|cell| {
        let [y, size, free, _] = total_sums(chunks, cell);
        [y, size, free]
    })
}

/// The samples of a chunk.
#[derive(Clone, Copy)]
struct OfChunk<'a, T> {
    z: &'a [T],
    cells: &'a [u8],
    bounds: (T, T),
}

impl<T: Storage> OfChunk<'_, T> {
    /// Whether |y| is not the same as y.
    fn is_signed(&self) -> bool {
        self.bounds.0.to_f64() < 0.0
    }

    /// Counts, and sums roughly at shifts of zero. False if a prediction is not finite.
    fn look(&self, arch: pulp::Arch, chunk: &mut Chunk) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let (pulp::Arch::V4(simd), true) = (arch, holds::<T>()) {
            return avx512::look(simd, *self, chunk);
        }
        chunk.counts = vectorised!(arch, count::<2>(self.cells));
        let finite = super::sort::is_all_finite(arch, self.z);
        self.pass(arch, Grade::Rough, [0.0; 2], chunk, (&mut [], &mut []));
        finite
    }

    /// A pass over the chunk; if it is exact, it writes, too.
    fn pass(
        &self,
        arch: pulp::Arch,
        grade: Grade,
        shift: [f64; 2],
        chunk: &mut Chunk,
        (y, clamp): (&mut [T], &mut [u32]),
    ) {
        #[cfg(target_arch = "x86_64")]
        if let (pulp::Arch::V4(simd), true) = (arch, holds::<T>()) {
            return avx512::pass(simd, *self, grade, shift, chunk, (y, clamp));
        }
        vectorised!(
            arch,
            match (grade, self.is_signed()) {
                (Grade::Rough, true) => self.sum_roughly::<true>(shift, chunk),
                (Grade::Rough, false) => self.sum_roughly::<false>(shift, chunk),
                (Grade::Exact, true) => self.write_and_sum::<true>(shift, chunk, (y, clamp)),
                (Grade::Exact, false) => self.write_and_sum::<false>(shift, chunk, (y, clamp)),
            }
        );
    }

    #[inline(always)]
    fn sum_roughly<const SIGNED: bool>(&self, shift: [f64; 2], chunk: &mut Chunk) {
        let bounds = (self.bounds.0.widen(), self.bounds.1.widen());
        let shifts = Table::new(shift.map(|shift| split_shift::<T::Arithmetic>(shift).0));
        let zero = T::Arithmetic::default();
        let mut sums = [CellLanes::default(); 2];
        for (z, cells) in self.z.chunks(ROUGH_STAGE).zip(self.cells.chunks(ROUGH_STAGE)) {
            let (mut y, mut size) = ([[zero; LANES]; 2], [[zero; LANES]; 2]);
            for_blocks(z, cells, |z, cells| {
                for lane in 0..LANES {
                    let t = z[lane] - shifts.of(cells[lane]);
                    let clipped = t.clip(bounds.0, bounds.1);
                    for c in 0..2 {
                        let here = mask(cells[lane], c);
                        y[c][lane] = y[c][lane] + clipped.masked(here);
                        if SIGNED {
                            size[c][lane] = size[c][lane] + magnitude(clipped).masked(here);
                        }
                        sums[c].free[lane] += u32::from(clipped == t) & here;
                    }
                }
            });
            for c in 0..2 {
                for lane in 0..LANES {
                    sums[c].y[lane] += y[c][lane].to_f64();
                    sums[c].size[lane] += size[c][lane].to_f64();
                }
            }
        }
        set_sums::<SIGNED>(chunk, &sums);
    }

    #[inline(always)]
    fn write_and_sum<const SIGNED: bool>(
        &self,
        shift: [f64; 2],
        chunk: &mut Chunk,
        (y, clamp): (&mut [T], &mut [u32]),
    ) {
        let bounds = (self.bounds.0.widen(), self.bounds.1.widen());
        let split = shift.map(split_shift::<T::Arithmetic>);
        let tables = (Table::<_, 2>::new(split.map(|split| split.0)), Table::new(split.map(|split| split.1)));
        write_chunk(self.z, self.cells, &tables, bounds, y, clamp);
        let mut sums = [CellLanes::default(); 2];
        let mut clamped = [0; STAGE];
        let stages = y.chunks(STAGE).zip(self.cells.chunks(STAGE)).zip(clamp.chunks(STAGE / LANES));
        for ((y, cells), words) in stages {
            unpack(words, &mut clamped);
            let mut clamped = clamped.as_chunks::<LANES>().0.iter();
            for_blocks(y, cells, |y, cells| {
                let clamped = clamped.next().unwrap_or(&[0; LANES]);
                for lane in 0..LANES {
                    for c in 0..2 {
                        let here = mask(cells[lane], c);
                        let y = y[lane].masked(here).to_f64();
                        sums[c].y[lane] += y;
                        if SIGNED {
                            sums[c].size[lane] += y.abs();
                        }
                        sums[c].free[lane] += u32::from(clamped[lane] == 0) & here;
                    }
                }
            });
        }
        set_sums::<SIGNED>(chunk, &sums);
    }
}

/// The sums of a cell, by lane.
#[derive(Clone, Copy, Default)]
struct CellLanes {
    y: [f64; LANES],
    size: [f64; LANES],
    free: [u32; LANES],
}

#[inline(always)]
fn set_sums<const SIGNED: bool>(chunk: &mut Chunk, sums: &[CellLanes; 2]) {
    for (of_cell, sums) in chunk.sums.iter_mut().zip(sums) {
        let y = sum_lanes(sums.y);
        let size = if SIGNED { sum_lanes(sums.size) } else { y };
        *of_cell = [y, size, f64::from(sum_lanes(sums.free)), 0.0];
    }
}

#[inline(always)]
fn magnitude<A: Arithmetic>(value: A) -> A {
    if value < A::default() { A::default() - value } else { value }
}

/// Does something with every block of samples; the last is filled up with samples of no cell.
#[inline(always)]
fn for_blocks<T: Storage>(values: &[T], cells: &[u8], mut work: impl FnMut(&[T::Arithmetic; LANES], &[u8; LANES])) {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (cell_blocks, rest_cells) = cells.as_chunks::<LANES>();
    for (block, cells) in blocks.iter().zip(cell_blocks) {
        work(&block.map(T::widen), cells);
    }
    if !rest.is_empty() {
        let (block, cells) = filled_up(rest, rest_cells);
        work(&block.map(T::widen), &cells);
    }
}

#[cfg(test)]
mod tests {
    use super::super::PARALLEL_CHUNKS;
    use super::*;
    use crate::batch::{BoundSlice, CellSource, Problem};
    use crate::reference::cells_newton::{self, CellPass, PlainPass};
    use crate::reference::newton::CellSums;
    use rand::{RngExt, SeedableRng};

    fn data<T: Storage>(n: usize) -> (Vec<T>, Vec<u8>) {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(n as u64);
        let cells: Vec<u8> = (0..n).map(|i| if i < 2 { i as u8 } else { rng.random_range(0..2) }).collect();
        let z = cells.iter().map(|&cell| T::from_f64(rng.random_range(-0.4..1.3) + 0.2 * f64::from(cell)));
        (z.collect(), cells)
    }

    /// The sums of one pass after another over all chunks, and what the last wrote.
    fn passes<T: Storage>(problem: &LaneProblem<'_, T>) -> (Vec<[[f64; 3]; 2]>, Vec<T>, Vec<u32>) {
        let n = problem.n();
        let (mut y, mut clamp) = (vec![T::from_f64(f64::NAN); n], vec![u32::MAX; n.div_ceil(LANES)]);
        let mut sorted = Sorted::new(n, 2);
        assert!(sorted.look_at_pair(problem));
        let chunks = sorted.chunks_mut(n);
        let mut sums = vec![of_both(chunks)];
        for (grade, shift) in [(Grade::Rough, [0.1, -0.2]), (Grade::Exact, [-0.05, 0.07])] {
            for (index, chunk) in chunks.iter_mut().enumerate() {
                let (z, cells) = (problem.z_of(index), problem.cells_of(index));
                let (y, clamp) = (&mut y[index * CHUNK..], &mut clamp[index * (CHUNK / LANES)..]);
                let (len, words) = (z.len(), z.len().div_ceil(LANES));
                let of_chunk = OfChunk { z, cells, bounds: (problem.lo, problem.hi) };
                of_chunk.pass(problem.arch, grade, shift, chunk, (&mut y[..len], &mut clamp[..words]));
            }
            sums.push(of_both(chunks));
        }
        (sums, y, clamp)
    }

    /// The vectors of this machine against the loops of this file, and those against the plain pass.
    fn agree<T: Storage>(n: usize, (lo, hi): (f64, f64)) {
        let (z, cells) = data::<T>(n);
        let (lo, hi) = (T::from_f64(lo), T::from_f64(hi));
        let of = |arch| passes(&LaneProblem { arch, z: &z, cells: &cells, count: 2, lo, hi });
        let (here, plain) = (of(pulp::Arch::new()), of(pulp::Arch::Scalar));
        assert!(here == plain, "{n} samples");
        let problem = Problem {
            z: &z,
            cells: CellSource::Ids(&cells),
            labels: None,
            control: None,
            lo: BoundSlice::Scalar(lo),
            hi: BoundSlice::Scalar(hi),
            weights: None,
            levels: None,
            row_bounds: None,
            coefficients: None,
            warm_start: None,
        };
        let (mut chunk, mut sums) = (CellSums::new(2), CellSums::new(2));
        let roughly = T::UNIT_ROUNDOFF + (ROUGH_STAGE / LANES) as f64 * <T::Arithmetic as Storage>::UNIT_ROUNDOFF;
        for (found, (shift, most)) in
            here.0.iter().zip([([0.0; 2], roughly), ([0.1, -0.2], 2.0 * roughly), ([-0.05, 0.07], 0.0)])
        {
            PlainPass { problem: &problem, cells: &cells, total: n as f64, chunk: &mut chunk }
                .evaluate(&shift, &mut sums);
            for c in 0..2 {
                let exact = most == 0.0;
                let [y, size, free] = found[c].map(|sum| sum / n as f64);
                // (A shift that rounds does so on its own scale, and plain sums round, too.)
                let most = 1e-12 + most * if shift == [0.0; 2] { sums.size[c] } else { 1.0 };
                assert!(
                    (y - sums.y[c]).abs() <= most && (size - sums.size[c]).abs() <= most,
                    "{n} samples at {shift:?}"
                );
                // (Where an element is at its bound but for rounding, it may count as either.)
                assert!((free - sums.free[c]).abs() <= if exact { 1e-14 } else { 2.0 / n as f64 });
            }
        }
        let (mut y, mut clamp) = (vec![lo; n], vec![0; n.div_ceil(LANES)]);
        cells_newton::write(&problem, &cells, &[-0.05, 0.07], &mut y, &mut clamp);
        assert!(y == here.1 && clamp == here.2, "{n} samples");
    }

    #[test]
    fn vectors_and_loops_agree_to_the_bit() {
        for n in [2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, CHUNK, CHUNK + 1, PARALLEL_CHUNKS * CHUNK + 77] {
            agree::<f32>(n, (0.0, 1.0));
            agree::<f32>(n, (-0.25, f64::INFINITY));
            agree::<f64>(n, (-0.25, 0.75));
            agree::<half::f16>(n, (-0.25, 0.75));
            agree::<half::bf16>(n, (0.0, 1.0));
        }
    }

    #[test]
    fn what_cannot_be_used_is_found() {
        for arch in [pulp::Arch::new(), pulp::Arch::Scalar] {
            for (at, bad) in [(0, f32::NAN), (40, f32::INFINITY), (99, f32::NEG_INFINITY), (50, 1.0)] {
                let (mut z, mut cells) = (vec![0.5_f32; 100], vec![1_u8; 100]);
                z[at] = bad;
                if bad == 1.0 {
                    cells[at] = 2;
                }
                let problem = LaneProblem { arch, z: &z, cells: &cells, count: 2, lo: 0.0, hi: 1.0 };
                assert!(!Sorted::new(100, 2).look_at_pair(&problem), "{at}");
            }
            let problem = LaneProblem { arch, z: &[f32::MAX; 40], cells: &[1; 40], count: 2, lo: 0.0, hi: 1.0 };
            assert!(Sorted::new(100, 2).look_at_pair(&problem));
        }
    }
}
