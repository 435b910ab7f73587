//! `cells_newton`'s passes in vector form: the sums of a step along sorted runs, and the write in the caller's order.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::sort::{Chunk, Sorted, runs, total_sums};
use super::{LANES, LaneProblem, STAGE, Table, for_chunks, small, sum_lanes, vectorised, with_cells};
use crate::reference::cells_newton::{CellPass, element, split_shift};
use crate::reference::cells_prepare::CHUNK;
use crate::reference::newton::CellSums;
use crate::storage::{Arithmetic, Storage};
use rayon::prelude::*;

/// The vector pass over a problem that is sorted.
pub(crate) struct LanePass<'a, T: Storage> {
    problem: LaneProblem<'a, T>,
    /// `[cells]`: the weight of each cell.
    weight: &'a [f64],
    sorted: &'a mut Sorted<T::Arithmetic>,
    /// Whether the next pass sums what lies beyond the bounds, too. The method asks for it only where free elements are
    /// scarce, and then to order of magnitude: other passes leave the sums of an earlier one.
    full: bool,
    inverse: f64,
    /// Whether the sums at zero shifts are known already.
    known: bool,
}

/// Free elements are scarce in a cell below this part of its weight.
const SCARCE: f64 = 0.3;

impl<'a, T: Storage> LanePass<'a, T> {
    pub(crate) fn new(problem: LaneProblem<'a, T>, weight: &'a [f64], sorted: &'a mut Sorted<T::Arithmetic>) -> Self {
        let known = small::is_small::<T>(problem.n(), problem.count);
        Self { problem, weight, sorted, full: true, inverse: 1.0 / problem.n() as f64, known }
    }
}

impl<T: Storage> CellPass for LanePass<'_, T> {
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums) {
        let LaneProblem { arch, count, lo, hi, .. } = self.problem;
        let (full, n) = (self.full, self.problem.n());
        let signed = lo.to_f64() < 0.0;
        let (chunks, values, stride) = self.sorted.chunks(n);
        let at_zero = shift.iter().all(|shift| *shift == 0.0);
        let known = std::mem::take(&mut self.known) && at_zero;
        for_chunks(chunks, |index, chunk| {
            let values = &values[index * stride..];
            let shift = &shift[..count];
            if small::is_small::<T>(n, count) {
                if !known {
                    small::sums(&self.problem, shift, full, chunk);
                }
                return;
            }
            vectorised!(
                arch,
                match (signed, full) {
                    (true, true) => chunk_sums::<T, true, true>(values, shift, (lo, hi), chunk),
                    (true, false) => chunk_sums::<T, true, false>(values, shift, (lo, hi), chunk),
                    (false, true) => chunk_sums::<T, false, true>(values, shift, (lo, hi), chunk),
                    (false, false) => chunk_sums::<T, false, false>(values, shift, (lo, hi), chunk),
                }
            );
        });
        let inverse = self.inverse;
        let mut scarce = false;
        for c in 0..count {
            let [y, size, free, beyond] = total_sums(chunks, c).map(|total| total * inverse);
            (sums.y[c], sums.size[c], sums.free[c]) = (y, size, free);
            if full {
                sums.beyond[c] = beyond;
            }
            scarce |= free < SCARCE * self.weight[c];
        }
        self.full = scarce;
    }
}

#[inline(always)]
fn chunk_sums<T: Storage, const SIGNED: bool, const FULL: bool>(
    values: &[T::Arithmetic],
    shift: &[f64],
    (lo, hi): (T, T),
    chunk: &mut Chunk,
) {
    let Chunk { counts, sums, .. } = chunk;
    let bounds = (lo.widen(), hi.widen());
    for ((run, &shift), sums) in runs(counts).zip(shift).zip(sums) {
        *sums = run_sums::<T, SIGNED, FULL>(&values[run.start..], run.len(), split_shift(shift), bounds);
    }
}

/// The sums along a run: y, |y|, free, beyond. Lanes are read past its end.
#[inline(always)]
fn run_sums<T: Storage, const SIGNED: bool, const FULL: bool>(
    values: &[T::Arithmetic],
    count: usize,
    shift: (T::Arithmetic, T::Arithmetic),
    bounds: (T::Arithmetic, T::Arithmetic),
) -> [f64; 4] {
    let mut lanes = RunLanes::<T::Arithmetic>::default();
    let whole = count / LANES;
    let blocks = values.as_chunks::<LANES>().0;
    for block in &blocks[..whole] {
        lanes.add::<T, SIGNED, FULL>(block, &[u32::MAX; LANES], shift, bounds);
    }
    let rest = count % LANES;
    if rest > 0 {
        lanes.add::<T, SIGNED, FULL>(&blocks[whole], first_lanes(rest), shift, bounds);
    }
    let y = sum_lanes(lanes.y);
    let size = if SIGNED { sum_lanes(lanes.size) } else { y };
    let free = sum_lanes(lanes.free);
    [y, size, f64::from(free), if FULL { sum_lanes(lanes.beyond).to_f64() } else { 0.0 }]
}

