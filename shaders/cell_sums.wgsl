// Exact sums of up to four quantities by cell, of elements in any order. First the largest value is noted, then
// values are added, and after every tile of them the sums are carried.
//
// A module that is joined with this has `is_summed`, which of the quantities it sums, and `summand`, what an element adds.

const QUANTITIES = 4u;
// Elements after which the sums are carried.
const TILE = 256u;

override SUMS: u32 = QUANTITIES * ALL_SLOTS;
override SUM_LIMBS: u32 = 3u * SUMS;

// Three limbs of every quantity of every slot of the team.
var<workgroup> sums: array<atomic<i32>, SUM_LIMBS>;
// The bits of the largest magnitude of every quantity of every slot: what its sum is cut relative to.
var<workgroup> largest: array<atomic<u32>, SUMS>;

fn sum_slot(quantity: u32, cell: u32) -> u32 {
    return (team * QUANTITIES + quantity) * SLOTS + cell;
}

fn clear_sums(lane: u32) {
    for (var k = lane; k < QUANTITIES * params.cells; k += TEAM) {
        let at = sum_slot(k / params.cells, k % params.cells);
        atomicStore(&largest[at], 0u);
        for (var limb = 3u * at; limb < 3u * at + 3u; limb++) {
            atomicStore(&sums[limb], 0);
        }
    }
}

// What an element adds to a sum; `is_one` says whether there is one that adds anything.
struct Summand {
    value: vec2<f32>,
    cell: u32,
    is_one: bool,
}

// That of element `i`, which may be one that there is not.
fn summand_at(i: u32, quantity: u32) -> Summand {
    if i < part_end {
        return summand(i, quantity, cell_of(i));
    }
    return Summand(tf(0.0), 0u, false);
}

// What the sums of the elements in hand are cut relative to.
fn note_quantities(lane: u32) {
    let by_cell = gathers_by_cell();
    for (var quantity = 0u; quantity < QUANTITIES; quantity++) {
        if is_summed(quantity) {
            for (var round = part_first; round < gathering_end(); round += TEAM) {
                note_largest(quantity, summand_at(round + lane, quantity), by_cell);
            }
        }
    }
    workgroupBarrier();
}

fn sum_quantities(lane: u32) {
    let by_cell = gathers_by_cell();
    for (var tile = part_first; tile < common_end(); tile += TILE) {
        for (var quantity = 0u; quantity < QUANTITIES; quantity++) {
            if is_summed(quantity) {
                for (var round = tile; round < min(tile + TILE, gathering_end()); round += TEAM) {
                    add_to_sum(quantity, summand_at(round + lane, quantity), by_cell);
                }
            }
        }
        carry_sums(lane);
    }
}

// Notes the value of an element. All lanes of a team together, like `add_to_sum`.
fn note_largest(quantity: u32, own: Summand, by_cell: bool) {
    let bits = bitcast<u32>(own.value.x) & 0x7fffffffu;
    if by_cell {
        for (var c = 0u; c < params.cells; c++) {
            let all = gathered_largest(select(0u, bits, own.is_one && own.cell == c));
            if is_gatherer() {
                atomicMax(&largest[sum_slot(quantity, c)], all);
            }
        }
    } else if own.is_one {
        atomicMax(&largest[sum_slot(quantity, own.cell)], bits);
    }
}

fn sum_exponent(quantity: u32, cell: u32) -> i32 {
    return exponent_above(atomicLoad(&largest[sum_slot(quantity, cell)]));
}

fn add_to_sum(quantity: u32, own: Summand, by_cell: bool) {
    let part = cut(own.value, limb_scale(sum_exponent(quantity, own.cell)));
    if by_cell {
        for (var c = 0u; c < params.cells; c++) {
            let here = select(vec2<i32>(0), part, own.is_one && own.cell == c);
            let all = vec2<i32>(gathered(here.x), gathered(here.y));
            if is_gatherer() {
                add_part(quantity, c, all);
            }
        }
    } else if own.is_one {
        add_part(quantity, own.cell, part);
    }
}

fn add_part(quantity: u32, cell: u32, part: vec2<i32>) {
    let at = 3u * sum_slot(quantity, cell);
    atomicAdd(&sums[at], part.x);
    atomicAdd(&sums[at + 1u], part.y);
}

// All lanes together.
fn carry_sums(lane: u32) {
    workgroupBarrier();
    for (var k = lane; k < QUANTITIES * params.cells; k += TEAM) {
        let at = 3u * sum_slot(k / params.cells, k % params.cells);
        let a = carried(Limbs(atomicLoad(&sums[at]), atomicLoad(&sums[at + 1u]), atomicLoad(&sums[at + 2u])));
        atomicStore(&sums[at], a.low);
        atomicStore(&sums[at + 1u], a.high);
        atomicStore(&sums[at + 2u], a.top);
    }
    workgroupBarrier();
}

fn sum_of(quantity: u32, cell: u32) -> vec2<f32> {
    let at = 3u * sum_slot(quantity, cell);
    let sum = Limbs(atomicLoad(&sums[at]), atomicLoad(&sums[at + 1u]), atomicLoad(&sums[at + 2u]));
    return joined(sum, sum_exponent(quantity, cell));
}
