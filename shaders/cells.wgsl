// The cells of a problem's elements, one byte each, and their weights, for kernels that bind `cells` and `weights`.

// The index of the byte of the problem's first element.
fn cells_from() -> u32 {
    return select(4u * (first / 4u + problem), params.cells_at + place(0u, SHARED_CELLS), has(GIVEN_CELLS));
}

fn cell_of(i: u32) -> u32 {
    let at = cells_from() + i;
    return (cells[at >> 2u] >> (8u * (at & 3u))) & 0xffu;
}

fn weight_of(i: u32) -> vec2<f32> {
    if !has(HAS_WEIGHTS) {
        return tf(1.0);
    }
    let at = place(i, SHARED_WEIGHTS);
    let low = select(params.weights_low_at + at, 0u, params.weights_low_at == NONE);
    let rest = select(weights[low], 0.0, params.weights_low_at == NONE);
    return vec2<f32>(weights[params.weights_at + at], rest);
}
