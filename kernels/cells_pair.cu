// Projection onto one spread of two cells: `cells_newton` for the commonest problem. One loop in one number, the multiplier
// that the two unions share: Newton's steps as `src/reference/pair.rs` has them, and, where they do not halve the residual or
// few elements are free, within a bracket that cannot fail, for the gap falls as the multiplier rises.
//
// Sums that only steer are rough: they are formed in the type that elements are computed in. Exact passes sum what they store
// in f64, and write while they sum: the last pass of a problem is exact, so what it wrote is what it judged.

#include "pair.cuh"

// Passes after which a problem ends unsolved.
constexpr u32 MAX_PASSES = 250;

// A problem as a team holds it.
template <class T, int VALUES>
struct Held {
    ArithmeticOf<T> z[VALUES];
    // Which elements are in cell 1.
    u32 ones;
    // Values beyond the end: zeros of cell 0, whose part of a sum is taken off again.
    u32 present;
    ArithmeticOf<T> lo;
    ArithmeticOf<T> hi;

    __device__ __forceinline__ ArithmeticOf<T> absent() const {
        return static_cast<ArithmeticOf<T>>(VALUES - __popc(present));
    }
};

// Rough sums of y over both cells and over cell 1, and which elements are clamped.
template <bool SHIFTED, class T, int VALUES>
__device__ __forceinline__ u32 rough_pass(const Held<T, VALUES>& held, const double (&shift)[2],
                                          ArithmeticOf<T> (&sums)[2]) {
    typedef ArithmeticOf<T> A;
    A shifts[2] = {static_cast<A>(shift[0]), static_cast<A>(shift[1])};
    u32 clamped = 0, ones = made_anew(held.ones);
    sums[0] = sums[1] = A(0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        A t = SHIFTED ? held.z[j] - (bit(ones, j) ? shifts[1] : shifts[0]) : held.z[j];
        A y = min(max(t, held.lo), held.hi);
        mark_where(clamped, 1u << j, y != t);
        sums[0] += y;
        add_where(sums[1], y, ones, 1u << j);
    }
    A of_absent = min(max(SHIFTED ? A(0) - shifts[0] : A(0), held.lo), held.hi);
    sums[0] -= held.absent() * of_absent;
    return clamped;
}

// Sums of |y| over both cells and over cell 1 at zero shifts.
template <class T, int VALUES>
__device__ __forceinline__ void sum_sizes(const Held<T, VALUES>& held, ArithmeticOf<T> (&sums)[2]) {
    typedef ArithmeticOf<T> A;
    u32 ones = made_anew(held.ones);
    sums[0] = sums[1] = A(0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        A y = min(max(held.z[j], held.lo), held.hi);
        sums[0] += size_of(y);
        add_where(sums[1], size_of(y), ones, 1u << j);
    }
    sums[0] -= held.absent() * size_of(min(max(A(0), held.lo), held.hi));
}

// Exact sums of y over both cells and over cell 1; what is summed is stored where `writes`.
template <class T, int LANES, int VALUES>
__device__ __forceinline__ Beyond exact_pass(const Team<LANES>& team, const Held<T, VALUES>& held,
                                             const double (&shift)[2], double (&sums)[2], T* y, u32 n, bool writes) {
    typedef ArithmeticOf<T> A;
    typedef Layout<LANES, VALUES> Layout;
    SplitShift<A> shifts[2] = {SplitShift<A>(shift[0]), SplitShift<A>(shift[1])};
    Beyond beyond = {0, 0};
    u32 ones = made_anew(held.ones);
    bool packed = is_packed(y, n), whole = packed && n == LANES * VALUES;
    sums[0] = sums[1] = 0.0;
#pragma unroll
    for (u32 pack = 0; pack < Layout::PACKS; ++pack) {
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
        u32 i = Layout::start(team, pack);
        if (writes && whole) {
            *reinterpret_cast<Pack<T>*>(y + i) = stored;
        } else if (writes) {
            store_pack(y, i, n, packed, stored);
        }
    }
    A of_absent = clip((A(0) - shifts[0].first) - shifts[0].rest, held.lo, held.hi);
    double absent = held.absent();
    sums[0] -= absent * static_cast<double>(Storage<T>::widen(Storage<T>::narrow(of_absent)));
    beyond.lower &= held.present;
    beyond.upper &= held.present;
    return beyond;
}

// The method for one problem. Arrays go by cell.
template <class T, int VALUES>
struct Pair {
    // What only steers.
    typedef ArithmeticOf<T> Rough;
    static constexpr Rough UNIT_ROUNDOFF = static_cast<Rough>(Storage<T>::UNIT_ROUNDOFF);
    // The part of a union that has to be free for a step outside the bracket.
    static constexpr Rough PLENTY = Rough(0.25);
    // At zero shifts rough sums are wrong by no more than this part of the mean of |y|: a thread's values in turn, then ten
    // times two.
    static constexpr double ROUGH_ERROR = (VALUES + 10) * 0x1p-24;

