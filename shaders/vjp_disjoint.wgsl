// The backward solve of difference spreads of unions that share no cell: the closed form of `Disjoint::pull_back` in
// `src/reference/disjoint.rs`, spread by spread, a lane each.
//
// With h = free / mass^2 and r the mean gradient of a union: lambda = (r - c) / h over the unions held, whose sum is zero.
// Where some of those have no free element, they balance the others, which then need no c.

fn union_sums(row: u32) -> array<vec2<f32>, 3> {
    var mass = tf(0.0);
    var free = tf(0.0);
    var all = tf(0.0);
    for (var rest = row_plus(row); rest != 0u; rest &= rest - 1u) {
        let cell = firstTrailingBit(rest);
        mass = tf_add(mass, cell_weight(cell));
        free = tf_add(free, cell_free[slot(cell)]);
        all = tf_add(all, cell_gradient[slot(cell)]);
    }
    return array<vec2<f32>, 3>(mass, free, all);
}

fn solve_spread(spread: u32) {
    let epsilon = level(spread);
    let equality = epsilon.x == 0.0;
    var weights = tf(0.0);
    var weighted = tf(0.0);
    var fixed = 0.0;
    for (var row = spread_first(spread); row < spread_end(spread); row++) {
        if is_live(row) && (equality || multiplier(row).x != 0.0) {
            let s = union_sums(row);
            if s[1].x > 0.0 {
                let inverse = tf_div(tf_mul(s[0], s[0]), s[1]);
                weights = tf_add(weights, inverse);
                weighted = tf_add(weighted, tf_mul(tf_div(s[2], s[0]), inverse));
            } else {
                fixed += 1.0;
            }
        }
    }
    var centre = tf(0.0);
    var rest = tf(0.0);
    if fixed > 0.0 {
        rest = tf_scale(tf_neg(weighted), 1.0 / fixed);
    } else if weights.x > 0.0 {
        centre = tf_div(weighted, weights);
    }
    var to_epsilon = tf(0.0);
    for (var row = spread_first(spread); row < spread_end(spread); row++) {
        let nu = multiplier(row).x;
        if is_live(row) && (equality || nu != 0.0) && (fixed > 0.0 || weights.x > 0.0) {
            let s = union_sums(row);
            var own = rest;
            if s[1].x > 0.0 {
                own = tf_mul(tf_sub(tf_div(s[2], s[0]), centre), tf_div(tf_mul(s[0], s[0]), s[1]));
            }
            lambda[slot(row)] = own;
            to_epsilon = tf_add(to_epsilon, tf_scale(own, 0.5 * sign(nu)));
            let pull = tf_div(own, s[0]);
            for (var cells_left = row_plus(row); cells_left != 0u; cells_left &= cells_left - 1u) {
                cell_pull[slot(firstTrailingBit(cells_left))] = pull;
            }
        }
    }
    store_level(spread, to_epsilon);
}

fn solve_rows(lane: u32) {
    for (var spread = lane; spread < params.spreads; spread += TEAM) {
        if !is_resting {
            solve_spread(spread);
        }
    }
    workgroupBarrier();
}
