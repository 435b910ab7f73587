// A problem's elements: shifted, clipped, and written. A module that is joined with this has `shift_at(i)`, the shift of an
// element at the last pass.

override LANES: u32 = 64u;

@group(0) @binding(2) var<storage, read> predictions: array<u32>;
@group(0) @binding(3) var<storage, read> cells: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read> lower: array<u32>;
@group(0) @binding(6) var<storage, read> upper: array<u32>;
@group(0) @binding(7) var<storage, read> totals: array<u32>;
@group(0) @binding(10) var<storage, read_write> clamp_out: array<u32>;
@group(0) @binding(11) var<storage, read_write> results: array<u32>;

// Whether a number of the problem cannot be used.
var<workgroup> unusable: atomic<u32>;
// Whether a value of the present pass is too large for its type.
var<workgroup> overflown: atomic<u32>;
var<workgroup> clamp_here: array<atomic<u32>, LANES>;

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

// Writes the values and clamp states at the shifts of the last pass; of a problem without an answer clip(z), none free.
fn write_answer(lane: u32, has_answer: bool) {
    let words = first / CLAMP_LANES + problem;
    for (var tile = part_first; tile < part_end; tile += CLAMP_LANES * LANES) {
        atomicStore(&clamp_here[lane], 0u);
        workgroupBarrier();
        let end = min(tile + CLAMP_LANES * LANES, part_end);
        for (var i = tile + lane; i < end; i += LANES) {
            let bits = z_of(i);
            let lo = lower_of(i);
            let hi = upper_of(i);
            if has_answer {
                let t = moved(bits, shift_at(i));
                store_y_out(first + i, clip(t, lo, hi));
                let below = key(t) < key(lo);
                let above = key(t) > key(hi);
                if below || above {
                    let mark = select(1u, 1u | (1u << CLAMP_LANES), above);
                    atomicOr(&clamp_here[(i - tile) / CLAMP_LANES], mark << (i % CLAMP_LANES));
                }
            } else {
                store_y_out(first + i, clip_any(bits, lo, hi));
            }
        }
        workgroupBarrier();
        if tile + CLAMP_LANES * lane < part_end {
            let word = atomicLoad(&clamp_here[lane]);
            clamp_out[words + tile / CLAMP_LANES + lane] = select((1u << CLAMP_LANES) - 1u, word, has_answer);
        }
    }
}
