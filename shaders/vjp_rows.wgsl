// The backward solve of rows of any kind: `solve_held` of `src/reference/cells_vjp.rs` in two floats.
//
// With B the coefficients of the rows held, F the free weights and g the sums of the gradient: lambda = pinv(B F B^T) B g,
// the multipliers of every spread balanced. That takes the rows' own projection off the directions of balance, one a
// spread; what is left is factored L D L^T by largest pivots until they vanish, so that L has full rank, and then
// pinv(L D L^T) = L G^-1 D^-1 G^-1 L^T with G = L^T L.

// Pivots up to this part of the largest count as zero.
const RANK_CUT = 1e-9;

// By row of the set: the inverse masses of both sides.
var<workgroup> inverse_plus: array<vec2<f32>, 32>;
var<workgroup> inverse_minus: array<vec2<f32>, 32>;
var<workgroup> row_scale: array<f32, 32>;
// The rows held; whether a row is; and by their number: what they are scaled by, their part of the direction of balance.
var<workgroup> held_rows: u32;
var<workgroup> held: array<u32, 32>;
var<workgroup> jacobi: array<f32, 32>;
var<workgroup> balance: array<vec2<f32>, 32>;
var<workgroup> rhs: array<vec2<f32>, 32>;
var<workgroup> solution: array<vec2<f32>, 32>;
// Packed by rows: what is left to factor, and, in the places of columns done, L.
var<workgroup> system: array<vec2<f32>, 528>;
// The rows' sums along every spread's direction of balance, `[spreads, cells]`; then G and its factor, packed.
var<workgroup> work: array<vec2<f32>, 528>;
// The row that each step eliminated, and the step of each row; NONE of those left.
var<workgroup> pivot_of: array<u32, 32>;
var<workgroup> step_of: array<u32, 32>;
var<workgroup> pivots: array<vec2<f32>, 32>;
var<workgroup> rank: u32;

fn packed(a: u32, b: u32) -> u32 {
    let low = min(a, b);
    let high = max(a, b);
    return high * (high + 1u) / 2u + low;
}

fn mass_of(side: u32) -> vec2<f32> {
    var mass = tf(0.0);
    for (var rest = side; rest != 0u; rest &= rest - 1u) {
        mass = tf_add(mass, cell_weight(firstTrailingBit(rest)));
    }
    return mass;
}

// What a row multiplies the sum of w y over a cell by.
fn coefficient(row: u32, cell: u32) -> vec2<f32> {
    var value = tf(0.0);
    if ((row_plus(row) >> cell) & 1u) != 0u {
        value = inverse_plus[row];
    }
    if ((row_minus(row) >> cell) & 1u) != 0u {
        value = tf_sub(value, tf_mul(contrast_scale(row_contrast(row)), inverse_minus[row]));
    }
    return value;
}

// The coefficient of the centre in a row of a spread that is held from this side.
fn centre_coefficient(row: u32) -> vec2<f32> {
    let spread = row_spread(row);
    if spread_is_ratio(spread) && multiplier(row).x < 0.0 {
        return level(spread);
    }
    return tf(1.0);
}

fn is_equal(a: vec2<f32>, b: vec2<f32>) -> bool {
    return a.x == b.x && a.y == b.y;
}

// Whether a row is held at its bound whatever its multiplier.
fn is_equality(row: u32) -> bool {
    let spread = row_spread(row);
    if problem_status() == STATUS_RELAXED {
        return false;
    }
    if spread == NONE {
        let contrast = row_contrast(row);
        return is_equal(row_lower(contrast), row_upper(contrast));
    }
    return is_equal(level(spread), tf(select(0.0, 1.0, spread_is_ratio(spread))));
}

// What rows over cells make of the sums over a cell of their squares.
fn square_over_cells(row: u32) -> f32 {
    var square = 0.0;
    for (var cell = 0u; cell < params.cells; cell++) {
        let b = coefficient(row, cell).x;
        square += b * b * cell_weight(cell).x;
    }
    return square;
}

// A held row, scaled, and with the direction of balance taken out.
fn reduced(index: u32, cell: u32) -> vec2<f32> {
    let row = held[index];
    var value = tf_scale(coefficient(row, cell), jacobi[index]);
    if row_spread(row) != NONE {
        value = tf_sub(value, tf_mul(balance[index], work[row_spread(row) * params.cells + cell]));
    }
    return value;
}

