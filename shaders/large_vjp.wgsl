// The backward pass over the tiles of large problems, in three parts: a tile finds the largest numbers; then it sums relative
// to the largest of all tiles; and, after `large_solve`, it is written.

fn write_tile(lane: u32) {
    if workgroupUniformLoad(&spoilt[team]) != 0u {
        fill_elements(lane, A_NAN);
        return;
    }
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_pull[cell] = large_pair(LARGE_PULL + 2u * cell);
        weight_constant[cell] = large_pair(LARGE_WEIGHT_CONSTANT + 2u * cell);
        weight_slope[cell] = large_pair(LARGE_WEIGHT_SLOPE + 2u * cell);
        label_slope[cell] = large_pair(LARGE_LABEL_SLOPE + 2u * cell);
    }
    workgroupBarrier();
    write_elements(lane);
}

@compute @workgroup_size(LANES)
fn large_vjp(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_large(group) {
        return;
    }
    if !is_solved() {
        if PART == PART_ENDS {
            fill_elements(lane, 0u);
        }
        return;
    }
    clear_gradient(lane);
    if PART == PART_BEGINS {
        note_quantities(lane);
        give_largest(lane, LARGE_GRADIENT);
        if lane == 0u {
            atomicOr(&large[large_at + LARGE_SPOILT], atomicLoad(&spoilt[team]));
        }
        return;
    }
    fetch_spoilt(lane);
    if PART == PART_ENDS {
        write_tile(lane);
    } else if workgroupUniformLoad(&spoilt[team]) == 0u {
        fetch_largest(lane, LARGE_GRADIENT);
        sum_quantities(lane);
        give_sums(lane, LARGE_GRADIENT);
    }
}
