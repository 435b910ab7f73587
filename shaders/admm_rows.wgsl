// What ADMM asks of the rows: their penalties, the small system of a step and its solution, and the nearest point of the
// rows' set. Lane r works on row r. See `dense_admm.wgsl` for the letters.

/// The names of the numbers of the rows here: `NU` and `X`, a ray to be tried, are as elsewhere.
const S: u32 = TRIAL;
/// The last change of `NU`.
const CHANGE: u32 = STEP;
/// The right side of the system; then v, the point whose nearest is looked for.
const V: u32 = MEANS;
/// A x.
const AX: u32 = MODEL;
/// nu~, the solution of the system.
const SOLVED: u32 = ABOVE;
const SPARE: u32 = BELOW;

const RHO_RANGE: vec2<f32> = vec2<f32>(1e-6, 1e6);
/// The penalty of equalities, over that of inequalities.
const EQUALITY_FACTOR: f32 = 10.0;
/// Rows whose free samples have no more than this have none.
const LEAST_LENGTH: f32 = 1e-24;

/// The diagonal of R.
var<workgroup> penalty: array<f32, 32>;
/// One over the lane's own.
var<private> inverse_penalty: vec2<f32>;
/// The system of a step, as `matrix` is packed; that has minus its inverse.
var<workgroup> system: array<vec2<f32>, 528>;
/// The centres at which a row of a spread begins to be held, from above and from below, and the pull on the centre there.
var<workgroup> kinks: array<vec4<f32>, 64>;

/// The penalties, the system and its inverse for the present rho.
fn factorise(lane: u32) {
    for (var at = lane; at < row_count * (row_count + 1u) / 2u; at += LANES) {
        let part = tf_mul(product_of(WITHIN_BOUNDS, at), inverse_stiffness[WITHIN_BOUNDS]);
        system[at] = tf_add(part, tf_mul(product_of(FREE_EVERYWHERE, at), inverse_stiffness[FREE_EVERYWHERE]));
    }
    workgroupBarrier();
    if lane < row_count {
        let at = packed(lane, lane);
        let length = product_of(WITHIN_BOUNDS, at).x + product_of(FREE_EVERYWHERE, at).x;
        let own = clamp(select(rho, EQUALITY_FACTOR * rho, is_equality(lane)), RHO_RANGE.x, RHO_RANGE.y);
        penalty[lane] = own / select(row_scale, length, length > LEAST_LENGTH);
        inverse_penalty = tf_div(tf(1.0), tf(penalty[lane]));
        system[at] = tf_add(system[at], inverse_penalty);
    }
    workgroupBarrier();
    for (var at = lane; at < row_count * (row_count + 1u) / 2u; at += LANES) {
        matrix[at] = system[at];
    }
    workgroupBarrier();
    sweep(lane);
}

fn is_equality(r: u32) -> bool {
    if row_block[r] != NO_BLOCK {
        let b = row_block[r];
        return blocks[b].ratio == 0u && blocks[b].level.x == 0.0;
    }
    return tf_sub(rows_upper[r], rows_lower[r]).x == 0.0;
}

/// Turns the positive definite `matrix` into minus its inverse, a row and column after the other. (The sweep operator.)
fn sweep(lane: u32) {
    for (var k = 0u; k < row_count; k += 1u) {
        let inverse = tf_div(tf(1.0), matrix[packed(k, k)]);
        if lane < row_count {
            row[SPARE][lane] = matrix[packed(lane, k)];
        }
        workgroupBarrier();
        if lane == k {
            matrix[packed(k, k)] = -inverse;
        } else if lane < row_count {
            let part = tf_mul(row[SPARE][lane], inverse);
            for (var j = 0u; j <= lane; j += 1u) {
                if j != k {
                    let at = packed(lane, j);
                    matrix[at] = tf_sub(matrix[at], tf_mul(part, row[SPARE][j]));
                }
            }
            matrix[packed(lane, k)] = part;
        }
        workgroupBarrier();
    }
}

/// Fills `SOLVED` from `V`: by the inverse, and a step of refinement.
fn solve_system(lane: u32) {
    if lane < row_count {
        row[SOLVED][lane] = vec2<f32>();
        row[SPARE][lane] = row[V][lane];
    }
    workgroupBarrier();
    for (var is_refined = false; ; is_refined = true) {
        if lane < row_count {
            var better = row[SOLVED][lane];
            for (var r = 0u; r < row_count; r += 1u) {
                better = tf_sub(better, tf_mul(matrix[packed(lane, r)], row[SPARE][r]));
            }
            row[SOLVED][lane] = better;
        }
        workgroupBarrier();
        if is_refined {
            break;
        }
        if lane < row_count {
            var rest = row[V][lane];
            for (var r = 0u; r < row_count; r += 1u) {
                rest = tf_sub(rest, tf_mul(system[packed(lane, r)], row[SOLVED][r]));
            }
            row[SPARE][lane] = rest;
        }
        workgroupBarrier();
    }
}