fn collect_held(lane: u32) {
    for (var row = lane; row < params.rows; row += LANES) {
        if is_live(row) {
            inverse_plus[row] = tf(0.0);
            inverse_minus[row] = tf(0.0);
            if row_plus(row) != 0u {
                inverse_plus[row] = tf_div(tf(1.0), mass_of(row_plus(row)));
            }
            if row_minus(row) != 0u {
                inverse_minus[row] = tf_div(tf(1.0), mass_of(row_minus(row)));
            }
            let scale = row_square(row);
            row_scale[row] = select(1.0, scale, scale > 0.0);
        }
    }
    workgroupBarrier();
    if lane == 0u {
        var count = 0u;
        for (var row = 0u; row < params.rows; row++) {
            if is_live(row) && (multiplier(row).x != 0.0 || is_equality(row)) {
                held[count] = row;
                count++;
            }
        }
        held_rows = count;
    }
    workgroupBarrier();
    for (var index = lane; index < held_rows; index += LANES) {
        // One scale for all rows of a spread: minimum norm then means the same for every one of them.
        let row = held[index];
        let spread = row_spread(row);
        var scale = row_scale[row];
        if spread != NONE {
            for (var other = spread_first(spread); other < spread_end(spread); other++) {
                scale = max(scale, select(0.0, row_scale[other], is_live(other)));
            }
        }
        jacobi[index] = inverseSqrt(scale);
    }
    workgroupBarrier();
    for (var index = lane; index < held_rows; index += LANES) {
        let spread = row_spread(held[index]);
        balance[index] = tf(0.0);
        if spread != NONE {
            var square = tf(0.0);
            for (var other = 0u; other < held_rows; other++) {
                if row_spread(held[other]) == spread {
                    let u = tf_scale(centre_coefficient(held[other]), jacobi[other]);
                    square = tf_add(square, tf_mul(u, u));
                }
            }
            let own = tf_scale(centre_coefficient(held[index]), jacobi[index]);
            balance[index] = tf_div(own, tf_sqrt(square));
        }
    }
    workgroupBarrier();
    for (var k = lane; k < params.spreads * params.cells; k += LANES) {
        var sum = tf(0.0);
        for (var index = 0u; index < held_rows; index++) {
            if row_spread(held[index]) == k / params.cells {
                let b = tf_scale(coefficient(held[index], k % params.cells), jacobi[index]);
                sum = tf_add(sum, tf_mul(balance[index], b));
            }
        }
        work[k] = sum;
    }
    workgroupBarrier();
}

fn factor(lane: u32) {
    let k = held_rows;
    var first_pivot = 0.0;
    if lane == 0u {
        rank = k;
    }
    for (var step = 0u; step < k; step++) {
        workgroupBarrier();
        if lane == 0u {
            var best = NONE;
            for (var i = 0u; i < k; i++) {
                if step_of[i] == NONE && (best == NONE || system[packed(i, i)].x > system[packed(best, best)].x) {
                    best = i;
                }
            }
            let pivot = system[packed(best, best)];
            if step == 0u {
                first_pivot = pivot.x;
            }
            if pivot.x > RANK_CUT * first_pivot && pivot.x > 0.0 {
                pivot_of[step] = best;
                step_of[best] = step;
                pivots[step] = pivot;
            } else {
                rank = step;
            }
        }
        if workgroupUniformLoad(&rank) == step {
            break;
        }
        let pivot = pivot_of[step];
        for (var i = lane; i < k; i += LANES) {
            if step_of[i] == NONE {
                solution[i] = tf_div(system[packed(i, pivot)], pivots[step]);
            }
        }
        workgroupBarrier();
        for (var at = lane; at < k * k; at += LANES) {
            let i = at / k;
            let j = at % k;
            if j <= i && step_of[i] == NONE && step_of[j] == NONE {
                // The column still holds L D here.
                let change = tf_mul(solution[i], system[packed(j, pivot)]);
                system[packed(i, j)] = tf_sub(system[packed(i, j)], change);
            }
        }
        workgroupBarrier();
        for (var i = lane; i < k; i += LANES) {
            if step_of[i] == NONE {
                system[packed(i, pivot)] = solution[i];
            }
        }
    }
    workgroupBarrier();
}

// An element of L: of a row, and the column of a step.
fn l_of(row: u32, step: u32) -> vec2<f32> {
    let own = step_of[row];
    if own == step {
        return tf(1.0);
    }
    if own != NONE && own < step {
        return tf(0.0);
    }
    return system[packed(row, pivot_of[step])];
}

// G^-1 times the first `rank` numbers of `solution`, in place.
fn solve_by_g() {
    for (var i = 0u; i < rank; i++) {
        for (var j = 0u; j < i; j++) {
            solution[i] = tf_sub(solution[i], tf_mul(work[packed(i, j)], solution[j]));
        }
    }
    for (var i = 0u; i < rank; i++) {
        solution[i] = tf_div(solution[i], work[packed(i, i)]);
    }
    for (var i = rank; i > 0u; i--) {
        for (var j = i; j < rank; j++) {
            solution[i - 1u] = tf_sub(solution[i - 1u], tf_mul(work[packed(j, i - 1u)], solution[j]));
        }
    }
}

