//! The passes of `cells_newton` and `cells_vjp` in vector form: for problems of few cells, scalar bounds and no weights.
//!
//! The same sums as the plain passes, in fixed chunks and fixed logical lanes, and without branches. The compiler turns
//! the lanes into the widest vectors that the machine has; the result does not depend on how wide they are, nor on how
//! many threads share the chunks.

#![allow(clippy::needless_range_loop, reason = "lanes are indexed, so that several arrays keep step")]

#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod backward;
pub(crate) mod forward;
pub(crate) mod pair;
mod small;
pub(crate) mod sort;

use pulp::Arch;
use rayon::prelude::*;

use self::sort::Chunk;
use crate::batch::{BoundSlice, Problem};
use crate::reference::cells_prepare::CHUNK;
use crate::solution::CLAMP_LANES as LANES;
use crate::storage::{Arithmetic, Storage};

/// Most cells of a problem in this form.
pub(crate) const MAX_CELLS: usize = 16;
/// Chunks of a problem before more than one thread works on it.
const PARALLEL_CHUNKS: usize = 8;
/// Elements that go through one loop after another: enough to keep the loops long, few enough for the first cache.
const STAGE: usize = 256;

/// Evaluates an expression compiled for the vectors that this machine has.
///
/// The token makes the closure one that can be called only once: its body is then itself what is inlined into the
/// function that has those instructions, and not a shim that calls it without them.
macro_rules! vectorised {
    ($arch:expr, $body:expr) => {{
        let once = super::Once;
        $arch.dispatch(
            #[inline(always)]
            || {
                let _moved = once;
                $body
            },
        )
    }};
}
use vectorised;

struct Once;

/// Runs `$body` with `$count`, a number of cells at least the problem's, as a constant.
macro_rules! with_cells {
    ($cells:expr, $count:ident => $body:expr) => {
        match $cells {
            0..=2 => with_cells!(@ 2, $count => $body),
            3..=4 => with_cells!(@ 4, $count => $body),
            5..=8 => with_cells!(@ 8, $count => $body),
            _ => with_cells!(@ $crate::backend::cpu::lanes::MAX_CELLS, $count => $body),
        }
    };
    (@ $cells:expr, $count:ident => $body:expr) => {{
        const $count: usize = $cells;
        $body
    }};
}
use with_cells;

/// A problem that these passes can take.
#[derive(Clone, Copy)]
pub(crate) struct LaneProblem<'a, T> {
    arch: Arch,
    z: &'a [T],
    cells: &'a [u8],
    count: usize,
    lo: T,
    hi: T,
}

impl<'a, T: Storage> LaneProblem<'a, T> {
    /// The problem in this form, if it has it. `cells` are the ids of its samples, below `count`.
    pub(crate) fn of(arch: Arch, problem: &Problem<'a, T>, cells: &'a [u8], count: usize) -> Option<Self> {
        match (problem.lo, problem.hi) {
            (BoundSlice::Scalar(lo), BoundSlice::Scalar(hi)) if problem.weights.is_none() && count <= MAX_CELLS => {
                Some(Self { arch, z: problem.z, cells, count, lo, hi })
            }
            _ => None,
        }
    }

    pub(crate) fn cells(&self) -> &'a [u8] {
        self.cells
    }

    fn n(&self) -> usize {
        self.z.len()
    }

    fn z_of(&self, chunk: usize) -> &'a [T] {
        &self.z[chunk_range(chunk, self.n())]
    }

    fn cells_of(&self, chunk: usize) -> &'a [u8] {
        &self.cells[chunk_range(chunk, self.n())]
    }
}

/// How many chunks a problem of `n` elements has.
fn chunks_of(n: usize) -> usize {
    n.div_ceil(CHUNK)
}

/// The elements of a chunk.
fn chunk_range(index: usize, n: usize) -> std::ops::Range<usize> {
    index * CHUNK..n.min((index + 1) * CHUNK)
}

/// Whether threads share a problem of `n` elements.
fn is_large(n: usize) -> bool {
    chunks_of(n) >= PARALLEL_CHUNKS
}

/// Does the work of every chunk.
fn for_chunks(chunks: &mut [Chunk], work: impl Fn(usize, &mut Chunk) + Sync) {
    if chunks.len() >= PARALLEL_CHUNKS {
        chunks.par_iter_mut().enumerate().for_each(|(index, chunk)| work(index, chunk));
    } else {
        chunks.iter_mut().enumerate().for_each(|(index, chunk)| work(index, chunk));
    }
}

/// Does the work of every chunk on its `stride` values.
fn for_chunks_with<A: Send>(
    chunks: &mut [Chunk],
    values: &mut [A],
    stride: usize,
    work: impl Fn(usize, &mut Chunk, &mut [A]) + Sync,
) {
    if chunks.len() >= PARALLEL_CHUNKS {
        let parts = chunks.par_iter_mut().zip(values.par_chunks_mut(stride)).enumerate();
        parts.for_each(|(index, (chunk, values))| work(index, chunk, values));
    } else {
        let parts = chunks.iter_mut().zip(values.chunks_mut(stride)).enumerate();
        parts.for_each(|(index, (chunk, values))| work(index, chunk, values));
    }
}

