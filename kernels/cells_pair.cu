// Projection onto one spread of two cells: `cells_newton` for the commonest problem. One loop in one number, the multiplier
// that the two unions share: Newton's steps as `src/reference/pair.rs` has them, and, where they do not halve the residual or
// few elements are free, within a bracket that cannot fail, for the gap falls as the multiplier rises.
//
// Sums that only steer are rough: they are formed in the type that elements are computed in. Exact passes sum what they store
// in f64, and write while they sum: the last pass of a problem is exact, so what it wrote is what it judged.

#include "pair.cuh"

// Passes after which a problem ends unsolved.
constexpr u32 MAX_PASSES = 250;
// The part of a union that has to be free for a step outside the bracket.
constexpr double PLENTY = 0.25;
// At zero shifts rough sums are wrong by no more than this part of the mean of |y|: 16 values in turn, ten times two.
constexpr double ROUGH_ERROR = 26 * 0x1p-24;
// What is accepted where a bracket has no number between its ends.
constexpr double AT_THE_FLOOR = 8.0;

// What a problem waits for: rough sums, exact ones, or those of y = clip(z), which it ends with unsolved.
enum Stage { ROUGH, EXACT, CLIPPED, SOLVED };

// A problem as a team holds it.
template <class T>
struct Held {
    ArithmeticOf<T> z[VALUES];
    // Which elements are in cell 1.
    u32 ones;
    // Values beyond the end: zeros of cell 0, whose part of a sum is taken off again.
    u32 present;
    ArithmeticOf<T> lo;
    ArithmeticOf<T> hi;
};

// A shift as the sum of two numbers. Large ones are cut, so that no infinity arises.
template <class A>
struct SplitShift {
    A first;
    A rest;
    __device__ __forceinline__ explicit SplitShift(double shift) {
        shift = smaller(larger(shift, -1e30), 1e30);
        first = static_cast<A>(shift);
        rest = static_cast<A>(shift - static_cast<double>(first));
    }
};

// How many of a thread's elements there are not.
template <class T>
__device__ __forceinline__ u32 absent(const Held<T>& held) {
    return VALUES - __popc(held.present);
}

// Rough sums of y over both cells and over cell 1, and which elements are clamped.
template <bool SHIFTED, class T>
__device__ __forceinline__ u32 rough_pass(const Held<T>& held, const double (&shift)[2], ArithmeticOf<T> (&sums)[2]) {
    typedef ArithmeticOf<T> A;
    A shifts[2] = {static_cast<A>(shift[0]), static_cast<A>(shift[1])};
    u32 clamped = 0, ones = made_anew(held.ones);
    sums[0] = sums[1] = A(0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        bool one = bit(ones, j);
        A t = SHIFTED ? held.z[j] - (one ? shifts[1] : shifts[0]) : held.z[j];
        A y = min(max(t, held.lo), held.hi);
        mark_where(clamped, 1u << j, y != t);
        sums[0] += y;
        add_where(sums[1], y, ones, 1u << j);
    }
    A of_absent = min(max(SHIFTED ? A(0) - shifts[0] : A(0), held.lo), held.hi);
    sums[0] -= static_cast<A>(absent(held)) * of_absent;
    return clamped;
}

// Sums of |y| over both cells and over cell 1 at zero shifts.
template <class T>
__device__ __forceinline__ void sum_sizes(const Held<T>& held, ArithmeticOf<T> (&sums)[2]) {
    typedef ArithmeticOf<T> A;
    u32 ones = made_anew(held.ones);
    sums[0] = sums[1] = A(0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        A y = min(max(held.z[j], held.lo), held.hi);
        sums[0] += size_of(y);
        add_where(sums[1], size_of(y), ones, 1u << j);
    }
    A of_absent = min(max(A(0), held.lo), held.hi);
    sums[0] -= static_cast<A>(absent(held)) * size_of(of_absent);
}

// Bits of elements below and above their bounds.
struct Beyond {
    u32 lower;
    u32 upper;
};

