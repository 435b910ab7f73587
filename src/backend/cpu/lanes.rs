//! The passes of `cells_newton` and `cells_vjp` in vector form: for problems of few cells, scalar bounds and no weights.
//!
//! The same steps as the plain passes, in fixed chunks and fixed logical lanes, and without branches: a cell is a mask,
//! and masked additions take the place of indexed ones. The compiler turns the lanes into the widest vectors that the
//! machine has; the result does not depend on how wide they are, nor on how many threads share the chunks.

#![allow(clippy::needless_range_loop, reason = "lanes are indexed, so that several arrays keep step")]

use pulp::Arch;
use rayon::prelude::*;

use crate::batch::{BoundSlice, Problem};
use crate::constraints::ConstraintSet;
use crate::reference::cells_newton::{CellPass, element, split_shift};
use crate::reference::cells_prepare::{CHUNK, CellTotals};
use crate::reference::cells_vjp::VjpSums;
use crate::reference::newton::CellSums;
use crate::solution::CLAMP_LANES as LANES;
use crate::storage::{Arithmetic, Storage};

/// Most cells that masks are faster for than indexing.
pub(crate) const MAX_CELLS: usize = 16;
/// Chunks of a problem before more than one thread works on it.
const PARALLEL_CHUNKS: usize = 8;
/// An id that no cell has: lanes past the end of the data.
const NO_CELL: u32 = u32::MAX;

/// Evaluates an expression compiled for the widest vectors that this machine has.
///
/// The token makes the closure one that can be called only once: its body is then itself what is inlined into the
/// function that has those instructions, and not a shim that calls it without them.
macro_rules! vectorised {
    ($body:expr) => {{
        let once = Once;
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let _moved = once;
                $body
            },
        )
    }};
}

struct Once;

/// Elements that go through one stage after another: as many as keep the loops long and the stages in the first cache;
/// fewer for small problems, whose time it would take to clear them.
const LONG_STAGE: usize = 256;
const SHORT_STAGE: usize = 64;

/// Runs `$body` with `$count`, a number of cells at least the problem's, and `$stage` as constants.
macro_rules! with_shape {
    ($cells:expr, $n:expr, $count:ident, $stage:ident => $body:expr) => {
        match ($cells, $n <= SHORT_STAGE) {
            (0..=2, true) => with_shape!(@ 2, SHORT_STAGE, $count, $stage => $body),
            (0..=2, false) => with_shape!(@ 2, LONG_STAGE, $count, $stage => $body),
            (3..=4, true) => with_shape!(@ 4, SHORT_STAGE, $count, $stage => $body),
            (3..=4, false) => with_shape!(@ 4, LONG_STAGE, $count, $stage => $body),
            (5..=8, _) => with_shape!(@ 8, LONG_STAGE, $count, $stage => $body),
            _ => with_shape!(@ MAX_CELLS, LONG_STAGE, $count, $stage => $body),
        }
    };
    (@ $cells:expr, $elements:expr, $count:ident, $stage:ident => $body:expr) => {{
        const $count: usize = $cells;
        #[allow(dead_code, reason = "not every body works in stages")]
        const $stage: usize = $elements;
        $body
    }};
}

/// A problem that these passes can take.
#[derive(Clone, Copy)]
pub(crate) struct LaneProblem<'a, T> {
    z: &'a [T],
    cells: &'a [u8],
    count: usize,
    lo: T,
    hi: T,
}

impl<'a, T: Storage> LaneProblem<'a, T> {
    /// The problem in this form, if it has it. `cells` are its cell ids.
    pub(crate) fn of(problem: &Problem<'a, T>, cells: &'a [u8], set: &ConstraintSet) -> Option<Self> {
        let count = set.layout().cells();
        let labels = set.needs_label_means();
        match (problem.lo, problem.hi) {
            (BoundSlice::Scalar(lo), BoundSlice::Scalar(hi))
                if problem.weights.is_none() && !labels && count <= MAX_CELLS =>
            {
                Some(Self { z: problem.z, cells, count, lo, hi })
            }
            _ => None,
        }
    }

