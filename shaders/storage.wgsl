// Numbers of the type that predictions are stored in, as they lie in arrays: f32, or two f16 or bf16 a word. All are
// converted by their bits, to the nearest and even, since drivers may flush or lose what is special. Arithmetic is in f32.

override STORAGE: u32 = 0u;
const SINGLE = 0u;
const HALF = 1u;
const BRAIN = 2u;

// The word that has number `at` of an array.
fn word_of(at: u32) -> u32 {
    return select(at >> 1u, at, STORAGE == SINGLE);
}

// Where the number begins in its word, if it shares that.
fn shift_in_word(at: u32) -> u32 {
    return 16u * (at & 1u);
}

// The bits of the number `at`, as f32, in its word.
fn in_word(word: u32, at: u32) -> u32 {
    if STORAGE == SINGLE {
        return word;
    }
    return widened((word >> shift_in_word(at)) & 0xffffu);
}

fn widened(bits: u32) -> u32 {
    if STORAGE == BRAIN {
        return bits << 16u;
    }
    let sign = (bits & 0x8000u) << 16u;
    let exponent = (bits >> 10u) & 31u;
    let digits = bits & 0x3ffu;
    if exponent == 31u {
        return sign | 0x7f800000u | (digits << 13u);
    }
    if exponent == 0u {
        let top = firstLeadingBit(max(digits, 1u));
        let value = ((top + 103u) << 23u) | ((digits << (23u - top)) & 0x7fffffu);
        return sign | select(value, 0u, digits == 0u);
    }
    return sign | ((exponent + 112u) << 23u) | (digits << 13u);
}

// The 16 bits of the number nearest to an f32.
fn narrowed(bits: u32) -> u32 {
    let magnitude = bits & 0x7fffffffu;
    if STORAGE == BRAIN {
        let nearest = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
        return select(nearest, (bits >> 16u) | 0x40u, magnitude > 0x7f800000u);
    }
    let sign = (bits >> 16u) & 0x8000u;
    if magnitude > 0x7f800000u {
        return sign | 0x7e00u;
    }
    // From halfway between the largest number and the next power of two on.
    if magnitude >= 0x477ff000u {
        return sign | 0x7c00u;
    }
    if magnitude >= 0x38800000u {
        let nearest = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
        return sign | ((nearest - 0x38000000u) >> 13u);
    }
    let exponent = magnitude >> 23u;
    if exponent < 102u {
        return sign;
    }
    let digits = (magnitude & 0x7fffffu) | 0x800000u;
    let dropped = 126u - exponent;
    let rest = digits & ((1u << dropped) - 1u);
    let half = 1u << (dropped - 1u);
    let kept = digits >> dropped;
    let up = rest > half || (rest == half && (kept & 1u) == 1u);
    return sign | (kept + select(0u, 1u, up));
}

// An f32 as it reads back once it is stored.
fn as_stored(bits: u32) -> u32 {
    if STORAGE == SINGLE {
        return bits;
    }
    return widened(narrowed(bits));
}

// What a word loses, and gets, where a number is stored that shares it.
fn kept_in_word(at: u32) -> u32 {
    return ~(0xffffu << shift_in_word(at));
}

fn put_in_word(bits: u32, at: u32) -> u32 {
    return narrowed(bits) << shift_in_word(at);
}
