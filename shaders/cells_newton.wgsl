// `cells_newton`: projection onto spreads and contrasts of any kind by a proximal Newton method on the dual, a workgroup a
// problem. The method is the machine of `newton.wgsl`, which asks for sums at shifts and is told; this drives it.
//
// The machine's weights sum to 1.

// Whether `cells_disjoint` went before, and only what it handed over is left.
override LEFT_OVER: bool = true;

var<workgroup> inverse_total: vec2<f32>;
var<workgroup> cell_label: array<vec2<f32>, 32>;

fn total_weight() -> vec2<f32> {
    return totals_pair(problem * params.totals_stride + 2u);
}

fn set_cells() -> u32 {
    return params.cells;
}

fn set_rows() -> u32 {
    return params.rows;
}

fn set_spreads() -> u32 {
    return params.spreads;
}

fn set_contrasts() -> u32 {
    return params.contrasts;
}

fn tolerance() -> vec2<f32> {
    return params.tolerance;
}

fn unit_roundoff() -> f32 {
    return params.unit_roundoff;
}

fn max_iterations() -> u32 {
    return params.max_iterations;
}

fn relax_infeasible() -> bool {
    return has(RELAX);
}

fn warm_start(row: u32) -> vec2<f32> {
    return tf_div(start_of(row), total_weight());
}

// A sum over a cell in the totals, over weights that sum to 1; infinite ones stay so.
fn normalised(at: u32) -> vec2<f32> {
    let value = totals_pair(at);
    if is_special(bitcast<u32>(value.x)) {
        return value;
    }
    return tf_div(value, total_weight());
}

fn cell_low(cell: u32) -> vec2<f32> {
    return normalised(totals_of(cell) + 5u);
}

fn cell_high(cell: u32) -> vec2<f32> {
    return normalised(totals_of(cell) + 7u);
}

// A pass, with its sums over weights that sum to 1.
fn normalised_pass(lane: u32) {
    pass_over(lane);
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_y[cell] = tf_mul(cell_y[cell], inverse_total);
        cell_free[cell] = tf_mul(cell_free[cell], inverse_total);
        cell_size[cell] *= inverse_total.x;
        cell_beyond[cell] *= inverse_total.x;
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn cells_newton(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_up(group) {
        return;
    }
    let record = problem * params.results_stride;
    if LEFT_OVER && results[record] != STATUS_HANDED_OVER {
        return;
    }
    load_problem(lane);
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_weight[cell] = normalised(totals_of(cell) + 1u);
        cell_label[cell] = normalised(totals_of(cell) + 3u);
    }
    if lane == 0u {
        let unit = power_of_two(-weight_exponent());
        let total = total_weight();
        inverse_total = tf_div(tf(1.0), vec2<f32>(total.x * unit, total.y * unit));
    }
    workgroupBarrier();
    var passes = 0u;
    var status = STATUS_SOLVED;
    if workgroupUniformLoad(&unusable) != 0u {
        status = STATUS_BAD_NUMBER;
    } else if n > 0u {
        machine_begin(lane);
        workgroupBarrier();
        loop {
            if workgroupUniformLoad(&machine_stage) != 0u {
                break;
            }
            normalised_pass(lane);
            passes++;
            machine_step(lane);
        }
        status = workgroupUniformLoad(&machine_status);
    }
    let has_answer = status == STATUS_SOLVED || status == STATUS_RELAXED;
    let is_bad = status == STATUS_BAD_NUMBER;
    var excess = 0.0;
    if has_answer {
        excess = select(0.0, machine_excess, n > 0u);
    } else if !is_bad {
        // By how much the rows are exceeded at clip(z).
        for (var cell = lane; cell < params.cells; cell += LANES) {
            cell_shift[cell] = tf(0.0);
        }
        workgroupBarrier();
        normalised_pass(lane);
        excess = machine_excess_here(lane);
    }
    write_answer(lane, has_answer);
    let tells_multipliers = (has_answer || status == STATUS_INFEASIBLE) && n > 0u;
    for (var row = lane; row < params.rows; row += LANES) {
        var nu = tf(0.0);
        if tells_multipliers {
            nu = tf_mul(machine_multiplier(row), total_weight());
        }
        results[record + RESULTS_HEAD + 2u * row] = bitcast<u32>(nu.x);
        results[record + RESULTS_HEAD + 2u * row + 1u] = bitcast<u32>(nu.y);
    }
    if lane == 0u {
        let worked = n > 0u && !is_bad;
        results[record] = status;
        results[record + 1u] = select(0u, machine_steps, worked);
        results[record + 2u] = passes;
        results[record + 3u] = select(totals[problem * params.totals_stride + 1u], 0u, is_bad);
        results[record + 4u] = select(0u, bitcast<u32>(machine_residual), worked);
        results[record + 5u] = select(bitcast<u32>(excess), 0x7f800000u, is_bad);
        results[record + 6u] = 0u;
        results[record + 7u] = 0u;
    }
}
