// The curvature of the dual in the rows' multipliers, floored where it would look flat. Twin of
// src/reference/curvature.rs.

/// A cell with this part of its weight free needs no floor.
const PLENTY: f32 = 0.25;
/// Added to the diagonal, relative to a row with all its elements free: every system is quasi-definite.
const PROX: f32 = 1e-9;

/// The lower half of the matrix of the Newton model, row by row; then, in place, of the system on the support and of its
/// factors.
var<workgroup> matrix: array<vec2<f32>, 528>;
/// The free weights of the cells, floored: the curvature is that of shifts of the cells by these.
var<workgroup> floored: array<f32, 32>;
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

/// Floors the free weights at the present point, where the residual is `error`.
fn floor_cells(lane: u32, error: f32, factor: f32, everywhere: bool) {
    if lane < set_cells() {
        let weight = cell_weight[lane].x;
        let free = cell_free[lane].x;
        let distance = cell_beyond[lane] / max(weight, 1e-30);
        let least = factor * weight * error / max(error + distance, 1e-30);
        floored[lane] = select(max(free, least), free, !everywhere && free >= PLENTY * weight);
    }
    workgroupBarrier();
}

/// Fills `matrix`.
fn fill_matrix(lane: u32) {
    for (var i = 0u; i < row_count; i += 1u) {
        if lane <= i {
            var sum = tf(select(0.0, prox * row_scale, lane == i));
            for (var parts = 0u; parts < 9u; parts += 1u) {
                let cells = row_cells[i][parts / 3u] & row_cells[lane][parts % 3u];
                if cells != 0u {
                    let factors = tf_mul(row_factor[i][parts / 3u], row_factor[lane][parts % 3u]);
                    sum = tf_add(sum, tf_mul(sum_over(cells, CURVATURES), factors));
                }
            }
            matrix[packed(i, lane)] = sum;
        }
    }
    workgroupBarrier();
}

/// `MODEL = MEANS - H X`, by way of the cells.
fn fill_model(lane: u32) {
    if lane < set_cells() {
        cell_moved[lane] = tf_scale(shift_of(X, lane), floored[lane]);
    }
    workgroupBarrier();
    if lane < row_count {
        let moved = tf_add(row_mean(lane, MOVED), tf_scale(row[X][lane], prox * row_scale));
        row[MODEL][lane] = tf_sub(row[MEANS][lane], moved);
    }
    workgroupBarrier();
}
