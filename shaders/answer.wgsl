// The answer of a problem, as it is written, to the output `y_out`. A module that is joined with this has `shift_at(i)`, the
// shift of an element at the last pass.

@group(0) @binding(10) var<storage, read_write> clamp_out: array<u32>;

var<workgroup> clamp_here: array<atomic<u32>, LANES>;

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
