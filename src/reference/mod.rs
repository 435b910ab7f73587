//! The kernels in plain Rust: the gold standard that every device is compared with.
//!
//! One file a kernel, written to be read beside its GPU twins; the parts that kernels share stand beside them.
//! Mathematics: `phi(nu) = sigma(nu) - [1/2 |y - z|_W^2 + nu . A y]` is minimised over the multipliers `nu`, where
//! `y = clip(z - W^-1 A^T nu, lo, hi)`. Inside the kernels the weights of a problem sum to 1.

pub(crate) mod active_set;
pub(crate) mod basis;
pub(crate) mod cells_newton;
pub(crate) mod cells_prepare;
pub(crate) mod cells_vjp;
pub(crate) mod certificate;
pub(crate) mod components;
pub(crate) mod curvature;
pub(crate) mod dense_admm;
pub(crate) mod dense_newton;
pub(crate) mod dense_pivots;
pub(crate) mod dense_vjp;
pub(crate) mod disjoint;
pub(crate) mod line_search;
pub(crate) mod linear;
pub(crate) mod newton;
pub(crate) mod pair;
pub(crate) mod point;
#[cfg(test)]
#[path = "../../tests/common/quadratic.rs"]
mod quadratic;
pub(crate) mod relaxation;
pub(crate) mod row_sums;
pub(crate) mod rows;
pub(crate) mod stop_test;
pub(crate) mod sums;
pub(crate) mod two_floats;
