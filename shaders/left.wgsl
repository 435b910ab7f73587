// The problems that are left for the next dispatch: their numbers, and the workgroups that it needs for them. A module
// that is joined with this binds `left_out` and `left_count`.

// Puts the problem in hand on the list. One lane calls it.
fn leave() {
    let index = atomicAdd(&left_count[3], 1u);
    left_out[index] = problem;
    atomicMax(&left_count[0], min(index + 1u, params.most_columns));
    atomicMax(&left_count[1], index / params.most_columns + 1u);
    atomicMax(&left_count[2], 1u);
}
