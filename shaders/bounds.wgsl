// The bits of the bounds of a problem's elements, for kernels that bind `lower` and `upper`.

fn lower_of(i: u32) -> u32 {
    if has(ELEMENT_LO) {
        return lower[params.lo_at + place(i, SHARED_LO)];
    }
    return params.lo;
}

fn upper_of(i: u32) -> u32 {
    if has(ELEMENT_HI) {
        return upper[params.hi_at + place(i, SHARED_HI)];
    }
    return params.hi;
}
