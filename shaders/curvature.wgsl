// The curvature of the dual in the rows' multipliers, floored where it would look flat. Twin of
// src/reference/curvature.rs.

/// Added to the diagonal, relative to a row with all its elements free: every system is quasi-definite.
const PROX: f32 = 1e-9;

/// The lower half of the matrix of the Newton model, row by row; then, in place, of the system on the support and of its
/// factors.
var<workgroup> matrix: array<vec2<f32>, 528>;
var<private> prox: f32;

/// Where the entry of a symmetric matrix lies in its lower half.
fn packed(i: u32, j: u32) -> u32 {
    let high = max(i, j);
    return high * (high + 1u) / 2u + min(i, j);
}

/// For a system that was not solved: adds more to the diagonal. False if that is no help any more.
fn stiffen() -> bool {
    prox *= 100.0;
    return prox <= 1.0;
}
