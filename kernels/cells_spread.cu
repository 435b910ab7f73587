// Projection onto one spread of up to 32 cells: `cells_newton` where it has the closed form of `src/reference/disjoint.rs`. A step of
// Newton's method is one root there: of the centre that all means must come near. Where few elements of a union are free, its step is
// cut short; where steps do not make the residual smaller all the same, brackets do.
//
// As in `cells_pair.cu`, rough sums steer, and exact passes write what they sum. A lane of a team has a union, in each of the team's
// warps; teams that share a warp stay in step.

#include "columns.cuh"

// Passes after which a problem is left to brackets, and passes of those: for a centre, and in all.
constexpr u32 MAX_NEWTON_PASSES = 16;
constexpr u32 MAX_INNER_PASSES = 100;
constexpr u32 MAX_PASSES = 4000;
// Rounds of the search for a root: enough for any that a number can hold.
constexpr u32 MAX_ROOT_STEPS = 200;

template <class T, int VALUES>
struct Held {
    ArithmeticOf<T> z[VALUES];
    u32 ids[VALUES / PACK];
    ArithmeticOf<T> lo;
    ArithmeticOf<T> hi;
};

// What a rough pass finds.
enum Finds { OF_Y, OF_Y_AND_THERE, OF_SIZES };

// Rough sums of y, or of |y|, and numbers of free elements (and of all, the first time), by cell.
template <Finds FINDS, class Holder, class T, int LANES, int VALUES>
__device__ __forceinline__ Found<ArithmeticOf<T>> rough_pass(Holder& team, const Held<T, VALUES>& held, Columns<LANES>& columns,
                                                             double shift) {
    typedef ArithmeticOf<T> A;
    columns.template begin<A, A>(shift);
#pragma unroll
    for (u32 pack = 0; pack < VALUES / PACK; ++pack) {
        u32 ids = made_anew(held.ids[pack]);
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            u32 cell = id_of(ids, k);
            A t = held.z[pack * PACK + k] - columns.template first<A>(cell);
            A y = min(max(t, held.lo), held.hi);
            Sums<A>& column = columns.template column<A>(cell);
            Sums<A> sums = column;
            sums.value += FINDS == OF_SIZES ? size_of(y) : y;
            sums.counts += (y == t ? ONE_FREE : 0) + (FINDS == OF_Y_AND_THERE ? ONE_THERE : 0);
            column = sums;
        }
    }
    return columns.template end<A>(team);
}

// Exact sums; what is summed is stored in the first n places.
template <class Holder, class T, int LANES, int VALUES>
__device__ __forceinline__ Found<double> exact_pass(Holder& team, const Held<T, VALUES>& held, Columns<LANES>& columns,
                                                    double shift, T* y, u32 n, Beyond& beyond) {
    typedef ArithmeticOf<T> A;
    columns.template begin<double, A>(shift);
    bool packed = is_packed(y, n);
    beyond = Beyond{0, 0};
#pragma unroll
    for (u32 pack = 0; pack < VALUES / PACK; ++pack) {
        u32 ids = made_anew(held.ids[pack]);
        Pack<T> stored;
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            u32 j = pack * PACK + k, cell = id_of(ids, k);
            A t = (held.z[j] - columns.template first<A>(cell)) - columns.template rest<A>(cell);
            bool below = t < held.lo, above = t > held.hi;
            A clipped = below ? held.lo : t;
            clipped = above ? held.hi : clipped;
            mark_where(beyond.lower, 1u << j, below);
            mark_where(beyond.upper, 1u << j, above);
            stored.values[k] = Storage<T>::narrow(clipped);
            Sums<double>& column = columns.template column<double>(cell);
            Sums<double> sums = column;
            sums.value += static_cast<double>(Storage<T>::widen(stored.values[k]));
            sums.counts += below || above ? 0 : ONE_FREE;
            column = sums;
        }
        store_pack(y, Layout<LANES, VALUES>::start(team, pack), n, packed, stored);
    }
    return columns.template end<double>(team);
}

