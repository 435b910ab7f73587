//! Sums along rows and over samples: one by one where they are short; where they are long in fixed logical lanes, which the
//! compiler turns into the vectors that this machine has. The result depends on the length alone.

#![allow(clippy::needless_range_loop, reason = "lanes are indexed, so that several arrays keep step")]

pub(super) const LANES: usize = 16;
/// Rows as long as this go by lanes.
const LONG: usize = 4 * LANES;

/// What a loop is given so that its closure can be called only once: its body is then inlined where the vectors are.
pub(crate) struct Once;

/// Runs a loop compiled for the vectors that this machine has; it has to be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn vectorised<R>(body: impl FnOnce(Once) -> R) -> R {
    struct Body<F>(F);
    impl<R, F: FnOnce(Once) -> R> pulp::WithSimd for Body<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> R {
            (self.0)(Once)
        }
    }
    pulp::Arch::new().dispatch(Body(body))
}

macro_rules! long_sum {
    (($($array:ident),+) => $term:expr) => {{
        vectorised(
            #[inline(always)]
            |_| {
                let n = [$($array.len()),+].into_iter().min().unwrap_or(0);
                $(let $array = &$array[..n];)+
                let mut lanes = [0.0; LANES];
                let mut i = 0;
                while i + LANES <= n {
                    $(let $array = &$array[i..i + LANES];)+
                    for lane in 0..LANES {
                        $(let $array = $array[lane];)+
                        lanes[lane] += $term;
                    }
                    i += LANES;
                }
                let mut sum = 0.0;
                for lane in 0..LANES / 2 {
                    sum += lanes[lane] + lanes[lane + LANES / 2];
                }
                for i in i..n {
                    $(let $array = $array[i];)+
                    sum += $term;
                }
                sum
            },
        )
    }};
}

/// `sum_i a_i b_i`
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    if a.len() < LONG {
        return a.iter().zip(b).map(|(a, b)| a * b).sum();
    }
    long_sum!((a, b) => a * b)
}

/// `sum_i |a_i| b_i`
pub(crate) fn dot_abs(a: &[f64], b: &[f64]) -> f64 {
    if a.len() < LONG {
        return a.iter().zip(b).map(|(a, b)| a.abs() * b).sum();
    }
    long_sum!((a, b) => a.abs() * b)
}

/// `sum_i a_i b_i c_i`
pub(crate) fn dot_weighted(a: &[f64], b: &[f64], c: &[f64]) -> f64 {
    if a.len() < LONG {
        return a.iter().zip(b).zip(c).map(|((a, b), c)| a * b * c).sum();
    }
    long_sum!((a, b, c) => a * b * c)
}

/// `sum_i min(s_i lo_i, s_i hi_i)` for `lo <= hi`; 0 for `s_i = 0`, whatever the bounds.
pub(crate) fn sum_of_least(s: &[f64], lo: &[f64], hi: &[f64]) -> f64 {
    let least = |s: f64, lo: f64, hi: f64| if s == 0.0 { 0.0 } else { s * if s > 0.0 { lo } else { hi } };
    if s.len() < LONG {
        return s.iter().zip(lo).zip(hi).map(|((s, lo), hi)| least(*s, *lo, *hi)).sum();
    }
    long_sum!((s, lo, hi) => least(s, lo, hi))
}

