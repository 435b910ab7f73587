// `cells_prepare`: the cells of a problem's elements, what is summed of them, and what cannot be used. A workgroup has a
// problem.

@compute @workgroup_size(LANES)
fn cells_prepare(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_up(group) {
        return;
    }
    clear_totals(lane);
    find_cells(lane);
    if has_quantities() && workgroupUniformLoad(&bad) == 0u {
        note_quantities(lane);
        sum_quantities(lane);
    }
    store_totals(lane);
}
