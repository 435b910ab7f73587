//! Writes and backward sums with AVX-512, for numbers that are computed in `f32`: what an element needs to know of its
//! cell is looked up in a register, comparisons are the bits of clamp words, and sums are added to under masks. To the bit
//! what `forward` and `backward` do without.

use super::LANES;
use super::small::set_counts;
use super::sort::Chunk;
use crate::reference::cells_newton::split_shift;
use crate::storage::Storage;
use core::arch::x86_64::{__m128i, __m512, __m512d, _CMP_GT_OQ, _CMP_NEQ_UQ};
use pulp::x86::V4;
use pulp::{NullaryFnOnce, cast};

/// The id that fills up a block: that of no cell.
const NO_CELL: u8 = u8::MAX;

/// Runs `$body` with `$count`, a number of cells at least the problem's, as a constant.
macro_rules! with_few_cells {
    ($cells:expr, $count:ident => $body:expr) => {
        match $cells {
            0..=2 => {
                const $count: usize = 2;
                $body
            }
            3..=4 => {
                const $count: usize = 4;
                $body
            }
            _ => {
                const $count: usize = $crate::backend::cpu::lanes::small::MAX_SMALL_CELLS;
                $body
            }
        }
    };
}
pub(super) use with_few_cells;

/// Whether numbers of this type are computed in what these registers hold.
pub(super) const fn holds<T: Storage>() -> bool {
    size_of::<T::Arithmetic>() == size_of::<f32>()
}

/// Does something with every block of samples; the last is filled up with samples of no cell. Blocks are `f32`, which
/// holds what is computed in it exactly.
#[inline(always)]
pub(super) fn for_blocks<T: Storage>(values: &[T], cells: &[u8], mut work: impl FnMut(usize, __m512, __m128i)) {
    let widened = |block: &[T; LANES]| cast(block.map(|value| value.to_f64() as f32));
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (cell_blocks, rest_cells) = cells.as_chunks::<LANES>();
    for (index, (block, cells)) in blocks.iter().zip(cell_blocks).enumerate() {
        work(index, widened(block), cast(*cells));
    }
    if !rest.is_empty() {
        let (mut block, mut cells) = ([T::default(); LANES], [NO_CELL; LANES]);
        block.iter_mut().zip(rest).for_each(|(value, rest)| *value = *rest);
        cells.iter_mut().zip(rest_cells).for_each(|(cell, rest)| *cell = *rest);
        work(blocks.len(), widened(&block), cast(cells));
    }
}

/// The values as they would be stored.
#[inline(always)]
pub(super) fn stored<T: Storage>(values: __m512) -> __m512 {
    let values: [f32; LANES] = cast(values);
    cast(values.map(|value| T::from_f64(f64::from(value)).to_f64() as f32))
}

/// Sums of `f64` by cell.
pub(super) struct Sums<const C: usize>([[__m512d; 2]; C]);

impl<const C: usize> Sums<C> {
    #[inline(always)]
    pub(super) fn new(simd: V4) -> Self {
        Self([[simd.avx512f._mm512_setzero_pd(); 2]; C])
    }

    /// Adds the samples that are `here` to a cell.
    #[inline(always)]
    pub(super) fn add(&mut self, simd: V4, cell: usize, here: u16, [low, high]: [__m512d; 2]) {
        let sums = &mut self.0[cell];
        sums[0] = simd.avx512f._mm512_mask_add_pd(sums[0], here as u8, sums[0], low);
        sums[1] = simd.avx512f._mm512_mask_add_pd(sums[1], (here >> 8) as u8, sums[1], high);
    }

    /// As `sum_lanes`.
    #[inline(always)]
    pub(super) fn total(&self, simd: V4, cell: usize) -> f64 {
        let V4 { avx512f, avx, sse2, .. } = simd;
        let [low, high] = self.0[cell];
        let eight = avx512f._mm512_add_pd(low, high);
        let upper = avx512f._mm512_extractf64x4_pd::<1>(eight);
        let four = avx._mm256_add_pd(avx512f._mm512_castpd512_pd256(eight), upper);
        let two = sse2._mm_add_pd(avx._mm256_castpd256_pd128(four), avx._mm256_extractf128_pd::<1>(four));
        sse2._mm_cvtsd_f64(sse2._mm_add_sd(two, sse2._mm_unpackhi_pd(two, two)))
    }
}

/// All sixteen numbers as `f64`.
#[inline(always)]
pub(super) fn halves(simd: V4, values: __m512) -> [__m512d; 2] {
    let V4 { avx512f, avx512dq, .. } = simd;
    let low = avx512f._mm512_cvtps_pd(avx512f._mm512_castps512_ps256(values));
    [low, avx512f._mm512_cvtps_pd(avx512dq._mm512_extractf32x8_ps::<1>(values))]
}

/// Which samples are in a cell.
#[inline(always)]
pub(super) fn samples_in(simd: V4, cells: __m128i, cell: usize) -> u16 {
    simd.avx512bw._mm_cmpeq_epi8_mask(cells, simd.sse2._mm_set1_epi8(cell as i8))
}

/// Two numbers for every cell, in a register each.
#[derive(Clone, Copy)]
pub(super) struct CellTable(__m512, __m512);

