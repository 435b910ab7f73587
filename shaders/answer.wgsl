// The answer of a problem, as it is written, to the output `y_out`. A module that is joined with this has `shift_at(i)`, the
// shift of an element at the last pass.

@group(0) @binding(10) var<storage, read_write> clamp_out: array<u32>;

var<workgroup> clamp_here: array<atomic<u32>, LANES>;

// Writes an element, and returns its clamp state: of a problem without an answer clip(z), not free.
fn write_element(i: u32, has_answer: bool) -> u32 {
    let bits = z_of(i);
    let lo = lower_of(i);
    let hi = upper_of(i);
    if !has_answer {
        store_y_out(first + i, clip_any(bits, lo, hi));
        return 1u;
    }
    let t = moved(bits, shift_at(i));
    let below = key(t) < key(lo);
    let above = key(t) > key(hi);
    store_y_out(first + i, select(select(t, hi, above), lo, below));
    return select(select(0u, 1u, below), 1u | (1u << CLAMP_LANES), above);
}

// Writes the values and clamp states at the shifts of the last pass; of a problem without an answer clip(z), none free.
fn write_answer(lane: u32, has_answer: bool) {
    let words = first / CLAMP_LANES + problem;
    if TEAM < CLAMP_LANES {
        // Too few lanes to share a word of states: each has its own.
        for (var word = part_first / CLAMP_LANES + lane; word * CLAMP_LANES < part_end; word += TEAM) {
            var states = 0u;
            let begin = word * CLAMP_LANES;
            for (var i = begin; i < min(begin + CLAMP_LANES, part_end); i++) {
                states |= write_element(i, has_answer) << (i - begin);
            }
            clamp_out[words + word] = select((1u << CLAMP_LANES) - 1u, states, has_answer);
        }
        return;
    }
    for (var tile = part_first; tile < common_end(); tile += CLAMP_LANES * TEAM) {
        atomicStore(&clamp_here[team * TEAM + lane], 0u);
        workgroupBarrier();
        let end = min(tile + CLAMP_LANES * TEAM, part_end);
        for (var i = tile + lane; i < end; i += TEAM) {
            let state = write_element(i, has_answer);
            if state != 0u {
                atomicOr(&clamp_here[team * TEAM + (i - tile) / CLAMP_LANES], state << (i % CLAMP_LANES));
            }
        }
        workgroupBarrier();
        if tile + CLAMP_LANES * lane < part_end {
            let word = atomicLoad(&clamp_here[team * TEAM + lane]);
            clamp_out[words + tile / CLAMP_LANES + lane] = select((1u << CLAMP_LANES) - 1u, word, has_answer);
        }
    }
}
