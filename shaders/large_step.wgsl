// The Newton machine of large problems, a workgroup a problem: a dispatch begins it, and every further one tells it the sums
// that the tiles made at its shifts, until it has ended. As long as any problem waits for sums, the next two dispatches, of
// all tiles and of all large problems, have workgroups.

@group(0) @binding(12) var<storage, read_write> large: array<atomic<u32>>;
// For every second link of the chain, the workgroups over tiles, and those over problems.
@group(0) @binding(13) var<storage, read_write> next_counts: array<atomic<u32>>;

// Words of the counts of a link.
const COUNTS_OF_LINK = 8u;

var<workgroup> stage_here: u32;
var<workgroup> link_here: u32;
var<workgroup> passes_here: u32;
var<workgroup> status_here: u32;

fn state_read(at: u32) -> u32 {
    return atomicLoad(&large[large_at + LARGE_STATE + at]);
}

fn state_write(at: u32, word: u32) {
    atomicStore(&large[large_at + LARGE_STATE + at], word);
}

// The sums of all tiles at the last shifts, which are cleared for the next pass.
fn take_pass(lane: u32) {
    let exponents = pass_exponents();
    // (Then no point of this kind is a solution.)
    let spoilt = select(0u, 0x7fc00000u, workgroupUniformLoad(&overflown[team]) != 0u);
    for (var cell = lane; cell < params.cells; cell += LANES) {
        let e = cell_exponent(cell);
        let y_e = within(exponents.x + e);
        let of_y = joined(limbs_at(LARGE_SUM_Y + 3u * cell), y_e);
        cell_y[cell] = vec2<f32>(bitcast<f32>(bitcast<u32>(of_y.x) | spoilt), of_y.y);
        let of_free = limbs_at(LARGE_SUM_FREE + 3u * cell);
        if WEIGHTED {
            cell_free[cell] = joined(of_free, e);
        } else {
            // (Plain counts, up to 2^24.)
            cell_free[cell] = tf(f32(of_free.low + of_free.high * i32(LIMB_SIZE)));
        }
        cell_size[cell] = coarse_at(LARGE_SUM_SIZE + 2u * cell) / coarse_scale(y_e);
        cell_beyond[cell] = coarse_at(LARGE_SUM_BEYOND + 2u * cell) / coarse_scale(within(exponents.y + e));
        for (var limb = 0u; limb < 3u; limb++) {
            atomicStore(&large[large_at + LARGE_SUM_Y + 3u * cell + limb], 0u);
            atomicStore(&large[large_at + LARGE_SUM_FREE + 3u * cell + limb], 0u);
        }
        for (var half = 0u; half < 2u; half++) {
            atomicStore(&large[large_at + LARGE_SUM_SIZE + 2u * cell + half], 0u);
            atomicStore(&large[large_at + LARGE_SUM_BEYOND + 2u * cell + half], 0u);
        }
    }
    if lane == 0u {
        atomicStore(&large[large_at + LARGE_OVERFLOWN], 0u);
    }
    workgroupBarrier();
}

fn coarse_at(at: u32) -> f32 {
    let low = atomicLoad(&large[large_at + at]);
    let high = atomicLoad(&large[large_at + at + 1u]);
    return f32(high) * 65536.0 + f32(low);
}

// The problem has ended: nothing is left to do but to write its values.
fn end_with(lane: u32, status: u32, passes: u32, excess: vec2<f32>) {
    if lane == 0u {
        atomicStore(&large[large_at + LARGE_STAGE], WAITS_NOT);
    }
    report(lane, status, passes, excess);
}

// Asks for a pass over the tiles, and for another step after it.
fn wait_for(lane: u32, stage: u32, status: u32, passes: u32) {
    for (var cell = lane; cell < params.cells; cell += LANES) {
        store_large_pair(LARGE_SHIFT + 2u * cell, cell_shift[cell]);
    }
    machine_save(lane);
    if lane == 0u {
        let link = link_here + 1u;
        atomicStore(&large[large_at + LARGE_STAGE], stage);
        atomicStore(&large[large_at + LARGE_LINK], link);
        atomicStore(&large[large_at + LARGE_PASSES], passes);
        atomicStore(&large[large_at + LARGE_STATUS], status);
        // (Every problem that waits says the same.)
        set_next(COUNTS_OF_LINK * (link / 2u), params.tiles);
        set_next(COUNTS_OF_LINK * (link / 2u) + 4u, params.larges);
    }
}

fn set_next(at: u32, count: u32) {
    let columns = min(count, params.most_columns);
    atomicStore(&next_counts[at], columns);
    atomicStore(&next_counts[at + 1u], (count + columns - 1u) / columns);
    atomicStore(&next_counts[at + 2u], 1u);
}

@compute @workgroup_size(LANES)
fn large_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_large(group) {
        return;
    }
    if lane == 0u {
        stage_here = atomicLoad(&large[large_at + LARGE_STAGE]);
        link_here = atomicLoad(&large[large_at + LARGE_LINK]);
        passes_here = atomicLoad(&large[large_at + LARGE_PASSES]);
        status_here = atomicLoad(&large[large_at + LARGE_STATUS]);
        let of_totals = totals[problem * params.totals_stride];
        atomicStore(&unusable[team], atomicLoad(&large[large_at + LARGE_UNUSABLE]) | of_totals);
        atomicStore(&overflown[team], atomicLoad(&large[large_at + LARGE_OVERFLOWN]));
        machine_steps = 0u;
        machine_residual = 0.0;
    }
    let stage = workgroupUniformLoad(&stage_here);
    let begins = params.link == 0u;
    if !begins && stage == WAITS_NOT {
        return;
    }
    if workgroupUniformLoad(&unusable[team]) != 0u {
        end_with(lane, STATUS_BAD_NUMBER, 0u, tf(0.0));
        return;
    }
    fetch_pass(lane);
    workgroupBarrier();
    normalise_cells(lane);
    machine_begin(lane);
    var passes = passes_here;
    if !begins {
        machine_restore(lane);
        // (What the tiles were summed at, which may be no place of the machine's.)
        fetch_pass(lane);
        workgroupBarrier();
        take_pass(lane);
        normalise_sums(lane);
        if stage == WAITS_FOR_EXCESS {
            if lane == 0u {
                machine_steps = newton.steps;
                machine_residual = test.residual;
            }
            end_with(lane, status_here, passes, machine_excess_here(lane));
            return;
        }
        passes++;
        machine_step(lane);
        workgroupBarrier();
    }
    let has_ended = workgroupUniformLoad(&machine_stage) != 0u;
    let status = workgroupUniformLoad(&machine_status);
    if has_ended && (is_answer(status) || status == STATUS_BAD_NUMBER) {
        end_with(lane, status, passes, machine_excess);
        return;
    }
    // The last link of the chain is for those without an answer: by how much the rows are exceeded at clip(z).
    let is_limited = !has_ended && link_here + 1u >= params.large_links;
    if has_ended || is_limited {
        workgroupBarrier();
        clear_shift(lane);
        workgroupBarrier();
        wait_for(lane, WAITS_FOR_EXCESS, select(status, STATUS_ITERATION_LIMIT, is_limited), passes);
    } else {
        wait_for(lane, WAITS_FOR_SUMS, status, passes);
    }
}
