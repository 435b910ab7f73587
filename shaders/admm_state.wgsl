// What ADMM keeps of a problem from one dispatch to the next, beside what it keeps of the samples.

// Words before those of the rows, and of a row.
const ADMM_HEAD: u32 = 8u;
const ADMM_ROW: u32 = 8u;

fn state_at() -> u32 {
    return problem * (ADMM_HEAD + ADMM_ROW * params.rows + 2u * params.rows * (params.rows + 1u));
}

/// Where the sums of the rows' products are, of the samples of a kind.
fn products_at(kind: u32) -> u32 {
    return state_at() + ADMM_HEAD + ADMM_ROW * params.rows + kind * params.rows * (params.rows + 1u);
}

fn state_pair(at: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(state[at]), bitcast<f32>(state[at + 1u]));
}

fn store_state_pair(at: u32, value: vec2<f32>) {
    state[at] = bitcast<u32>(value.x);
    state[at + 1u] = bitcast<u32>(value.y);
}

/// The numbers of the rows that outlast a dispatch.
fn kept_row(index: u32) -> u32 {
    return vec4<u32>(NU, S, CHANGE, AX)[index];
}

/// Keeps the problem, and what comes next for it.
fn admm_save(lane: u32, stage: u32) {
    if lane < row_count {
        for (var index = 0u; index < 4u; index += 1u) {
            store_state_pair(state_at() + ADMM_HEAD + ADMM_ROW * lane + 2u * index, row[kept_row(index)][lane]);
        }
    }
    if lane == 0u {
        let words = array<u32, 5>(admm.iterations, admm.next_adapt, admm.next_mend, bitcast<u32>(rho), stage);
        for (var at = 0u; at < 5u; at += 1u) {
            state[state_at() + at] = words[at];
        }
    }
}

/// Takes up a problem where `admm_save` left it. Returns what comes next.
fn admm_restore(lane: u32) -> u32 {
    let at = state_at();
    admm = Admm(state[at], state[at + 1u], state[at + 2u], 0u, true);
    rho = bitcast<f32>(state[at + 3u]);
    stiffen_samples();
    if lane < row_count {
        for (var index = 0u; index < 4u; index += 1u) {
            row[kept_row(index)][lane] = state_pair(at + ADMM_HEAD + ADMM_ROW * lane + 2u * index);
        }
    }
    workgroupBarrier();
    return state[at + 4u];
}
