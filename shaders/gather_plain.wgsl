// What lanes that add to the same place do together: nothing, where there are no subgroups. The twin of
// `gather_subgroups.wgsl`, either of which is joined to a module.

fn shares_place(place_of_sum: u32) -> bool {
    return false;
}

fn gathers_by_cell() -> bool {
    return false;
}

fn is_gatherer() -> bool {
    return true;
}

fn gathered(value: i32) -> i32 {
    return value;
}

fn gathered_largest(value: u32) -> u32 {
    return value;
}

fn gathered_before(is_one: bool) -> u32 {
    return 0u;
}

fn from_gatherer(value: u32) -> u32 {
    return value;
}

// Where loops over elements end whose lanes may gather.
fn gathering_end() -> u32 {
    return part_end;
}
