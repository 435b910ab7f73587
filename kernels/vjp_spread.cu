// The backward pass of `cells_spread`: `cells_vjp` in the closed form of `Disjoint::pull_back` in `src/reference/disjoint.rs`.
//
// With h = free / count^2 and r the mean gradient of a union: lambda = (r - c) / h over the unions held, whose sum is zero.
// Where some of those have no free element, they balance the others, which then need no c.

#include "columns.cuh"

// Threads that a multiprocessor is to hold: those with more to keep are fewer.
template <class T, int VALUES>
constexpr int RESIDENT_BACK_OF_SPREAD = sizeof(ArithmeticOf<T>) == 8 ? 384 : VALUES > 16 ? 256 : 512;

template <class T, int LANES, int VALUES, bool SEVERAL>
__global__ void __launch_bounds__(Team<LANES>::BLOCK, Team<LANES>::blocks(RESIDENT_BACK_OF_SPREAD<T, VALUES>))
    vjp_spread(const __grid_constant__ SpreadCall call) {
    typedef ArithmeticOf<T> A;
    typedef Layout<LANES, VALUES> Layout;
    DYNAMIC_SHARED(u8, shared);
    Holder<LANES, VALUES, SEVERAL> team(call);
    const Place& place = team.place;
    if (SEVERAL && !place.present) {
        return;
    }
    Columns<LANES> columns(shared + Team<LANES>::SHARED, call.unions);
    T* to_predictions = static_cast<T*>(call.to_predictions) + place.first;
    const u32* clamp = call.clamp + (place.present ? clamp_start(place.problem, place.first) : 0);
    u32 row = threadIdx.x % WARP_LANES;
    bool solved = is_solved(call, place);
    double nu = multiplier_at(call, place, row);

    A values[VALUES];
    u32 ids[VALUES / PACK];
    bool usable = true;
    Layout::load(team, static_cast<const T*>(call.g) + place.first, place.n, values);
    u32 clamped = load_clamped<LANES, VALUES>(team, clamp, place.n);
    load_ids<LANES, VALUES>(team, call.cells + (call.shared_cells ? place.before : place.first), place.n, call.unions, ids, usable);

    columns.template begin<A, A>(team.lane, 0.0);
    A check = A(0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        check += values[j] * A(0);
        columns.template column<A>(id_of(ids, j), team.lane).free += A(1);
    }
    bool spoilt = team.has(check != A(0));
    double count = columns.template end<A>(team).free;
    columns.template begin<double, A>(team.lane, 0.0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        bool free = (clamped >> j & 1) == 0;
        Sums<double>& column = columns.template column<double>(id_of(ids, j), team.lane);
        Sums<double> sums = column;
        sums.value += free ? static_cast<double>(values[j]) : 0.0;
        sums.free += free ? 1.0 : 0.0;
        column = sums;
    }
    Sums<double> sums = columns.template end<double>(team);

    double level = place.present ? call.levels[call.shared_levels ? 0 : place.problem] : 0.0;
    bool several = __popc(__ballot_sync(FULL_WARP, count > 0.0)) > 1;
    bool live = several && row < call.unions && count > 0.0;
    bool held = solved && live && (nu != 0.0 || level == 0.0);
    bool movable = held && sums.free > 0.0;
    double inverse_count = live ? inverse(count) : 0.0;
    double mean = sums.value * inverse_count;
    double weight = movable ? count * count * inverse(sums.free) : 0.0;
    double weights = sum_of_rows(weight), weighted = sum_of_rows(mean * weight);
    u32 fixed = __popc(__ballot_sync(FULL_WARP, held && !movable));
    double middle = fixed == 0 && weights > 0.0 ? weighted / weights : 0.0;
    double rest = fixed > 0 ? -weighted / fixed : 0.0;
    double lambda = movable ? (mean - middle) * weight : held ? rest : 0.0;
    double sign = nu > 0.0 ? 1.0 : nu < 0.0 ? -1.0 : 0.0;
    double to_level = sum_of_rows(0.5 * sign * lambda);

    // What an element is pulled by is looked up where shifts are.
    columns.template begin<A, A>(team.lane, lambda * inverse_count);
    const SplitShift<A>* table = columns.template table<A>();
    bool packed = is_packed(to_predictions, place.n);
    A nothing = spoilt && solved ? static_cast<A>(infinity() - infinity()) : A(0);
#pragma unroll
    for (u32 pack = 0; pack < Layout::PACKS; ++pack) {
        Pack<T> four;
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            u32 j = pack * PACK + k;
            A moved = values[j] - table[id_of(ids, j)].first;
            bool passes = solved && !spoilt && (clamped >> j & 1) == 0;
            four.values[k] = Storage<T>::narrow(passes ? moved : nothing);
        }
        store_pack(to_predictions, Layout::start(team, pack), place.n, packed, four);
    }
    if (place.present && team.leads()) {
        call.to_levels[place.problem] = spoilt && solved ? infinity() - infinity() : to_level;
    }
    team.leave();
}
