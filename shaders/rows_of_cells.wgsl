// What the Newton machine asks of rows over cells: their means at the sums of a pass, the curvature, how far a step moves
// the samples, and the least that a ray can make of them. A module that is joined with this has, of every cell, `cell_weight`,
// `cell_label`, and of a pass `cell_y`, `cell_free`, `cell_size`, `cell_beyond` at `cell_shift`.

/// A cell with this part of its weight free needs no floor.
const PLENTY: f32 = 0.25;
/// What a step moves the cells by.
var<workgroup> cell_moved: array<vec2<f32>, 32>;
/// The free weights of the cells, floored: the curvature is that of shifts of the cells by these.
var<workgroup> floored: array<f32, 32>;

/// What is summed over cells: weights, labels, values, the model's curvatures, and what they make of a move.
const WEIGHTS: u32 = 0u;
const LABELS: u32 = 1u;
const VALUES: u32 = 2u;
const CURVATURES: u32 = 3u;
const MOVED: u32 = 4u;

fn cell_number(c: u32, what: u32) -> vec2<f32> {
    switch what {
        case WEIGHTS: { return cell_weight[c]; }
        case LABELS: { return cell_label[c]; }
        case VALUES: { return cell_y[c]; }
        case CURVATURES: { return tf(floored[c]); }
        default: { return cell_moved[c]; }
    }
}

/// There are no others here.
fn sample_rows() -> u32 {
    return 0u;
}

fn build_sample_row(r: u32, source: u32) {
}

fn row_unit(source: u32) -> vec2<f32> {
    return tf(1.0);
}

/// Asks for the sums at `TRIAL`.
fn set_shift(lane: u32) {
    if lane < set_cells() {
        cell_shift[lane] = shift_of(TRIAL, lane);
    }
}

/// How far these multipliers move a cell.
fn shift_of(which: u32, c: u32) -> vec2<f32> {
    var shift = vec2<f32>();
    for (var r = 0u; r < row_count; r += 1u) {
        shift = tf_add(shift, tf_mul(coefficient(r, c), row[which][r]));
    }
    return shift;
}

/// The mean of a row.
fn row_mean(r: u32, what: u32) -> vec2<f32> {
    var mean = vec2<f32>();
    for (var part = 0u; part < 3u; part += 1u) {
        mean = tf_add(mean, tf_mul(row_factor[r][part], sum_over(row_cells[r][part], what)));
    }
    return mean;
}

/// Takes the means at the sums of a pass. Returns four times what rounding the stored values may move a row by at the
/// worst: a mean of values of this size, two means of a spread.
fn take_means(lane: u32) -> f32 {
    if lane < row_count {
        var size = 0.0;
        for (var part = 0u; part < 3u; part += 1u) {
            for (var rest = row_cells[lane][part]; rest != 0u; rest &= rest - 1u) {
                size += abs(row_factor[lane][part].x) * cell_size[firstTrailingBit(rest)];
            }
        }
        row[MEANS][lane] = row_mean(lane, VALUES);
        exchange[lane].x = size * select(8.0, 4.0, row_block[lane] == NO_BLOCK);
    }
    workgroupBarrier();
    var worst = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        worst = max(worst, exchange[r].x);
    }
    workgroupBarrier();
    return worst * unit_roundoff();
}

/// Floors the free weights at the present point, where the residual is `error`.
fn prepare_curvature(lane: u32, error: f32, factor: f32, everywhere: bool) {
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

fn extent_of_step(lane: u32) -> Extent {
    if lane < set_cells() {
        cell_moved[lane] = shift_of(STEP, lane);
    }
    workgroupBarrier();
    var extent = Extent(0.0, 0.0, false);
    for (var c = 0u; c < set_cells(); c += 1u) {
        let moved = abs(cell_moved[c].x);
        extent.longest = max(extent.longest, moved);
        let distance = select(0.0, cell_beyond[c] / cell_weight[c].x, cell_weight[c].x > 0.0);
        extent.farthest = max(extent.farthest, distance);
        extent.is_floored = extent.is_floored || (floored[c] > 1.000001 * cell_free[c].x && moved != 0.0);
    }
    return extent;
}

/// The least that the ray in `X` can make of the samples within their bounds, and how far rounding may have it wrong.
fn least_of_ray(lane: u32) -> vec3<f32> {
    if lane < set_cells() {
        exchange[lane] = least_of_cell(lane, shift_of(X, lane));
    }
    workgroupBarrier();
    var least = vec2<f32>();
    var doubt = 0.0;
    for (var c = 0u; c < set_cells(); c += 1u) {
        least = tf_add(least, exchange[c].xy);
        doubt += exchange[c].z;
    }
    workgroupBarrier();
    return vec3<f32>(least, doubt);
}

/// The least that the ray can make of a cell, and how far rounding may have it wrong.
fn least_of_cell(c: u32, shift: vec2<f32>) -> vec3<f32> {
    var magnitude = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        let cells = row_cells[r].x | row_cells[r].y | row_cells[r].z;
        magnitude += select(0.0, row_rough[r] * abs(row[X][r].x), ((cells >> c) & 1u) == 1u);
    }
    if magnitude == 0.0 {
        return vec3<f32>();
    }
    return least_within(shift, magnitude, cell_low(c), cell_high(c));
}
