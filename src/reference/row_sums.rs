//! What a pass finds of rows over samples, in one sweep over their coefficients.

use pulp::Simd;

use super::sums::{LANES, largest_in_lanes};

/// What a pass over `m` rows of `n` coefficients finds.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowSums {
    /// `[m]`: `sum_i b_i y_i`.
    pub(crate) means: Vec<f64>,
    /// `[m]`: `sum_i |b_i| size_i`.
    pub(crate) sizes: Vec<f64>,
    /// `[m, m]`, the lower half: `sum_i b_ri b_qi free_i`.
    pub(crate) curvature: Vec<f64>,
    /// How far any sample lies beyond its bounds.
    pub(crate) farthest: f64,
    lanes: Vec<[f64; LANES]>,
    /// The coefficients of a row times the free weights.
    scaled: Vec<f64>,
}

/// Room for the samples that go through one loop after another.
pub(crate) const LONGEST_PART: usize = 256;

/// Samples that go through one loop after another: so many that all their coefficients stay in the first cache.
pub(crate) fn part_length(m: usize) -> usize {
    if m <= 4 { LONGEST_PART } else { LONGEST_PART / 2 }
}

/// What some samples in a row add: all as long as each other, the coefficients of row r from `r * n + start` on.
#[derive(Clone, Copy)]
pub(crate) struct SamplePart<'a> {
    pub(crate) matrix: &'a [f64],
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) start: usize,
    pub(crate) y: &'a [f64],
    pub(crate) size: &'a [f64],
    pub(crate) free: &'a [f64],
    pub(crate) distance: &'a [f64],
}

impl RowSums {
    /// Room for so many rows.
    pub(crate) fn new(m: usize) -> Self {
        let lanes = vec![[0.0; LANES]; 2 * m + m * (m + 1) / 2];
        Self {
            means: vec![0.0; m],
            sizes: vec![0.0; m],
            curvature: vec![0.0; m * m],
            farthest: 0.0,
            lanes,
            scaled: vec![0.0; LONGEST_PART],
        }
    }

    /// Takes over the sums of another.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.means.copy_from_slice(&other.means);
        self.sizes.copy_from_slice(&other.sizes);
        self.curvature.copy_from_slice(&other.curvature);
        self.farthest = other.farthest;
    }

    /// Begins a sweep over the coefficients of `m` rows.
    pub(crate) fn begin(&mut self, m: usize) {
        self.farthest = 0.0;
        self.lanes[..2 * m + m * (m + 1) / 2].fill([0.0; LANES]);
    }

    /// Adds the next samples: a multiple of the lanes, but for the last.
    pub(crate) fn add(&mut self, part: SamplePart<'_>) {
        pulp::Arch::new().dispatch(Addition { sums: self, part });
    }

    /// Ends the sweep.
    pub(crate) fn end(&mut self, m: usize) {
        let sum = |lanes: &[f64; LANES]| (0..LANES / 2).map(|lane| lanes[lane] + lanes[lane + LANES / 2]).sum::<f64>();
        for r in 0..m {
            (self.means[r], self.sizes[r]) = (sum(&self.lanes[r]), sum(&self.lanes[m + r]));
            for q in 0..=r {
                self.curvature[r * m + q] = sum(&self.lanes[2 * m + r * (r + 1) / 2 + q]);
            }
        }
    }
}

/// One addition to the sums.
struct Addition<'a> {
    sums: &'a mut RowSums,
    part: SamplePart<'a>,
}

impl pulp::WithSimd for Addition<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, part } = self;
        let SamplePart { matrix, m, n, start, y, size, free, distance } = part;
        let length = y.len();
        sums.farthest = sums.farthest.max(largest_in_lanes(distance));
        let scaled = &mut sums.scaled[..length];
        let row = |r: usize| &matrix[r * n + start..][..length];
        for r in 0..m {
            let (of_means, of_sizes) = sums.lanes[r..].split_at_mut(m);
            let row_r = row(r);
            add_products::<S, true>(simd, row_r, (y, size), (&mut of_means[0], &mut of_sizes[0]));
            for ((scaled, b), free) in scaled.iter_mut().zip(row_r).zip(free) {
                *scaled = b * free;
            }
            // Two rows at a time: one alone would wait for its own last addition.
            let pairs = sums.lanes[2 * m + r * (r + 1) / 2..][..r + 1].chunks_mut(2);
            for (pair, sums) in pairs.enumerate() {
                match sums {
                    [first, second] => {
                        let rows = (row(2 * pair), row(2 * pair + 1));
                        add_products::<S, false>(simd, scaled, rows, (first, second));
                    }
                    [only] => {
                        let row = row(2 * pair);
                        add_products::<S, false>(simd, scaled, (row, row), (only, &mut [0.0; LANES]));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Adds `a_i b_i` to the lane of i of the first sums, and `a_i c_i` or `|a_i| c_i` to that of the second.
#[inline(always)]
fn add_products<S: Simd, const ABSOLUTE: bool>(
    simd: S,
    a: &[f64],
    b_and_c: (&[f64], &[f64]),
    sums: (&mut [f64; LANES], &mut [f64; LANES]),
) {
    // (The number of vectors that the lanes are is not a constant expression of S.)
    match S::F64_LANES {
        8 => add_vectors::<S, ABSOLUTE, { LANES / 8 }>(simd, a, b_and_c, sums),
        4 => add_vectors::<S, ABSOLUTE, { LANES / 4 }>(simd, a, b_and_c, sums),
        2 => add_vectors::<S, ABSOLUTE, { LANES / 2 }>(simd, a, b_and_c, sums),
        _ => add_vectors::<S, ABSOLUTE, LANES>(simd, a, b_and_c, sums),
    }
}

#[inline(always)]
fn add_vectors<S: Simd, const ABSOLUTE: bool, const VECTORS: usize>(
    simd: S,
    a: &[f64],
    (b, c): (&[f64], &[f64]),
    (first, second): (&mut [f64; LANES], &mut [f64; LANES]),
) {
    let whole = a.len() - a.len() % LANES;
    let load = |lanes: &[f64; LANES]| {
        let mut sums = [simd.splat_f64s(0.0); VECTORS];
        sums.copy_from_slice(S::as_simd_f64s(lanes).0);
        sums
    };
    let (mut sums_b, mut sums_c) = (load(first), load(second));
    let [a_vectors, b_vectors, c_vectors] = [a, b, c].map(|values| vectors::<S>(&values[..whole], VECTORS));
    for ((a, b), c) in a_vectors.zip(b_vectors).zip(c_vectors) {
        for v in 0..VECTORS {
            sums_b[v] = simd.add_f64s(sums_b[v], simd.mul_f64s(a[v], b[v]));
            let a = if ABSOLUTE { simd.abs_f64s(a[v]) } else { a[v] };
            sums_c[v] = simd.add_f64s(sums_c[v], simd.mul_f64s(a, c[v]));
        }
    }
    S::as_mut_simd_f64s(first).0.copy_from_slice(&sums_b);
    S::as_mut_simd_f64s(second).0.copy_from_slice(&sums_c);
    for (lane, i) in (whole..a.len()).enumerate() {
        first[lane] += a[i] * b[i];
        second[lane] += if ABSOLUTE { a[i].abs() } else { a[i] } * c[i];
    }
}

/// So many vectors at a time.
#[inline(always)]
fn vectors<S: Simd>(values: &[f64], count: usize) -> std::slice::ChunksExact<'_, S::f64s> {
    S::as_simd_f64s(values).0.chunks_exact(count)
}
