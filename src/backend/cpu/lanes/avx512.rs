//! Writes and backward sums with AVX-512, for numbers that are computed in `f32`: what an element needs to know of its
//! cell is looked up in a register, comparisons are the bits of clamp words, and sums are added to under masks. To the bit
//! what `forward` and `backward` do without.

use super::sort::Chunk;
use super::{LANES, filled_up};
use crate::reference::cells_newton::split_shift;
use crate::storage::Storage;
use core::arch::x86_64::{__m128i, __m512, __m512d, _CMP_GT_OQ, _CMP_NEQ_UQ};
use pulp::x86::V4;
use pulp::{NullaryFnOnce, cast};

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

/// A block of samples as `f32`, which holds what is computed in it exactly.
#[inline(always)]
pub(super) fn widened<T: Storage>(block: &[T; LANES]) -> __m512 {
    cast(block.map(|value| value.to_f64() as f32))
}

/// Does something with every block of samples.
#[inline(always)]
pub(super) fn for_blocks<T: Storage>(values: &[T], cells: &[u8], mut work: impl FnMut(__m512, __m128i)) {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (cell_blocks, rest_cells) = cells.as_chunks::<LANES>();
    for (block, cells) in blocks.iter().zip(cell_blocks) {
        work(widened(block), cast(*cells));
    }
    if !rest.is_empty() {
        let (block, cells) = filled_up(rest, rest_cells);
        work(widened(&block), cast(cells));
    }
}

/// Writes something for every block of samples and its word.
#[inline(always)]
pub(super) fn map_blocks<T: Storage, W>(
    (values, cells): (&[T], &[u8]),
    words: impl IntoIterator<Item = W>,
    out: &mut [T],
    mut work: impl FnMut(__m512, __m128i, W) -> __m512,
) {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (cell_blocks, rest_cells) = cells.as_chunks::<LANES>();
    let (out_blocks, rest_out) = out.as_chunks_mut::<LANES>();
    let mut words = words.into_iter();
    for (((block, cells), out), word) in blocks.iter().zip(cell_blocks).zip(out_blocks).zip(words.by_ref()) {
        *out = narrowed(work(widened(block), cast(*cells), word));
    }
    if let (false, Some(word)) = (rest.is_empty(), words.next()) {
        let (block, cells) = filled_up(rest, rest_cells);
        let values = narrowed(work(widened(&block), cast(cells), word));
        rest_out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
    }
}

/// The values as they are stored.
#[inline(always)]
pub(super) fn narrowed<T: Storage>(values: __m512) -> [T; LANES] {
    let values: [f32; LANES] = cast(values);
    values.map(|value| T::from_f64(f64::from(value)))
}

/// Cell ids in a register.
pub(super) const IDS: usize = 64;

/// Which of `IDS` samples are in each cell.
#[inline(always)]
fn bits<const C: usize>(simd: V4, cells: [u8; IDS]) -> [u64; C] {
    let id = |c: usize| simd.avx512f._mm512_set1_epi8(c as i8);
    std::array::from_fn(|c| simd.avx512bw._mm512_cmpeq_epi8_mask(cast(cells), id(c)))
}

/// Does something with every `IDS` samples, of which the bits say in which cell they are, and their word.
#[inline(always)]
pub(super) fn for_wide_blocks<const C: usize, T: Storage, W>(
    simd: V4,
    (values, cells): (&[T], &[u8]),
    words: impl IntoIterator<Item = W>,
    mut work: impl FnMut(&[[T; LANES]], [u64; C], W),
) {
    let (blocks, rest) = values.as_chunks::<IDS>();
    let (cell_blocks, rest_cells) = cells.as_chunks::<IDS>();
    let mut words = words.into_iter();
    for ((block, cells), word) in blocks.iter().zip(cell_blocks).zip(words.by_ref()) {
        work(block.as_chunks().0, bits(simd, *cells), word);
    }
    if let (false, Some(word)) = (rest.is_empty(), words.next()) {
        let (block, cells) = filled_up::<T, IDS>(rest, rest_cells);
        work(block.as_chunks().0, bits(simd, cells), word);
    }
}

/// Writes something for every `IDS` samples, and their words.
#[inline(always)]
pub(super) fn map_wide_blocks<const C: usize, T: Storage>(
    simd: V4,
    (values, cells): (&[T], &[u8]),
    (words, out): (&mut [u32], &mut [T]),
    mut work: impl FnMut(&[[T; LANES]], [u64; C], &mut [u32], &mut [[T; LANES]]),
) {
    const WORDS: usize = IDS / LANES;
    let (blocks, rest) = values.as_chunks::<IDS>();
    let (cell_blocks, rest_cells) = cells.as_chunks::<IDS>();
    let (word_blocks, rest_words) = words.split_at_mut(blocks.len() * WORDS);
    let word_blocks = word_blocks.chunks_exact_mut(WORDS);
    let (out_blocks, rest_out) = out.as_chunks_mut::<IDS>();
    for (((block, cells), words), out) in blocks.iter().zip(cell_blocks).zip(word_blocks).zip(out_blocks) {
        work(block.as_chunks().0, bits(simd, *cells), words, out.as_chunks_mut().0);
    }
    if !rest.is_empty() {
        let (block, cells) = filled_up::<T, IDS>(rest, rest_cells);
        let (mut words, mut out) = ([0; WORDS], [T::default(); IDS]);
        work(block.as_chunks().0, bits(simd, cells), &mut words, out.as_chunks_mut().0);
        rest_words.iter_mut().zip(words).for_each(|(word, found)| *word = found);
        rest_out.iter_mut().zip(out).for_each(|(out, found)| *out = found);
    }
}

