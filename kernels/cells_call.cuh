// What a launch hands to the kernels for any rows, and a problem in it.
#pragma once

#include "meeting.cuh"
#include "storage.cuh"

// The cells, and the rows, that there can be.
constexpr u32 MOST_ROWS = 32;

// A spread's number, of rows that belong to none.
constexpr u32 NO_SPREAD = 0xffffffffu;

// Bits of `CellsCall::flags`: arrays that all problems share, and numbers beside the predictions that are f64.
constexpr u32 SHARED_CELLS = 1, SHARED_CONTROL = 2, SHARED_WEIGHTS = 4, SHARED_LABELS = 8, SHARED_LO = 16, SHARED_HI = 32;
constexpr u32 DOUBLE_WEIGHTS = 64, DOUBLE_LABELS = 128;
// That strata are those of the labels; that rows which nothing meets are relaxed; that a spread is a ratio; that the problems
// are those that ADMM has left.
constexpr u32 STRATA_BY_LABEL = 256, RELAXES = 512, HAS_RATIO = 1024, FOLLOWS_ADMM = 2048;
// The same of coefficients: that all problems share them, and that they are f64.
constexpr u32 SHARED_COEFFICIENTS = 4096, DOUBLE_COEFFICIENTS = 8192;

// A row of the constraint set: a mean over the cells `plus`, less `scale` times that over `minus`.
struct SetRow {
    double scale;
    u32 plus;
    u32 minus;
    u32 spread;
    // Whether it is about y less the label.
    u32 residual;
};

// The rows of a spread.
struct SetSpread {
    u32 first;
    u32 end;
    u32 is_ratio;
    u32 unused;
};

// Rows that hang together, and the cells that they are about, as bits.
struct SetPart {
    u32 rows;
    u32 cells;
};

// A sensitive feature: its groups, and where its ids begin.
struct Feature {
    u64 start;
    u32 groups;
    u32 shared;
};

// `CellsCall` of `src/backend/cuda/calls.rs`; a test holds both together.
struct CellsCall {
    const void* z;
    // Cells as they were given, or as `cells_prepare` wrote them.
    const u8* cells;
    // What `cells_prepare` makes them of.
    const u8* groups;
    const u8* control;
    const void* weights;
    const void* labels;
    // Bounds of the elements; null where `lo` or `hi` is that of all.
    const void* lower;
    const void* upper;
    void* y;
    u32* clamp;
    // An `Outcome` and a multiplier of every row, for each problem.
    u8* outcomes;
    // As in `SpreadCall`.
    const u64* offsets;
    const u32* list;
    Arrivals* arrivals;
    u64* boards;
    // Of the spreads, and of the contrasts; strides of 0 say that all problems share them.
    const double* levels;
    const double* row_lower;
    const double* row_upper;
    // Multipliers to begin with, or null.
    const double* warm;
    // The constraint set.
    const SetRow* set_rows;
    const SetSpread* set_spreads;
    const SetPart* set_parts;
    const Feature* features;
    u8* own_cells;
    // The elements of every problem, sorted by cell.
    u32* order;
    // Of rows over samples, of each problem row by row; null where there are none.
    const void* coefficients;
    // ADMM: of every sample x and b + q / rho.
    double* iterates;
    // Backward: null where they are not wanted.
    const void* g;
    void* to_predictions;
    void* to_lo;
    void* to_hi;
    void* to_weights;
    void* to_labels;
    void* to_coefficients;
    double* to_levels;
    double* to_row_lower;
    double* to_row_upper;
    double lo;
    double hi;
    double tolerance;
    // `AdmmSettings` of `src/settings.rs`.
    double eps_abs;
    double eps_rel;
    double relaxation;
    double sigma;
    double rho;
    u32 admm_iterations;
    u32 count;
    u32 n;
    u32 flags;
    u32 cell_count;
    u32 rows;
    u32 spreads;
    u32 contrasts;
    u32 parts;
    u32 feature_count;
    u32 strata;
    u32 level_stride;
    u32 lower_stride;
    u32 upper_stride;
    u32 warm_stride;
    u32 max_iterations;
    u32 blocks;
    // Rows over samples, the last of all.
    u32 dense;
};

// A number beside the predictions.
__device__ __forceinline__ double real_at(const void* array, bool is_double, u64 at) {
    return is_double ? static_cast<const double*>(array)[at] : static_cast<double>(static_cast<const float*>(array)[at]);
}

// What became of a problem.
__device__ __forceinline__ Outcome& outcome_of(const CellsCall& call, u32 problem) {
    return *reinterpret_cast<Outcome*>(call.outcomes + problem * (sizeof(Outcome) + call.rows * sizeof(double)));
}

// Elements that a block has before a problem is given another.
constexpr u32 ENOUGH_FOR_A_BLOCK = 16384;

// A problem, for the block that has it in hand; or, where several blocks have it, the part of this one.
template <class T>
struct Problem {
    typedef ArithmeticOf<T> A;

