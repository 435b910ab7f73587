//! Sums along rows and over samples: one by one where they are short; where they are long in fixed logical lanes, which the
//! compiler turns into the vectors that this machine has. The result depends on the length alone.

#![allow(clippy::needless_range_loop, reason = "lanes are indexed, so that several arrays keep step")]

const LANES: usize = 16;
/// Rows as long as this go by lanes.
const LONG: usize = 4 * LANES;

/// Moved into a closure, this makes it one that can be called only once: its body is then inlined where the vectors are.
struct Once;

macro_rules! long_sum {
    (($($array:ident),+) => $term:expr) => {{
        let once = Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let _moved = once;
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

/// `x_i += factor a_i`
pub(crate) fn add_multiple(factor: f64, a: &[f64], x: &mut [f64]) {
    let plain = |a: &[f64], x: &mut [f64]| a.iter().zip(x).for_each(|(a, x)| *x += factor * a);
    if a.len() < LONG {
        return plain(a, x);
    }
    let once = Once;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let _moved = once;
            plain(a, x);
        },
    );
}

/// The largest size of a number; of a NaN nothing.
pub(crate) fn largest_size(a: &[f64]) -> f64 {
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
            let mut x = b.clone();
            add_multiple(2.0, &a, &mut x);
            assert!((0..a.len()).all(|i| x[i] == b[i] + 2.0 * a[i]));
        }
    }
}
