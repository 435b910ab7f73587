// Exact sums that know no order: numbers cut into integers of 22 bits. A value is `low + high 2^22 + top 2^44` in units that
// the largest value sets; what lies below 2^-44 of it is rounded away. Whoever adds carries before 2^9 terms are together.

struct Limbs {
    low: i32,
    high: i32,
    top: i32,
}

const LIMB = 22u;
const LIMB_MASK = 0x3fffff;
const LIMB_SIZE = 4194304.0;

// The factor that brings values below 2^e into the range of `cut`.
fn limb_scale(e: i32) -> f32 {
    return power_of_two(22 - e);
}

// The integers of `value`, |value| < 2^e.
fn cut(value: vec2<f32>, scale: f32) -> vec2<i32> {
    let scaled = guard(value.x * scale);
    let high = i32(scaled);
    let rest = guard(scaled - f32(high)) + guard(value.y * scale);
    return vec2<i32>(i32(round(guard(rest) * LIMB_SIZE)), high);
}

// The same of a single float.
fn cut_single(value: f32, scale: f32) -> vec2<i32> {
    let scaled = value * scale;
    let high = i32(scaled);
    return vec2<i32>(i32(round((scaled - f32(high)) * LIMB_SIZE)), high);
}

// The same number with `low` and `high` in [0, 2^22).
fn carried(a: Limbs) -> Limbs {
    let high = a.high + (a.low >> LIMB);
    return Limbs(a.low & LIMB_MASK, high & LIMB_MASK, a.top + (high >> LIMB));
}

// The number, in units of the values that were cut with 2^e.
fn joined(sum: Limbs, e: i32) -> vec2<f32> {
    let a = carried(sum);
    // Exact: every limb has at most 24 bits.
    let top = quick_two_sum(f32(a.top) * LIMB_SIZE, f32(a.high));
    let all = quick_two_sum(top.x, guard(top.y + f32(a.low) / LIMB_SIZE));
    let scale = power_of_two(clamp(e - 22, -126, 127));
    return vec2<f32>(all.x * scale, all.y * scale);
}
