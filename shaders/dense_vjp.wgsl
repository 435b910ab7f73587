// `dense_vjp`: the backward pass of the projection onto rows with a coefficient for every sample, and onto spreads and
// contrasts beside them: every sample is its own cell. With v = dL/dz and nu, lambda of the rows as they were given:
// dL/dA = -lambda y^T - nu (W^-1 v)^T, and dL/dw_i is what the means say of their weights and
// v_i sum_r nu_r a_ri / w_i^2 of the rows over samples.

@group(0) @binding(16) var<storage, read> coefficients: array<f32>;
@group(0) @binding(17) var<storage, read_write> scratch: array<f32>;

// Of a sample what it is pulled by. (The rest is the forward pass's.)
const OWN_PLANES = 4u;

var<workgroup> unusable: array<atomic<u32>, TEAMS>;
// The sums of dL/dz by cell.
var<workgroup> cell_moved: array<vec2<f32>, 32>;

fn first_sample_row() -> u32 {
    return params.rows - params.dense;
}

fn row_square(row: u32) -> f32 {
    if row < first_sample_row() {
        return square_over_cells(row);
    }
    return sample_square[row - first_sample_row()].x;
}

// What a row over samples was multiplied by: a power of two.
fn row_unit(row: u32) -> f32 {
    if row < first_sample_row() {
        return 1.0;
    }
    return power_of_two(-sample_exponent(row - first_sample_row()));
}

fn coefficient_in(row: u32, i: u32) -> vec2<f32> {
    if row < first_sample_row() {
        return coefficient(row, cell_of(i));
    }
    return scratch_pair(2u * (row - first_sample_row()), i);
}

fn reduced_in(index: u32, i: u32) -> vec2<f32> {
    if held[index] < first_sample_row() {
        return reduced(index, cell_of(i));
    }
    return tf_scale(coefficient_in(held[index], i), jacobi[index]);
}

fn pair_term(a: u32, b: u32, i: u32) -> vec2<f32> {
    if state_of(i) != FREE {
        return tf(0.0);
    }
    return tf_mul(tf_mul(reduced_in(a, i), reduced_in(b, i)), unit_weight(i));
}

fn store_pair_sum(at: u32, sum: vec2<f32>) {
    system[at] = sum;
}

fn fill_system(lane: u32) {
    if held_rows == 0u {
        return;
    }
    sum_pairs(lane, held_rows);
    let mine = share_of(lane, held_rows);
    var sum = tf(0.0);
    for (var i = mine.y; i < mine.z; i++) {
        if state_of(i) == FREE {
            sum = tf_add(sum, tf_scale(reduced_in(mine.x, i), gradient_of(i)));
        }
    }
    of_lanes[lane] = vec3<f32>(sum, 0.0);
    workgroupBarrier();
    if lane < held_rows {
        for (var other = lane + held_rows; other < LANES; other += held_rows) {
            sum = tf_add(sum, of_lanes[other].xy);
        }
        rhs[lane] = sum;
        step_of[lane] = NONE;
    }
    workgroupBarrier();
}

// Notes what every sample is pulled by, and what is left of the gradient by cell, where anything asks for that.
fn fill_pull(lane: u32) {
    for (var i = lane; i < n; i += LANES) {
        var pull = tf(0.0);
        for (var index = 0u; index < held_rows; index++) {
            pull = tf_add(pull, tf_mul(coefficient_in(held[index], i), lambda[held[index]]));
        }
        store_scratch_pair(2u * params.dense, i, pull);
    }
    storageBarrier();
    workgroupBarrier();
    for (var cell = lane; cell < params.cells; cell += LANES) {
        var sum = tf(0.0);
        if VALUED {
            for (var i = 0u; i < n; i++) {
                if cell_of(i) == cell {
                    sum = tf_add(sum, moved_in(i));
                }
            }
        }
        cell_moved[cell] = sum;
    }
    workgroupBarrier();
}

// dL/dz of a sample.
fn moved_in(i: u32) -> vec2<f32> {
    if state_of(i) != FREE {
        return tf(0.0);
    }
    return tf_sub(tf(gradient_of(i)), tf_mul(unit_weight(i), scratch_pair(2u * params.dense, i)));
}

fn pull_of(i: u32, cell: u32) -> vec2<f32> {
    return scratch_pair(2u * params.dense, i);
}

fn moved_of(cell: u32) -> vec2<f32> {
    return cell_moved[cell];
}

fn of_sample_rows(i: u32) -> vec2<f32> {
    var sum = tf(0.0);
    for (var row = first_sample_row(); row < params.rows; row++) {
        let nu = tf_scale(multiplier(row), 1.0 / row_unit(row));
        sum = tf_add(sum, tf_mul(nu, coefficient_in(row, i)));
    }
    return tf_div(tf_mul(sum, moved_in(i)), unit_weight(i));
}

fn fill_coefficients(lane: u32, bits: u32) {
    if wants(WANT_COEFFICIENTS) {
        for (var at = lane; at < params.dense * n; at += LANES) {
            store_to_coefficients(params.dense * first + at, bits);
        }
    }
}

fn write_coefficients(lane: u32) {
    if wants(WANT_COEFFICIENTS) {
        for (var k = 0u; k < params.dense; k++) {
            let row = first_sample_row() + k;
            let own = tf_scale(lambda[row], row_unit(row));
            for (var i = lane; i < n; i += LANES) {
                let by_value = tf_scale(own, value_of(i));
                let by_move = tf_div(tf_mul(multiplier(row), moved_in(i)), unit_weight(i));
                store_to_coefficients(params.dense * first + k * n + i, bitcast<u32>(-tf_add(by_value, by_move).x));
            }
        }
    }
}

fn solve_rows(lane: u32) {
    load_rows(lane);
    solve_held(lane);
}

@compute @workgroup_size(LANES)
fn dense_vjp(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if take_up(group) {
        pull_back(lane);
    }
}
