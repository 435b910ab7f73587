// Projection onto one spread of up to 32 cells: `cells_newton` where it has the closed form of `src/reference/disjoint.rs`.
// Newton's steps there are one root in the centre that all means must come near; where they do not halve the residual, or few
// elements are free, the centre and the shift of every union are found each within a bracket, which cannot fail: a union's
// mean falls as its shift rises, and the balance of the shifts falls as the centre rises.
//
// As in `cells_pair.cu`, rough sums steer, and exact passes write what they sum. A lane of every warp has a union.

#include "columns.cuh"

constexpr u32 MAX_PASSES = 4000;
// A bracket halves at least every other time: enough for any root that a number can hold.
constexpr u32 MAX_ROOT_STEPS = 200;
// Passes for one centre.
constexpr u32 MAX_INNER_PASSES = 100;

template <class T, int VALUES>
struct Held {
    ArithmeticOf<T> z[VALUES];
    u32 ids[VALUES / PACK];
    ArithmeticOf<T> lo;
    ArithmeticOf<T> hi;
};

// Rough sums of y, or of |y|, and numbers of free elements, by cell.
template <bool SIZES, class Holder, class T, int LANES, int VALUES>
__device__ __forceinline__ Sums<ArithmeticOf<T>> rough_pass(Holder& team, const Held<T, VALUES>& held, Columns<LANES>& columns,
                                                            double shift) {
    typedef ArithmeticOf<T> A;
    columns.template begin<A, A>(team.lane, shift);
    const SplitShift<A>* table = columns.template table<A>();
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        u32 cell = id_of(held.ids, j);
        A t = held.z[j] - table[cell].first;
        A y = min(max(t, held.lo), held.hi);
        Sums<A>& column = columns.template column<A>(cell, team.lane);
        Sums<A> sums = column;
        sums.value += SIZES ? size_of(y) : y;
        sums.free += y == t ? A(1) : A(0);
        column = sums;
    }
    return columns.template end<A>(team);
}

// Exact sums; what is summed is stored where `writes`.
template <class Holder, class T, int LANES, int VALUES>
__device__ __forceinline__ Sums<double> exact_pass(Holder& team, const Held<T, VALUES>& held, Columns<LANES>& columns,
                                                   double shift, T* y, u32 n, Beyond& beyond) {
    typedef ArithmeticOf<T> A;
    columns.template begin<double, A>(team.lane, shift);
    const SplitShift<A>* table = columns.template table<A>();
    bool packed = is_packed(y, n);
    beyond = Beyond{0, 0};
#pragma unroll
    for (u32 pack = 0; pack < VALUES / PACK; ++pack) {
        Pack<T> stored;
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            u32 j = pack * PACK + k, cell = id_of(held.ids, j);
            SplitShift<A> split = table[cell];
            A t = (held.z[j] - split.first) - split.rest;
            bool below = t < held.lo, above = t > held.hi;
            A clipped = below ? held.lo : t;
            clipped = above ? held.hi : clipped;
            mark_where(beyond.lower, 1u << j, below);
            mark_where(beyond.upper, 1u << j, above);
            stored.values[k] = Storage<T>::narrow(clipped);
            Sums<double>& column = columns.template column<double>(cell, team.lane);
            Sums<double> sums = column;
            sums.value += static_cast<double>(Storage<T>::widen(stored.values[k]));
            sums.free += below || above ? 0.0 : 1.0;
            column = sums;
        }
        store_pack(y, (pack * LANES + team.lane) * PACK, n, packed, stored);
    }
    return columns.template end<double>(team);
}

// The method for one problem. What a lane has is of its union; the rest is the same in all.
template <class T>
struct Spread {
    typedef ArithmeticOf<T> S;
    static constexpr S UNIT_ROUNDOFF = static_cast<S>(Storage<T>::UNIT_ROUNDOFF);
    static constexpr S PLENTY = S(0.25);
    // At zero shifts rough sums are wrong by no more than this part of the mean of |y|.
    static constexpr double ROUGH_ERROR = (32 + 40) * 0x1p-24;

    bool live;
    u32 first_live;
    double count;
    double inverse_count;
    S size;
    double shift;
    // Of the lightest union.
    double lightest;
    double epsilon;
    S residual;
    u32 passes;
    u32 iterations;
    bool exact;
    // Within brackets: of the centre, and of the shift of this union towards `side`, for the mean that it is to have.
    bool nested;
    bool balanced;
    u32 inner;
    double unmoved_mean;
    double centre;
    double centre_low;
    double centre_high;
    // What ended for the ends of that bracket: this union's shift, and the balance of all.
    double shift_low;
    double shift_high;
    double balance_low;
    double balance_high;
    double side;
    double target;
    double low;
    double high;

