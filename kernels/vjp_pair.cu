// The backward pass of `cells_pair`: `cells_vjp` where lambda is one number in closed form.
//
// With F_c the free elements of cell c, G_c the sum of their gradients and n_c all its elements, and if the spread is held:
// lambda = (G_0 / n_0 - G_1 / n_1) / (F_0 / n_0^2 + F_1 / n_1^2), and a free element's gradient is g - lambda / n_0 or
// g + lambda / n_1. Where one cell has no free element, the other's gradients are balanced.

#include "pair.cuh"

// Threads that a multiprocessor is to hold: those with more to keep are fewer.
template <class T, int VALUES>
constexpr int RESIDENT_BACKWARD = sizeof(ArithmeticOf<T>) == 8 ? 384 : VALUES > 16 ? 512 : 768;

template <class T, int LANES, int VALUES, bool SEVERAL>
__global__ void __launch_bounds__(Team<LANES>::BLOCK, Team<LANES>::blocks(RESIDENT_BACKWARD<T, VALUES>))
    vjp_pair(const __grid_constant__ SpreadCall call) {
    typedef ArithmeticOf<T> A;
    typedef Layout<LANES, VALUES> Layout;
    typedef typename CountOf<SEVERAL>::Type Count;
    Holder<LANES, VALUES, SEVERAL> team(call);
    const Place& place = team.place;
    if (SEVERAL && !place.present) {
        return;
    }
    T* to_predictions = static_cast<T*>(call.to_predictions) + place.first;
    const u32* clamp = call.clamp + (place.present ? clamp_start(place.problem, place.first) : 0);
    bool solved = is_solved(call, place);
    double nu = multiplier_at(call, place, 0);

    A values[VALUES];
    bool usable = true;
    Layout::load(team, static_cast<const T*>(call.g) + place.first, place.n, values);
    u32 clamped = load_clamped<LANES, VALUES>(team, clamp, place.n);
    u32 ones = load_cells<LANES, VALUES>(team, call.cells + (call.shared_cells ? place.before : place.first), place.n, usable);
    u32 present = Layout::present(team, place.n);
    u32 free = present & ~clamped;

    A sums[2] = {A(0), A(0)}, check = A(0);
#pragma unroll
    for (u32 j = 0; j < VALUES; ++j) {
        // (0 times what is not finite is NaN.)
        check += values[j] * A(0);
        A value = bit(free, j) ? values[j] : A(0);
        sums[0] += value;
        add_where(sums[1], value, ones, 1u << j);
    }
    double both = sums[0], of_one = sums[1];
    Count all = count_both<Count>(present, ones), all_free = count_both<Count>(free, ones);
    // (A sum that is no number marks a gradient that has none.)
    double marked = check;
    team.add_up(all, all_free, both, of_one);
    bool spoilt = team.has(marked != 0.0);

    double counts[2] = {static_cast<double>(count_of_other(all)), static_cast<double>(count_of_one(all))};
    double free_counts[2] = {static_cast<double>(count_of_other(all_free)), static_cast<double>(count_of_one(all_free))};
    double level = place.present ? call.levels[call.shared_levels ? 0 : place.problem] : 0.0;
    bool live = counts[0] > 0.0 && counts[1] > 0.0;
    bool held = solved && live && (nu != 0.0 || level == 0.0);
    double pull[2] = {0.0, 0.0}, lambda = 0.0;
    if (held && free_counts[0] + free_counts[1] > 0.0) {
        double inverse_count[2] = {inverse(counts[0]), inverse(counts[1])};
        double mean[2] = {(both - of_one) * inverse_count[0], of_one * inverse_count[1]};
        double curvature = free_counts[0] * inverse_count[0] * inverse_count[0] +
                           free_counts[1] * inverse_count[1] * inverse_count[1];
        lambda = (mean[0] - mean[1]) * inverse(curvature);
        pull[0] = lambda * inverse_count[0];
        pull[1] = -lambda * inverse_count[1];
    }
    A pulls[2] = {static_cast<A>(pull[0]), static_cast<A>(pull[1])};
    bool packed = is_packed(to_predictions, place.n), whole = packed && place.n == LANES * VALUES;
    A nothing = spoilt && solved ? static_cast<A>(infinity() - infinity()) : A(0);
#pragma unroll
    for (u32 pack = 0; pack < Layout::PACKS; ++pack) {
        Pack<T> four;
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            u32 j = pack * PACK + k;
            A moved = values[j] - (bit(ones, j) ? pulls[1] : pulls[0]);
            bool passes = solved && !spoilt && bit(free, j);
            four.values[k] = Storage<T>::narrow(passes ? moved : nothing);
        }
        u32 i = Layout::start(team, pack);
        if (whole) {
            *reinterpret_cast<Pack<T>*>(to_predictions + i) = four;
        } else {
            store_pack(to_predictions, i, place.n, packed, four);
        }
    }
    if (place.present && team.leads()) {
        // lambda of the union that is held from above, less that of the other, by half.
        double sign = nu > 0.0 ? 1.0 : nu < 0.0 ? -1.0 : 0.0;
        call.to_levels[place.problem] = spoilt && solved ? infinity() - infinity() : sign * lambda;
    }
    team.leave();
}
