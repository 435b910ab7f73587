// What drives the backward kernels, a team a problem: the gradient of a scalar function of y to every input of the
// projection. `solve_rows`, of the files that this is joined with, finds lambda, what the rows' limits get, and what the
// samples are pulled by.

// From the sums to what every element gets.
fn solve_cells(lane: u32) {
    take_sums(lane);
    solve_rows(lane);
    if wants(WANT_WEIGHTS | WANT_LABELS) {
        find_element_terms(lane);
    }
}

fn fill(lane: u32, bits: u32) {
    fill_elements(lane, bits);
    fill_coefficients(lane, bits);
    fill_rows(lane, bits);
}

fn pull_back(lane: u32) {
    if !is_idle && (!is_solved() || n == 0u) {
        fill(lane, 0u);
        rest();
    }
    if is_resting && TEAMS == 1u {
        return;
    }
    clear_gradient(lane);
    note_quantities(lane);
    if !is_resting && atomicLoad(&spoilt[team]) != 0u {
        fill(lane, A_NAN);
        rest();
    }
    if is_resting && TEAMS == 1u {
        return;
    }
    sum_quantities(lane);
    solve_cells(lane);
    write_elements(lane);
    if !is_resting {
        write_coefficients(lane);
    }
}