    __device__ __forceinline__ void begin(double of_union, double level) {
        u32 mask = __ballot_sync(FULL_WARP, of_union > 0.0);
        bool several = __popc(mask) > 1;
        live = several && of_union > 0.0;
        first_live = several ? __ffs(static_cast<int>(mask)) - 1 : 0;
        count = live ? of_union : 0.0;
        inverse_count = live ? inverse(of_union) : 0.0;
        lightest = least_of_rows(live ? count : infinity());
        size = residual = S(0);
        shift = 0.0;
        epsilon = level;
        passes = iterations = inner = 0;
        exact = nested = balanced = false;
        unmoved_mean = centre = centre_low = centre_high = side = target = low = high = 0.0;
        shift_low = shift_high = balance_low = balance_high = 0.0;
    }

    // By how much the spread is exceeded, as it is reported: 0 below what the measurement itself rounds.
    __device__ __forceinline__ double excess(double sum) const {
        double mean = sum * inverse_count;
        double over = gap(mean) - epsilon, largest = most_of_rows(size_of(mean));
        return over > MEASURING_ERROR * largest ? over : 0.0;
    }

    __device__ __forceinline__ double gap(double mean) const {
        double top = most_of_rows(live ? mean : -infinity()), bottom = least_of_rows(live ? mean : infinity());
        return top > bottom ? top - bottom : 0.0;
    }

    // Takes the sums of a pass: y, and the number of free elements.
    __device__ __forceinline__ Stage take(const SpreadCall& call, bool was_exact, double sum, S free) {
        ++passes;
        double mean = sum * inverse_count;
        S part = free * static_cast<S>(inverse_count);
        // (Means differ by little, and lie anywhere.)
        double near = __shfl_sync(FULL_WARP, mean, static_cast<int>(first_live));
        S ahead = live ? static_cast<S>(mean - near) : S(0);
        // (Shifts move no element by more than they are, nor beyond the bounds.)
        S largest = most_of_rows(live ? size + size_of(static_cast<S>(shift)) : S(0));
        largest = smaller(largest, static_cast<S>(larger(size_of(call.lo), size_of(call.hi))));
        // What rounding may move two means by at the worst, four times; of coarse types a quarter of it.
        constexpr S ROUNDING = UNIT_ROUNDOFF * (UNIT_ROUNDOFF > S(1e-6) ? 2 : 8);
        S tolerance = larger(static_cast<S>(call.tolerance), ROUNDING * largest);
        S half = static_cast<S>(0.5 * larger(epsilon - static_cast<double>(tolerance), 0.0));
        if (iterations == 0) {
            double doubt = was_exact ? 0.0 : 2.0 * ROUGH_ERROR * largest;
            if (gap(mean) <= epsilon + doubt) {
                exact = true;
                return was_exact ? SOLVED : EXACT;
            }
        }
        S before = residual;
        // The centre must lie above all of these and below all of those. A multiplier counts as zero if it would not move even
        // the lightest union by more than the tolerance.
        double zero = tolerance * lightest, nu = shift * count;
        S above = most_of_rows(live ? ahead - (nu < -zero ? -half : half) : -static_cast<S>(infinity()));
        S below = least_of_rows(live ? ahead - (nu > zero ? half : -half) : static_cast<S>(infinity()));
        if (!nested || balanced) {
            residual = above - below;
            // (A part of it is kept for the rounding of `ahead`. The tolerance may be far above what rounding takes, where values
            // are smaller than shifts: epsilon is kept all the same. Without a margin the residual is the gap.)
            bool kept = half > S(0) || epsilon == 0.0 || residual <= S(0.999) * static_cast<S>(epsilon);
            if (residual <= S(0.75) * tolerance && tolerance < static_cast<S>(infinity()) && kept) {
                exact = true;
                return was_exact ? SOLVED : EXACT;
            }
        }
        if (!(residual > S(0)) || passes >= MAX_PASSES || iterations >= call.max_iterations) {
            return CLIPPED;
        }
        bool halved = iterations == 0 || residual < S(0.5) * before;
        bool easy = halved && !__any_sync(FULL_WARP, live && part < PLENTY);
        if (!nested && !easy) {
            return begin_nested();
        }
        if (nested) {
            return step_nested(mean, part, half, tolerance);
        }
        step(ahead, part, half);
        bool last = iterations > 0 && residual * residual * residual < S(4) * tolerance * before * before;
        ++iterations;
        exact = exact || last || sizeof(S) == 8 || iterations > MAX_ROUGH_STEPS;
        return exact ? EXACT : ROUGH;
    }

