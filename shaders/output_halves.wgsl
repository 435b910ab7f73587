// An output in f16 or bf16, two numbers a word, which lanes and even workgroups share. `ARRAY` and `BINDING` are filled in
// as modules are joined, once for each output.

@group(0) @binding(BINDING) var<storage, read_write> ARRAY: array<atomic<u32>>;

fn store_ARRAY(at: u32, bits: u32) {
    atomicAnd(&ARRAY[word_of(at)], kept_in_word(at));
    atomicOr(&ARRAY[word_of(at)], put_in_word(bits, at));
}