/// `max_i a_i / b_i` over positive `b_i`, at least 0.
pub(crate) fn largest_ratio(a: &[f64], b: &[f64]) -> f64 {
    // Fractions are compared without a division.
    let larger = |most: (f64, f64), (a, b): (f64, f64)| if a * most.1 > most.0 * b && b > 0.0 { (a, b) } else { most };
    let (blocks, rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b[..a.len()].as_chunks::<LANES>();
    let lanes = vectorised(
        #[inline(always)]
        |_| {
            let mut lanes = ([0.0_f64; LANES], [1.0_f64; LANES]);
            for (a, b) in blocks.iter().zip(b_blocks) {
                for lane in 0..LANES {
                    let more = a[lane] * lanes.1[lane] > lanes.0[lane] * b[lane] && b[lane] > 0.0;
                    lanes.0[lane] = if more { a[lane] } else { lanes.0[lane] };
                    lanes.1[lane] = if more { b[lane] } else { lanes.1[lane] };
                }
            }
            lanes
        },
    );
    let of_lanes = lanes.0.into_iter().zip(lanes.1);
    let of_rest = rest.iter().copied().zip(b_rest.iter().copied());
    let (a, b) = of_lanes.chain(of_rest).fold((0.0, 1.0), larger);
    a / b
}

/// `x_i = sum_r factors_r a_ri`, A of rows as long as x.
pub(crate) fn combine(matrix: &[f64], factors: &[f64], x: &mut [f64]) {
    combine_part(matrix, (x.len(), 0), factors, x);
}

/// The same for the elements from `start` on, of rows of `n` elements.
pub(crate) fn combine_part(matrix: &[f64], rows: (usize, usize), factors: &[f64], x: &mut [f64]) {
    if x.len() < LONG {
        return combine_plainly(matrix, rows, factors, x);
    }
    vectorised(
        #[inline(always)]
        |_| combine_plainly(matrix, rows, factors, x),
    );
}

#[inline(always)]
fn combine_plainly(matrix: &[f64], (n, start): (usize, usize), factors: &[f64], x: &mut [f64]) {
    x.fill(0.0);
    let length = x.len();
    let row = |r: usize| &matrix[r * n + start..][..length];
    let mut rows = factors.iter().enumerate().filter(|(_, factor)| **factor != 0.0);
    // Two rows at a time, so that x is read and written half as often.
    while let Some((r, &factor)) = rows.next() {
        if let Some((q, &other)) = rows.next() {
            for ((x, a), b) in x.iter_mut().zip(row(r)).zip(row(q)) {
                *x = (*x + factor * a) + other * b;
            }
        } else {
            x.iter_mut().zip(row(r)).for_each(|(x, a)| *x += factor * a);
        }
    }
}

/// The largest size of a number; of a NaN nothing.
pub(crate) fn largest_size(a: &[f64]) -> f64 {
    if a.len() < LONG {
        return largest_in_lanes(a);
    }
    vectorised(
        #[inline(always)]
        |_| largest_in_lanes(a),
    )
}

/// The same, to be inlined where the vectors are.
#[inline(always)]
pub(crate) fn largest_in_lanes(a: &[f64]) -> f64 {
    let larger = |most: f64, value: f64| if value.abs() > most { value.abs() } else { most };
    let (blocks, rest) = a.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], block[lane]);
        }
    }
    lanes.iter().chain(rest).fold(0.0, |most, value| larger(most, *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sums_are_the_short_ones() {
        for n in [0, 1, 63, 64, 65, 200] {
            let a: Vec<f64> = (0..n).map(|i| f64::from(i % 7) - 3.0).collect();
            let b: Vec<f64> = (0..n).map(|i| f64::from(i % 5)).collect();
            let plain = |f: &dyn Fn(usize) -> f64| (0..a.len()).map(f).sum::<f64>();
            assert_eq!(dot(&a, &b), plain(&|i| a[i] * b[i]));
            assert_eq!(dot_abs(&a, &b), plain(&|i| a[i].abs() * b[i]));
            assert_eq!(dot_weighted(&a, &b, &a), plain(&|i| a[i] * b[i] * a[i]));
            assert_eq!(largest_size(&a), a.iter().fold(0.0, |most: f64, x| most.max(x.abs())));
            let (matrix, mut x) = ([&a[..], &b[..]].concat(), vec![f64::NAN; a.len()]);
            combine(&matrix, &[2.0, -1.0], &mut x);
            assert!((0..a.len()).all(|i| x[i] == 2.0 * a[i] - b[i]));
            let ratios = (0..a.len()).filter(|&i| b[i] > 0.0).map(|i| a[i] / b[i]);
            assert_eq!(largest_ratio(&a, &b), ratios.fold(0.0, f64::max));
        }
    }
}
