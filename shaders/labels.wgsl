// The labels of a problem's elements, for kernels that bind `labels`.

fn label_of(i: u32) -> vec2<f32> {
    let at = place(i, SHARED_LABELS);
    let low = select(params.labels_low_at + at, 0u, params.labels_low_at == NONE);
    let rest = select(labels[low], 0.0, params.labels_low_at == NONE);
    return vec2<f32>(labels[params.labels_at + at], rest);
}
