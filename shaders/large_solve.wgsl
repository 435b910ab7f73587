// The backward solve of large problems, a workgroup a problem: from the sums of all tiles to what every element gets.

@compute @workgroup_size(LANES)
fn large_solve(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_large(group) {
        return;
    }
    if !is_solved() {
        fill_rows(lane, 0u);
        return;
    }
    fetch_spoilt(lane);
    if workgroupUniformLoad(&spoilt[team]) != 0u {
        fill_rows(lane, A_NAN);
        return;
    }
    clear_pull(lane);
    fetch_largest(lane, LARGE_GRADIENT);
    fetch_sums(lane, LARGE_GRADIENT);
    solve_cells(lane);
    for (var cell = lane; cell < params.cells; cell += LANES) {
        store_large_pair(LARGE_PULL + 2u * cell, cell_pull[cell]);
        store_large_pair(LARGE_WEIGHT_CONSTANT + 2u * cell, weight_constant[cell]);
        store_large_pair(LARGE_WEIGHT_SLOPE + 2u * cell, weight_slope[cell]);
        store_large_pair(LARGE_LABEL_SLOPE + 2u * cell, label_slope[cell]);
    }
}