// Exact sums of y over both cells and over cell 1; what is summed is stored where `writes`.
template <class T, int LANES>
__device__ __forceinline__ Beyond exact_pass(const Team<LANES>& team, const Held<T>& held, const double (&shift)[2],
                                             double (&sums)[2], T* y, u32 n, bool writes) {
    typedef ArithmeticOf<T> A;
    SplitShift<A> shifts[2] = {SplitShift<A>(shift[0]), SplitShift<A>(shift[1])};
    Beyond beyond = {0, 0};
    u32 ones = made_anew(held.ones);
    bool packed = is_packed(y, n);
    sums[0] = sums[1] = 0.0;
#pragma unroll
    for (u32 pack = 0; pack < PACKS; ++pack) {
        Pack<T> stored;
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            u32 j = pack * PACK + k;
            bool one = bit(ones, j);
            A t = (held.z[j] - (one ? shifts[1].first : shifts[0].first)) - (one ? shifts[1].rest : shifts[0].rest);
            bool below = t < held.lo, above = t > held.hi;
            A clipped = below ? held.lo : t;
            clipped = above ? held.hi : clipped;
            mark_where(beyond.lower, 1u << j, below);
            mark_where(beyond.upper, 1u << j, above);
            stored.values[k] = Storage<T>::narrow(clipped);
            double exact = Storage<T>::widen(stored.values[k]);
            sums[0] += exact;
            add_where(sums[1], exact, ones, 1u << j);
        }
        if (writes) {
            store_pack(y, pack_start(team, pack), n, packed, stored);
        }
    }
    A of_absent = clip((A(0) - shifts[0].first) - shifts[0].rest, held.lo, held.hi);
    sums[0] -= static_cast<double>(absent(held)) * static_cast<double>(Storage<T>::widen(Storage<T>::narrow(of_absent)));
    beyond.lower &= held.present;
    beyond.upper &= held.present;
    return beyond;
}

// Writes the clamp words: four threads beside each other have the elements of one.
template <int LANES>
__device__ __forceinline__ void write_clamp(const Team<LANES>& team, Beyond beyond, u32* clamp, u32 n, bool writes) {
    u32 quarter = team.lane % 4, words[PACKS];
#pragma unroll
    for (u32 pack = 0; pack < PACKS; ++pack) {
        u32 lower = beyond.lower >> (pack * PACK) & 0xf, upper = beyond.upper >> (pack * PACK) & 0xf;
        words[pack] = (lower | upper | upper << 16) << (quarter * PACK);
    }
    // Each of the four ends with the word of one pack.
    bool odd = (quarter & 1) != 0, high = (quarter & 2) != 0;
    u32 kept[2];
#pragma unroll
    for (u32 pair = 0; pair < 2; ++pair) {
        u32 given = odd ? words[2 * pair] : words[2 * pair + 1];
        u32 own = odd ? words[2 * pair + 1] : words[2 * pair];
        kept[pair] = own | __shfl_xor_sync(FULL_WARP, given, 1);
    }
    u32 word = high ? kept[1] : kept[0];
    word |= __shfl_xor_sync(FULL_WARP, high ? kept[0] : kept[1], 2);
    u32 at = (quarter * LANES + team.lane) / 4;
    if (writes && at * CLAMP_LANES < n) {
        clamp[at] = word;
    }
}

// The method for one problem. Arrays go by cell.
template <class T>
struct Pair {
    double inverse_count[2];
    // Means of |y| at zero shifts.
    float sizes[2];
    double epsilon;
    // The multiplier, and the bracket of its size.
    double nu;
    double low;
    double high;
    double residual;
    // The residual before the last step.
    float before;
    u32 passes;
    u32 iterations;
    // Whether sums have to be exact from here on, and whether those were that the bracket is of.
    bool exact;
    bool proven;

    __device__ __forceinline__ void begin(u32 n, u32 ones, double level) {
        bool trivial = ones == 0 || ones == n;
        inverse_count[0] = trivial ? 0.0 : inverse(static_cast<double>(n - ones));
        inverse_count[1] = trivial ? 0.0 : inverse(static_cast<double>(ones));
        epsilon = level;
        nu = low = residual = 0.0;
        high = infinity();
        before = 0.0f;
        passes = iterations = 0;
        exact = proven = false;
    }

    __device__ __forceinline__ void shifts(double (&shift)[2]) const {
        shift[0] = nu * inverse_count[0];
        shift[1] = -nu * inverse_count[1];
    }

    // By how much a gap exceeds epsilon, as it is reported: 0 below what the measurement itself rounds.
    __device__ __forceinline__ double excess(double both, double of_one) const {
        double mean[2] = {(both - of_one) * inverse_count[0], of_one * inverse_count[1]};
        double over = size_of(mean[0] - mean[1]) - epsilon;
        return over > MEASURING_ERROR * larger(size_of(mean[0]), size_of(mean[1])) ? over : 0.0;
    }

