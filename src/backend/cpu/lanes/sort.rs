//! The predictions of a problem sorted by cell, so that every pass is a plain sum along runs that share one shift.
//!
//! Sorting costs about as much as three passes and makes each of them cost the same whatever the number of cells. It is
//! stable and goes chunk by chunk, so the order of every sum is fixed.

use super::{LANES, LaneProblem, MAX_CELLS, chunks_of, small, sum_bytes, sum_lanes, vectorised, with_cells};
use crate::reference::cells_prepare::{CHUNK, CellTotals};
use crate::storage::{Arithmetic, Storage};

/// Scratch for one problem: its sorted predictions and what is known of its chunks.
#[derive(Debug)]
pub(crate) struct Sorted<A> {
    values: Vec<A>,
    chunks: Vec<Chunk>,
    /// The elements of `values` that a chunk takes.
    stride: usize,
}

/// What is known of a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chunk {
    /// Samples a cell.
    pub(crate) counts: [u32; MAX_CELLS],
    /// The sums of the present pass: y, |y|, free, beyond.
    pub(crate) sums: [[f64; 4]; MAX_CELLS],
    pub(crate) usable: bool,
}

impl Chunk {
    /// Sets the samples of the first cells; others have none.
    #[inline(always)]
    pub(crate) fn set_counts(&mut self, counts: &[u32]) {
        self.counts = [0; MAX_CELLS];
        self.counts.iter_mut().zip(counts).for_each(|(count, counted)| *count = *counted);
    }
}

/// Where each cell's run lies among the values of a chunk with these counts.
#[inline(always)]
pub(crate) fn runs(counts: &[u32; MAX_CELLS]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = 0;
    counts.iter().map(move |&count| {
        let run = start..start + count as usize;
        start += span(count as usize);
        run
    })
}

/// The sums of a cell over all chunks.
#[inline(always)]
pub(crate) fn total_sums(chunks: &[Chunk], cell: usize) -> [f64; 4] {
    if let [only] = chunks {
        return only.sums[cell];
    }
    let mut total = [0.0; 4];
    for chunk in chunks {
        for kind in 0..4 {
            total[kind] += chunk.sums[cell][kind];
        }
    }
    total
}

/// The room that a run takes: whole lanes, and once more as many, so that lanes may be read and written past its end.
const fn span(count: usize) -> usize {
    count.next_multiple_of(LANES) + LANES
}

impl<A: Arithmetic> Sorted<A> {
    /// Scratch for problems of up to `largest` predictions in so many cells.
    pub(crate) fn new(largest: usize, cells: usize) -> Self {
        if cells > MAX_CELLS {
            return Self { values: Vec::new(), chunks: Vec::new(), stride: 0 };
        }
        let (chunks, stride) = (chunks_of(largest), largest.min(CHUNK) + cells * 2 * LANES);
        Self { values: vec![A::default(); chunks * stride], chunks: vec![Chunk::default(); chunks], stride }
    }

    /// The chunks of a problem of `n` elements.
    pub(crate) fn chunks_mut(&mut self, n: usize) -> &mut [Chunk] {
        &mut self.chunks[..chunks_of(n)]
    }

    /// The chunks of a problem of `n` elements, each with its values.
    pub(crate) fn chunks(&mut self, n: usize) -> (&mut [Chunk], &[A], usize) {
        (&mut self.chunks[..chunks_of(n)], &self.values, self.stride)
    }

