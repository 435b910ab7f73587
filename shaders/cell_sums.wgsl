// Exact sums of up to four quantities by cell, of elements in any order. First the largest value is noted, then
// values are added, and after every tile of them the sums are carried.

const QUANTITIES = 4u;
// Elements after which the sums are carried.
const TILE = 256u;

// Three limbs of every quantity of every cell.
var<workgroup> sums: array<atomic<i32>, 384>;
// The bits of the largest magnitude of every quantity of every cell: what its sum is cut relative to.
var<workgroup> largest: array<atomic<u32>, 128>;

fn clear_sums(lane: u32) {
    for (var k = lane; k < 3u * QUANTITIES * MAX_CELLS; k += LANES) {
        atomicStore(&sums[k], 0);
    }
    for (var k = lane; k < QUANTITIES * MAX_CELLS; k += LANES) {
        atomicStore(&largest[k], 0u);
    }
}

fn note_largest(quantity: u32, cell: u32, value: f32) {
    atomicMax(&largest[quantity * MAX_CELLS + cell], bitcast<u32>(value) & 0x7fffffffu);
}

fn sum_exponent(quantity: u32, cell: u32) -> i32 {
    return exponent_above(atomicLoad(&largest[quantity * MAX_CELLS + cell]));
}

fn add_to_sum(quantity: u32, cell: u32, value: vec2<f32>) {
    let part = cut(value, limb_scale(sum_exponent(quantity, cell)));
    let at = 3u * (quantity * MAX_CELLS + cell);
    atomicAdd(&sums[at], part.x);
    atomicAdd(&sums[at + 1u], part.y);
}

// All lanes together.
fn carry_sums(lane: u32) {
    workgroupBarrier();
    for (var k = lane; k < QUANTITIES * params.cells; k += LANES) {
        let at = 3u * (k / params.cells * MAX_CELLS + k % params.cells);
        let a = carried(Limbs(atomicLoad(&sums[at]), atomicLoad(&sums[at + 1u]), atomicLoad(&sums[at + 2u])));
        atomicStore(&sums[at], a.low);
        atomicStore(&sums[at + 1u], a.high);
        atomicStore(&sums[at + 2u], a.top);
    }
    workgroupBarrier();
}

fn sum_of(quantity: u32, cell: u32) -> vec2<f32> {
    let at = 3u * (quantity * MAX_CELLS + cell);
    let sum = Limbs(atomicLoad(&sums[at]), atomicLoad(&sums[at + 1u]), atomicLoad(&sums[at + 2u]));
    return joined(sum, sum_exponent(quantity, cell));
}