    pub(crate) fn cells(&self) -> &'a [u8] {
        self.cells
    }

    /// `cell_totals` for this form. False if a cell id is out of range or, if it is asked for, a prediction is not finite.
    pub(crate) fn totals(&self, ask_finite: bool, totals: &mut CellTotals) -> bool {
        let n = self.cells.len();
        let of_chunk = |(z, cells): (&[T], &[u8])| {
            vectorised!(with_shape!(self.count, n, C, STAGE => (count::<C>(cells), !ask_finite || all_finite(z))))
        };
        let merge = |a: (Counts, bool), b: (Counts, bool)| (std::array::from_fn(|c| a.0[c] + b.0[c]), a.1 & b.1);
        let (counts, finite) = if chunks_of(n) >= PARALLEL_CHUNKS {
            let chunks = self.z.par_chunks(CHUNK).zip(self.cells.par_chunks(CHUNK));
            chunks.map(of_chunk).reduce(|| ([0; MAX_CELLS], true), merge)
        } else {
            let chunks = self.z.chunks(CHUNK).zip(self.cells.chunks(CHUNK));
            chunks.map(of_chunk).fold(([0; MAX_CELLS], true), merge)
        };
        let inverse = 1.0 / n as f64;
        for (c, &count) in counts.iter().enumerate().take(self.count) {
            let weight = count as f64 * inverse;
            let bound = |bound: T| if count > 0 { weight * bound.to_f64() } else { 0.0 };
            totals.weight[c] = weight;
            (totals.bounds.lo[c], totals.bounds.hi[c]) = (bound(self.lo), bound(self.hi));
        }
        totals.label.fill(0.0);
        totals.total = n as f64;
        finite && counts[..self.count].iter().sum::<usize>() == n
    }
}

/// Samples a cell.
type Counts = [usize; MAX_CELLS];

/// Whether every number is finite: `z - z` is 0 then, and NaN else. NaNs last through a sum.
#[inline(always)]
fn all_finite<T: Storage>(z: &[T]) -> bool {
    let (blocks, rest) = z.as_chunks::<LANES>();
    let mut lanes = [T::Arithmetic::default(); LANES];
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane] + (block[lane].widen() - block[lane].widen());
        }
    }
    rest.iter().all(|z| z.is_finite()) & (tree(lanes) == T::Arithmetic::default())
}

/// How many samples each cell has.
#[inline(always)]
fn count<const C: usize>(cells: &[u8]) -> Counts {
    const WIDTH: usize = 64;
    let mut totals = [0; MAX_CELLS];
    // A byte counts to 255.
    for run in cells.chunks(WIDTH * 255) {
        let (blocks, rest) = run.as_chunks::<WIDTH>();
        for (c, total) in totals.iter_mut().enumerate().take(C) {
            let mut lanes = [0_u8; WIDTH];
            for block in blocks {
                for lane in 0..WIDTH {
                    lanes[lane] += u8::from(block[lane] == c as u8);
                }
            }
            *total += lanes.iter().map(|lane| usize::from(*lane)).sum::<usize>();
            *total += rest.iter().filter(|cell| usize::from(**cell) == c).count();
        }
    }
    totals
}