    /// Counts and sorts; a small problem is summed instead. False if a cell id is out of range or a prediction is not finite.
    pub(crate) fn sort<T: Storage<Arithmetic = A>>(&mut self, problem: &LaneProblem<'_, T>) -> bool {
        let Self { values, chunks, stride } = self;
        let chunks = &mut chunks[..chunks_of(problem.n())];
        if let ([chunk], true) = (&mut *chunks, small::is_small::<T>(problem.n(), problem.count)) {
            return small::look(problem, chunk);
        }
        let sort_chunk = |index: usize, chunk: &mut Chunk, values: &mut [A]| {
            let (z, cells) = (problem.z_of(index), problem.cells_of(index));
            chunk.counts = vectorised!(problem.arch, with_cells!(problem.count, C => count::<C>(cells)));
            chunk.usable = covers(&chunk.counts[..problem.count], cells)
                && partition((problem.arch, z, cells), problem.count, &chunk.counts, values);
        };
        super::for_chunks_with(chunks, values, *stride, sort_chunk);
        chunks.iter().all(|chunk| chunk.usable)
    }

    /// The totals of a problem whose samples are counted.
    pub(crate) fn totals<T: Storage<Arithmetic = A>>(&self, problem: &LaneProblem<'_, T>, totals: &mut CellTotals) {
        let n = problem.n();
        let inverse = 1.0 / n as f64;
        let (lo, hi) = (problem.lo.to_f64(), problem.hi.to_f64());
        for c in 0..problem.count {
            let count: u64 = self.chunks[..chunks_of(n)].iter().map(|chunk| u64::from(chunk.counts[c])).sum();
            let weight = count as f64 * inverse;
            let bound = |bound: f64| if count > 0 { weight * bound } else { 0.0 };
            totals.weight[c] = weight;
            (totals.bounds.lo[c], totals.bounds.hi[c]) = (bound(lo), bound(hi));
        }
        totals.label.fill(0.0);
        totals.total = n as f64;
    }
}

/// Whether every sample is in one of the cells counted.
pub(crate) fn covers(counts: &[u32], cells: &[u8]) -> bool {
    counts.iter().sum::<u32>() as usize == cells.len()
}

/// Whether every number is finite.
pub(crate) fn is_all_finite<T: Storage>(arch: pulp::Arch, z: &[T]) -> bool {
    vectorised!(arch, all_finite(z))
}

/// Whether every number is finite: `z - z` is 0 then, and NaN else. NaNs last through a sum.
#[inline(always)]
fn all_finite<T: Storage>(z: &[T]) -> bool {
    // Several vectors of lanes: one alone would wait for its own last addition.
    const WIDTH: usize = 4 * LANES;
    let (blocks, rest) = z.as_chunks::<WIDTH>();
    let mut lanes = [T::Arithmetic::default(); WIDTH];
    for block in blocks {
        for lane in 0..WIDTH {
            lanes[lane] = lanes[lane] + (block[lane].widen() - block[lane].widen());
        }
    }
    let mut sums = [T::Arithmetic::default(); LANES];
    for lanes in lanes.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            sums[lane] = sums[lane] + lanes[lane];
        }
    }
    for block in rest.chunks(LANES) {
        for (sum, z) in sums.iter_mut().zip(block) {
            *sum = *sum + (z.widen() - z.widen());
        }
    }
    sum_lanes(sums) == T::Arithmetic::default()
}

/// How many samples of a chunk each cell has.
#[inline(always)]
pub(crate) fn count<const C: usize>(cells: &[u8]) -> [u32; MAX_CELLS] {
    // Wide lanes for speed, narrow ones where few samples would be left over.
    if cells.len() < 256 { count_by::<C, 16>(cells) } else { count_by::<C, 64>(cells) }
}

#[inline(always)]
fn count_by<const C: usize, const WIDTH: usize>(cells: &[u8]) -> [u32; MAX_CELLS] {
    const { assert!(CHUNK / 64 <= u8::MAX as usize, "a byte counts the samples of a lane") };
    let mut counts = [0; MAX_CELLS];
    let (blocks, rest) = cells.as_chunks::<WIDTH>();
    for c in 0..C {
        counts[c] = sum_bytes(&count_lanes(blocks, c as u8));
    }
    for &cell in rest {
        if usize::from(cell) < MAX_CELLS {
            counts[usize::from(cell)] += 1;
        }
    }
    counts
}