// The method for one problem. What a lane has is of its union; the rest is the same in all lanes of the team.
template <class T, int LANES>
struct Spread {
    typedef ArithmeticOf<T> S;
    static constexpr int WIDTH = Columns<LANES>::WIDTH;
    static constexpr S UNIT_ROUNDOFF = static_cast<S>(Storage<T>::UNIT_ROUNDOFF);
    // What rounding may move two means by at the worst, four times; of coarse types a quarter of it.
    static constexpr S ROUNDING = UNIT_ROUNDOFF * (UNIT_ROUNDOFF > S(1e-6) ? 2 : 8);
    // At zero shifts rough sums are wrong by no more than this part of the mean of |y|.
    static constexpr S ROUGH_ERROR = (32 + 40) * 0x1p-24;
    // A union counts as if at least this part of it were free: then a step goes no farther than it can see.
    static constexpr S PLENTY = S(0.25);

    bool live;
    S count;
    double inverse_count;
    // The mean of |y|.
    S size;
    double shift;
    // Of the lightest union.
    S lightest;
    double epsilon;
    // A mean of the first pass. (Means differ by little, and lie anywhere.)
    S base;
    S residual;
    u32 passes;
    u32 iterations;
    bool exact;

    // Takes how many elements there are, and the first sums of y and of its size.
    __device__ __forceinline__ void begin(u32 of_union, double level, S sum, S sizes) {
        u32 there = lanes_where<WIDTH>(of_union > 0);
        live = of_union > 0 && (there & (there - 1)) != 0;
        count = static_cast<S>(of_union);
        inverse_count = live ? inverse(static_cast<double>(of_union)) : 0.0;
        lightest = min_of_rows<WIDTH>(live ? count : static_cast<S>(infinity()));
        size = sizes * static_cast<S>(inverse_count);
        base = of_lane<WIDTH>(sum * static_cast<S>(inverse_count), there == 0 ? 0 : lowest_of(there));
        residual = S(0);
        shift = 0.0;
        epsilon = level;
        passes = iterations = 0;
        exact = false;
    }

    __device__ __forceinline__ S most(S value) const { return max_of_rows<WIDTH>(live ? value : -static_cast<S>(infinity())); }

    __device__ __forceinline__ S least(S value) const { return min_of_rows<WIDTH>(live ? value : static_cast<S>(infinity())); }

    // By how much the means, of these exact sums, exceed the spread; and below what that is the error of measuring it.
    __device__ __forceinline__ double measure(double sum, double& error) const {
        double mean = sum * inverse_count;
        double top = max_of_rows<WIDTH>(live ? mean : -infinity()), bottom = min_of_rows<WIDTH>(live ? mean : infinity());
        error = MEASURING_ERROR * max(size_of(top), size_of(bottom));
        return (top > bottom ? top - bottom : 0.0) - epsilon;
    }

    // What the sums of a pass say of the shifts.
    struct Judgement {
        // The mean of the union, from `base`.
        S ahead;
        S largest;
        S tolerance;
        // Of what the means may differ by, without the margin for rounding.
        S half;
        S residual;
        // Whether epsilon is kept, by the residual.
        bool kept;
        bool there;
    };

    __device__ __forceinline__ Judgement judge(const SpreadCall& call, S ahead) const {
        Judgement of;
        of.ahead = ahead;
        S moved = static_cast<S>(shift), inf = static_cast<S>(infinity());
        // (Shifts move no element by more than they are, nor beyond the bounds.)
        of.largest = max_of_rows<WIDTH>(live ? size + size_of(moved) : S(0));
        of.largest = min(of.largest, static_cast<S>(max(size_of(call.lo), size_of(call.hi))));
        of.tolerance = max(static_cast<S>(call.tolerance), ROUNDING * of.largest);
        of.half = S(0.5) * max(level() - of.tolerance, S(0));
        // The centre must lie above all of these and below all of those. A multiplier counts as zero if it would not move even
        // the lightest union by more than the tolerance.
        S zero = of.tolerance * lightest, nu = moved * count;
        of.residual = most(ahead - (nu < -zero ? -of.half : of.half)) - least(ahead - (nu > zero ? of.half : -of.half));
        // (A part of it is kept for the rounding of `ahead`. The tolerance may be far above what rounding takes, where values are
        // smaller than shifts: epsilon is kept all the same. Without a margin the residual is the gap.)
        of.kept = of.half > S(0) || epsilon == 0.0 || of.residual <= S(0.999) * level();
        of.there = of.residual <= S(0.75) * of.tolerance && of.tolerance < inf && of.kept;
        return of;
    }