/// Adds up lanes as a tree of fixed shape.
#[inline(always)]
fn tree<A: Copy + std::ops::Add<Output = A>>(mut lanes: [A; LANES]) -> A {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = lanes[lane] + lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Per-cell values, one shift as two numbers.
struct Table<A, const C: usize> {
    shift: [A; C],
    rest: [A; C],
}

impl<A: Arithmetic, const C: usize> Table<A, C> {
    fn new(shifts: &[f64]) -> Self {
        let mut table = Self { shift: [A::default(); C], rest: [A::default(); C] };
        for (c, &shift) in shifts.iter().enumerate().take(C) {
            (table.shift[c], table.rest[c]) = split_shift(shift);
        }
        table
    }

    /// The shift of a cell, by selection.
    #[inline(always)]
    fn of(&self, cell: u32) -> (A, A) {
        let (mut shift, mut rest) = (A::default(), A::default());
        for c in 0..C {
            let mask = mask(cell, c);
            shift = shift.or_bits(self.shift[c].masked(mask));
            rest = rest.or_bits(self.rest[c].masked(mask));
        }
        (shift, rest)
    }
}

/// All ones where the sample is in the cell.
#[inline(always)]
fn mask(cell: u32, c: usize) -> u32 {
    u32::from(cell == c as u32).wrapping_neg()
}

/// Sums of one chunk, `[cells]` of y, |y|, free, beyond.
pub(crate) type ChunkSums = [[f64; 4]; MAX_CELLS];

/// Lanes of one cell's sums.
#[derive(Clone, Copy)]
struct Lanes<A> {
    y: [f64; LANES],
    size: [f64; LANES],
    free: [u32; LANES],
    beyond: [A; LANES],
}

/// What a stage leaves of its elements.
struct Staged<A, const STAGE: usize> {
    cell: [u32; STAGE],
    y: [A; STAGE],
    free: [u32; STAGE],
    beyond: [A; STAGE],
}

#[inline(always)]
fn chunk_sums<T: Storage, const C: usize, const SIGNED: bool, const FULL: bool, const STAGE: usize>(
    z: &[T],
    cells: &[u8],
    table: &Table<T::Arithmetic, C>,
    (lo, hi): (T, T),
    out: &mut ChunkSums,
) {
    let zero = T::Arithmetic::default();
    let mut sums = [Lanes { y: [0.0; LANES], size: [0.0; LANES], free: [0; LANES], beyond: [zero; LANES] }; C];
    let mut staged = Staged { cell: [NO_CELL; STAGE], y: [zero; STAGE], free: [0; STAGE], beyond: [zero; STAGE] };
    for (z, cells) in z.chunks(STAGE).zip(cells.chunks(STAGE)) {
        let n = z.len();
        for i in 0..n {
            let cell = u32::from(cells[i]);
            let (t, y) = element(z[i], table.of(cell), lo, hi);
            let y = y.widen();
            let distance = t - y;
            staged.cell[i] = cell;
            staged.y[i] = y;
            staged.free[i] = u32::from((lo.widen() <= t) & (t <= hi.widen()));
            if FULL {
                staged.beyond[i] = if distance < zero { zero - distance } else { distance };
            }
        }
        // Whole lanes are summed: those past the end have no cell.
        let end = n.next_multiple_of(LANES);
        staged.cell[n..end].fill(NO_CELL);
        for (c, sums) in sums.iter_mut().enumerate() {
            add_cell::<T::Arithmetic, SIGNED, FULL, STAGE>(&staged, end, c, sums);
        }
    }
    for (lanes, out) in sums.iter().zip(out) {
        let y = tree(lanes.y);
        let size = if SIGNED { tree(lanes.size) } else { y };
        *out = [y, size, f64::from(lanes.free.iter().sum::<u32>()), tree(lanes.beyond).to_f64()];
    }
}

/// Adds the staged elements of cell `c` to its lanes.
#[inline(always)]
fn add_cell<A: Arithmetic, const SIGNED: bool, const FULL: bool, const STAGE: usize>(
    staged: &Staged<A, STAGE>,
    end: usize,
    c: usize,
    sums: &mut Lanes<A>,
) {
    let cells = staged.cell[..end].as_chunks::<LANES>().0;
    let y = staged.y[..end].as_chunks::<LANES>().0;
    let free = staged.free[..end].as_chunks::<LANES>().0;
    let beyond = staged.beyond[..end].as_chunks::<LANES>().0;
    for (((cells, y), free), beyond) in cells.iter().zip(y).zip(free).zip(beyond) {
        let mut here = [0; LANES];
        for lane in 0..LANES {
            here[lane] = mask(cells[lane], c);
        }
        for lane in 0..LANES {
            sums.y[lane] += y[lane].masked(here[lane]).to_f64();
        }
        if SIGNED {
            for lane in 0..LANES {
                sums.size[lane] += y[lane].masked(here[lane]).to_f64().abs();
            }
        }
        for lane in 0..LANES {
            sums.free[lane] += free[lane] & here[lane];
        }
        if FULL {
            for lane in 0..LANES {
                sums.beyond[lane] = sums.beyond[lane] + beyond[lane].masked(here[lane]);
            }
        }
    }
}

/// The vector pass.
pub(crate) struct LanePass<'a, T> {
    problem: LaneProblem<'a, T>,
    /// `[cells]`: the weight of each cell.
    weight: &'a [f64],
    /// Room for the sums of every chunk.
    chunks: &'a mut [ChunkSums],
    /// Whether the next pass sums what lies beyond the bounds, too. The method asks for it only where free elements are
    /// scarce, and then to order of magnitude: other passes leave the sums of an earlier one.
    full: bool,
}