/// The id that fills up a block: that of no cell.
const NO_CELL: u8 = u8::MAX;

/// The samples that are left over after whole blocks, filled up with samples of no cell.
#[inline(always)]
fn filled_up<T: Storage, const WIDTH: usize>(values: &[T], cells: &[u8]) -> ([T; WIDTH], [u8; WIDTH]) {
    let (mut block, mut of_block) = ([T::default(); WIDTH], [NO_CELL; WIDTH]);
    block.iter_mut().zip(values).for_each(|(value, rest)| *value = *rest);
    of_block.iter_mut().zip(cells).for_each(|(cell, rest)| *cell = *rest);
    (block, of_block)
}

/// Adds up lanes as a tree of fixed shape.
#[inline(always)]
fn sum_lanes<A: Copy + std::ops::Add<Output = A>>(lanes: [A; LANES]) -> A {
    // Seen as memory they are added as vectors; in registers the compiler takes them apart first.
    let mut lanes = std::hint::black_box(lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = lanes[lane] + lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Adds up lanes of bytes, whole vectors of `LANES`.
#[inline(always)]
fn sum_bytes(bytes: &[u8]) -> u32 {
    let mut lanes = [0_u16; LANES];
    for block in bytes.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            lanes[lane] += u16::from(block[lane]);
        }
    }
    u32::from(sum_lanes(lanes))
}

/// A number for every cell, looked up by selection: the first, changed where the sample is in another cell.
struct Table<A, const C: usize> {
    first: A,
    change: [A; C],
}

impl<A: Arithmetic, const C: usize> Table<A, C> {
    fn new(values: [A; C]) -> Self {
        Self { first: values[0], change: values.map(|value| value.xor_bits(values[0])) }
    }

    #[inline(always)]
    fn of(&self, cell: u8) -> A {
        let mut value = self.first;
        for c in 1..C {
            value = value.xor_bits(self.change[c].masked(mask(cell, c)));
        }
        value
    }
}

