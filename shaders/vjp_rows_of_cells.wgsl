// What the backward solve asks of rows over cells: their squares, the system of the rows held, and what these pull.

fn row_square(row: u32) -> f32 {
    return square_over_cells(row);
}

fn row_unit(row: u32) -> f32 {
    return 1.0;
}

fn fill_system(lane: u32) {
    let k = held_rows;
    for (var at = lane; at < k * k; at += LANES) {
        let i = at / k;
        let j = at % k;
        if j <= i {
            var sum = tf(0.0);
            for (var cell = 0u; cell < params.cells; cell++) {
                if cell_free[cell].x > 0.0 {
                    sum = tf_add(sum, tf_mul(tf_mul(reduced(i, cell), reduced(j, cell)), cell_free[cell]));
                }
            }
            system[packed(i, j)] = sum;
        }
    }
    for (var i = lane; i < k; i += LANES) {
        var sum = tf(0.0);
        for (var cell = 0u; cell < params.cells; cell++) {
            sum = tf_add(sum, tf_mul(reduced(i, cell), cell_gradient[cell]));
        }
        rhs[i] = sum;
        step_of[i] = NONE;
    }
    workgroupBarrier();
}

fn fill_pull(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += LANES) {
        var sum = tf(0.0);
        for (var index = 0u; index < held_rows; index++) {
            sum = tf_add(sum, tf_mul(coefficient(held[index], cell), lambda[held[index]]));
        }
        cell_pull[cell] = sum;
    }
    workgroupBarrier();
}

fn solve_rows(lane: u32) {
    solve_held(lane);
}