/// Free elements are scarce in a cell below this part of its weight.
const SCARCE: f64 = 0.3;

impl<'a, T: Storage> LanePass<'a, T> {
    pub(crate) fn new(problem: LaneProblem<'a, T>, weight: &'a [f64], chunks: &'a mut [ChunkSums]) -> Self {
        Self { problem, weight, chunks, full: true }
    }
}

/// How many chunks a problem of `n` elements has.
pub(crate) fn chunks_of(n: usize) -> usize {
    n.div_ceil(CHUNK)
}

impl<T: Storage> CellPass for LanePass<'_, T> {
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums) {
        let LaneProblem { z, cells, count, lo, hi } = self.problem;
        let full = self.full;
        let chunks = &mut self.chunks[..chunks_of(z.len())];
        with_shape!(count, cells.len(), C, STAGE => {
            let table = Table::<T::Arithmetic, C>::new(shift);
            let signed = lo.to_f64() < 0.0;
            let of_chunk = |index: usize, sums: &mut ChunkSums| {
                let range = index * CHUNK..z.len().min((index + 1) * CHUNK);
                let (z, cells) = (&z[range.clone()], &cells[range]);
                let bounds = (lo, hi);
                vectorised!(match (signed, full) {
                    (true, true) => chunk_sums::<T, C, true, true, STAGE>(z, cells, &table, bounds, sums),
                    (true, false) => chunk_sums::<T, C, true, false, STAGE>(z, cells, &table, bounds, sums),
                    (false, true) => chunk_sums::<T, C, false, true, STAGE>(z, cells, &table, bounds, sums),
                    (false, false) => chunk_sums::<T, C, false, false, STAGE>(z, cells, &table, bounds, sums),
                });
            };
            if chunks.len() >= PARALLEL_CHUNKS {
                chunks.par_iter_mut().enumerate().for_each(|(index, sums)| of_chunk(index, sums));
            } else {
                chunks.iter_mut().enumerate().for_each(|(index, sums)| of_chunk(index, sums));
            }
        });
        let inverse = 1.0 / z.len() as f64;
        let mut scarce = false;
        for c in 0..count {
            let total = |kind: usize| chunks.iter().map(|sums| sums[c][kind]).sum::<f64>() * inverse;
            (sums.y[c], sums.size[c], sums.free[c]) = (total(0), total(1), total(2));
            if full {
                sums.beyond[c] = total(3);
            }
            scarce |= sums.free[c] < SCARCE * self.weight[c];
        }
        self.full = scarce;
    }
}

/// `cells_newton::write` for this form.
pub(crate) fn write<T: Storage>(problem: &LaneProblem<'_, T>, shift: &[f64], y: &mut [T], clamp: &mut [u32]) {
    let LaneProblem { z, cells, count, lo, hi } = *problem;
    let words = z.len().div_ceil(LANES);
    with_shape!(count, cells.len(), C, STAGE => {
        let table = Table::<T::Arithmetic, C>::new(shift);
        let of_chunk = |index: usize, y: &mut [T], clamp: &mut [u32]| {
            let range = index * CHUNK..index * CHUNK + y.len();
            let (z, cells) = (&z[range.clone()], &cells[range]);
            vectorised!(write_chunk::<T, C, STAGE>(z, cells, &table, (lo, hi), y, clamp));
        };
        if chunks_of(z.len()) >= PARALLEL_CHUNKS {
            let parts = y.par_chunks_mut(CHUNK).zip(clamp[..words].par_chunks_mut(CHUNK / LANES)).enumerate();
            parts.for_each(|(index, (y, clamp))| of_chunk(index, y, clamp));
        } else {
            let parts = y.chunks_mut(CHUNK).zip(clamp[..words].chunks_mut(CHUNK / LANES)).enumerate();
            parts.for_each(|(index, (y, clamp))| of_chunk(index, y, clamp));
        }
    });
}