fn solve_system(lane: u32) {
    let k = held_rows;
    let r = workgroupUniformLoad(&rank);
    for (var at = lane; at < r * r; at += LANES) {
        let i = at / r;
        let j = at % r;
        if j <= i {
            var sum = tf(0.0);
            for (var row = 0u; row < k; row++) {
                sum = tf_add(sum, tf_mul(l_of(row, i), l_of(row, j)));
            }
            work[packed(i, j)] = sum;
        }
    }
    for (var i = lane; i < r; i += LANES) {
        var sum = tf(0.0);
        for (var row = 0u; row < k; row++) {
            sum = tf_add(sum, tf_mul(l_of(row, i), rhs[row]));
        }
        solution[i] = sum;
    }
    workgroupBarrier();
    // G = L D L^T, unpivoted.
    for (var step = 0u; step < r; step++) {
        for (var at = lane; at < r * r; at += LANES) {
            let i = at / r;
            let j = at % r;
            if j <= i && j > step {
                let factor = tf_div(work[packed(i, step)], work[packed(step, step)]);
                work[packed(i, j)] = tf_sub(work[packed(i, j)], tf_mul(factor, work[packed(j, step)]));
            }
        }
        workgroupBarrier();
        for (var i = step + 1u + lane; i < r; i += LANES) {
            work[packed(i, step)] = tf_div(work[packed(i, step)], work[packed(step, step)]);
        }
        workgroupBarrier();
    }
    if lane == 0u {
        solve_by_g();
        for (var i = 0u; i < r; i++) {
            solution[i] = tf_div(solution[i], pivots[i]);
        }
        solve_by_g();
    }
    workgroupBarrier();
    for (var index = lane; index < k; index += LANES) {
        var sum = tf(0.0);
        for (var i = 0u; i < r; i++) {
            sum = tf_add(sum, tf_mul(l_of(index, i), solution[i]));
        }
        lambda[held[index]] = tf_scale(sum, jacobi[index]);
    }
    workgroupBarrier();
    fill_pull(lane);
}

// The gradient to a difference spread's epsilon.
fn difference_gradient(spread: u32) -> vec2<f32> {
    var sum = tf(0.0);
    for (var row = spread_first(spread); row < spread_end(spread); row++) {
        if is_live(row) {
            sum = tf_add(sum, tf_scale(lambda[row], 0.5 * sign(multiplier(row).x)));
        }
    }
    return sum;
}

// The gradient to a ratio. Rows held from below have the mean ratio * centre, and the ratio is in their balance too: what
// that adds is the border part of the bordered system's solution, e . (A g - M lambda) / e . e.
fn ratio_gradient(spread: u32) -> vec2<f32> {
    var dot = tf(0.0);
    var square = tf(0.0);
    for (var index = 0u; index < held_rows; index++) {
        let row = held[index];
        if row_spread(row) == spread {
            var left = tf(0.0);
            for (var cell = 0u; cell < params.cells; cell++) {
                left = tf_add(left, tf_mul(coefficient(row, cell), moved_of(cell)));
            }
            let e = tf_scale(centre_coefficient(row), jacobi[index]);
            dot = tf_add(dot, tf_scale(tf_mul(e, left), jacobi[index]));
            square = tf_add(square, tf_mul(e, e));
        }
    }
    var border = tf(0.0);
    if square.x > 0.0 {
        border = tf_div(dot, square);
    }
    var centre = tf(0.0);
    for (var row = spread_end(spread); row > spread_first(spread); row--) {
        if is_live(row - 1u) && multiplier(row - 1u).x > 0.0 {
            centre = tf(0.0);
            for (var cell = 0u; cell < params.cells; cell++) {
                centre = tf_add(centre, tf_mul(coefficient(row - 1u, cell), cell_value[cell]));
            }
        }
    }
    var sum = tf(0.0);
    for (var row = spread_first(spread); row < spread_end(spread); row++) {
        if is_live(row) && multiplier(row).x < 0.0 {
            sum = tf_add(sum, tf_add(tf_mul(centre, lambda[row]), tf_mul(border, multiplier(row))));
        }
    }
    return sum;
}

fn write_row_gradients(lane: u32) {
    for (var spread = lane; spread < params.spreads; spread += LANES) {
        if spread_is_ratio(spread) {
            store_level(spread, ratio_gradient(spread));
        } else {
            store_level(spread, difference_gradient(spread));
        }
    }
    for (var index = lane; index < bounded_rows(); index += LANES) {
        let row = params.rows - bounded_rows() + index;
        let own = tf_scale(lambda[row], row_unit(row));
        let below = multiplier(row).x < 0.0;
        store_lower(index, select(tf(0.0), own, vec2<bool>(below)));
        store_upper(index, select(own, tf(0.0), vec2<bool>(below)));
    }
    workgroupBarrier();
}

fn solve_held(lane: u32) {
    collect_held(lane);
    fill_system(lane);
    factor(lane);
    solve_system(lane);
    write_row_gradients(lane);
}
