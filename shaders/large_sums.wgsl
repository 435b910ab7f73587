// The sums of `cell_sums` over all tiles of a large problem: in its record, from `at` on, are the largest magnitudes, and
// then the limbs.

const LARGE_LIMBS = QUANTITIES * MAX_CELLS;

fn give_largest(lane: u32, at: u32) {
    for (var own = lane; own < QUANTITIES * params.cells; own += LANES) {
        let k = sum_slot(own / params.cells, own % params.cells);
        let here = atomicLoad(&largest[k]);
        if here != 0u {
            atomicMax(&large[large_at + at + k], here);
        }
    }
}

// All lanes together, like `fetch_sums`.
fn fetch_largest(lane: u32, at: u32) {
    for (var own = lane; own < QUANTITIES * params.cells; own += LANES) {
        let k = sum_slot(own / params.cells, own % params.cells);
        atomicStore(&largest[k], atomicLoad(&large[large_at + at + k]));
    }
    workgroupBarrier();
}

fn give_sums(lane: u32, at: u32) {
    for (var own = lane; own < QUANTITIES * params.cells; own += LANES) {
        let k = sum_slot(own / params.cells, own % params.cells);
        let here = Limbs(atomicLoad(&sums[3u * k]), atomicLoad(&sums[3u * k + 1u]), atomicLoad(&sums[3u * k + 2u]));
        add_limbs(at + LARGE_LIMBS + 3u * k, here);
    }
}

fn fetch_sums(lane: u32, at: u32) {
    for (var own = lane; own < QUANTITIES * params.cells; own += LANES) {
        let k = sum_slot(own / params.cells, own % params.cells);
        let all = limbs_at(at + LARGE_LIMBS + 3u * k);
        atomicStore(&sums[3u * k], all.low);
        atomicStore(&sums[3u * k + 1u], all.high);
        atomicStore(&sums[3u * k + 2u], all.top);
    }
    workgroupBarrier();
}