    // How far a distance lies beyond `half` either way.
    static __device__ __forceinline__ S soft(S distance, S half) {
        return distance > half ? distance - half : distance < -half ? distance + half : S(0);
    }

    // Newton's step: the centre at which the shifts balance is the root of a falling function, linear between kinks.
    __device__ __forceinline__ void step(S ahead, S part, S half) {
        S inverse_part = quotient(S(1), live ? part : S(1));
        // Where the mean would be without a shift.
        S model = ahead + part * static_cast<S>(shift);
        S weight = live ? static_cast<S>(count) * inverse_part : S(0);
        S from = least_of_rows(live ? model : static_cast<S>(infinity()));
        S to = most_of_rows(live ? model : -static_cast<S>(infinity()));
        S accuracy = UNIT_ROUNDOFF * larger(size_of(from), size_of(to));
        S middle = S(0.5) * (from + to), over = S(0);
        for (u32 k = 0; k < MAX_ROOT_STEPS; ++k) {
            over = soft(model - middle, half);
            S value = sum_of_rows(weight * over), weights = sum_of_rows(over == S(0) ? S(0) : weight);
            // (No weight: all shifts are zero, and balanced.)
            if (size_of(value) <= accuracy * weights) {
                break;
            }
            if (value > S(0)) {
                from = middle;
            } else {
                to = middle;
            }
            S newton = middle + quotient(value, weights);
            S next = newton > from && newton < to ? newton : S(0.5) * (from + to);
            if (next == middle) {
                break;
            }
            middle = next;
        }
        S moved = (over - part * static_cast<S>(shift)) * inverse_part;
        shift = live && over != S(0) ? shift + static_cast<double>(moved) : 0.0;
        pay();
    }

    // What rounding left of the balance is paid by the heaviest union that is held: it moves the least.
    __device__ __forceinline__ void pay() {
        double left = sum_of_rows(shift * count);
        double heaviest = most_of_rows(shift != 0.0 ? count : 0.0);
        u32 payers = __ballot_sync(FULL_WARP, shift != 0.0 && count == heaviest);
        if (payers != 0 && static_cast<int>(threadIdx.x % WARP_LANES) == __ffs(static_cast<int>(payers)) - 1) {
            shift -= left * inverse_count;
        }
    }

    // Begins anew, within brackets: at zero shifts, exactly.
    __device__ __forceinline__ Stage begin_nested() {
        nested = exact = true;
        balanced = false;
        inner = 0;
        shift = 0.0;
        ++iterations;
        // (No mean yet.)
        target = infinity();
        return EXACT;
    }

    __device__ __forceinline__ Stage step_nested(double mean, S part, S half, S tolerance) {
        if (target == infinity()) {
            unmoved_mean = mean;
            centre_low = least_of_rows(live ? mean : infinity());
            centre_high = most_of_rows(live ? mean : -infinity());
            return aim(0.5 * (centre_low + centre_high), half);
        }
        if (balanced) {
            // What was balanced is not the answer: another centre.
            balanced = false;
            double next = 0.5 * (centre_low + centre_high);
            if (!(next > centre_low && next < centre_high)) {
                return CLIPPED;
            }
            ++iterations;
            return aim(next, half);
        }
        ++inner;
        // Towards the target: above zero, the shift is to grow.
        double over = side * (mean - target), size = size_of(shift);
        bool there = side == 0.0 || size_of(over) <= 0.05 * static_cast<double>(tolerance);
        if (!there) {
            if (over > 0.0) {
                low = size;
            } else {
                high = size;
            }
            double newton = part > S(0) ? size + over * inverse(static_cast<double>(part)) : infinity();
            double outward = 4.0 * size + size_of(over);
            double next = high < infinity() ? 0.5 * (low + high) : outward;
            // Every third time the middle: a bracket that shrinks from one side only is not one.
            if (newton > low && newton < high && inner % 3 != 0) {
                next = high < infinity() ? newton : smaller(newton, outward);
            }
            there = !(next > low && next < high);
            shift = there ? shift : side * next;
        }
        if (__any_sync(FULL_WARP, !there) && inner < MAX_INNER_PASSES) {
            return EXACT;
        }
        double balance = sum_of_rows(shift * count);
        if (balance > 0.0) {
            centre_low = centre;
            shift_low = shift;
            balance_low = balance;
        } else {
            centre_high = centre;
            shift_high = shift;
            balance_high = balance;
        }
        // Between the ends of the bracket lies what is balanced, and there every mean lies between theirs. (Where elements are
        // all clamped, a mean says nothing of the shift: the balance does.)
        if (balance_low > 0.0 && balance_high < 0.0) {
            shift = shift_low + balance_low / (balance_low - balance_high) * (shift_high - shift_low);
        }
        pay();
        balanced = true;
        return EXACT;
    }