/// All ones where the sample is in the cell.
#[inline(always)]
fn mask(cell: u8, c: usize) -> u32 {
    u32::from(usize::from(cell) == c).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::forward::LanePass;
    use super::sort::Sorted;
    use super::*;
    use crate::batch::CellSource;
    use crate::cells::CellLayout;
    use crate::constraints::ConstraintSet;
    use crate::reference::cells_newton::{self, CellPass, PlainPass};
    use crate::reference::cells_prepare::CellTotals;
    use crate::reference::cells_vjp::VjpSums;
    use crate::reference::newton::CellSums;
    use crate::reference::{cells_prepare, cells_vjp};
    use rand::{RngExt, SeedableRng};

    fn close(what: &str, vector: &[f64], plain: &[f64], tolerance: f64) {
        for (a, b) in vector.iter().zip(plain) {
            assert!(a == b || (a - b).abs() <= tolerance * b.abs().max(1e-3), "{what}: {a} against {b}");
        }
    }

    /// Everything that the vector passes compute, against the plain ones, and to the bit against narrower vectors.
    fn agree<T: Storage>(count: usize, n: usize, bounds: (f64, f64)) {
        let here = agree_on::<T>(Arch::new(), count, n, bounds);
        assert!(here == agree_on::<T>(Arch::Scalar, count, n, bounds), "{count} cells, {n} samples");
    }

    /// The bits of all that they compute.
    fn agree_on<T: Storage>(arch: Arch, count: usize, n: usize, (lo, hi): (f64, f64)) -> Vec<u64> {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64((count * 1_000_003 + n) as u64);
        let z: Vec<T> = (0..n).map(|_| T::from_f64(rng.random_range(-0.6..1.6))).collect();
        let g: Vec<T> = (0..n).map(|_| T::from_f64(rng.random_range(-1.0..1.0))).collect();
        let cells: Vec<u8> = (0..n).map(|_| rng.random_range(0..count) as u8).collect();
        let shift: Vec<f64> = (0..count).map(|_| rng.random_range(-0.3..0.3)).collect();
        let set = ConstraintSet::new(CellLayout::flat(count).unwrap());
        let problem = Problem {
            z: &z,
            cells: CellSource::Ids(&cells),
            labels: None,
            control: None,
            lo: BoundSlice::Scalar(T::from_f64(lo)),
            hi: BoundSlice::Scalar(T::from_f64(hi)),
            weights: None,
            levels: None,
            row_bounds: None,
            coefficients: None,
            warm_start: None,
        };
        let lanes = LaneProblem::of(arch, &problem, &cells, count).unwrap();
        let mut sorted = Sorted::new(n, count);
        let mut totals = [CellTotals::new(count), CellTotals::new(count)];
        assert!(sorted.sort(&lanes));
        sorted.totals(&lanes, &mut totals[0]);
        assert!(cells_prepare::cell_totals(&set, &problem, &cells, &mut totals[1]));
        close("weights", &totals[0].weight, &totals[1].weight, 1e-15);
        close("bounds", &totals[0].bounds.hi, &totals[1].bounds.hi, 1e-12);

        let mut chunk = CellSums::new(count);
        let mut sums = [CellSums::new(count), CellSums::new(count)];
        LanePass::new(lanes, &totals[0].weight, &mut sorted).evaluate(&shift, &mut sums[0]);
        let total = totals[1].total;
        PlainPass { problem: &problem, cells: &cells, total, chunk: &mut chunk }.evaluate(&shift, &mut sums[1]);
        let [vector, plain] = &sums;
        close("y", &vector.y, &plain.y, 1e-12);
        close("size", &vector.size, &plain.size, 1e-12);
        close("free", &vector.free, &plain.free, 1e-12);
        let mut bits: Vec<u64> = Vec::new();
        bits.extend([&vector.y, &vector.size, &vector.free].into_iter().flatten().map(|sum| sum.to_bits()));
        // Summed in the arithmetic type: it is needed to order of magnitude only.
        close("beyond", &vector.beyond, &plain.beyond, 1e-4);

        let words = n.div_ceil(LANES);
        let mut y = [vec![T::from_f64(f64::NAN); n], vec![T::from_f64(f64::NAN); n]];
        let mut clamp = [vec![u32::MAX; words], vec![0; words]];
        forward::write(&lanes, &shift, &mut y[0], &mut clamp[0]);
        cells_newton::write(&problem, &cells, &shift, &mut y[1], &mut clamp[1]);
        assert_eq!(y[0], y[1]);
        assert_eq!(clamp[0], clamp[1]);

        let mut sums = [VjpSums::new(count), VjpSums::new(count)];
        assert!(backward::sum(&lanes, &clamp[0], &g, &mut sorted, &mut sums[0]));
        cells_vjp::sum(&problem, &cells, &clamp[0], &g, total, &mut sums[1]);
        close("free weights", &sums[0].free, &sums[1].free, 1e-12);
        close("gradients", &sums[0].gradient, &sums[1].gradient, 1e-9);
        let mut out = [vec![T::default(); n], vec![T::default(); n]];
        backward::write(&lanes, &clamp[0], &g, &shift, &mut out[0]);
        let [vector, plain] = &mut out;
        let mut elements = cells_vjp::ElementGradients {
            predictions: plain,
            lo: &mut [],
            hi: &mut [],
            weights: &mut [],
            labels: &mut [],
        };
        cells_vjp::write(&problem, &cells, &clamp[0], &g, (total, &shift), &mut elements);
        let widen = |array: &[T]| array.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
        close("dL/dz", &widen(vector), &widen(plain), 4.0 * T::UNIT_ROUNDOFF);
        let of_cells = sums[0].free.iter().chain(&sums[0].gradient).copied();
        let of_elements = widen(&y[0]).into_iter().chain(widen(vector));
        bits.extend(of_cells.chain(of_elements).map(f64::to_bits));
        bits.extend(clamp[0].iter().map(|word| u64::from(*word)));
        bits
    }

    #[test]
    fn vector_passes_agree_with_the_plain_ones() {
        for count in [1, 2, 3, 4, 7, 8, 9, 16] {
            for n in [1, 15, 16, 17, 64, 65, 255, 256, 257, 1000] {
                agree::<f64>(count, n, (0.0, 1.0));
                agree::<f32>(count, n, (-0.25, 0.75));
                agree::<half::f16>(count, n, (0.0, 1.0));
                agree::<half::bf16>(count, n, (0.0, f64::INFINITY));
            }
        }
        agree::<f32>(3, PARALLEL_CHUNKS * CHUNK + 77, (0.0, 1.0));
        agree::<f64>(2, PARALLEL_CHUNKS * CHUNK + 5, (f64::NEG_INFINITY, 1.0));
    }

    #[test]
    fn what_cannot_be_used_is_found() {
        for (at, bad) in [(0, f32::NAN), (40, f32::INFINITY), (99, f32::NEG_INFINITY), (50, 1.0)] {
            let (mut z, mut cells) = (vec![0.5_f32; 100], vec![1_u8; 100]);
            z[at] = bad;
            if bad == 1.0 {
                cells[at] = 3;
            }
            let lanes = LaneProblem { arch: Arch::new(), z: &z, cells: &cells, count: 3, lo: 0.0, hi: 1.0 };
            assert!(!Sorted::new(100, 3).sort(&lanes), "{at}");
        }
        let lanes = LaneProblem { arch: Arch::new(), z: &[f32::MAX; 40], cells: &[1; 40], count: 3, lo: 0.0, hi: 1.0 };
        assert!(Sorted::new(100, 3).sort(&lanes));
    }
}
