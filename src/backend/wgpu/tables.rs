//! What kernels look up, as words: the constraint set, once a plan, and the problems, once a call.

use crate::batch::{Batch, RealSlice, Reals, Sharing};
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::params::{ABSENT, Params};
use crate::reference::components::Component;
use crate::storage::Storage;

/// A number as the sum of two floats; what has no float is infinite.
pub(crate) fn two_floats(value: f64) -> [f32; 2] {
    let high = value as f32;
    if high.is_finite() { [high, (value - f64::from(high)) as f32] } else { [high, 0.0] }
}

/// The same for limits: what is too small for a float of full digits keeps its sign all the same.
pub(crate) fn limit(value: f64) -> [f32; 2] {
    let is_tiny = value != 0.0 && value.abs() < f64::from(f32::MIN_POSITIVE);
    if is_tiny { [f32::MIN_POSITIVE.copysign(value as f32), 0.0] } else { two_floats(value) }
}

/// The number that two floats are.
pub(crate) fn one_float([high, low]: [f32; 2]) -> f64 {
    f64::from(high) + f64::from(low)
}

fn push_pair(words: &mut Vec<u32>, value: f64) {
    words.extend(limit(value).map(f32::to_bits));
}

/// A mask of up to 32 cells as a word.
fn mask_word(mask: &crate::cells::CellMask) -> u32 {
    mask.iter().filter(|&cell| cell < 32).map(|cell| 1 << cell).sum()
}

/// Appends the constraint set and notes its places.
pub(crate) fn push_set(set: &ConstraintSet, components: &[Component], words: &mut Vec<u32>, params: &mut Params) {
    // (Rows over samples make one component of all.)
    let component_of = |spread: Option<usize>, contrast: Option<usize>| {
        let holds = |part: &Component| {
            part.spreads.iter().any(|(index, _)| Some(*index) == spread)
                || part.contrasts.iter().any(|(index, _)| Some(*index) == contrast)
        };
        let own = components.iter().position(holds).filter(|_| set.dense().is_empty());
        own.unwrap_or(0) as u32
    };
    params.cells = set.layout().cells() as u32;
    params.rows = set.rows() as u32;
    params.spreads = set.spreads().len() as u32;
    params.contrasts = set.contrasts().len() as u32;
    params.dense = set.dense().len() as u32;
    params.components = components.len() as u32;
    params.rows_at = words.len() as u32;
    for (index, spread) in set.spreads().iter().enumerate() {
        for union in &spread.unions {
            words.extend([mask_word(&union.cells), 0, index as u32, component_of(Some(index), None)]);
        }
    }
    for (index, contrast) in set.contrasts().iter().enumerate() {
        let masks = [mask_word(&contrast.plus.cells), mask_word(&contrast.minus)];
        words.extend([masks[0], masks[1], ABSENT, component_of(None, Some(index))]);
    }
    set.dense().iter().for_each(|_| words.extend([0, 0, ABSENT, 0]));
    params.spreads_at = words.len() as u32;
    let mut row = 0;
    for (index, spread) in set.spreads().iter().enumerate() {
        let is_ratio = u32::from(matches!(spread.limit, SpreadLimit::Ratio(_)));
        let end = row + spread.unions.len() as u32;
        words.extend([row, end, is_ratio, component_of(Some(index), None)]);
        row = end;
    }
    params.contrasts_at = words.len() as u32;
    for contrast in set.contrasts() {
        push_pair(words, contrast.scale);
        words.extend([u32::from(contrast.residual), 0]);
    }
    params.levels_at = words.len() as u32;
    set.spreads().iter().for_each(|spread| push_pair(words, spread.limit.level()));
    params.lower_at = words.len() as u32;
    set.contrasts().iter().for_each(|contrast| push_pair(words, contrast.lower));
    set.dense().iter().for_each(|row| push_pair(words, row.lower));
    params.upper_at = words.len() as u32;
    set.contrasts().iter().for_each(|contrast| push_pair(words, contrast.upper));
    set.dense().iter().for_each(|row| push_pair(words, row.upper));
    params.warm_at = ABSENT;
}

/// Appends numbers of the problems of a slab, so many each, as two floats. Where, and how far apart problems are.
fn push_reals(reals: &Reals<'_>, problems: &std::ops::Range<usize>, count: usize, words: &mut Vec<u32>) -> (u32, u32) {
    let at = words.len() as u32;
    let (range, stride) = match reals.sharing() {
        Sharing::PerProblem => (problems.start * count..problems.end * count, 2 * count as u32),
        Sharing::Shared => (0..count, 0),
    };
    let values: RealSlice<'_> = reals.slice_all().slice(range.clone());
    (0..range.len()).for_each(|index| push_pair(words, values.at(index)));
    (at, stride)
}

/// Appends what the batch says of levels, row bounds and starts of these problems.
pub(crate) fn push_limits<T: Storage>(
    set: &ConstraintSet,
    batch: &Batch<'_, T>,
    problems: &std::ops::Range<usize>,
    words: &mut Vec<u32>,
    params: &mut Params,
) {
    if let Some(levels) = &batch.levels {
        (params.levels_at, params.levels_stride) = push_reals(levels, problems, set.spreads().len(), words);
    }
    if let Some((lower, upper)) = &batch.row_bounds {
        // One stride serves both: where only one is shared, it is repeated.
        let repeat = lower.sharing() != upper.sharing();
        let mut push = |reals: &Reals<'_>| {
            let (at, stride) = push_reals(reals, problems, set.bounded_rows(), words);
            if repeat && stride == 0 {
                let shared = at as usize..words.len();
                (1..problems.len()).for_each(|_| words.extend_from_within(shared.clone()));
                return (at, 2 * set.bounded_rows() as u32);
            }
            (at, stride)
        };
        (params.lower_at, params.bounds_stride) = push(lower);
        params.upper_at = push(upper).0;
    }
    if let Some(start) = &batch.warm_start {
        (params.warm_at, params.warm_stride) = push_reals(start, problems, set.rows(), words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_floats_hold_48_bits_and_keep_signs() {
        for value in [0.1, -1.0 / 3.0, 1e30, 5e-300, -1e-300, 0.0] {
            let [high, low] = limit(value);
            let error = (one_float([high, low]) - value).abs();
            assert!(error <= f64::max(value.abs() * 2.0_f64.powi(-48), 1.2e-38), "{value}");
            assert_eq!(high < 0.0, value < 0.0);
        }
        assert_eq!(two_floats(1e300), [f32::INFINITY, 0.0]);
        assert!(two_floats(f64::NAN)[0].is_nan());
    }
}
