// An output in f32. `ARRAY` and `BINDING` are filled in as modules are joined, once for each output.

@group(0) @binding(BINDING) var<storage, read_write> ARRAY: array<u32>;

fn store_ARRAY(at: u32, bits: u32) {
    ARRAY[at] = bits;
}