    // Epsilon, or a little less: no more than that in any type.
    __device__ __forceinline__ S level() const { return static_cast<S>(epsilon) * (S(1) - 2 * UNIT_ROUNDOFF); }

    // Takes the sums of a pass. All teams of a warp do so together, and `takes` says which of them really does.
    __device__ __forceinline__ Stage take(const SpreadCall& call, const Team<LANES>& team, bool takes, bool was_exact, S rough,
                                          double sum, u32 free) {
        bool is_first = takes && iterations == 0;
        passes += takes ? 1 : 0;
        Judgement of = judge(call, was_exact ? ahead_of(sum) : rough * static_cast<S>(inverse_count) - base);
        bool within = false;
        if (team.any(is_first)) {
            S gap = most(of.ahead) - least(of.ahead);
            within = is_first && gap <= level() + 2 * ROUGH_ERROR * of.largest;
            if (team.any(is_first && was_exact)) {
                double error, over = measure(sum, error);
                within = was_exact ? is_first && over <= 0.0 : within;
            }
        }
        S now = of.residual, before = residual;
        residual = takes && !within ? now : residual;
        bool there = within || of.there;
        bool grows = iterations > 0 && !(now < S(1.5) * max(before, S(4) * of.tolerance));
        bool lost = !(now > S(0)) || grows || passes >= MAX_NEWTON_PASSES || iterations >= call.max_iterations;
        bool steps = takes && !there && !lost;
        exact = exact || (takes && there);
        Stage stage = there ? (was_exact ? SOLVED : EXACT) : LEFT;
        if (team.any(steps)) {
            double next = step(team, steps, of, free);
            // Steps converge quadratically, and a little faster than this says: is this one likely to be the last?
            bool last = iterations > 0 && now * now * now < S(4) * of.tolerance * before * before;
            if (steps) {
                shift = next;
                ++iterations;
                exact = exact || last || sizeof(S) == 8 || iterations > MAX_ROUGH_STEPS;
                stage = exact ? EXACT : ROUGH;
            }
            bool pays = steps && exact;
            if (team.any(pays)) {
                pay(pays);
            }
        }
        return stage;
    }

    // Where an exact sum puts the mean.
    __device__ __forceinline__ S ahead_of(double sum) const {
        return static_cast<S>(sum * inverse_count - static_cast<double>(base));
    }

    // How far a distance lies beyond `half` either way.
    static __device__ __forceinline__ S soft(S distance, S half) {
        return distance > half ? distance - half : distance < -half ? distance + half : S(0);
    }

