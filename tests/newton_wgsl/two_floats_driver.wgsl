// Every operation of two_floats.wgsl on pairs of two-floats.

@group(0) @binding(0) var<uniform> zero: vec4<u32>;
@group(0) @binding(1) var<storage, read> operands: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> results: array<array<vec2<f32>, 8>>;

fn opaque_zero() -> u32 { return zero.x; }

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&operands) { return; }
    let a = operands[id.x].xy;
    let b = operands[id.x].zw;
    results[id.x][0] = tf_add(a, b);
    results[id.x][1] = tf_sub(a, b);
    results[id.x][2] = tf_mul(a, b);
    results[id.x][3] = tf_div(a, b);
    results[id.x][4] = two_sum(a.x, b.x);
    results[id.x][5] = two_product(a.x, b.x);
    results[id.x][6] = tf_scale(a, b.x);
    results[id.x][7] = vec2<f32>(f32(tf_less(a, b)), f32(tf_less(b, a)));
}
