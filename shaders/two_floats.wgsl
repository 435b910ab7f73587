// Numbers kept as an unevaluated sum of two f32, the second below the last digit of the first: 48 bits, where 24 would
// cancel away. Twin of src/reference/two_floats.rs.
//
// A compiler may reassociate sums, and then what rounding took is found to be 0. Every partial sum that this rests on is
// therefore passed through `guard`, which changes nothing, but no compiler knows that: `opaque_zero`, of the module that
// this text is joined to, loads a zero from a uniform. Whether products and sums are fused does not matter here.

/// The same number, from which the compiler cannot tell what it is made of.
fn guard(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ opaque_zero());
}

/// `a + b`, and what its rounding took. (Knuth.)
fn two_sum(a: f32, b: f32) -> vec2<f32> {
    let sum = guard(a + b);
    let part = guard(sum - a);
    let rest = guard(sum - part);
    return vec2<f32>(sum, guard(a - rest) + guard(b - part));
}

/// The same where `a` is not smaller than `b`, or 0 only if `b` is. (Dekker.)
fn quick_two_sum(a: f32, b: f32) -> vec2<f32> {
    let sum = guard(a + b);
    return vec2<f32>(sum, b - guard(sum - a));
}

/// The leading 12 bits of a number; what is left has 12 as well.
fn leading(a: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(a) & 0xfffff000u);
}

/// `a * b`, and what its rounding took. (Dekker; the parts are cut by their bits, so that nothing overflows.)
fn two_product(a: f32, b: f32) -> vec2<f32> {
    let product = guard(a * b);
    let a_high = leading(a);
    let b_high = leading(b);
    let a_low = guard(a - a_high);
    let b_low = guard(b - b_high);
    let first = guard(a_high * b_high - product);
    let second = guard(first + a_high * b_low);
    let third = guard(second + a_low * b_high);
    return vec2<f32>(product, third + a_low * b_low);
}

fn tf(x: f32) -> vec2<f32> {
    return vec2<f32>(x, 0.0);
}

/// Errors are up to 2^-45 of `|a| + |b|`.
fn tf_add(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let sum = two_sum(a.x, b.x);
    return quick_two_sum(sum.x, sum.y + (a.y + b.y));
}

fn tf_sub(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return tf_add(a, -b);
}

fn tf_mul(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let product = two_product(a.x, b.x);
    return quick_two_sum(product.x, product.y + (a.x * b.y + a.y * b.x));
}

/// A two-float times a number.
fn tf_scale(a: vec2<f32>, s: f32) -> vec2<f32> {
    let product = two_product(a.x, s);
    return quick_two_sum(product.x, product.y + a.y * s);
}

/// Division need not round to the nearest, so what the first quotient leaves is divided again.
fn tf_div(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let first = guard(a.x / b.x);
    let product = two_product(first, b.x);
    let rest = guard(guard(a.x - product.x) - product.y) + (a.y - first * b.y);
    return quick_two_sum(first, rest / b.x);
}

fn tf_sqrt(square: vec2<f32>) -> vec2<f32> {
    let root = sqrt(square.x);
    let rest = tf_sub(square, two_product(root, root));
    return quick_two_sum(root, 0.5 * rest.x / root);
}

fn tf_neg(a: vec2<f32>) -> vec2<f32> {
    return -a;
}

fn tf_abs(a: vec2<f32>) -> vec2<f32> {
    return select(a, -a, a.x < 0.0);
}

/// Whether `a < b`; false with a NaN.
fn tf_less(a: vec2<f32>, b: vec2<f32>) -> bool {
    let here = number(a.x) && number(b.x);
    return here && (a.x < b.x || (a.x == b.x && a.y < b.y));
}

/// -1, 0 or 1.
fn tf_sign(a: vec2<f32>) -> f32 {
    return sign(a.x);
}

/// Whether this is a finite number, told by its bits: a compiler may take it for granted.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn number(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) <= 0x7f800000u;
}