    // The shift after Newton's step: the centre at which the shifts balance is the root of a falling function, linear between
    // kinks.
    __device__ __forceinline__ double step(const Team<LANES>& team, bool seeks, const Judgement& of, u32 free) const {
        S slope = live ? max(static_cast<S>(free) * static_cast<S>(inverse_count), PLENTY) : S(1);
        S inverse_slope = quotient(S(1), slope), weight = live ? count * inverse_slope : S(0);
        // Where the mean would be without a shift.
        S pulled = slope * static_cast<S>(shift), model = of.ahead + pulled, accuracy = UNIT_ROUNDOFF * of.largest;
        // (Of all, as if epsilon were zero.)
        S middle = quotient(sum_of_rows<WIDTH>(weight * model), sum_of_rows<WIDTH>(weight));
        S from = -static_cast<S>(infinity()), to = static_cast<S>(infinity()), over = S(0);
#pragma unroll 1
        for (u32 k = 0; k < MAX_ROOT_STEPS; ++k) {
            over = soft(model - middle, of.half);
            S value = sum_of_rows<WIDTH>(weight * over), weights = sum_of_rows<WIDTH>(over == S(0) ? S(0) : weight);
            // (No weight: all shifts are zero, and balanced.)
            seeks = seeks && size_of(value) > accuracy * weights;
            if (!team.any(seeks)) {
                break;
            }
            from = value > S(0) ? middle : from;
            to = value > S(0) ? to : middle;
            S newton = middle + quotient(value, weights);
            S next = newton > from && newton < to ? newton : S(0.5) * (from + to);
            seeks = seeks && next != middle;
            middle = seeks ? next : middle;
        }
        S moved = (over - pulled) * inverse_slope;
        return live && over != S(0) ? shift + static_cast<double>(moved) : 0.0;
    }

    // What rounding left of the balance is paid by the heaviest union that is held: it moves the least.
    __device__ __forceinline__ void pay(bool pays) {
        double left = sum_of_rows<WIDTH>(shift * static_cast<double>(count));
        S own = shift != 0.0 ? count : S(0), heaviest = max_of_rows<WIDTH>(own);
        u32 payers = lanes_where<WIDTH>(shift != 0.0 && own == heaviest);
        if (pays && payers != 0 && Columns<LANES>::row() == lowest_of(payers)) {
            shift -= left * inverse_count;
        }
    }
};

// What Newton's method left: the centre and the shift of every union are found each within a bracket, which cannot fail. A union's
// mean falls as its shift rises, and the balance of the shifts falls as the centre rises.
template <class T, int LANES>
struct Brackets {
    typedef Spread<T, LANES> Of;
    typedef ArithmeticOf<T> S;
    static constexpr int WIDTH = Columns<LANES>::WIDTH;

    // What the next pass is of: unmoved elements; shifts for a centre; shifts between those for two centres, which balance.
    enum Look { UNMOVED, FOR_CENTRE, BALANCED };

    Look look;
    u32 inner;
    // The mean of the unmoved, the centre and its bracket, from `base`.
    S unmoved;
    S centre;
    S centre_low;
    S centre_high;
    // What ended for the ends of that bracket: this union's shift, and the balance of all.
    double shift_low;
    double shift_high;
    S balance_low;
    S balance_high;
    // The shift of this union goes to `side`, within a bracket, until its mean is so far from the centre.
    S side;
    S half;
    double low;
    double high;

    __device__ __forceinline__ explicit Brackets(Of& spread) : look(UNMOVED), inner(0), unmoved(0), centre(0), centre_low(0), centre_high(0),
        shift_low(0.0), shift_high(0.0), balance_low(0), balance_high(0), side(0), half(0), low(0.0), high(0.0) {
        spread.shift = 0.0;
    }

    // Takes exact sums. All teams of a warp do so together, as above.
    __device__ __forceinline__ Stage take(Of& spread, const SpreadCall& call, const Team<LANES>& team, bool takes, double sum, u32 free) {
        double mean = sum * spread.inverse_count, error, over = spread.measure(sum, error);
        typename Of::Judgement of = spread.judge(call, spread.ahead_of(sum));
        spread.passes += takes ? 1 : 0;
        S lowest = spread.least(of.ahead), highest = spread.most(of.ahead);
        bool is_there = look != FOR_CENTRE || approach(spread, takes, mean, free, of.tolerance);
        bool all_there = lanes_where<WIDTH>(!is_there) == 0 || inner >= MAX_INNER_PASSES;
        double balance = sum_of_rows<WIDTH>(spread.shift * static_cast<double>(spread.count));
        bool pays = takes && look == FOR_CENTRE && all_there;
        Stage stage = EXACT;
        S next = S(0.5) * (centre_low + centre_high);
        if (takes && look == UNMOVED) {
            unmoved = of.ahead;
            centre_low = lowest;
            centre_high = highest;
            aim(spread, S(0.5) * (lowest + highest), of.half);
        } else if (takes && look == BALANCED) {
            spread.residual = of.residual;
            if (of.there) {
                stage = SOLVED;
            } else if (!(next > centre_low && next < centre_high)) {
                // What rounding left, where epsilon is kept, or too small for a margin.
                bool kept = over <= 0.0 || of.half == S(0);
                stage = kept && of.residual <= S(AT_THE_FLOOR) * of.tolerance ? SOLVED : CLIPPED;
            } else {
                aim(spread, next, of.half);
            }
        } else if (pays) {
            balanced(spread, balance);
        }
        if (team.any(pays)) {
            spread.pay(pays);
        }
        bool ends = spread.passes >= MAX_PASSES || spread.iterations > call.max_iterations || !(of.tolerance < static_cast<S>(infinity()));
        return stage == EXACT && ends ? CLIPPED : stage;
    }

