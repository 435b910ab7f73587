// The problems that are left for the next dispatch: their numbers, and the workgroups that it needs for them.

@group(0) @binding(12) var<storage, read_write> left_out: array<u32>;
@group(0) @binding(13) var<storage, read_write> left_count: array<atomic<u32>, 4>;

// Puts the problem in hand on the list. One lane calls it.
fn leave() {
    let index = atomicAdd(&left_count[3], 1u);
    left_out[index] = problem;
    atomicMax(&left_count[0], min(index + 1u, params.most_columns));
    atomicMax(&left_count[1], index / params.most_columns + 1u);
    atomicMax(&left_count[2], 1u);
}