#[inline(always)]
fn write_chunk<T: Storage, const C: usize, const STAGE: usize>(
    z: &[T],
    cells: &[u8],
    table: &Table<T::Arithmetic, C>,
    (lo, hi): (T, T),
    y: &mut [T],
    clamp: &mut [u32],
) {
    // The bits of each element in its clamp word, before they are shifted into place.
    let mut bits = [0_u32; STAGE];
    let words = clamp.chunks_mut(STAGE / LANES);
    for (((z, cells), y), words) in z.chunks(STAGE).zip(cells.chunks(STAGE)).zip(y.chunks_mut(STAGE)).zip(words) {
        let n = z.len();
        for i in 0..n {
            let (t, value) = element(z[i], table.of(u32::from(cells[i])), lo, hi);
            y[i] = value;
            let (below, above) = (u32::from(t < lo.widen()), u32::from(t > hi.widen()));
            bits[i] = (below | above) | (above << LANES);
        }
        bits[n..n.next_multiple_of(LANES)].fill(0);
        for (bits, word) in bits.as_chunks::<LANES>().0.iter().zip(words) {
            let mut placed = [0; LANES];
            for lane in 0..LANES {
                placed[lane] = bits[lane] << lane;
            }
            *word = placed.iter().fold(0, |word, bits| word | bits);
        }
    }
}

/// `cells_vjp::sum` for this form. `chunks` is scratch.
pub(crate) fn vjp_sum<T: Storage>(
    problem: &LaneProblem<'_, T>,
    clamp: &[u32],
    g: &[T],
    chunks: &mut [ChunkSums],
    sums: &mut VjpSums,
) {
    let LaneProblem { cells, count, .. } = *problem;
    let chunks = &mut chunks[..chunks_of(cells.len())];
    with_shape!(count, cells.len(), C, STAGE => {
        let of_chunk = |index: usize, sums: &mut ChunkSums| {
            let range = index * CHUNK..cells.len().min((index + 1) * CHUNK);
            let (g, cells, clamp) = (&g[range.clone()], &cells[range], &clamp[index * (CHUNK / LANES)..]);
            vectorised!(vjp_chunk_sums::<T, C, STAGE>(cells, clamp, g, sums));
        };
        if chunks.len() >= PARALLEL_CHUNKS {
            chunks.par_iter_mut().enumerate().for_each(|(index, sums)| of_chunk(index, sums));
        } else {
            chunks.iter_mut().enumerate().for_each(|(index, sums)| of_chunk(index, sums));
        }
    });
    for c in 0..count {
        let total = |kind: usize| chunks.iter().map(|sums| sums[c][kind]).sum::<f64>();
        sums.gradient[c] = total(0);
        sums.free[c] = total(2) / cells.len() as f64;
    }
}

#[inline(always)]
fn vjp_chunk_sums<T: Storage, const C: usize, const STAGE: usize>(
    cells: &[u8],
    clamp: &[u32],
    g: &[T],
    out: &mut ChunkSums,
) {
    let mut gradient = [[0.0_f64; LANES]; C];
    let mut free = [[0_u32; LANES]; C];
    let mut cell = [NO_CELL; STAGE];
    let mut value = [T::Arithmetic::default(); STAGE];
    let words = clamp.chunks(STAGE / LANES);
    for ((g, cells), words) in g.chunks(STAGE).zip(cells.chunks(STAGE)).zip(words) {
        let n = g.len();
        free_cells(cells, words, &mut cell[..n]);
        for i in 0..n {
            value[i] = g[i].widen();
        }
        let end = n.next_multiple_of(LANES);
        cell[n..end].fill(NO_CELL);
        for c in 0..C {
            add_gradients(&cell[..end], &value[..end], c, &mut gradient[c], &mut free[c]);
        }
    }
    for c in 0..C {
        out[c] = [tree(gradient[c]), 0.0, f64::from(free[c].iter().sum::<u32>()), 0.0];
    }
}

