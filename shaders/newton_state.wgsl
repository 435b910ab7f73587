// The state of the Newton machine between two passes, for kernels that end with each pass: see `machine_save`. The module
// that this text is joined to has `state_read(at)` and `state_write(at, word)`, for `MACHINE_WORDS` words a problem.

const MACHINE_WORDS: u32 = 480u;
const SCALAR_WORDS: u32 = 32u;

/// The numbers of the lane's own row that outlast a pass.
fn row_state(r: u32, index: u32) -> vec2<f32> {
    switch index {
        case 0u: { return row[NU][r]; }
        case 1u: { return row[TRIAL][r]; }
        case 2u: { return row[STEP][r]; }
        case 3u: { return row_aim; }
        case 4u: { return asked_lower[r]; }
        case 5u: { return asked_upper[r]; }
        default: { return row_relaxed[r]; }
    }
}

/// Writes what `machine_restore` needs. All lanes call it, after `machine_begin` or `machine_step`.
fn machine_save(lane: u32) {
    if lane < row_count {
        for (var index = 0u; index < 7u; index += 1u) {
            let value = row_state(lane, index);
            let at = SCALAR_WORDS + 14u * lane + 2u * index;
            state_write(at, bitcast<u32>(value.x));
            state_write(at + 1u, bitcast<u32>(value.y));
        }
    }
    if lane == 0u {
        let of_test = u32(test.tightened) | (u32(test.repaired) << 1u);
        let of_search = u32(search.has_high) | (u32(search.has_kept) << 1u);
        let bits = u32(newton.warm) | (of_test << 1u) | (of_search << 3u);
        var words = array<u32, 32>(
            bits, newton.stage, newton.steps, newton.passes, newton.attempt, newton.spent_steps, newton.spent_passes,
            bitcast<u32>(newton.last_residual), bitcast<u32>(prox), u32(is_relaxed), bitcast<u32>(newton.room),
            bitcast<u32>(test.residual), bitcast<u32>(test.tolerance), bitcast<u32>(test.growth), bitcast<u32>(test.best),
            test.stall, bitcast<u32>(search.step.x), bitcast<u32>(search.step.y), bitcast<u32>(search.max_step),
            bitcast<u32>(search.start_slope), bitcast<u32>(search.low.x), bitcast<u32>(search.low.y),
            bitcast<u32>(search.low_slope), bitcast<u32>(search.high.x), bitcast<u32>(search.high.y),
            bitcast<u32>(search.high_slope), search.trials,
            newton.status, bitcast<u32>(newton.excess.x), bitcast<u32>(newton.excess.y),
            newton.relaxations, newton.steps_before,
        );
        for (var at = 0u; at < 32u; at += 1u) {
            state_write(at, words[at]);
        }
    }
}

fn state_float(at: u32) -> f32 {
    return bitcast<f32>(state_read(at));
}

fn state_pair(at: u32) -> vec2<f32> {
    return vec2<f32>(state_float(at), state_float(at + 1u));
}

/// Takes up a problem where `machine_save` left it, and asks again for what it was waiting for. `machine_begin` has just
/// been called, with the cells' weights and labels of then.
fn machine_restore(lane: u32) {
    let bits = state_read(0u);
    newton = Newton(state_read(1u), state_read(27u), state_read(2u), state_read(3u), (bits & 1u) != 0u, state_float(7u),
        state_read(4u), state_read(5u), state_read(6u), state_pair(28u), state_float(10u),
        state_read(30u), state_read(31u));
    prox = state_float(8u);
    test = StopTest(state_float(11u), state_float(12u), state_float(13u), (bits & 2u) != 0u, (bits & 4u) != 0u,
        state_float(14u), state_read(15u));
    search = LineSearch(state_pair(16u), state_float(18u), state_float(19u), state_pair(20u), state_float(22u),
        state_pair(23u), state_float(25u), (bits & 8u) != 0u, (bits & 16u) != 0u, state_read(26u));
    is_relaxed = state_read(9u) == 1u;
    is_given_ray = false;
    if lane < row_count {
        let at = SCALAR_WORDS + 14u * lane;
        row[NU][lane] = state_pair(at);
        row[TRIAL][lane] = state_pair(at + 2u);
        row[STEP][lane] = state_pair(at + 4u);
        row_aim = state_pair(at + 6u);
        asked_lower[lane] = state_pair(at + 8u);
        asked_upper[lane] = state_pair(at + 10u);
        relax_row(lane, state_pair(at + 12u));
    }
    workgroupBarrier();
    set_shift(lane);
    workgroupBarrier();
}