    const CellsCall& call;
    u32 index;
    // Elements of the whole problem, of the part, and before it; and where the part begins.
    u32 whole;
    u32 n;
    u32 before;
    u64 first;
    // The blocks that have it: at most as many as the launch has for each, and no more than it needs.
    u32 blocks;

    // The one at a place of the launch's list; `alone` says that no other block has a part of it, whatever the launch says.
    __device__ __forceinline__ Problem(const CellsCall& call, u32 place, bool alone = false) : call(call) {
        index = call.list ? call.list[place] : place;
        first = call.offsets ? call.offsets[index] : static_cast<u64>(index) * call.n;
        whole = call.offsets ? static_cast<u32>(call.offsets[index + 1] - first) : call.n;
        blocks = 1;
        before = 0;
        n = whole;
        if (!alone) {
            blocks = smaller(larger((whole + ENOUGH_FOR_A_BLOCK - 1) / ENOUGH_FOR_A_BLOCK, 1u), call.blocks);
            // (No two parts share a word of clamp states.)
            u32 part = ((whole + blocks - 1) / blocks + WARP_LANES - 1) / WARP_LANES * WARP_LANES;
            before = smaller(block() * part, whole);
            n = smaller(part, whole - before);
            first += before;
        }
    }

    // The number of this block among those.
    __device__ __forceinline__ u32 block() const { return blockIdx.x % call.blocks; }

    __device__ __forceinline__ bool has(u32 flag) const { return (call.flags & flag) != 0; }

    // Where an element is in an array that problems may share.
    __device__ __forceinline__ u64 at(u32 i, u32 shared) const { return has(shared) ? before + i : first + i; }

    __device__ __forceinline__ A z(u32 i) const {
        return Storage<T>::widen(static_cast<const T*>(call.z)[first + i]);
    }

    __device__ __forceinline__ A lo(u32 i) const {
        return call.lower ? Storage<T>::widen(static_cast<const T*>(call.lower)[at(i, SHARED_LO)]) : static_cast<A>(call.lo);
    }

    __device__ __forceinline__ A hi(u32 i) const {
        return call.upper ? Storage<T>::widen(static_cast<const T*>(call.upper)[at(i, SHARED_HI)]) : static_cast<A>(call.hi);
    }

    __device__ __forceinline__ double weight(u32 i) const {
        return call.weights ? real_at(call.weights, has(DOUBLE_WEIGHTS), at(i, SHARED_WEIGHTS)) : 1.0;
    }

    __device__ __forceinline__ double label(u32 i) const {
        return call.labels ? real_at(call.labels, has(DOUBLE_LABELS), at(i, SHARED_LABELS)) : 0.0;
    }

    __device__ __forceinline__ const u8* cells() const { return call.cells + (has(SHARED_CELLS) ? before : first); }

    // The stored answer, and the gradient to it.
    __device__ __forceinline__ double value(u32 i) const { return Storage<T>::widen(static_cast<const T*>(call.y)[first + i]); }

    __device__ __forceinline__ double gradient(u32 i) const { return Storage<T>::widen(static_cast<const T*>(call.g)[first + i]); }

    __device__ __forceinline__ u32* order() const { return call.order + first; }

    __device__ __forceinline__ T* output(void* array) const { return static_cast<T*>(array) + first; }

    __device__ __forceinline__ u32* clamp() const { return call.clamp + clamp_start(index, first); }

    __device__ __forceinline__ Outcome& outcome() const { return outcome_of(call, index); }

    // Rows with bounds: contrasts, and rows over samples.
    __device__ __forceinline__ u32 bounded_rows() const { return call.contrasts + call.dense; }

    // The numbers of the first row that is a contrast, and of the first over samples.
    __device__ __forceinline__ u32 first_contrast() const { return first_dense() - call.contrasts; }
    __device__ __forceinline__ u32 first_dense() const { return call.rows - call.dense; }

    // The coefficients of its first row over samples.
    template <class C>
    __device__ __forceinline__ const C* coefficients() const {
        return static_cast<const C*>(call.coefficients) + (has(SHARED_COEFFICIENTS) ? 0 : first * call.dense);
    }

    // The multipliers of the answer, row by row of the set.
    __device__ __forceinline__ double* multipliers() const { return reinterpret_cast<double*>(&outcome() + 1); }

    __device__ __forceinline__ double level(u32 spread) const { return call.levels[index * u64(call.level_stride) + spread]; }

    // Of contrasts, and of rows over samples behind them.
    __device__ __forceinline__ double row_lower(u32 row) const { return call.row_lower[index * u64(call.lower_stride) + row]; }

    __device__ __forceinline__ double row_upper(u32 row) const { return call.row_upper[index * u64(call.upper_stride) + row]; }

    __device__ __forceinline__ double warm(u32 row) const { return call.warm[index * u64(call.warm_stride) + row]; }
};