/// All ones in the first lanes, zeros in the others.
#[inline(always)]
fn first_lanes(count: usize) -> &'static [u32; LANES] {
    static ONES_THEN_ZEROS: [u32; 2 * LANES] = {
        let mut lanes = [0; 2 * LANES];
        let mut lane = 0;
        while lane < LANES {
            lanes[lane] = u32::MAX;
            lane += 1;
        }
        lanes
    };
    ONES_THEN_ZEROS[LANES - count..].first_chunk().unwrap_or(&[0; LANES])
}

#[derive(Default)]
struct RunLanes<A> {
    y: [f64; LANES],
    size: [f64; LANES],
    free: [u32; LANES],
    beyond: [A; LANES],
}

impl<A: Arithmetic> RunLanes<A> {
    #[inline(always)]
    fn add<T: Storage<Arithmetic = A>, const SIGNED: bool, const FULL: bool>(
        &mut self,
        block: &[A; LANES],
        inside: &[u32; LANES],
        shift: (A, A),
        bounds: (A, A),
    ) {
        for lane in 0..LANES {
            let (t, clipped) = element(block[lane], shift, bounds);
            let y = T::narrow(clipped).widen().masked(inside[lane]).to_f64();
            self.y[lane] += y;
            if SIGNED {
                self.size[lane] += y.abs();
            }
            self.free[lane] += u32::from(clipped == t) & inside[lane];
            if FULL {
                let distance = t - clipped;
                let distance = if distance < A::default() { A::default() - distance } else { distance };
                self.beyond[lane] = self.beyond[lane] + distance.masked(inside[lane]);
            }
        }
    }
}

/// `cells_newton::write` for this form.
pub(crate) fn write<T: Storage>(problem: &LaneProblem<'_, T>, shift: &[f64], y: &mut [T], clamp: &mut [u32]) {
    let words = problem.n().div_ceil(LANES);
    let of_chunk = |index: usize, y: &mut [T], clamp: &mut [u32]| {
        let (z, cells) = (problem.z_of(index), problem.cells_of(index));
        #[cfg(target_arch = "x86_64")]
        if let (pulp::Arch::V4(simd), true) = (problem.arch, avx512::holds::<T>()) {
            let (shift, bounds) = (&shift[..problem.count], (problem.lo, problem.hi));
            return simd.vectorize(avx512::Write { simd, z, cells, shift, bounds, y, clamp });
        }
        let bounds = (problem.lo.widen(), problem.hi.widen());
        vectorised!(
            problem.arch,
            with_cells!(problem.count, C => {
                let mut split = [(T::Arithmetic::default(), T::Arithmetic::default()); C];
                split.iter_mut().zip(shift).for_each(|(split, shift)| *split = split_shift(*shift));
                let tables = (Table::new(split.map(|split| split.0)), Table::new(split.map(|split| split.1)));
                write_chunk::<T, C>(z, cells, &tables, bounds, y, clamp);
            })
        );
    };
    if super::is_large(problem.n()) {
        let parts = y.par_chunks_mut(CHUNK).zip(clamp[..words].par_chunks_mut(CHUNK / LANES)).enumerate();
        parts.for_each(|(index, (y, clamp))| of_chunk(index, y, clamp));
    } else {
        let parts = y.chunks_mut(CHUNK).zip(clamp[..words].chunks_mut(CHUNK / LANES)).enumerate();
        parts.for_each(|(index, (y, clamp))| of_chunk(index, y, clamp));
    }
}

#[inline(always)]
pub(super) fn write_chunk<T: Storage, const C: usize>(
    z: &[T],
    cells: &[u8],
    (shift, rest): &(Table<T::Arithmetic, C>, Table<T::Arithmetic, C>),
    bounds: (T::Arithmetic, T::Arithmetic),
    y: &mut [T],
    clamp: &mut [u32],
) {
    // One byte an element: 1 where it is clamped, and where it is at its upper bound.
    let (mut clamped, mut above) = ([0_u8; STAGE], [0_u8; STAGE]);
    let words = clamp.chunks_mut(STAGE / LANES);
    for (((z, cells), y), words) in z.chunks(STAGE).zip(cells.chunks(STAGE)).zip(y.chunks_mut(STAGE)).zip(words) {
        let n = z.len();
        let end = n.next_multiple_of(LANES);
        clamped[n..end].fill(0);
        above[n..end].fill(0);
        let (cells, y) = (&cells[..n], &mut y[..n]);
        {
            let (clamped, above) = (&mut clamped[..n], &mut above[..n]);
            for i in 0..n {
                let (t, value) = element(z[i].widen(), (shift.of(cells[i]), rest.of(cells[i])), bounds);
                y[i] = T::narrow(value);
                clamped[i] = u8::from(value != t);
                above[i] = u8::from(t > bounds.1);
            }
        }
        let (clamped, above) = (clamped[..end].as_chunks::<LANES>().0, above[..end].as_chunks::<LANES>().0);
        for ((clamped, above), word) in clamped.iter().zip(above).zip(words) {
            *word = pack(clamped) | (pack(above) << LANES);
        }
    }
}

/// Bytes of 0 or 1 as bits.
#[inline(always)]
fn pack(bytes: &[u8; LANES]) -> u32 {
    // The product gathers the lowest bits of eight bytes in its highest byte.
    let half = |bytes: &[u8; 8]| (u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32;
    let halves = bytes.as_chunks::<8>().0;
    half(&halves[0]) | (half(&halves[1]) << 8)
}