    // Takes the sums of a pass: over both cells, and over cell 1; `free` are the numbers of free elements likewise.
    __device__ __forceinline__ Stage take(const PairCall& call, bool was_exact, double both, double of_one, u32 free) {
        ++passes;
        double gap = (both - of_one) * inverse_count[0] - of_one * inverse_count[1];
        // (Shifts move no element by more than they are.)
        double moved[2] = {size_of(nu) * inverse_count[0], size_of(nu) * inverse_count[1]};
        double largest = larger(sizes[0] + moved[0], sizes[1] + moved[1]);
        double doubt = was_exact ? 0.0 : 2.0 * ROUGH_ERROR * largest;
        bool unmoved = iterations == 0 && size_of(gap) <= epsilon + doubt;
        if (!unmoved) {
            // What rounding may move two means by at the worst, four times; of coarse types a quarter of it.
            constexpr double ROUNDING = 8.0 * Storage<T>::UNIT_ROUNDOFF;
            constexpr double PART = Storage<T>::UNIT_ROUNDOFF > 1e-6 ? 0.25 : 1.0;
            double tolerance = larger(call.tolerance, PART * ROUNDING * largest);
            double allowed = epsilon > tolerance ? epsilon - tolerance : 0.0;
            // How far the gap is from where it has to be: a bound, if a multiplier holds it there.
            bool held = larger(moved[0], moved[1]) > tolerance;
            double over = held ? with_sign(1.0, nu) * gap - allowed : size_of(gap) - allowed;
            residual = held ? size_of(over) : over;
            if (residual > tolerance) {
                if (passes >= MAX_PASSES || iterations >= call.max_iterations) {
                    return CLIPPED;
                }
                double last = before;
                before = static_cast<float>(residual);
                if (was_exact && !proven) {
                    // Rough sums may have put an end on the wrong side.
                    low = 0.0;
                    high = infinity();
                    proven = true;
                }
                if (!step(gap, over, free, iterations == 0 || residual < 0.5 * last)) {
                    // No number is left between the ends.
                    if (was_exact) {
                        return residual <= AT_THE_FLOOR * tolerance ? SOLVED : CLIPPED;
                    }
                } else {
                    ++iterations;
                    // Steps converge quadratically, and a little faster than this says: is this one likely to be the last?
                    exact = exact || residual * residual * residual < 4.0 * tolerance * last * last;
                }
                exact = exact || sizeof(ArithmeticOf<T>) == 8 || iterations > 8;
                return exact ? EXACT : ROUGH;
            }
            // (What is too large for its type is no solution.)
            if (!(residual <= tolerance && tolerance < infinity())) {
                return CLIPPED;
            }
        }
        exact = true;
        return was_exact ? SOLVED : EXACT;
    }

    // Sets the multiplier to try next. False if there is none left. `over` is how far the gap is beyond its bound on the
    // side that it began on.
    __device__ __forceinline__ bool step(double gap, double over, u32 free, bool halved) {
        double side = iterations == 0 ? gap : nu, size = size_of(nu);
        if (over > 0.0) {
            low = size;
        } else {
            high = size;
        }
        double free_one = free >> 16, free_zero = (free & 0xffff) - (free >> 16);
        double part[2] = {free_zero * inverse_count[0], free_one * inverse_count[1]};
        // The gap falls by the curvature as the multiplier rises by 1.
        double curvature = part[0] * inverse_count[0] + part[1] * inverse_count[1];
        double newton = curvature > 0.0 ? size + over * inverse(curvature) : infinity();
        bool inside = newton > low && newton < high;
        bool plenty = part[0] >= PLENTY && part[1] >= PLENTY;
        // Outward: by as much as would do if all were free, or four times as far as before.
        double outward = 4.0 * size + residual * inverse(inverse_count[0] + inverse_count[1]);
        double next = high < infinity() ? 0.5 * (low + high) : outward;
        if (inside && halved) {
            next = plenty || high < infinity() ? newton : smaller(newton, outward);
        }
        nu = with_sign(next, side);
        return next > low && next < high;
    }
};

// What a problem gets that cannot be used: y = clip(z), a NaN stays a NaN, and no element is free.
template <class T, int LANES>
__device__ void write_unusable(const Team<LANES>& team, const PairCall& call, const Place& place, u32* clamp) {
    typedef ArithmeticOf<T> A;
    const T* z = static_cast<const T*>(call.z) + place.first;
    T* y = static_cast<T*>(call.y) + place.first;
    for (u32 i = team.lane; i < place.n; i += LANES) {
        A value = Storage<T>::widen(z[i]);
        y[i] = Storage<T>::narrow(clip(value, static_cast<A>(call.lo), static_cast<A>(call.hi)));
    }
    for (u32 at = team.lane; at * CLAMP_LANES < place.n; at += LANES) {
        clamp[at] = ALL_CLAMPED;
    }
}

__device__ __forceinline__ void write_outcome(const PairCall& call, u32 problem, const Outcome& outcome, double nu) {
    u8* record = call.outcomes + static_cast<u64>(problem) * (sizeof(Outcome) + 2 * sizeof(double));
    *reinterpret_cast<Outcome*>(record) = outcome;
    double* multipliers = reinterpret_cast<double*>(record + sizeof(Outcome));
    multipliers[call.first_cell] = nu;
    multipliers[1 - call.first_cell] = -nu;
}

