// The bits of the bounds of a problem's elements, for kernels that bind `lower` and `upper`.

// Whether there are any but scalar ones.
override BOUNDED: bool = true;

fn lower_of(i: u32) -> u32 {
    if BOUNDED && has(ELEMENT_LO) {
        let at = params.lo_at + place(i, SHARED_LO);
        return in_word(lower[word_of(at)], at);
    }
    return params.lo;
}

fn upper_of(i: u32) -> u32 {
    if BOUNDED && has(ELEMENT_HI) {
        let at = params.hi_at + place(i, SHARED_HI);
        return in_word(upper[word_of(at)], at);
    }
    return params.hi;
}
