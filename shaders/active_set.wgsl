// The Newton sub-problem: a small quadratic program over the multipliers, solved by an active set of signs. Twin of
// src/reference/active_set.rs.
//
// The reference borders its system with the centres of the spreads. Here one row of each spread, the payer, is eliminated
// by the balance of its multipliers instead: the system is smaller, and positive definite. With `x_payer = -sum a_r x_r`
// over the other rows held, its entries are `H_rs - a_r H_ps - a_s H_rq + a_r a_s H_pq`.

/// The rows with a multiplier above 0 and below 0, as bits.
var<private> positive: u32;
var<private> negative: u32;
/// The rows of the system: those with a multiplier that do not pay for the balance of a spread.
var<private> unknowns: u32;
var<workgroup> solution: array<vec2<f32>, 32>;

fn sign_of(r: u32) -> f32 {
    return f32((positive >> r) & 1u) - f32((negative >> r) & 1u);
}

/// Moves `STEP` to the minimum of the model. False if rounding left it no numbers.
fn minimise(lane: u32, accuracy: f32) -> bool {
    var largest = 0.0;
    positive = 0u;
    negative = 0u;
    for (var r = 0u; r < row_count; r += 1u) {
        largest = max(largest, abs(row[MEANS][r].x));
        positive |= select(0u, 1u << r, row[NU][r].x > 0.0);
        negative |= select(0u, 1u << r, row[NU][r].x < 0.0);
    }
    if lane < row_count {
        row[STEP][lane] = vec2<f32>();
    }
    let most = max(accuracy, 1e-13 * largest);
    for (var round = 0u; round < 12u * row_count + 20u; round += 1u) {
        if !solve_on_support(lane) {
            return false;
        }
        if walk_to_first_sign_change(lane) {
            continue;
        }
        if lane < row_count {
            row[STEP][lane] = row[X][lane];
        }
        if !add_worst_row(lane, most) {
            break;
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < row_count; r += 1u) {
        if !is_finite(row[STEP][r].x) {
            return false;
        }
    }
    return true;
}

/// In every spread with multipliers the row that is moved the easiest pays.
fn choose_payers(lane: u32) {
    let support = positive | negative;
    if lane < block_count {
        var payer = NO_BLOCK;
        for (var rest = support & block_rows(lane); rest != 0u; rest &= rest - 1u) {
            let r = firstTrailingBit(rest);
            if payer == NO_BLOCK || matrix[packed(r, r)].x < matrix[packed(payer, payer)].x {
                payer = r;
            }
        }
        blocks[lane].payer = payer;
    }
    workgroupBarrier();
    unknowns = support;
    for (var b = 0u; b < block_count; b += 1u) {
        unknowns &= ~select(0u, 1u << (blocks[b].payer & 31u), blocks[b].payer != NO_BLOCK);
    }
}

/// How much of the payer's multiplier a row's takes with it: of a contrast nothing.
fn share(r: u32) -> vec2<f32> {
    let b = row_block[r];
    if b == NO_BLOCK {
        return vec2<f32>();
    }
    let above = sign_of(r) > 0.0;
    if blocks[b].ratio == 0u || above == (sign_of(blocks[b].payer) > 0.0) {
        return tf(1.0);
    }
    return select(blocks[b].level, blocks[b].inverse_level, above);
}

/// The row's payer; of a contrast itself, with a share of 0.
fn payer_of(r: u32) -> u32 {
    return select(blocks[min(row_block[r], 15u)].payer, r, row_block[r] == NO_BLOCK);
}

/// Minimises with the signs fixed: fills `X` (of rows without a sign `-nu`) and `MODEL`, and the centres of the spreads.
fn solve_on_support(lane: u32) -> bool {
    fill_matrix(lane);
    choose_payers(lane);
    let is_unknown = ((unknowns >> lane) & 1u) == 1u && lane < 32u;
    var payer = lane;
    var own_share = vec2<f32>();
    if is_unknown {
        payer = payer_of(lane);
        own_share = share(lane);
        for (var rest = unknowns & below_bit(lane + 1u); rest != 0u; rest &= rest - 1u) {
            let other = firstTrailingBit(rest);
            var entry = vec2<f32>();
            for (var side = 0u; side < 2u; side += 1u) {
                let column = select(payer_of(other), other, side == 1u);
                let by_payer = tf_mul(own_share, matrix[packed(payer, column)]);
                // The payer's column first, which the other's share of is taken off.
                entry = tf_sub(tf_sub(matrix[packed(lane, column)], by_payer), tf_mul(share(other), entry));
            }
            matrix[packed(lane, other)] = entry;
        }
    }
    if lane < row_count {
        row[X][lane] = select(vec2<f32>(), -row[NU][lane], sign_of(lane) == 0.0);
    }
    workgroupBarrier();
    if !factorise(lane, is_unknown) {
        return false;
    }
    // First the payers alone, then all. (Two-floats need no refinement: measured.)
    for (var solved = false; ; solved = true) {
        pay_balance(lane);
        fill_model(lane);
        if solved || unknowns == 0u {
            break;
        }
        if is_unknown {
            solution[lane] = tf_sub(lacking(lane), tf_mul(own_share, lacking(payer)));
        }
        workgroupBarrier();
        solve_factorised(lane, is_unknown);
        if is_unknown {
            row[X][lane] = tf_add(row[X][lane], solution[lane]);
        }
        workgroupBarrier();
    }
    if lane < block_count && blocks[lane].payer != NO_BLOCK {
        let pays = blocks[lane].payer;
        blocks[lane].centre = tf_div(lacking(pays), centre_coefficient(lane, sign_of(pays)));
    }
    workgroupBarrier();
    return true;
}

/// What the model's mean of a row that is held lacks of its bound.
fn lacking(r: u32) -> vec2<f32> {
    return tf_sub(row[MODEL][r], select(asked_lower[r], asked_upper[r], sign_of(r) > 0.0));
}

/// Makes the balance of every spread with multipliers exact.
fn pay_balance(lane: u32) {
    if lane < block_count && blocks[lane].payer != NO_BLOCK {
        let payer = blocks[lane].payer;
        var sum = vec2<f32>();
        for (var rest = (positive | negative) & block_rows(lane) & ~(1u << payer); rest != 0u; rest &= rest - 1u) {
            let r = firstTrailingBit(rest);
            sum = tf_add(sum, tf_mul(share(r), tf_add(row[NU][r], row[X][r])));
        }
        row[X][payer] = -tf_add(sum, row[NU][payer]);
    }
    workgroupBarrier();
}

/// Factors the system, unpivoted: `L D` below the diagonal, inverse pivots on it. False if it is not positive definite to
/// rounding.
fn factorise(lane: u32, is_unknown: bool) -> bool {
    for (var columns = unknowns; columns != 0u; columns &= columns - 1u) {
        let k = firstTrailingBit(columns);
        let pivot = matrix[packed(k, k)];
        workgroupBarrier();
        if !(pivot.x > 0.0 && is_finite(pivot.x)) {
            return false;
        }
        let inverse = tf_div(tf(1.0), pivot);
        if lane == k {
            matrix[packed(k, k)] = inverse;
        }
        if is_unknown && lane > k {
            let part = tf_mul(matrix[packed(lane, k)], inverse);
            for (var rest = unknowns & below_bit(lane + 1u) & ~below_bit(k + 1u); rest != 0u; rest &= rest - 1u) {
                let j = firstTrailingBit(rest);
                matrix[packed(lane, j)] = tf_sub(matrix[packed(lane, j)], tf_mul(part, matrix[packed(j, k)]));
            }
        }
        workgroupBarrier();
    }
    return true;
}

/// Solves for `solution`, in place.
fn solve_factorised(lane: u32, is_unknown: bool) {
    for (var columns = unknowns; columns != 0u; columns &= columns - 1u) {
        let k = firstTrailingBit(columns);
        if is_unknown && lane > k {
            let known = tf_mul(solution[k], matrix[packed(k, k)]);
            solution[lane] = tf_sub(solution[lane], tf_mul(matrix[packed(lane, k)], known));
        }
        workgroupBarrier();
    }
    for (var rows = unknowns; rows != 0u; rows &= ~(1u << firstLeadingBit(rows))) {
        let i = firstLeadingBit(rows);
        if lane == i {
            solution[i] = tf_mul(solution[i], matrix[packed(i, i)]);
        }
        workgroupBarrier();
        if is_unknown && lane < i {
            solution[lane] = tf_sub(solution[lane], tf_mul(matrix[packed(i, lane)], solution[i]));
        }
    }
    workgroupBarrier();
}

/// If `nu + X` leaves the orthant of its signs: moves `STEP` towards it up to the first sign change, drops the rows that
/// reach zero there, and says so.
fn walk_to_first_sign_change(lane: u32) -> bool {
    let support = positive | negative;
    let held = lane < row_count && sign_of(lane) != 0.0;
    var own_step = BIG;
    if held {
        let nu = row[NU][lane];
        let way = tf_sub(row[X][lane], row[STEP][lane]).x;
        if tf_add(nu, row[X][lane]).x * sign_of(lane) <= 0.0 {
            own_step = select(abs(tf_add(nu, row[STEP][lane]).x / way), 0.0, way == 0.0);
        }
        exchange[lane].x = own_step;
    }
    workgroupBarrier();
    var step = BIG;
    for (var rest = support; rest != 0u; rest &= rest - 1u) {
        step = min(step, exchange[firstTrailingBit(rest)].x);
    }
    var dropped = 0u;
    for (var rest = support; rest != 0u; rest &= rest - 1u) {
        let r = firstTrailingBit(rest);
        dropped |= select(0u, 1u << r, exchange[r].x <= step);
    }
    workgroupBarrier();
    if step == BIG {
        return false;
    }
    for (var b = 0u; b < block_count; b += 1u) {
        let members = support & ~dropped & block_rows(b);
        // A balanced block of one member can only be zero.
        dropped |= select(0u, members, countOneBits(members) == 1u);
    }
    positive &= ~dropped;
    negative &= ~dropped;
    if lane < row_count {
        let way = tf_sub(row[X][lane], row[STEP][lane]);
        let moved = tf_add(row[STEP][lane], tf_scale(way, min(step, 1.0)));
        row[STEP][lane] = select(moved, -row[NU][lane], sign_of(lane) == 0.0);
    }
    return true;
}

/// Gives a sign to the row that most violates its bounds in the model, or to the widest pair of a spread without a
/// multiplier. False if none violates by more than `tolerance`.
fn add_worst_row(lane: u32, tolerance: f32) -> bool {
    measure_sides(lane, MODEL);
    let support = positive | negative;
    var worst = tolerance;
    var add_positive = 0u;
    var add_negative = 0u;
    for (var b = 0u; b < block_count; b += 1u) {
        let held = (support & block_rows(b)) != 0u;
        let below = centre_coefficient(b, -1.0).x;
        var top = blocks[b].first;
        var bottom = top;
        for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
            if held && sign_of(r) == 0.0 {
                let from_above = tf_sub(row[ABOVE][r], blocks[b].centre).x;
                let from_below = tf_sub(blocks[b].centre, row[BELOW][r]).x * below;
                if max(from_above, from_below) > worst {
                    worst = max(from_above, from_below);
                    add_positive = select(0u, 1u << r, from_above >= from_below);
                    add_negative = select(1u << r, 0u, from_above >= from_below);
                }
            }
            top = select(top, r, tf_less(row[ABOVE][top], row[ABOVE][r]));
            bottom = select(bottom, r, tf_less(row[BELOW][r], row[BELOW][bottom]));
        }
        if !held {
            let width = tf_sub(row[ABOVE][top], row[BELOW][bottom]).x;
            if top != bottom && width > worst {
                worst = width;
                add_positive = 1u << top;
                add_negative = 1u << bottom;
            }
            if lane == 0u {
                blocks[b].centre = 0.5 * tf_add(row[ABOVE][top], row[BELOW][bottom]);
            }
        }
    }
    for (var r = first_contrast(); r < row_count; r += 1u) {
        if sign_of(r) == 0.0 {
            let from_above = row[ABOVE][r].x;
            let from_below = -row[BELOW][r].x;
            if max(from_above, from_below) > worst {
                worst = max(from_above, from_below);
                add_positive = select(0u, 1u << r, from_above >= from_below);
                add_negative = select(1u << r, 0u, from_above >= from_below);
            }
        }
    }
    positive |= add_positive;
    negative |= add_negative;
    workgroupBarrier();
    return (add_positive | add_negative) != 0u;
}