// Threads that a multiprocessor is to hold: those of f64 have more to keep.
template <class T>
constexpr int RESIDENT = sizeof(ArithmeticOf<T>) == 8 ? 384 : 640;

template <class T, int LANES>
__global__ void __launch_bounds__(Team<LANES>::BLOCK, Team<LANES>::blocks(RESIDENT<T>)) cells_pair(const __grid_constant__ PairCall call) {
    typedef ArithmeticOf<T> A;
    Team<LANES> team;
    Place place = place_of(call, team);
    const T* z = static_cast<const T*>(call.z) + place.first;
    T* y = static_cast<T*>(call.y) + place.first;
    u32* clamp = call.clamp + (place.present ? clamp_start(place.problem, place.first) : 0);

    Held<T> held;
    bool usable = true;
    bool packed = is_packed(z, place.n);
    A check = A(0);
#pragma unroll
    for (u32 pack = 0; pack < PACKS; ++pack) {
        Pack<T> values = load_pack(z, pack_start(team, pack), place.n, packed);
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            held.z[pack * PACK + k] = Storage<T>::widen(values.values[k]);
        }
    }
    held.ones = load_cells(team, call.cells + (call.shared_cells ? 0 : place.first), place.n, usable);
    held.present = present_bits(team, place.n);
    held.lo = static_cast<A>(call.lo);
    held.hi = static_cast<A>(call.hi);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        // (0 times what is not finite is NaN.)
        check += held.z[j] * A(0);
    }
    usable = usable && check == A(0);
    double level = place.present ? call.levels[call.shared_levels ? 0 : place.problem] : 0.0;
    usable = usable && level >= 0.0 && level < infinity();
    usable = !team.has(!usable);
    u32 ones = __popc(held.ones);

    Pair<T> pair;
    A sums[2];
    double shift[2] = {0.0, 0.0};
    // The first pass, at zero shifts, counts too.
    u32 free = count_both(held.present & ~rough_pass<false>(held, shift, sums), held.ones);
    team.add_up(ones, free, sums[0], sums[1]);
    pair.begin(place.n, ones, level);
    A sizes[2] = {sums[0], sums[1]};
    if (call.lo < 0.0) {
        sum_sizes(held, sizes);
        team.add_up(sizes[0], sizes[1]);
    }
    pair.sizes[0] = static_cast<float>((sizes[0] - sizes[1]) * pair.inverse_count[0]);
    pair.sizes[1] = static_cast<float>(sizes[1] * pair.inverse_count[1]);
    bool waits = place.present && usable;
    Stage stage = waits ? pair.take(call, false, sums[0], sums[1], free) : SOLVED;

#pragma unroll 1
    for (;;) {
        bool rough = stage == ROUGH, exact = stage == EXACT || stage == CLIPPED;
        if (!team.any(rough || exact)) {
            break;
        }
        if (stage == CLIPPED) {
            pair.nu = 0.0;
        }
        pair.shifts(shift);
        double both = 0.0, of_one = 0.0;
        if (team.any(rough)) {
            free = count_both(held.present & ~rough_pass<true>(held, shift, sums), held.ones);
            team.add_up(free, sums[0], sums[1]);
            both = sums[0];
            of_one = sums[1];
        }
        if (team.any(exact)) {
            double exact_sums[2];
            Beyond beyond = exact_pass(team, held, shift, exact_sums, y, place.n, exact);
            u32 exact_free = count_both(held.present & ~(beyond.lower | beyond.upper), held.ones);
            if (stage == CLIPPED) {
                beyond = Beyond{(1u << VALUES) - 1, 0};
            }
            write_clamp(team, beyond, clamp, place.n, exact);
            team.add_up(exact_free, exact_sums[0], exact_sums[1]);
            both = exact ? exact_sums[0] : both;
            of_one = exact ? exact_sums[1] : of_one;
            free = exact ? exact_free : free;
        }
        u32 status = stage == CLIPPED ? STATUS_ITERATION_LIMIT : STATUS_SOLVED;
        if (rough || exact) {
            stage = stage == CLIPPED ? SOLVED : pair.take(call, exact, both, of_one, free);
            if (stage == SOLVED && team.lane == 0) {
                bool trivial = pair.inverse_count[0] == 0.0;
                Outcome outcome = {status, pair.iterations, trivial ? 0 : pair.passes, trivial ? 3u : 0u, pair.residual,
                                   pair.excess(both, of_one)};
                write_outcome(call, place.problem, outcome, pair.nu);
            }
        }
    }

    if (place.present && !usable) {
        write_unusable<T>(team, call, place, clamp);
        if (team.lane == 0) {
            write_outcome(call, place.problem, Outcome{STATUS_BAD_NUMBER, 0, 0, 0, 0.0, infinity()}, 0.0);
        }
    }
}