impl CellTable {
    /// The shifts of up to 16 cells, each as two numbers.
    #[inline(always)]
    pub(super) fn of_shifts(shift: &[f64]) -> Self {
        let (mut shifts, mut rests) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for ((first, rest), shift) in shifts.iter_mut().zip(&mut rests).zip(shift) {
            (*first, *rest) = split_shift(*shift);
        }
        Self(cast(shifts), cast(rests))
    }

    #[inline(always)]
    pub(super) fn of(&self, simd: V4, cells: __m128i) -> (__m512, __m512) {
        let id = simd.avx512f._mm512_cvtepu8_epi32(cells);
        (simd.avx512f._mm512_permutexvar_ps(id, self.0), simd.avx512f._mm512_permutexvar_ps(id, self.1))
    }
}

/// Writes a block, or the part of it for which there is room.
#[inline(always)]
fn put<T: Storage>(out: &mut [T], index: usize, values: __m512) {
    let values: [f32; LANES] = cast(values);
    let values = values.map(|value| T::from_f64(f64::from(value)));
    let out = &mut out[index * LANES..];
    match out.first_chunk_mut::<LANES>() {
        Some(block) => *block = values,
        None => out.iter_mut().zip(values).for_each(|(out, value)| *out = value),
    }
}

/// `cells_newton::write` of a problem, or of a part of one.
pub(super) struct Write<'a, T> {
    pub(super) simd: V4,
    pub(super) z: &'a [T],
    pub(super) cells: &'a [u8],
    pub(super) shift: &'a [f64],
    pub(super) bounds: (T, T),
    pub(super) y: &'a mut [T],
    pub(super) clamp: &'a mut [u32],
}

impl<T: Storage> NullaryFnOnce for Write<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, z, cells, shift, bounds, y, clamp } = self;
        let f = simd.avx512f;
        let shift = CellTable::of_shifts(shift);
        let bound = |bound: T| f._mm512_set1_ps(bound.to_f64() as f32);
        let (lo, hi) = (bound(bounds.0), bound(bounds.1));
        let n = z.len();
        for_blocks(
            z,
            cells,
            #[inline(always)]
            |index, z, cells| {
                let (shift, rest) = shift.of(simd, cells);
                let t = f._mm512_sub_ps(f._mm512_sub_ps(z, shift), rest);
                let clipped = f._mm512_min_ps(hi, f._mm512_max_ps(lo, t));
                put(y, index, clipped);
                let clamped = u32::from(f._mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(clipped, t));
                let above = u32::from(f._mm512_cmp_ps_mask::<_CMP_GT_OQ>(t, hi));
                let inside = u32::MAX >> (32 - LANES.min(n - index * LANES));
                clamp[index] = (clamped & inside) | ((above & inside) << LANES);
            },
        );
    }
}

/// `cells_vjp::write` of a problem's gradients to the predictions, or of a part of them.
pub(super) struct WriteGradient<'a, T> {
    pub(super) simd: V4,
    pub(super) cells: &'a [u8],
    pub(super) clamp: &'a [u32],
    pub(super) g: &'a [T],
    /// What each cell is pulled by.
    pub(super) pull: [f32; LANES],
    pub(super) out: &'a mut [T],
}

impl<T: Storage> NullaryFnOnce for WriteGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, cells, clamp, g, pull, out } = self;
        let f = simd.avx512f;
        let pull: __m512 = cast(pull);
        for_blocks(
            g,
            cells,
            #[inline(always)]
            |index, g, cells| {
                let pull = f._mm512_permutexvar_ps(f._mm512_cvtepu8_epi32(cells), pull);
                put(out, index, f._mm512_maskz_sub_ps(!(clamp[index] as u16), g, pull));
            },
        );
    }
}

/// The sums of the backward pass over a chunk, and the samples of each cell.
pub(super) struct BackwardSums<'a, T, const C: usize> {
    pub(super) simd: V4,
    pub(super) cells: &'a [u8],
    pub(super) clamp: &'a [u32],
    pub(super) g: &'a [T],
    /// The number of cells, up to `C`.
    pub(super) count: usize,
    pub(super) chunk: &'a mut Chunk,
}

impl<T: Storage, const C: usize> NullaryFnOnce for BackwardSums<'_, T, C> {
    /// How many samples are in one of the cells.
    type Output = u32;

    #[inline(always)]
    fn call(self) -> u32 {
        let Self { simd, cells, clamp, g, count, chunk } = self;
        let mut gradient = Sums::<C>::new(simd);
        let (mut counts, mut free) = ([0; C], [0; C]);
        for_blocks(
            g,
            cells,
            #[inline(always)]
            |index, g, cells| {
                let is_free = !(clamp[index] as u16);
                let g = halves(simd, g);
                for c in 0..C {
                    let here = samples_in(simd, cells, c);
                    gradient.add(simd, c, here & is_free, g);
                    counts[c] += here.count_ones();
                    free[c] += (here & is_free).count_ones();
                }
            },
        );
        set_counts(chunk, &counts);
        for c in 0..C {
            chunk.sums[c] = [gradient.total(simd, c), f64::from(free[c]), 0.0, 0.0];
        }
        counts.iter().take(count).sum()
    }
}