/// The bounds of a row at a centre of its spread.
fn least_at(r: u32, centre: vec2<f32>) -> vec2<f32> {
    return tf_add(rows_lower[r], tf_mul(centre_coefficient(row_block[r], -1.0), centre));
}

fn most_at(r: u32, centre: vec2<f32>) -> vec2<f32> {
    return tf_add(rows_upper[r], centre);
}

/// What the rows of a spread that are held at a side pull its centre by: rising, and linear between kinks.
fn pull_at(b: u32, centre: vec2<f32>) -> vec2<f32> {
    var pull = vec2<f32>();
    let below = centre_coefficient(b, -1.0);
    for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
        let over = tf_sub(most_at(r, centre), row[V][r]);
        let under = tf_mul(tf_sub(least_at(r, centre), row[V][r]), below);
        if over.x < 0.0 {
            pull = tf_add(pull, tf_scale(over, penalty[r]));
        } else if under.x > 0.0 {
            pull = tf_add(pull, tf_scale(under, penalty[r]));
        }
    }
    return pull;
}

/// The centre of the nearest point: the root of the pull. (The reference looks for it; here all kinks are tried at once.)
fn find_centres(lane: u32) {
    for (var k = lane; k < 2u * first_contrast(); k += LANES) {
        let r = k / 2u;
        let b = row_block[r];
        var centre = tf_sub(row[V][r], rows_upper[r]);
        if k % 2u == 1u {
            centre = tf_mul(tf_sub(row[V][r], rows_lower[r]), blocks[b].inverse_level);
        }
        if blocks[b].ratio == 1u && centre.x < 0.0 {
            centre = vec2<f32>();
        }
        kinks[k] = vec4<f32>(centre, pull_at(b, centre));
    }
    workgroupBarrier();
    if lane < block_count {
        // The last kink up to which the root lies not, and the first from which on it does not.
        var before = vec4<f32>();
        var after = vec4<f32>();
        var has_before = false;
        var has_after = false;
        for (var k = 2u * blocks[lane].first; k < 2u * blocks[lane].end; k += 1u) {
            let kink = kinks[k];
            if kink.z <= 0.0 && (!has_before || tf_less(before.xy, kink.xy)) {
                before = kink;
                has_before = true;
            }
            if kink.z >= 0.0 && (!has_after || tf_less(kink.xy, after.xy)) {
                after = kink;
                has_after = true;
            }
        }
        let rise = tf_sub(after.zw, before.zw);
        var centre = 0.5 * tf_add(before.xy, after.xy);
        if has_before != has_after {
            // (Of a ratio, at the tip of its cone.)
            centre = select(after.xy, before.xy, has_before);
        } else if rise.x > 0.0 {
            let part = tf_div(-before.zw, rise);
            centre = tf_add(before.xy, tf_mul(tf_sub(after.xy, before.xy), part));
        }
        blocks[lane].centre = centre;
    }
    workgroupBarrier();
}

fn clipped(value: vec2<f32>, least: vec2<f32>, most: vec2<f32>) -> vec2<f32> {
    let raised = select(value, least, tf_less(value, least));
    return select(raised, most, tf_less(most, raised));
}

/// `s = project(v)` in the norm of the penalties.
fn project_rows(lane: u32) {
    if block_count > 0u {
        find_centres(lane);
    }
    if lane < row_count {
        var least = rows_lower[lane];
        var most = rows_upper[lane];
        if row_block[lane] != NO_BLOCK {
            let centre = blocks[row_block[lane]].centre;
            least = least_at(lane, centre);
            most = most_at(lane, centre);
        }
        row[S][lane] = clipped(row[V][lane], least, most);
    }
    workgroupBarrier();
}

/// Where the balance of a ratio's multipliers has this sign, shortens those of that sign until it is zero.
fn settle_ratios(lane: u32, which: u32, sign: f32) {
    if lane < block_count && blocks[lane].ratio == 1u {
        var balance = vec2<f32>();
        var held = vec2<f32>();
        for (var r = blocks[lane].first; r < blocks[lane].end; r += 1u) {
            let nu = row[which][r];
            let term = tf_mul(centre_coefficient(lane, nu.x), nu);
            balance = tf_add(balance, term);
            held = tf_add(held, select(vec2<f32>(), term, nu.x * sign > 0.0));
        }
        if balance.x * sign > 0.0 {
            let factor = tf_div(tf_sub(held, balance), held);
            for (var r = blocks[lane].first; r < blocks[lane].end; r += 1u) {
                if row[which][r].x * sign > 0.0 {
                    row[which][r] = tf_mul(row[which][r], select(vec2<f32>(), factor, factor.x > 0.0));
                }
            }
        }
    }
    workgroupBarrier();
}