    // Sets the shift to try next, if the mean is not where it is to be. (Lane by lane.)
    __device__ __forceinline__ bool approach(Of& spread, bool takes, double mean, u32 free, S tolerance) {
        double target = static_cast<double>(spread.base) + static_cast<double>(centre) + static_cast<double>(side * half);
        double over = static_cast<double>(side) * (mean - target), size = size_of(spread.shift);
        bool there = side == S(0) || size_of(over) <= 0.05 * static_cast<double>(tolerance);
        if (!takes || there) {
            inner += takes ? 1 : 0;
            return there;
        }
        ++inner;
        // Above zero, the shift is to grow.
        low = over > 0.0 ? size : low;
        high = over > 0.0 ? high : size;
        double part = static_cast<double>(free) * spread.inverse_count;
        double newton = free > 0 ? size + over * inverse(part) : infinity(), outward = 4.0 * size + size_of(over);
        double next = high < infinity() ? 0.5 * (low + high) : outward;
        // Every third time the middle: a bracket that shrinks from one side only is not one.
        if (newton > low && newton < high && inner % 3 != 0) {
            next = high < infinity() ? newton : min(newton, outward);
        }
        there = !(next > low && next < high);
        spread.shift = there ? spread.shift : static_cast<double>(side) * next;
        return there;
    }

    // Takes the balance for the centre: between the ends of the bracket lies what is balanced, and there every mean lies between
    // theirs. (Where elements are all clamped, a mean says nothing of the shift: the balance does.)
    __device__ __forceinline__ void balanced(Of& spread, double balance) {
        if (balance > 0.0) {
            centre_low = centre;
            shift_low = spread.shift;
            balance_low = static_cast<S>(balance);
        } else {
            centre_high = centre;
            shift_high = spread.shift;
            balance_high = static_cast<S>(balance);
        }
        if (balance_low > S(0) && balance_high < S(0)) {
            spread.shift = shift_low + static_cast<double>(balance_low / (balance_low - balance_high)) * (shift_high - shift_low);
        }
        look = BALANCED;
    }

    // Takes a centre: which unions have to move, which way, and to what mean.
    __device__ __forceinline__ void aim(Of& spread, S to, S wide) {
        look = FOR_CENTRE;
        centre = to;
        inner = 0;
        ++spread.iterations;
        half = wide;
        S over = unmoved - centre;
        side = !spread.live ? S(0) : over > half ? S(1) : over < -half ? S(-1) : S(0);
        low = 0.0;
        high = infinity();
        // (The mean of the unmoved is known: the first move is what would do if all were free.)
        spread.shift = static_cast<double>(side * max(size_of(over) - half, S(0)));
    }
};

