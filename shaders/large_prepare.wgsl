// `cells_prepare` of large problems, in three parts: a tile finds its cells and the largest numbers; then it sums relative to
// the largest of all tiles; then a workgroup a problem stores the totals.

@group(0) @binding(10) var<storage, read_write> large: array<atomic<u32>>;

@compute @workgroup_size(LANES)
fn large_prepare(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_large(group) {
        return;
    }
    clear_totals(lane);
    if PART == PART_BEGINS {
        find_cells(lane);
        if has_quantities() {
            if workgroupUniformLoad(&bad[team]) == 0u {
                note_quantities(lane);
            }
            give_largest(lane, LARGE_TOTALS);
        }
        for (var cell = lane; cell < params.cells; cell += LANES) {
            let here = atomicLoad(&counts[cell]);
            if here != 0u {
                atomicAdd(&large[large_at + LARGE_COUNTS + cell], here);
            }
        }
        if lane == 0u {
            atomicOr(&large[large_at + LARGE_BAD], atomicLoad(&bad[team]));
            atomicOr(&large[large_at + LARGE_UNBOUNDED], atomicLoad(&unbounded[team][0]));
            atomicOr(&large[large_at + LARGE_UNBOUNDED + 1u], atomicLoad(&unbounded[team][1]));
        }
        return;
    }
    if lane == 0u {
        atomicStore(&bad[team], atomicLoad(&large[large_at + LARGE_BAD]));
    }
    fetch_largest(lane, LARGE_TOTALS);
    if PART == PART_SUMS {
        if has_quantities() && workgroupUniformLoad(&bad[team]) == 0u {
            sum_quantities(lane);
            give_sums(lane, LARGE_TOTALS);
        }
        return;
    }
    for (var cell = lane; cell < params.cells; cell += LANES) {
        atomicStore(&counts[cell], atomicLoad(&large[large_at + LARGE_COUNTS + cell]));
    }
    if lane == 0u {
        atomicStore(&unbounded[team][0], atomicLoad(&large[large_at + LARGE_UNBOUNDED]));
        atomicStore(&unbounded[team][1], atomicLoad(&large[large_at + LARGE_UNBOUNDED + 1u]));
    }
    fetch_sums(lane, LARGE_TOTALS);
    store_totals(lane);
}
