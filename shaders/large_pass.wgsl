// What a projection does with the tiles of large problems, in three parts: a tile is sorted by cell, once; is summed at the
// shifts that `large_step` asked for, as often as it asks; and is written.

@group(0) @binding(12) var<storage, read_write> large: array<atomic<u32>>;

// What the problem waits for.
var<workgroup> stage_here: u32;

fn sort_tile(lane: u32) {
    clear_pass(lane);
    for (var cell = lane; cell < MAX_CELLS; cell += LANES) {
        atomicStore(&cell_end[cell], 0u);
    }
    if lane == 0u {
        atomicStore(&unusable[team], totals[problem * params.totals_stride]);
    }
    workgroupBarrier();
    // (Of a problem that cannot be used, the cells may lie anywhere.)
    if workgroupUniformLoad(&unusable[team]) != 0u {
        return;
    }
    for (var i = part_first + lane; i < part_end; i += LANES) {
        atomicAdd(&cell_end[cell_of(i)], 1u);
    }
    workgroupBarrier();
    if lane == 0u {
        var start = 0u;
        for (var cell = 0u; cell < params.cells; cell++) {
            let count = atomicLoad(&cell_end[cell]);
            atomicStore(&cell_end[cell], start);
            start += count;
        }
    }
    workgroupBarrier();
    sort_elements(lane);
    workgroupBarrier();
    for (var cell = lane; cell < params.cells; cell += LANES) {
        atomicStore(&large[ends_at + cell], atomicLoad(&cell_end[cell]));
        if WEIGHTED {
            atomicMax(&large[large_at + LARGE_WEIGHT_OF + cell], atomicLoad(&largest_weight_of[cell]));
        }
    }
    if lane == 0u {
        atomicOr(&large[large_at + LARGE_UNUSABLE], atomicLoad(&unusable[team]));
        atomicMax(&large[large_at + LARGE_CLIPPED], atomicLoad(&largest_clipped[team]));
        atomicMax(&large[large_at + LARGE_BEYOND], atomicLoad(&largest_beyond[team]));
        atomicMax(&large[large_at + LARGE_BOUND], atomicLoad(&largest_bound[team]));
        atomicMax(&large[large_at + LARGE_WEIGHT], atomicLoad(&largest_weight[team]));
    }
}

fn sum_tile(lane: u32) {
    if lane == 0u {
        stage_here = atomicLoad(&large[large_at + LARGE_STAGE]);
    }
    if workgroupUniformLoad(&stage_here) == WAITS_NOT {
        return;
    }
    clear_pass(lane);
    workgroupBarrier();
    fetch_pass(lane);
    for (var cell = lane; cell < params.cells; cell += LANES) {
        atomicStore(&cell_end[cell], atomicLoad(&large[ends_at + cell]));
    }
    workgroupBarrier();
    sum_elements_in_hand(lane, pass_exponents());
    for (var cell = lane; cell < params.cells; cell += LANES) {
        let at = 3u * cell;
        let of_y = Limbs(atomicLoad(&sum_y[at]), atomicLoad(&sum_y[at + 1u]), atomicLoad(&sum_y[at + 2u]));
        add_limbs(LARGE_SUM_Y + at, of_y);
        let of_free = Limbs(atomicLoad(&sum_free[at]), atomicLoad(&sum_free[at + 1u]), atomicLoad(&sum_free[at + 2u]));
        add_limbs(LARGE_SUM_FREE + at, of_free);
        add_coarse(LARGE_SUM_SIZE + 2u * cell, atomicLoad(&sum_size[cell]));
        add_coarse(LARGE_SUM_BEYOND + 2u * cell, atomicLoad(&sum_beyond[cell]));
    }
    if lane == 0u {
        atomicOr(&large[large_at + LARGE_OVERFLOWN], atomicLoad(&overflown[team]));
    }
}

// Adds the coarse sum of a tile, in halves.
fn add_coarse(at: u32, sum: u32) {
    if sum != 0u {
        atomicAdd(&large[large_at + at], sum & 0xffffu);
        atomicAdd(&large[large_at + at + 1u], sum >> 16u);
    }
}

fn write_tile(lane: u32) {
    fetch_pass(lane);
    workgroupBarrier();
    write_answer(lane, is_answer(results[problem * params.results_stride]));
}

@compute @workgroup_size(LANES)
fn large_pass(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_large(group) {
        return;
    }
    switch PART {
        case PART_BEGINS: {
            sort_tile(lane);
        }
        case PART_SUMS: {
            sum_tile(lane);
        }
        default: {
            write_tile(lane);
        }
    }
}
