// What lanes that add to the same place do together: one of a subgroup, whatever its size, adds for all. Lanes come here in
// step, those with nothing to add as well. The twin of `gather_plain.wgsl`, either of which is joined to a module.

// Whether all of the subgroup add to the same place.
fn shares_place(place_of_sum: u32) -> bool {
    return subgroupAll(place_of_sum == subgroupBroadcastFirst(place_of_sum));
}

// Whether the subgroup takes the cells one by one, each added to by one lane for all: of few cells this is faster.
fn gathers_by_cell() -> bool {
    return params.cells <= MOST_GATHERED_CELLS && shares_place(team);
}

const MOST_GATHERED_CELLS = 4u;

// Whether this is the lane that adds.
fn is_gatherer() -> bool {
    return subgroupExclusiveAdd(1u) == 0u;
}

fn gathered(value: i32) -> i32 {
    return subgroupAdd(value);
}

fn gathered_largest(value: u32) -> u32 {
    return subgroupMax(value);
}

// Of how many lanes before this one that is so.
fn gathered_before(is_one: bool) -> u32 {
    return subgroupExclusiveAdd(select(0u, 1u, is_one));
}

fn from_gatherer(value: u32) -> u32 {
    return subgroupBroadcastFirst(value);
}

// Where loops over elements end whose lanes may gather: after the same round in all of them.
fn gathering_end() -> u32 {
    return common_end();
}
