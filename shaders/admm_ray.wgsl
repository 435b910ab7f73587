// Of a problem without a solution, the changes of ADMM's multipliers tend to a ray that proves it. See
// `certificate.wgsl` for what proves.

/// Iterations before a ray is first mended.
const FIRST_MEND: u32 = 20u;
/// Parts of a ray that are smaller than this, relatively, are on their way to zero.
const NEGLIGIBLE: f32 = 1e-4;
/// What is left of a column below this part of the largest is what rounding left of zeros.
const VANISHED: f32 = 1e-11;

/// What a ray must not do, a column a row; and last, the ray. All of rows scaled to length 1.
var<workgroup> barred: array<array<vec2<f32>, 32>, 33>;

/// Whether the last change of the multipliers proves that there is no solution; if so the ray is left in `X`.
fn finds_ray(lane: u32) -> bool {
    if lane < row_count {
        exchange[lane].x = abs(row[CHANGE][lane].x);
    }
    workgroupBarrier();
    var size = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        size = max(size, exchange[r].x);
    }
    workgroupBarrier();
    if !(size > 1e-30) {
        return false;
    }
    if lane < row_count {
        let part = tf_scale(row[CHANGE][lane], 1.0 / size);
        let allowed = select(rows_lower[lane], rows_upper[lane], part.x > 0.0);
        row[X][lane] = select(part, vec2<f32>(), abs(allowed.x) == BIG);
    }
    workgroupBarrier();
    balance_rows(lane, X);
    settle_ratios(lane, X, 1.0);
    for (var trial = 0u; trial < 2u; trial += 1u) {
        if trial == 1u {
            let cost = rounds_of_pairs() + 8u * row_count * row_count;
            if admm.iterations < admm.next_mend || admm.rounds + cost > most_rounds() {
                break;
            }
            admm.rounds += cost;
            admm.next_mend = admm.iterations + admm.iterations / 2u;
            mend_ray(lane);
        }
        if lack_of_room(lane).x > 0.0 {
            return true;
        }
        workgroupBarrier();
    }
    return false;
}

/// A ray must not pull a sample to where it has no bound, nor move a spread's centre, and the iterates only tend to one
/// that does not: this takes out of it what is left of either.
fn mend_ray(lane: u32) {
    if lane < row_count {
        let root = sqrt(row_scale);
        exchange[lane] = vec3<f32>(abs(row[X][lane].x) * root, 1.0 / root, 0.0);
    }
    workgroupBarrier();
    var longest = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        longest = max(longest, exchange[r].x);
    }
    if lane < row_count && exchange[lane].x <= NEGLIGIBLE * longest {
        row[X][lane] = vec2<f32>();
    }
    workgroupBarrier();
    for (var i = lane; i < n; i += LANES) {
        let shift = shift_of_sample(X, i);
        let open_below = is_special(lower_of(i));
        let open_above = is_special(upper_of(i));
        let is_wrong = select(open_above, open_below, shift.x > 0.0);
        let is_barred = (open_below || open_above) && (is_wrong || abs(shift.x) <= NEGLIGIBLE * shift.z);
        store_moment(i, tf(select(0.0, 1.0, is_barred)));
    }
    storageBarrier();
    workgroupBarrier();
    pairs_of = BARRED;
    // (In the place of the system.)
    sum_pairs(lane, row_count);
    admm.is_stale = true;
    if lane < block_count {
        var square = vec2<f32>();
        for (var r = blocks[lane].first; r < blocks[lane].end; r += 1u) {
            square = tf_add(square, tf_mul(part_of_centre(r), part_of_centre(r)));
        }
        kinks[lane] = vec4<f32>(square, 0.0, 0.0);
    }
    workgroupBarrier();
    for (var at = lane; at < row_count * row_count; at += LANES) {
        let r = at / row_count;
        let p = at % row_count;
        var value = vec2<f32>();
        if row[X][r].x != 0.0 && row[X][p].x != 0.0 {
            value = tf_scale(tf_scale(system[packed(r, p)], exchange[r].y), exchange[p].y);
            let b = row_block[r];
            if b != NO_BLOCK && b == row_block[p] {
                value = tf_add(value, tf_div(tf_mul(part_of_centre(r), part_of_centre(p)), kinks[b].xy));
            }
        }
        // (What is no part of the ray stays none.)
        let is_none = r == p && row[X][r].x == 0.0;
        barred[r][p] = select(value, tf(1.0), is_none);
    }
    if lane < row_count {
        barred[32u][lane] = tf_div(row[X][lane], tf(exchange[lane].y));
    }
    workgroupBarrier();
    take_out_barred(lane);
    if lane < row_count {
        row[X][lane] = select(tf_scale(barred[32u][lane], exchange[lane].y), vec2<f32>(), row[X][lane].x == 0.0);
    }
    workgroupBarrier();
    balance_rows(lane, X);
}

/// What a row of a ray does to the centre of its spread.
fn part_of_centre(r: u32) -> vec2<f32> {
    let part = tf_scale(centre_coefficient(row_block[r], row[X][r].x), exchange[r].y);
    return select(part, vec2<f32>(), row[X][r].x == 0.0);
}

/// Takes out of the last column what lies in the span of the others: they are made orthogonal to each other, the largest
/// first. (Gram and Schmidt, twice; the reference projects onto the null space by its eigenvectors.)
fn take_out_barred(lane: u32) {
    var done = 0u;
    var first = 0.0;
    for (var step = 0u; step < row_count; step += 1u) {
        if lane < row_count {
            var most = select(0.0, -1.0, ((done >> lane) & 1u) == 1u);
            for (var r = 0u; r < row_count && most >= 0.0; r += 1u) {
                most = max(most, abs(barred[lane][r].x));
            }
            exchange[lane].x = most;
        }
        workgroupBarrier();
        var best = 0u;
        for (var c = 1u; c < row_count; c += 1u) {
            best = select(best, c, exchange[c].x > exchange[best].x);
        }
        let most = exchange[best].x;
        workgroupBarrier();
        first = max(first, most);
        if !(most > VANISHED * first) {
            break;
        }
        if lane == best {
            // (By a power of two first, so that no square is lost.)
            let unit = power_of_two(-exponent_above(bitcast<u32>(most)));
            var square = vec2<f32>();
            for (var r = 0u; r < row_count; r += 1u) {
                barred[best][r] *= unit;
                square = tf_add(square, tf_mul(barred[best][r], barred[best][r]));
            }
            let inverse = tf_div(tf(1.0), tf_sqrt(square));
            for (var r = 0u; r < row_count; r += 1u) {
                barred[best][r] = tf_mul(barred[best][r], inverse);
            }
        }
        done |= 1u << best;
        workgroupBarrier();
        if lane == 32u || (lane < row_count && ((done >> lane) & 1u) == 0u) {
            for (var time = 0u; time < 2u; time += 1u) {
                var dot = vec2<f32>();
                for (var r = 0u; r < row_count; r += 1u) {
                    dot = tf_add(dot, tf_mul(barred[best][r], barred[lane][r]));
                }
                for (var r = 0u; r < row_count; r += 1u) {
                    barred[lane][r] = tf_sub(barred[lane][r], tf_mul(dot, barred[best][r]));
                }
            }
        }
        workgroupBarrier();
    }
}
