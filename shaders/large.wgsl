// Problems that are too large for one workgroup: each is cut into tiles, a workgroup a tile, and what the tiles find comes
// together in a record of the problem, by integer atomics, which know no order. Here are the record, and how a workgroup
// takes up a tile or a problem. A module that is joined with this binds `large`, which is all zeros when a call begins.

// Which part of its work a kernel does: what a tile is sorted or measured for, its sums, or what these lead to.
override PART: u32 = 0u;
const PART_BEGINS = 0u;
const PART_SUMS = 1u;
const PART_ENDS = 2u;

// Words of the record: what `cells_prepare` sums; then what a projection goes by, or a backward pass.
const LARGE_BAD = 0u;
const LARGE_UNBOUNDED = 1u;
const LARGE_SPOILT = 3u;
const LARGE_COUNTS = 4u;
const LARGE_TOTALS = 36u;

const LARGE_STAGE = 548u;
const LARGE_LINK = 549u;
const LARGE_PASSES = 550u;
const LARGE_STATUS = 551u;
const LARGE_UNUSABLE = 552u;
const LARGE_OVERFLOWN = 553u;
const LARGE_CLIPPED = 554u;
const LARGE_BEYOND = 555u;
const LARGE_BOUND = 556u;
const LARGE_WEIGHT = 557u;
const LARGE_WEIGHT_OF = 560u;
const LARGE_SHIFT = 592u;
const LARGE_SUM_Y = 656u;
const LARGE_SUM_FREE = 752u;
const LARGE_SUM_SIZE = 848u;
const LARGE_SUM_BEYOND = 912u;
const LARGE_STATE = 976u;

const LARGE_GRADIENT = 548u;
const LARGE_PULL = 1060u;
const LARGE_WEIGHT_CONSTANT = 1124u;
const LARGE_WEIGHT_SLOPE = 1188u;
const LARGE_LABEL_SLOPE = 1252u;

const LARGE_RECORD = 1456u;

// Elements of the largest tile, whatever the problem's: no answer depends on how it is cut.
const LARGE_ROOM = 16384u;

// Values of `LARGE_STAGE`: the problem waits for nothing, for the sums of a pass, or for those that tell its excess.
const WAITS_NOT = 0u;
const WAITS_FOR_SUMS = 1u;
const WAITS_FOR_EXCESS = 2u;

// Where the problem's record begins; and where the ends of a tile's cells are, after all records.
var<private> large_at: u32;
var<private> ends_at: u32;

// Whether there is a tile or a problem for this workgroup in the dispatch's list, which is then taken up. An entry has the
// problem, its number among the large ones, the tile's first element, and where it ends.
fn take_large(group: vec3<u32>) -> bool {
    let index = group.y * params.columns + group.x;
    if index >= params.count {
        return false;
    }
    let at = params.list_at + 4u * index;
    take(tables[at]);
    large_at = LARGE_RECORD * tables[at + 1u];
    ends_at = LARGE_RECORD * params.larges + MAX_CELLS * index;
    part_first = tables[at + 2u];
    part_end = tables[at + 3u];
    part_room = LARGE_ROOM;
    order_at += part_first;
    return true;
}

fn large_pair(at: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(atomicLoad(&large[large_at + at])), bitcast<f32>(atomicLoad(&large[large_at + at + 1u])));
}

fn store_large_pair(at: u32, value: vec2<f32>) {
    atomicStore(&large[large_at + at], bitcast<u32>(value.x));
    atomicStore(&large[large_at + at + 1u], bitcast<u32>(value.y));
}

// Adds the sum of a tile. The carried limbs of 1024 tiles, which there are at the most, do not overflow a word.
fn add_limbs(at: u32, sum: Limbs) {
    let a = carried(sum);
    if a.low != 0 {
        atomicAdd(&large[large_at + at], u32(a.low));
    }
    if a.high != 0 {
        atomicAdd(&large[large_at + at + 1u], u32(a.high));
    }
    if a.top != 0 {
        atomicAdd(&large[large_at + at + 2u], bitcast<u32>(a.top));
    }
}

fn limbs_at(at: u32) -> Limbs {
    let low = atomicLoad(&large[large_at + at]);
    let high = atomicLoad(&large[large_at + at + 1u]) + (low >> LIMB);
    let top = bitcast<i32>(atomicLoad(&large[large_at + at + 2u])) + i32(high >> LIMB);
    return Limbs(i32(low) & LIMB_MASK, i32(high) & LIMB_MASK, top);
}
