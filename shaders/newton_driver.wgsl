// What drives the Newton machine, a workgroup a problem: it begins, sums the elements at the shifts that the machine asks
// for, and writes what it ends with. A dispatch does so many passes; problems that need more are saved and left for the
// next one, of a fixed chain. The machine's weights sum to 1.
//
// A module that is joined with this has `begin_problem`, which loads the problem in hand, `sum_elements`, a pass, and
// `clear_shift`, after which a pass is one over the elements as they came.


fn state_read(at: u32) -> u32 {
    return state[problem * (SCALAR_WORDS + 14u * params.rows) + at];
}

fn state_write(at: u32, word: u32) {
    state[problem * (SCALAR_WORDS + 14u * params.rows) + at] = word;
}

fn project(group: vec3<u32>, lane: u32) {
    if !take_left(group) {
        return;
    }
    let record = problem * params.results_stride;
    begin_problem(lane);
    let goes_on = params.link > 0u && results[record] == STATUS_GOING_ON;
    var passes = select(0u, results[record + 2u], goes_on);
    let most_passes = passes + passes_of_link;
    let is_bad = workgroupUniformLoad(&unusable[team]) != 0u;
    var is_limited = false;
    var excess = tf(0.0);
    if n == 0u || is_bad {
        if lane == 0u {
            machine_stage = 1u;
            machine_status = select(STATUS_SOLVED, STATUS_BAD_NUMBER, is_bad);
            machine_steps = 0u;
            machine_residual = 0.0;
        }
    } else {
        machine_begin(lane);
        if goes_on {
            machine_restore(lane);
            if lane == 0u {
                machine_steps = newton.steps;
            }
        }
    }
    workgroupBarrier();
    loop {
        let has_ended = workgroupUniformLoad(&machine_stage) != 0u;
        let status = workgroupUniformLoad(&machine_status);
        if has_ended && (status == STATUS_SOLVED || status == STATUS_RELAXED || status == STATUS_BAD_NUMBER) {
            if status != STATUS_BAD_NUMBER && n > 0u {
                excess = machine_excess;
            }
            break;
        }
        if !has_ended && passes >= most_passes {
            if params.last_link == 0u {
                machine_save(lane);
                if lane == 0u {
                    results[record] = STATUS_GOING_ON;
                    results[record + 2u] = passes;
                    leave();
                }
                return;
            }
            is_limited = true;
        }
        let measures = has_ended || is_limited;
        if measures {
            // By how much the rows are exceeded at clip(z).
            clear_shift(lane);
            workgroupBarrier();
        }
        sum_elements(lane);
        if measures {
            excess = machine_excess_here(lane);
            break;
        }
        passes++;
        machine_step(lane);
        workgroupBarrier();
    }
    let status = select(workgroupUniformLoad(&machine_status), STATUS_ITERATION_LIMIT, is_limited);
    write_answer(lane, is_answer(status));
    report(lane, status, passes, excess);
}