    // Takes a centre: which unions have to move, which way, and to what mean.
    __device__ __forceinline__ Stage aim(double to, S half) {
        centre = to;
        inner = 0;
        double over = unmoved_mean - centre, wide = half;
        side = !live ? 0.0 : over > wide ? 1.0 : over < -wide ? -1.0 : 0.0;
        target = centre + side * wide;
        low = 0.0;
        high = infinity();
        // (The mean of the unmoved is known: the first move is what would do if all were free.)
        shift = side * larger(size_of(over) - wide, 0.0);
        return EXACT;
    }
};

// Threads that a multiprocessor is to hold: those with more to keep are fewer.
template <class T, int VALUES>
constexpr int RESIDENT_OF_SPREAD = sizeof(ArithmeticOf<T>) == 8 || VALUES > 16 ? 256 : 384;

template <class T, int LANES, int VALUES, bool SEVERAL>
__global__ void __launch_bounds__(Team<LANES>::BLOCK, Team<LANES>::blocks(RESIDENT_OF_SPREAD<T, VALUES>))
    cells_spread(const __grid_constant__ SpreadCall call) {
    typedef ArithmeticOf<T> A;
    DYNAMIC_SHARED(u8, shared);
    Holder<LANES, VALUES, SEVERAL> team(call);
    const Place& place = team.place;
    if (SEVERAL && !place.present) {
        return;
    }
    Columns<LANES> columns(shared + Team<LANES>::SHARED, call.unions);
    T* y = static_cast<T*>(call.y) + place.first;
    u32* clamp = call.clamp + (place.present ? clamp_start(place.problem, place.first) : 0);

    Held<T, VALUES> held;
    bool usable = true;
    Layout<LANES, VALUES>::load(team, static_cast<const T*>(call.z) + place.first, place.n, held.z);
    load_ids<LANES, VALUES>(team, call.cells + (call.shared_cells ? place.before : place.first), place.n, call.unions, held.ids, usable);
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

    // How many there are in each cell: that many of them are free without bounds.
    columns.template begin<A, A>(team.lane, 0.0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        columns.template column<A>(id_of(held.ids, j), team.lane).free += A(1);
    }
    double count = columns.template end<A>(team).free;
    Spread<T> spread;
    spread.begin(count, level);
    Sums<A> first = rough_pass<false>(team, held, columns, 0.0);
    A sizes = call.lo < 0.0 ? rough_pass<true>(team, held, columns, 0.0).value : first.value;
    spread.size = sizes * static_cast<A>(spread.inverse_count);
    bool waits = place.present && usable;
    Stage stage = waits ? spread.take(call, false, first.value, first.free) : SOLVED;

    // (All threads of a team know the same: it stays together.)
    while (stage != SOLVED) {
        double sum;
        if (stage == ROUGH) {
            Sums<A> rough = rough_pass<false>(team, held, columns, spread.shift);
            sum = rough.value;
            stage = spread.take(call, false, sum, rough.free);
            continue;
        }
        if (stage == CLIPPED) {
            spread.shift = 0.0;
        }
        Beyond beyond;
        Sums<double> sums = exact_pass(team, held, columns, spread.shift, y, place.n, beyond);
        u32 status = STATUS_SOLVED;
        if (stage == CLIPPED) {
            beyond = Beyond{~0u, 0};
            status = STATUS_ITERATION_LIMIT;
            stage = SOLVED;
        } else {
            stage = spread.take(call, true, sums.value, static_cast<A>(sums.free));
        }
        if (stage == SOLVED) {
            write_clamp<LANES, VALUES>(team, beyond, clamp, place.n, true);
            double excess = spread.excess(sums.value);
            u32 row = team.lane;
            bool trivial = !(spread.lightest < infinity());
            u32 inactive = __ballot_sync(FULL_WARP, row < call.unions && !spread.live);
            u32 mask = 0;
            for (u32 cell = 0; cell < call.unions; ++cell) {
                mask |= (inactive >> cell & 1) << call.union_of_cell[cell];
            }
            if (row == 0) {
                outcome_of(call, place.problem) =
                    Outcome{status, spread.iterations, trivial ? 0 : spread.passes, mask, spread.residual, excess};
            }
            if (row < call.unions) {
                multiplier_of(call, place.problem, row) = spread.live ? spread.shift * spread.count : 0.0;
            }
        }
    }
    if (place.present && !usable) {
        write_unusable<T>(team, call, place, clamp);
    }
    team.leave();
}