// Writes what a problem ends with, beside y. All teams of a warp together, as above.
template <int VALUES, class Holder, class T, int LANES>
__device__ __forceinline__ void finish(const Holder& team, const SpreadCall& call, const Spread<T, LANES>& spread, bool ends,
                                       u32 status, Beyond beyond, double sum) {
    const Place& place = team.place;
    u32* clamp = call.clamp + (place.present ? clamp_start(place.problem, place.first) : 0);
    write_clamp<LANES, VALUES>(team, beyond, clamp, place.n, ends);
    double error, over = spread.measure(sum, error);
    u32 row = team.lane, inactive = lanes_where<Columns<LANES>::WIDTH>(row < call.unions && !spread.live), mask = 0;
    if (inactive != 0) {
        for (u32 cell = 0; cell < call.unions; ++cell) {
            mask |= (inactive >> cell & 1) << call.union_of_cell[cell];
        }
    }
    if (ends && team.leads()) {
        bool trivial = !(spread.lightest < static_cast<ArithmeticOf<T>>(infinity()));
        outcome_of(call, place.problem) = Outcome{status,           spread.iterations, trivial ? 0 : spread.passes, mask,
                                                  spread.residual, over > error ? over : 0.0};
    }
    if (ends && row < call.unions) {
        multiplier_of(call, place.problem, row) = spread.live ? spread.shift * static_cast<double>(spread.count) : 0.0;
    }
}

// Threads that a multiprocessor is to hold: those with more to keep are fewer.
template <class T, int VALUES>
constexpr int RESIDENT_OF_SPREAD = sizeof(ArithmeticOf<T>) == 8 ? 256 : VALUES > 16 ? 384 : 512;

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

    Spread<T, LANES> spread;
    Found<A> first = rough_pass<OF_Y_AND_THERE>(team, held, columns, 0.0);
    A sizes = call.lo < 0.0 ? rough_pass<OF_SIZES>(team, held, columns, 0.0).value : first.value;
    spread.begin(first.there, level, first.value, sizes);
    bool waits = place.present && usable;
    Stage stage = spread.take(call, team, waits, false, first.value, 0.0, first.free);
    stage = waits ? stage : SOLVED;

#pragma unroll 1
    while (team.any(stage == ROUGH || stage == EXACT)) {
        bool rough = stage == ROUGH, exact = stage == EXACT, takes = rough || exact;
        A rough_sum = A(0);
        double sum = 0.0;
        u32 free = 0;
        Beyond beyond = {0, 0};
        if (team.any(rough)) {
            Found<A> found = rough_pass<OF_Y>(team, held, columns, spread.shift);
            rough_sum = found.value;
            free = found.free;
        }
        if (team.any(exact)) {
            Found<double> found = exact_pass(team, held, columns, spread.shift, y, exact ? place.n : 0, beyond);
            sum = found.value;
            free = exact ? found.free : free;
        }
        Stage next = spread.take(call, team, takes, exact, rough_sum, sum, free);
        stage = takes ? next : stage;
        bool ends = exact && stage == SOLVED;
        if (team.any(ends)) {
            finish<VALUES>(team, call, spread, ends, STATUS_SOLVED, beyond, sum);
        }
    }
    if (team.any(stage == LEFT)) {
        Brackets<T, LANES> brackets(spread);
        stage = stage == LEFT ? EXACT : SOLVED;
#pragma unroll 1
        while (team.any(stage != SOLVED)) {
            bool clipped = stage == CLIPPED, exact = stage != SOLVED, takes = stage == EXACT;
            spread.shift = clipped ? 0.0 : spread.shift;
            Beyond beyond;
            Found<double> found = exact_pass(team, held, columns, spread.shift, y, exact ? place.n : 0, beyond);
            Stage next = brackets.take(spread, call, team, takes, found.value, found.free);
            stage = takes ? next : SOLVED;
            bool ends = exact && stage == SOLVED;
            if (team.any(ends)) {
                u32 status = clipped ? STATUS_ITERATION_LIMIT : STATUS_SOLVED;
                finish<VALUES>(team, call, spread, ends, status, clipped ? Beyond{~0u, 0} : beyond, found.value);
            }
        }
    }
    if (place.present && !usable) {
        write_unusable<T>(team, call, place, clamp);
    }
    team.leave();
}