/// How many samples of each lane are in a cell.
#[inline(always)]
fn count_lanes<const WIDTH: usize>(blocks: &[[u8; WIDTH]], cell: u8) -> [u8; WIDTH] {
    let mut lanes = [0; WIDTH];
    for block in blocks {
        // (A new array every time: one that is changed in place is kept in memory.)
        lanes = std::array::from_fn(|lane| lanes[lane] + u8::from(block[lane] == cell));
    }
    lanes
}

/// Writes the chunk's predictions run by run. False if one is not finite.
fn partition<T: Storage>(
    (arch, z, cells): (pulp::Arch, &[T], &[u8]),
    count: usize,
    counts: &[u32; MAX_CELLS],
    values: &mut [T::Arithmetic],
) -> bool {
    let mut places = [0; MAX_CELLS];
    for (place, run) in places.iter_mut().zip(runs(counts)) {
        *place = run.start;
    }
    #[cfg(target_arch = "x86_64")]
    if let (pulp::Arch::V4(simd), true) = (arch, count <= COMPRESSED_CELLS) {
        let (blocks, rest) = z.as_chunks::<LANES>();
        let (cell_blocks, rest_cells) = cells.as_chunks::<LANES>();
        let finite = simd.vectorize(Compress { simd, blocks, cells: cell_blocks, count, places: &mut places, values });
        scatter(rest, rest_cells, &mut places, values);
        return finite && rest.iter().all(|z| z.is_finite());
    }
    scatter(z, cells, &mut places, values);
    is_all_finite(arch, z)
}

/// One by one: each to the next place of its cell.
fn scatter<T: Storage>(z: &[T], cells: &[u8], places: &mut [usize; MAX_CELLS], values: &mut [T::Arithmetic]) {
    for (z, &cell) in z.iter().zip(cells) {
        let place = &mut places[usize::from(cell) % MAX_CELLS];
        values[*place] = z.widen();
        *place += 1;
    }
}

/// Up to so many cells it is faster to pick each cell's samples out of every block with AVX-512's compress instruction.
#[cfg(target_arch = "x86_64")]
const COMPRESSED_CELLS: usize = 4;

#[cfg(target_arch = "x86_64")]
struct Compress<'a, T: Storage> {
    simd: pulp::x86::V4,
    blocks: &'a [[T; LANES]],
    cells: &'a [[u8; LANES]],
    count: usize,
    places: &'a mut [usize; MAX_CELLS],
    values: &'a mut [T::Arithmetic],
}

#[cfg(target_arch = "x86_64")]
impl<T: Storage> pulp::NullaryFnOnce for Compress<'_, T> {
    /// Whether all samples are finite.
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let Self { simd, blocks, cells, count, places, values } = self;
        // As in `all_finite`.
        let mut lanes = [T::Arithmetic::default(); LANES];
        for (block, cells) in blocks.iter().zip(cells) {
            let block: [T::Arithmetic; LANES] = std::array::from_fn(|lane| block[lane].widen());
            for lane in 0..LANES {
                lanes[lane] = lanes[lane] + (block[lane].widen() - block[lane].widen());
            }
            let cells: core::arch::x86_64::__m128i = pulp::cast(*cells);
            for (c, place) in places.iter_mut().enumerate().take(count) {
                let here = simd.avx512bw._mm512_cmpeq_epi8_mask(
                    simd.avx512f._mm512_zextsi128_si512(cells),
                    simd.avx512f._mm512_set1_epi8(c as i8),
                ) as u16;
                // What is written past the samples picked is overwritten later or lies in the room after the run.
                let out = &mut values[*place..*place + LANES];
                T::Arithmetic::compress(simd, block, here, out);
                *place += here.count_ones() as usize;
            }
        }
        sum_lanes(lanes) == T::Arithmetic::default()
    }
}
