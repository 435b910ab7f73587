//! Sums along rows and over samples: one by one where they are short; where they are long in fixed logical lanes, which the
//! compiler turns into the vectors that this machine has. The result depends on the length alone.

#![allow(clippy::needless_range_loop, reason = "lanes are indexed, so that several arrays keep step")]

const LANES: usize = 16;
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

/// What a pass over `m` rows of `n` coefficients finds, all in one sweep.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowSums {
    /// `[m]`: `sum_i b_i y_i`.
    pub(crate) means: Vec<f64>,
    /// `[m]`: `sum_i |b_i| size_i`.
    pub(crate) sizes: Vec<f64>,
    /// `[m, m]`, the lower half: `sum_i b_ri b_qi free_i`.
    pub(crate) curvature: Vec<f64>,
    lanes: Vec<[f64; LANES]>,
}

/// Coefficients of a row that go through one loop after another: so many that all rows of a block stay in the first cache.
const BLOCK: usize = 128;

impl RowSums {
    /// Room for so many rows.
    pub(crate) fn new(m: usize) -> Self {
        let lanes = vec![[0.0; LANES]; 2 * m + m * (m + 1) / 2];
        Self { means: vec![0.0; m], sizes: vec![0.0; m], curvature: vec![0.0; m * m], lanes }
    }

    /// Takes over the sums of another.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.means.copy_from_slice(&other.means);
        self.sizes.copy_from_slice(&other.sizes);
        self.curvature.copy_from_slice(&other.curvature);
    }

    /// Sums over `matrix`, `[m, n]`.
    pub(crate) fn sweep(&mut self, matrix: &[f64], m: usize, (y, size, free): (&[f64], &[f64], &[f64])) {
        let n = y.len();
        let lanes = &mut self.lanes[..2 * m + m * (m + 1) / 2];
        vectorised(
            #[inline(always)]
            |_| {
                lanes.fill([0.0; LANES]);
                let mut scaled = [0.0; BLOCK];
                for start in (0..n).step_by(BLOCK) {
                    let block = start..n.min(start + BLOCK);
                    let scaled = &mut scaled[..block.len()];
                    let row = |r: usize| &matrix[r * n..][block.clone()];
                    for r in 0..m {
                        let (of_means, of_sizes) = lanes[r..].split_at_mut(m);
                        let sums = (&mut of_means[0], &mut of_sizes[0]);
                        let row_r = row(r);
                        add_products(row_r, (&y[block.clone()], &size[block.clone()]), sums, f64::abs);
                        for ((scaled, b), free) in scaled.iter_mut().zip(row_r).zip(&free[block.clone()]) {
                            *scaled = b * free;
                        }
                        // Two rows at a time: one alone would wait for its own last addition.
                        let pairs = lanes[2 * m + r * (r + 1) / 2..][..r + 1].chunks_mut(2);
                        for (pair, sums) in pairs.enumerate() {
                            match sums {
                                [first, second] => {
                                    let rows = (row(2 * pair), row(2 * pair + 1));
                                    add_products(scaled, rows, (first, second), |b| b);
                                }
                                [only] => {
                                    let row = row(2 * pair);
                                    add_products(scaled, (row, row), (only, &mut [0.0; LANES]), |b| b);
                                }
                                _ => {}
                            }
                        }
                    }
                }
            },
        );
        let sum = |lanes: &[f64; LANES]| (0..LANES / 2).map(|lane| lanes[lane] + lanes[lane + LANES / 2]).sum::<f64>();
        for r in 0..m {
            (self.means[r], self.sizes[r]) = (sum(&self.lanes[r]), sum(&self.lanes[m + r]));
            for q in 0..=r {
                self.curvature[r * m + q] = sum(&self.lanes[2 * m + r * (r + 1) / 2 + q]);
            }
        }
    }
}

/// Adds `a_i b_i` to the lane of i of the first sums, and `of(a_i) c_i` to that of the second.
#[inline(always)]
fn add_products(
    a: &[f64],
    (b, c): (&[f64], &[f64]),
    (first, second): (&mut [f64; LANES], &mut [f64; LANES]),
    of: impl Fn(f64) -> f64,
) {
    let (mut sums_b, mut sums_c) = (*first, *second);
    let (blocks, rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let (c_blocks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in blocks.iter().zip(b_blocks).zip(c_blocks) {
        for lane in 0..LANES {
            sums_b[lane] += a[lane] * b[lane];
        }
        for lane in 0..LANES {
            sums_c[lane] += of(a[lane]) * c[lane];
        }
    }
    for (lane, ((a, b), c)) in rest.iter().zip(b_rest).zip(c_rest).enumerate() {
        sums_b[lane] += a * b;
        sums_c[lane] += of(*a) * c;
    }
    (*first, *second) = (sums_b, sums_c);
}

/// `x_i = sum_r factors_r a_ri`, A of rows as long as x.
pub(crate) fn combine(matrix: &[f64], factors: &[f64], x: &mut [f64]) {
    let n = x.len();
    let plain = |block: std::ops::Range<usize>, x: &mut [f64]| {
        x.fill(0.0);
        for (r, &factor) in factors.iter().enumerate().filter(|(_, factor)| **factor != 0.0) {
            let row = &matrix[r * n..][block.clone()];
            row.iter().zip(&mut *x).for_each(|(a, x)| *x += factor * a);
        }
    };
    if n < LONG {
        return plain(0..n, x);
    }
    vectorised(
        #[inline(always)]
        |_| {
            for (index, x) in x.chunks_mut(BLOCK).enumerate() {
                plain(index * BLOCK..index * BLOCK + x.len(), x);
            }
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
            let (matrix, mut x) = ([&a[..], &b[..]].concat(), vec![f64::NAN; a.len()]);
            combine(&matrix, &[2.0, -1.0], &mut x);
            assert!((0..a.len()).all(|i| x[i] == 2.0 * a[i] - b[i]));
            let ratios = (0..a.len()).filter(|&i| b[i] > 0.0).map(|i| a[i] / b[i]);
            assert_eq!(largest_ratio(&a, &b), ratios.fold(0.0, f64::max));
        }
    }
}
