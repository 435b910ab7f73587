// `cells_prepare`: the cells of a problem's elements, what is summed of them, and what cannot be used. A team has a problem.

@compute @workgroup_size(LANES)
fn cells_prepare(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let lane = join_team(group, invocation);
    clear_totals(lane);
    find_cells(lane);
    if has_quantities() {
        if atomicLoad(&bad[team]) != 0u {
            rest();
        }
        note_quantities(lane);
        sum_quantities(lane);
    }
    store_totals(lane);
}
