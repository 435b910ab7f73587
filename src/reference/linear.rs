//! Small dense symmetric systems: the m x m algebra of the kernels. Matrices are row-major slices of `n * n`.

use std::ops::{Add, Div, Mul, Sub};

/// What systems are of: single numbers, or those of twice the digits.
pub(crate) trait Number:
    Copy + Default + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
}

impl<T: Copy + Default + Add<Output = T> + Sub<Output = T> + Mul<Output = T> + Div<Output = T>> Number for T {}

/// Factors a symmetric quasi-definite matrix in place, unpivoted: `L D L^T`, L unit lower, D on the diagonal.
pub(crate) fn ldl_factor<T: Number>(a: &mut [T], n: usize) {
    for k in 0..n {
        let pivot = a[k * n + k];
        for i in k + 1..n {
            let factor = a[i * n + k] / pivot;
            for j in k + 1..=i {
                // The column still holds L * D here; it is divided once its updates are done.
                a[i * n + j] = a[i * n + j] - factor * a[j * n + k];
            }
        }
        for i in k + 1..n {
            a[i * n + k] = a[i * n + k] / pivot;
        }
    }
}

/// Solves with the factors of [`ldl_factor`], in place.
pub(crate) fn ldl_solve<T: Number>(factor: &[T], n: usize, x: &mut [T]) {
    for i in 0..n {
        let dot = (0..i).fold(T::default(), |sum, j| sum + factor[i * n + j] * x[j]);
        x[i] = x[i] - dot;
    }
    for i in 0..n {
        x[i] = x[i] / factor[i * n + i];
    }
    for i in (0..n).rev() {
        let dot = (i + 1..n).fold(T::default(), |sum, j| sum + factor[j * n + i] * x[j]);
        x[i] = x[i] - dot;
    }
}

/// Solves `a x = b` from its factors, with two steps of iterative refinement. `scratch` holds `n` values.
pub(crate) fn ldl_solve_refined(a: &[f64], factor: &[f64], n: usize, b: &[f64], x: &mut [f64], scratch: &mut [f64]) {
    x[..n].copy_from_slice(&b[..n]);
    ldl_solve(factor, n, x);
    for _ in 0..2 {
        for i in 0..n {
            let product: f64 = (0..n).map(|j| a[i * n + j] * x[j]).sum();
            scratch[i] = b[i] - product;
        }
        ldl_solve(factor, n, scratch);
        (0..n).for_each(|i| x[i] += scratch[i]);
    }
}

/// Diagonalises a symmetric matrix by cyclic Jacobi rotations: eigenvalues on the diagonal of `a`, eigenvectors in the
/// columns of `vectors`. (Golub and Van Loan, Matrix Computations, section 8.5.)
pub(crate) fn jacobi_eigen(a: &mut [f64], n: usize, vectors: &mut [f64]) {
    vectors[..n * n].fill(0.0);
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for _ in 0..60 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        let diagonal: f64 = (0..n).map(|i| a[i * n + i].powi(2)).sum();
        if off <= 1e-32 * diagonal || !off.is_finite() {
            return;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(a, n, vectors, p, q);
            }
        }
    }
}

fn rotate(a: &mut [f64], n: usize, vectors: &mut [f64], p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = if tau >= 0.0 { 1.0 / (tau + (1.0 + tau * tau).sqrt()) } else { -1.0 / (-tau + (1.0 + tau * tau).sqrt()) };
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    for k in 0..n {
        let (akp, akq) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * akp - s * akq;
        a[k * n + q] = s * akp + c * akq;
    }
    for k in 0..n {
        let (apk, aqk) = (a[p * n + k], a[q * n + k]);
        a[p * n + k] = c * apk - s * aqk;
        a[q * n + k] = s * apk + c * aqk;
        let (vkp, vkq) = (vectors[k * n + p], vectors[k * n + q]);
        vectors[k * n + p] = c * vkp - s * vkq;
        vectors[k * n + q] = s * vkp + c * vkq;
    }
}

/// `x = pinv(a) b` for a symmetric positive semidefinite `a`, which is overwritten: eigenvalues up to `cut` times the
/// largest count as zero. `vectors` holds `n * n` values.
pub(crate) fn pseudo_solve(a: &mut [f64], n: usize, b: &[f64], cut: f64, vectors: &mut [f64], x: &mut [f64]) {
    jacobi_eigen(a, n, vectors);
    let largest = (0..n).map(|i| a[i * n + i]).fold(0.0, f64::max);
    x[..n].fill(0.0);
    for k in 0..n {
        let value = a[k * n + k];
        if value > cut * largest {
            let dot: f64 = (0..n).map(|i| vectors[i * n + k] * b[i]).sum();
            (0..n).for_each(|i| x[i] += vectors[i * n + k] * dot / value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldl_solves_a_quasi_definite_system() {
        let a = [4.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 0.0];
        let mut factor = a;
        ldl_factor(&mut factor, 3);
        let (mut x, mut scratch) = ([0.0; 3], [0.0; 3]);
        ldl_solve_refined(&a, &factor, 3, &[1.0, 2.0, 3.0], &mut x, &mut scratch);
        for i in 0..3 {
            let product: f64 = (0..3).map(|j| a[i * 3 + j] * x[j]).sum();
            assert!((product - (i + 1) as f64).abs() < 1e-14);
        }
    }

    #[test]
    fn pseudo_solve_is_the_minimum_norm_solution() {
        // Rank one: 2 * u u^T with u = (1, 1) / sqrt 2.
        let mut a = [1.0, 1.0, 1.0, 1.0];
        let (mut vectors, mut x) = ([0.0; 4], [0.0; 2]);
        pseudo_solve(&mut a, 2, &[3.0, 1.0], 1e-9, &mut vectors, &mut x);
        assert!((x[0] - 1.0).abs() < 1e-15 && (x[1] - 1.0).abs() < 1e-15);
    }
}
