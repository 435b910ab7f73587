// A problem's elements, shifted and clipped; and what `cells_prepare` found of the problem.


@group(0) @binding(2) var<storage, read> predictions: array<u32>;
@group(0) @binding(3) var<storage, read> cells: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read> lower: array<u32>;
@group(0) @binding(6) var<storage, read> upper: array<u32>;
@group(0) @binding(7) var<storage, read> totals: array<u32>;
@group(0) @binding(11) var<storage, read_write> results: array<u32>;

// Whether a number of the problem cannot be used.
var<workgroup> unusable: array<atomic<u32>, TEAMS>;
// Whether a value of the present pass is too large for its type.
var<workgroup> overflown: array<atomic<u32>, TEAMS>;

fn z_of(i: u32) -> u32 {
    let at = params.z_at + first + i;
    return in_word(predictions[word_of(at)], at);
}

// Bits moved into the bounds, of numbers that can be used.
fn clip(bits: u32, lo: u32, hi: u32) -> u32 {
    return select(select(bits, hi, key(bits) > key(hi)), lo, key(bits) < key(lo));
}

// The same of any. A NaN is left alone, and bounds nothing.
fn clip_any(bits: u32, lo: u32, hi: u32) -> u32 {
    if is_nan(bits) {
        return bits;
    }
    let raised = select(bits, lo, !is_nan(lo) && key(bits) < key(lo));
    return select(raised, hi, !is_nan(hi) && key(raised) > key(hi));
}

// An element moved by a shift. One that is not moved keeps its bits.
fn moved(bits: u32, shift: vec2<f32>) -> u32 {
    let t = guard(guard(bitcast<f32>(bits) - shift.x) - shift.y);
    return select(bitcast<u32>(t), bits, ((bitcast<u32>(shift.x) | bitcast<u32>(shift.y)) & 0x7fffffffu) == 0u);
}

fn totals_of(cell: u32) -> u32 {
    return problem * params.totals_stride + TOTALS_HEAD + TOTALS_CELL * cell;
}

fn totals_pair(at: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(totals[at]), bitcast<f32>(totals[at + 1u]));
}