/// Adds the staged gradients of cell `c` to its lanes.
#[inline(always)]
fn add_gradients<A: Arithmetic>(
    cells: &[u32],
    values: &[A],
    c: usize,
    gradient: &mut [f64; LANES],
    free: &mut [u32; LANES],
) {
    for (cells, values) in cells.as_chunks::<LANES>().0.iter().zip(values.as_chunks::<LANES>().0) {
        let mut here = [0; LANES];
        for lane in 0..LANES {
            here[lane] = mask(cells[lane], c);
        }
        for lane in 0..LANES {
            gradient[lane] += values[lane].masked(here[lane]).to_f64();
        }
        for lane in 0..LANES {
            free[lane] += here[lane] & 1;
        }
    }
}

/// The bits of a byte as bytes: all ones for a bit that is set.
const SPREAD_BITS: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = if (byte >> bit) & 1 == 1 { u8::MAX } else { 0 };
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// The cells of the free elements of a stage; clamped ones are in no cell.
#[inline(always)]
fn free_cells(cells: &[u8], words: &[u32], out: &mut [u32]) {
    let mut clamped = [0_u8; LONG_STAGE];
    for (word, lanes) in words.iter().zip(clamped.as_chunks_mut::<LANES>().0) {
        let [first, second, ..] = word.to_le_bytes();
        lanes[..8].copy_from_slice(&SPREAD_BITS[usize::from(first)]);
        lanes[8..].copy_from_slice(&SPREAD_BITS[usize::from(second)]);
    }
    for ((out, cell), clamped) in out.iter_mut().zip(cells).zip(&clamped) {
        *out = u32::from(cell | clamped);
    }
}

/// What `free_cells` says of an element in no cell.
const CLAMPED: u32 = u8::MAX as u32;

/// `cells_vjp::write` for this form: the gradient to the predictions.
pub(crate) fn vjp_write<T: Storage>(problem: &LaneProblem<'_, T>, clamp: &[u32], g: &[T], pull: &[f64], out: &mut [T]) {
    let LaneProblem { cells, count, .. } = *problem;
    let n = cells.len();
    with_shape!(count, cells.len(), C, STAGE => {
        let mut table = [T::Arithmetic::default(); C];
        for (entry, pull) in table.iter_mut().zip(pull) {
            *entry = T::Arithmetic::from_f64(pull / n as f64);
        }
        let of_chunk = |index: usize, out: &mut [T]| {
            let range = index * CHUNK..index * CHUNK + out.len();
            let (g, cells, clamp) = (&g[range.clone()], &cells[range], &clamp[index * (CHUNK / LANES)..]);
            vectorised!(vjp_write_chunk::<T, C, STAGE>(cells, clamp, g, &table, out));
        };
        if chunks_of(n) >= PARALLEL_CHUNKS {
            out.par_chunks_mut(CHUNK).enumerate().for_each(|(index, out)| of_chunk(index, out));
        } else {
            out.chunks_mut(CHUNK).enumerate().for_each(|(index, out)| of_chunk(index, out));
        }
    });
}