    double inverse_count[2];
    // Means of |y| at zero shifts.
    Rough sizes[2];
    double epsilon;
    // The multiplier; and the bracket of its size, once there is one.
    double nu;
    double low;
    double high;
    Rough residual;
    u32 passes;
    u32 iterations;
    // Whether sums have to be exact from here on.
    bool exact;
    // Whether there is a bracket, and whether it is one of exact sums.
    bool bracketed;
    bool proven;

    __device__ __forceinline__ void begin(u32 n, u32 ones, double level) {
        bool trivial = ones == 0 || ones == n;
        inverse_count[0] = trivial ? 0.0 : inverse(static_cast<double>(n - ones));
        inverse_count[1] = trivial ? 0.0 : inverse(static_cast<double>(ones));
        epsilon = level;
        nu = low = 0.0;
        high = infinity();
        residual = Rough(0);
        passes = iterations = 0;
        exact = bracketed = proven = false;
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
    template <class C>
    __device__ __forceinline__ Stage take(const SpreadCall& call, bool was_exact, double both, double of_one, C free) {
        ++passes;
        double gap = (both - of_one) * inverse_count[0] - of_one * inverse_count[1];
        Rough inverses[2] = {static_cast<Rough>(inverse_count[0]), static_cast<Rough>(inverse_count[1])};
        // (Shifts move no element by more than they are, nor beyond the bounds.)
        Rough size = size_of(static_cast<Rough>(nu));
        Rough largest = larger(sizes[0] + size * inverses[0], sizes[1] + size * inverses[1]);
        largest = smaller(largest, static_cast<Rough>(larger(size_of(call.lo), size_of(call.hi))));
        double doubt = was_exact ? 0.0 : 2.0 * ROUGH_ERROR * largest;
        if (iterations > 0 || !(size_of(gap) <= epsilon + doubt)) {
            // What rounding may move two means by at the worst, four times; of coarse types a quarter of it.
            constexpr Rough ROUNDING = UNIT_ROUNDOFF * (UNIT_ROUNDOFF > Rough(1e-6) ? 2 : 8);
            Rough tolerance = larger(static_cast<Rough>(call.tolerance), ROUNDING * largest);
            double allowed = larger(epsilon - static_cast<double>(tolerance), 0.0);
            // How far the gap is from where it has to be: a bound, if a multiplier holds it there.
            bool held = size * larger(inverses[0], inverses[1]) > tolerance;
            bool falls = held ? nu < 0.0 : gap < 0.0;
            Rough over = static_cast<Rough>((falls ? -gap : gap) - allowed);
            Rough before = residual;
            residual = held ? size_of(over) : over;
            // (The tolerance may be far above what rounding takes, where values are smaller than shifts: epsilon is kept all the
            // same.)
            bool kept = allowed > 0.0 || epsilon == 0.0 || size_of(gap) <= epsilon;
            if (residual > tolerance || !kept) {
                if (passes >= MAX_PASSES || iterations >= call.max_iterations) {
                    return CLIPPED;
                }
                // The gap falls by the curvature as the multiplier rises by 1.
                Rough part[2] = {static_cast<Rough>(count_of_other(free)) * inverses[0],
                                 static_cast<Rough>(count_of_one(free)) * inverses[1]};
                Rough curvature = part[0] * inverses[0] + part[1] * inverses[1];
                bool halved = iterations == 0 || residual < Rough(0.5) * before;
                bool plenty = part[0] >= PLENTY && part[1] >= PLENTY;
                // From here on it has the sign that the gap began with.
                falls = iterations == 0 ? gap < 0.0 : nu < 0.0;
                double next = size_of(nu) + static_cast<double>(quotient(over, curvature));
                if (bracketed || !halved || !plenty || !(next > 0.0)) {
                    bool found = bracket(was_exact, over, halved, plenty, next);
                    if (!found && was_exact) {
                        return CLIPPED;
                    }
                    exact = exact || !found;
                }
                nu = falls ? -next : next;
                // Steps converge quadratically, and a little faster than this says: is this one likely to be the last?
                bool last = iterations > 0 && residual * residual * residual < Rough(4) * tolerance * before * before;
                ++iterations;
                exact = exact || last || sizeof(Rough) == 8 || iterations > MAX_ROUGH_STEPS;
                return exact ? EXACT : ROUGH;
            }
            // (What is too large for its type is no solution.)
            if (!(residual <= tolerance && tolerance < static_cast<Rough>(infinity()))) {
                return CLIPPED;
            }
        }
        exact = true;
        return was_exact ? SOLVED : EXACT;
    }

    // Sets the size to try next within the bracket, where `next` is what Newton's method would try. False if there is none.
    __device__ __forceinline__ bool bracket(bool was_exact, Rough over, bool halved, bool plenty, double& next) {
        double size = size_of(nu);
        if (!bracketed || (was_exact && !proven)) {
            // (Rough sums may put an end on the wrong side.)
            low = 0.0;
            high = infinity();
            bracketed = true;
            proven = was_exact;
        }
        if (over > Rough(0)) {
            low = size;
        } else {
            high = size;
        }
        // Outward: by as much as would do if all were free, or four times as far as before.
        double outward = 4.0 * size + static_cast<double>(residual) * inverse(inverse_count[0] + inverse_count[1]);
        if (!(next > low && next < high && halved)) {
            next = high < infinity() ? 0.5 * (low + high) : outward;
        } else if (!plenty && high == infinity()) {
            next = smaller(next, outward);
        }
        return next > low && next < high;
    }
};

// Threads that a multiprocessor is to hold: those with more to keep are fewer.
template <class T, int VALUES>
constexpr int RESIDENT = sizeof(ArithmeticOf<T>) == 8 ? 256 : sizeof(T) == 2 || VALUES > 16 ? 512 : 640;

template <class T, int LANES, int VALUES, bool SEVERAL>
__global__ void __launch_bounds__(Team<LANES>::BLOCK, Team<LANES>::blocks(RESIDENT<T, VALUES>))
    cells_pair(const __grid_constant__ SpreadCall call) {
    typedef ArithmeticOf<T> A;
    typedef Layout<LANES, VALUES> Layout;
    typedef typename CountOf<SEVERAL>::Type Count;
    Holder<LANES, VALUES, SEVERAL> team(call);
    const Place& place = team.place;
    if (SEVERAL && !place.present) {
        return;
    }
    T* y = static_cast<T*>(call.y) + place.first;
    u32* clamp = call.clamp + (place.present ? clamp_start(place.problem, place.first) : 0);

    Held<T, VALUES> held;
    bool usable = true;
    Layout::load(team, static_cast<const T*>(call.z) + place.first, place.n, held.z);
    held.ones = load_cells<LANES, VALUES>(team, call.cells + (call.shared_cells ? place.before : place.first), place.n, usable);
    held.present = Layout::present(team, place.n);
    held.lo = static_cast<A>(call.lo);
    held.hi = static_cast<A>(call.hi);
    A check = A(0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        // (0 times what is not finite is NaN.)
        check += held.z[j] * A(0);
    }
    usable = usable && check == A(0);
    double level = place.present ? call.levels[call.shared_levels ? 0 : place.problem] : 0.0;
    usable = usable && level >= 0.0 && level < infinity();
    usable = !team.has(!usable);

    Pair<T, VALUES> pair;
    A sums[2];
    double shift[2] = {0.0, 0.0};
    // The first pass, at zero shifts, counts too.
    Count free = count_both<Count>(held.present & ~rough_pass<false>(held, shift, sums), held.ones);
    u32 ones = __popc(held.ones);
    team.add_up(ones, free, sums[0], sums[1]);
    pair.begin(place.whole, ones, level);
    A sizes[2] = {sums[0], sums[1]};
    if (call.lo < 0.0) {
        sum_sizes(held, sizes);
        team.add_up(sizes[0], sizes[1]);
    }
    pair.sizes[0] = (sizes[0] - sizes[1]) * static_cast<A>(pair.inverse_count[0]);
    pair.sizes[1] = sizes[1] * static_cast<A>(pair.inverse_count[1]);
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
            free = count_both<Count>(held.present & ~rough_pass<true>(held, shift, sums), held.ones);
            team.add_up(free, sums[0], sums[1]);
            both = sums[0];
            of_one = sums[1];
        }
        if (team.any(exact)) {
            double exact_sums[2];
            Beyond beyond = exact_pass(team, held, shift, exact_sums, y, place.n, exact);
            Count exact_free = count_both<Count>(held.present & ~(beyond.lower | beyond.upper), held.ones);
            if (stage == CLIPPED) {
                beyond = Beyond{~0u, 0};
            }
            write_clamp<LANES, VALUES>(team, beyond, clamp, place.n, exact);
            team.add_up(exact_free, exact_sums[0], exact_sums[1]);
            both = exact ? exact_sums[0] : both;
            of_one = exact ? exact_sums[1] : of_one;
            free = exact ? exact_free : free;
        }
        u32 status = stage == CLIPPED ? STATUS_ITERATION_LIMIT : STATUS_SOLVED;
        if (rough || exact) {
            stage = stage == CLIPPED ? SOLVED : pair.take(call, exact, both, of_one, free);
            if (stage == SOLVED && team.leads()) {
                bool trivial = pair.inverse_count[0] == 0.0;
                Outcome outcome = {status, pair.iterations, trivial ? 0 : pair.passes, trivial ? 3u : 0u, pair.residual,
                                   pair.excess(both, of_one)};
                outcome_of(call, place.problem) = outcome;
                multiplier_of(call, place.problem, 0) = pair.nu;
                multiplier_of(call, place.problem, 1) = -pair.nu;
            }
        }
    }

    if (place.present && !usable) {
        write_unusable<T>(team, call, place, clamp);
    }
    team.leave();
}