/// The lanes of a register among the samples of some bits.
#[inline(always)]
pub(super) fn lanes_of(bits: u64, register: usize) -> u16 {
    (bits >> (register * LANES)) as u16
}

/// Which of `IDS` samples these clamp words say are clamped.
#[inline(always)]
pub(super) fn clamped_bits(simd: V4, words: &[u32]) -> u64 {
    // The lower half of every word.
    let halves: __m128i = cast([0_u8, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13]);
    let words: [u32; IDS / LANES] = match words.first_chunk() {
        Some(words) => *words,
        None => std::array::from_fn(|index| words.get(index).copied().unwrap_or(0)),
    };
    let [clamped, _]: [u64; 2] = cast(simd.ssse3._mm_shuffle_epi8(cast(words), halves));
    clamped
}

/// The values as they would be stored.
#[inline(always)]
pub(super) fn stored<T: Storage>(values: __m512) -> __m512 {
    widened(&narrowed::<T>(values))
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

/// Which samples are clamped, and which of them at the upper bound.
#[inline(always)]
pub(super) fn clamp_states(simd: V4, t: __m512, clipped: __m512, hi: __m512) -> (u16, u16) {
    let clamped = simd.avx512f._mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(clipped, t);
    (clamped, simd.avx512f._mm512_cmp_ps_mask::<_CMP_GT_OQ>(t, hi))
}

/// The clamp word of a block.
#[inline(always)]
pub(super) fn clamp_word((clamped, above): (u16, u16)) -> u32 {
    u32::from(clamped) | (u32::from(above) << LANES)
}

/// Clears what the last word of so many samples says of lanes beyond them.
#[inline(always)]
pub(super) fn end_words(clamp: &mut [u32], n: usize) {
    if let (Some(last), rest @ 1..) = (clamp.get_mut(n / LANES), n % LANES) {
        let inside = u32::MAX >> (32 - rest);
        *last &= inside | (inside << LANES);
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
        map_blocks(
            (z, cells),
            &mut *clamp,
            y,
            #[inline(always)]
            |z, cells, word| {
                let (shift, rest) = shift.of(simd, cells);
                let t = f._mm512_sub_ps(f._mm512_sub_ps(z, shift), rest);
                let clipped = f._mm512_min_ps(hi, f._mm512_max_ps(lo, t));
                *word = clamp_word(clamp_states(simd, t, clipped, hi));
                clipped
            },
        );
        end_words(clamp, z.len());
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
        map_blocks(
            (g, cells),
            clamp,
            out,
            #[inline(always)]
            |g, cells, word| {
                let pull = f._mm512_permutexvar_ps(f._mm512_cvtepu8_epi32(cells), pull);
                f._mm512_maskz_sub_ps(!(*word as u16), g, pull)
            },
        );
    }
}

/// The sums of the backward pass over a chunk.
pub(super) struct BackwardSums<'a, T, const C: usize> {
    pub(super) simd: V4,
    pub(super) cells: &'a [u8],
    pub(super) clamp: &'a [u32],
    pub(super) g: &'a [T],
    pub(super) chunk: &'a mut Chunk,
}

impl<T: Storage, const C: usize> NullaryFnOnce for BackwardSums<'_, T, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, cells, clamp, g, chunk } = self;
        let mut gradient = Sums::<C>::new(simd);
        let (mut counts, mut free) = ([0; C], [0; C]);
        for_wide_blocks(
            simd,
            (g, cells),
            clamp.chunks(IDS / LANES),
            #[inline(always)]
            |g, here: [u64; C], words| {
                let clamped = clamped_bits(simd, words);
                let free_here = here.map(|here| here & !clamped);
                for (register, g) in g.iter().enumerate() {
                    let g = halves(simd, widened(g));
                    for c in 0..C {
                        gradient.add(simd, c, lanes_of(free_here[c], register), g);
                    }
                }
                for c in 0..C {
                    counts[c] += here[c].count_ones();
                    free[c] += free_here[c].count_ones();
                }
            },
        );
        chunk.set_counts(&counts);
        for c in 0..C {
            chunk.sums[c] = [gradient.total(simd, c), f64::from(free[c]), 0.0, 0.0];
        }
    }
}