#[inline(always)]
fn vjp_write_chunk<T: Storage, const C: usize, const STAGE: usize>(
    cells: &[u8],
    clamp: &[u32],
    g: &[T],
    table: &[T::Arithmetic; C],
    out: &mut [T],
) {
    let mut cell = [CLAMPED; STAGE];
    let words = clamp.chunks(STAGE / LANES);
    for (((g, cells), out), words) in g.chunks(STAGE).zip(cells.chunks(STAGE)).zip(out.chunks_mut(STAGE)).zip(words) {
        free_cells(cells, words, &mut cell[..g.len()]);
        for i in 0..g.len() {
            let mut pull = T::Arithmetic::default();
            for (c, entry) in table.iter().enumerate() {
                pull = pull.or_bits(entry.masked(mask(cell[i], c)));
            }
            let free = u32::from(cell[i] != CLAMPED).wrapping_neg();
            out[i] = T::narrow((g[i].widen() - pull).masked(free));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::CellSource;
    use crate::cells::CellLayout;
    use crate::reference::cells_newton::{self, PlainPass};
    use crate::reference::{cells_prepare, cells_vjp};
    use rand::{RngExt, SeedableRng};

    fn close(what: &str, vector: &[f64], plain: &[f64], tolerance: f64) {
        for (a, b) in vector.iter().zip(plain) {
            assert!(a == b || (a - b).abs() <= tolerance * b.abs().max(1e-3), "{what}: {a} against {b}");
        }
    }

    /// Everything that the vector passes compute, against the plain ones.
    fn agree<T: Storage>(count: usize, n: usize, (lo, hi): (f64, f64)) {
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
            warm_start: None,
        };
        let lanes = LaneProblem::of(&problem, &cells, &set).unwrap();
        let mut totals = [CellTotals::new(count), CellTotals::new(count)];
        assert!(lanes.totals(true, &mut totals[0]));
        assert!(cells_prepare::cell_totals(&set, &problem, &cells, &mut totals[1]));
        close("weights", &totals[0].weight, &totals[1].weight, 1e-15);
        close("bounds", &totals[0].bounds.hi, &totals[1].bounds.hi, 1e-12);

        let mut chunks = vec![[[0.0; 4]; MAX_CELLS]; chunks_of(n)];
        let mut chunk = CellSums::new(count);
        let mut sums = [CellSums::new(count), CellSums::new(count)];
        LanePass::new(lanes, &totals[0].weight, &mut chunks).evaluate(&shift, &mut sums[0]);
        let total = totals[1].total;
        PlainPass { problem: &problem, cells: &cells, total, chunk: &mut chunk }.evaluate(&shift, &mut sums[1]);
        let [vector, plain] = &sums;
        close("y", &vector.y, &plain.y, 1e-12);
        close("size", &vector.size, &plain.size, 1e-12);
        close("free", &vector.free, &plain.free, 1e-12);
        // Summed in the arithmetic type: it is needed to order of magnitude only.
        close("beyond", &vector.beyond, &plain.beyond, 1e-4);

        let words = n.div_ceil(LANES);
        let mut y = [vec![T::from_f64(f64::NAN); n], vec![T::from_f64(f64::NAN); n]];
        let mut clamp = [vec![u32::MAX; words], vec![0; words]];
        write(&lanes, &shift, &mut y[0], &mut clamp[0]);
        cells_newton::write(&problem, &cells, &shift, &mut y[1], &mut clamp[1]);
        assert_eq!(y[0], y[1]);
        assert_eq!(clamp[0], clamp[1]);

        let mut backward = [VjpSums::new(count), VjpSums::new(count)];
        vjp_sum(&lanes, &clamp[0], &g, &mut chunks, &mut backward[0]);
        cells_vjp::sum(&problem, &cells, &clamp[0], &g, total, &mut backward[1]);
        close("free weights", &backward[0].free, &backward[1].free, 1e-12);
        close("gradients", &backward[0].gradient, &backward[1].gradient, 1e-9);
        let mut out = [vec![T::default(); n], vec![T::default(); n]];
        vjp_write(&lanes, &clamp[0], &g, &shift, &mut out[0]);
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
        let set = ConstraintSet::new(CellLayout::flat(3).unwrap());
        for (at, bad) in [(0, f32::NAN), (40, f32::INFINITY), (99, f32::NEG_INFINITY), (50, 1.0)] {
            let (mut z, mut cells) = (vec![0.5_f32; 100], vec![1_u8; 100]);
            z[at] = bad;
            if bad == 1.0 {
                cells[at] = 3;
            }
            let lanes = LaneProblem { z: &z, cells: &cells, count: 3, lo: 0.0, hi: 1.0 };
            assert!(!lanes.totals(true, &mut CellTotals::new(set.layout().cells())));
        }
        assert!(!all_finite(&[f32::MAX, f32::INFINITY]) && all_finite(&[f32::MAX; 40]));
    }
}
