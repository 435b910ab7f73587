// What the links of a chain of dispatches share: the problems that a link takes up, of all or of those that the one before
// left, and what it keeps of a problem for the next one.

@group(0) @binding(14) var<storage, read> left_in: array<u32>;
@group(0) @binding(15) var<storage, read> left_before: array<u32, 4>;
@group(0) @binding(16) var<storage, read_write> state: array<u32>;

// Whether there is a problem for this workgroup, of all or of those that are left.
fn take_left(group: vec3<u32>) -> bool {
    if params.link == 0u {
        return take_up(group);
    }
    let index = group.y * params.most_columns + group.x;
    if index >= left_before[3] {
        return false;
    }
    take(left_in[index]);
    return true;
}
