// What a pass over a large problem is at, for the tiles that are summed or written and the step that takes their sums: the
// shifts asked for, and the largest magnitudes of all tiles, which the sums are cut relative to.

// All lanes together, before a barrier.
fn fetch_pass(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_shift[cell] = large_pair(LARGE_SHIFT + 2u * cell);
        atomicStore(&largest_weight_of[cell], atomicLoad(&large[large_at + LARGE_WEIGHT_OF + cell]));
    }
    if lane == 0u {
        atomicStore(&largest_clipped[team], atomicLoad(&large[large_at + LARGE_CLIPPED]));
        atomicStore(&largest_beyond[team], atomicLoad(&large[large_at + LARGE_BEYOND]));
        atomicStore(&largest_bound[team], atomicLoad(&large[large_at + LARGE_BOUND]));
        atomicStore(&largest_weight[team], atomicLoad(&large[large_at + LARGE_WEIGHT]));
    }
}
