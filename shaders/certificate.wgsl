// The proof that a problem has no solution. Twin of src/reference/certificate.rs.

/// Multipliers that move no sample by more than this part of what all of them do are what rounding left of zeros.
const NOISE: f32 = 1e-10;

/// By how much the least that `ray . A y` can be within the bounds exceeds the most that the rows allow, if that is beyond
/// doubt; else 0. (Farkas.) The ray is in `X`, 0 but for
/// one component.
fn lack_of_room(lane: u32) -> vec2<f32> {
    for (var b = 0u; b < block_count; b += 1u) {
        // A spread allows any centre, so only rays that are balanced over it are bounded.
        let balance = block_balance(b, X);
        let off = select(abs(balance.x), balance.x, blocks[b].ratio == 1u);
        if off > 1e-12 * balance.y {
            return vec2<f32>();
        }
    }
    var longest = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        longest += row_reach[r] * abs(row[X][r].x);
    }
    var most = vec2<f32>();
    var size = 0.0;
    var noise = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        let d = row[X][r];
        if d.x != 0.0 {
            let bound = select(rows_lower[r], rows_upper[r], d.x > 0.0);
            if abs(bound.x) == BIG {
                return vec2<f32>();
            }
            let allowed = tf_mul(d, bound);
            most = tf_add(most, allowed);
            size += abs(allowed.x);
            // What a multiplier pulls may vanish below; what its bound is worth must not count then.
            let moved = row_reach[r] * abs(d.x);
            noise += select(0.0, abs(allowed.x), moved > 0.0 && moved <= NOISE * longest);
        }
    }
    let least = least_of_ray(lane);
    let doubt = 1e-10 * size + noise + least.z;
    let gap = tf_sub(least.xy, most);
    return select(vec2<f32>(), gap, gap.x > doubt && is_finite(gap.x));
}

/// By how much all rows have to be relaxed at the least for what the ray in `X` proves, which lacks `lack`, not to hold any
/// more; 0 if no relaxation helps.
fn least_relaxation(lack: vec2<f32>) -> vec2<f32> {
    var per_unit = vec2<f32>();
    for (var r = 0u; r < row_count; r += 1u) {
        per_unit = tf_add(per_unit, row[X][r] * relaxed_bound(r, row[X][r].x));
    }
    return select(vec2<f32>(), tf_div(lack, per_unit), per_unit.x > 0.0);
}

/// The least that a ray can make of what it moves by `shift`, whose terms are up to `magnitude`, and which lies between
/// these bounds; and how far rounding may have it wrong.
fn least_within(shift: vec2<f32>, magnitude: f32, low: vec2<f32>, high: vec2<f32>) -> vec3<f32> {
    if abs(shift.x) <= 1e-11 * magnitude {
        // What cancellation leaves of a zero must not meet an infinite bound.
        let largest = max(select(0.0, abs(low.x), is_finite(low.x)), select(0.0, abs(high.x), is_finite(high.x)));
        return vec3<f32>(0.0, 0.0, abs(shift.x) * largest);
    }
    let bound = select(high, low, shift.x > 0.0);
    if !is_finite(bound.x) {
        return vec3<f32>(0.0, 0.0, BIG);
    }
    let term = tf_mul(shift, bound);
    return vec3<f32>(term, 1e-10 * abs(term.x) + 1e-12 * magnitude * abs(bound.x));
}
