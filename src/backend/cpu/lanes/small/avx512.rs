//! The sums of small problems with AVX-512: a register for every cell and half of the lanes, added to under masks.

use super::super::avx512::{CellTable, Sums, for_blocks, halves, samples_in, stored, with_few_cells};
use super::super::sort::Chunk;
use super::super::{LaneProblem, sum_lanes};
use crate::storage::Storage;
use core::arch::x86_64::_CMP_EQ_OQ;
use pulp::x86::V4;
use pulp::{NullaryFnOnce, cast};

/// See [`look`](super::look).
pub(super) fn look<T: Storage>(simd: V4, problem: &LaneProblem<'_, T>, chunk: &mut Chunk) -> u32 {
    pass::<T, true, true>(simd, problem, &[], chunk)
}

/// See [`sums`](super::sums).
pub(super) fn sums<T: Storage>(simd: V4, problem: &LaneProblem<'_, T>, shift: &[f64], full: bool, chunk: &mut Chunk) {
    match full {
        true => pass::<T, true, false>(simd, problem, shift, chunk),
        false => pass::<T, false, false>(simd, problem, shift, chunk),
    };
}

fn pass<T: Storage, const FULL: bool, const LOOK: bool>(
    simd: V4,
    problem: &LaneProblem<'_, T>,
    shift: &[f64],
    chunk: &mut Chunk,
) -> u32 {
    with_few_cells!(problem.count, C => match problem.lo.to_f64() < 0.0 {
        true => simd.vectorize(Pass::<T, C, true, FULL, LOOK> { simd, problem, shift, chunk }),
        false => simd.vectorize(Pass::<T, C, false, FULL, LOOK> { simd, problem, shift, chunk }),
    })
}

struct Pass<'a, 'b, T, const C: usize, const SIGNED: bool, const FULL: bool, const LOOK: bool> {
    simd: V4,
    problem: &'a LaneProblem<'b, T>,
    shift: &'a [f64],
    chunk: &'a mut Chunk,
}

impl<T: Storage, const C: usize, const SIGNED: bool, const FULL: bool, const LOOK: bool> NullaryFnOnce
    for Pass<'_, '_, T, C, SIGNED, FULL, LOOK>
{
    /// How many usable samples are in one of the cells.
    type Output = u32;

    #[inline(always)]
    fn call(self) -> u32 {
        let Self { simd, problem, shift, chunk } = self;
        let f = simd.avx512f;
        let bound = |bound: T| f._mm512_set1_ps(bound.to_f64() as f32);
        let (lo, hi) = (bound(problem.lo), bound(problem.hi));
        let table = CellTable::of_shifts(shift);
        let (mut sums, mut sizes) = (Sums::<C>::new(simd), Sums::<C>::new(simd));
        let mut beyond = [f._mm512_setzero_ps(); C];
        let (mut free, mut counts) = ([0; C], [0; C]);
        for_blocks(
            problem.z,
            problem.cells,
            #[inline(always)]
            |z, cells| {
                let t = if LOOK {
                    z
                } else {
                    let (shift, rest) = table.of(simd, cells);
                    f._mm512_sub_ps(f._mm512_sub_ps(z, shift), rest)
                };
                let clipped = f._mm512_min_ps(hi, f._mm512_max_ps(lo, t));
                let is_free = f._mm512_cmp_ps_mask::<_CMP_EQ_OQ>(t, clipped);
                let finite = f._mm512_cmp_ps_mask::<_CMP_EQ_OQ>(f._mm512_sub_ps(z, z), f._mm512_setzero_ps());
                let y = halves(simd, stored::<T>(clipped));
                let distance = f._mm512_abs_ps(f._mm512_sub_ps(t, clipped));
                for c in 0..C {
                    let here = samples_in(simd, cells, c);
                    sums.add(simd, c, here, y);
                    if SIGNED {
                        sizes.add(simd, c, here, y.map(|y| f._mm512_abs_pd(y)));
                    }
                    if FULL {
                        beyond[c] = f._mm512_mask_add_ps(beyond[c], here, beyond[c], distance);
                    }
                    free[c] += (here & is_free).count_ones();
                    if LOOK {
                        counts[c] += (here & finite).count_ones();
                    }
                }
            },
        );
        if LOOK {
            chunk.set_counts(&counts);
        }
        for c in 0..C {
            let y = sums.total(simd, c);
            let size = if SIGNED { sizes.total(simd, c) } else { y };
            let beyond = if FULL { f64::from(sum_lanes::<f32>(cast(beyond[c]))) } else { 0.0 };
            chunk.sums[c] = [y, size, f64::from(free[c]), beyond];
        }
        counts.iter().take(problem.count).sum()
    }
}
