// Rows with a coefficient for every sample, and rows over cells beside them, with every sample as its own cell. Rows over samples
// are scaled so that `a W^-1 a^T = 1`; their residuals are then in units of the predictions, like those of means. All threads of a
// block call all of this together; a lane of every warp has a row, and a sample of 32.
#pragma once

#include "cell_rows.cuh"
#include "samples_memory.cuh"

// The row and the column of a pair, the n-th of a lower triangle by rows.
struct RowPair {
    u32 row;
    u32 column;
    __device__ __forceinline__ explicit RowPair(u32 n) {
        row = static_cast<u32>((sqrtf(8.0f * static_cast<float>(n) + 1.0f) - 1.0f) * 0.5f);
        row -= row * (row + 1) / 2 > n ? 1 : 0;
        row += (row + 1) * (row + 2) / 2 <= n ? 1 : 0;
        column = n - row * (row + 1) / 2;
    }
};

__device__ __forceinline__ u32 place_of_pair(u32 a, u32 b) {
    u32 row = most_of(a, b);
    return row * (row + 1) / 2 + (a + b - row);
}

// 32 samples that a warp has in hand: coefficients per unit of weight, row by row, and numbers of each.
struct Tile {
    double* coefficients;
    double* weight;

    __device__ __forceinline__ Tile(double* work, u32 rows) : coefficients(work), weight(work + rows * TILE_PITCH) {}

    __device__ __forceinline__ double* row(u32 r) const { return coefficients + r * TILE_PITCH; }

    // One over the weights, and what a pass has to sum.
    __device__ __forceinline__ double* inverse() const { return weight + TILE; }
    __device__ __forceinline__ double* terms(u32 which) const { return weight + (which + 2) * TILE; }
    __device__ __forceinline__ double* end() const { return weight + TILE_NUMBERS * TILE; }
};

template <class T, int LANES>
struct SampleRows : CellRows {
    static constexpr u32 WARPS = LANES / WARP_LANES;

    const Problem<T>& problem;
    const SampleMemory& samples;
    mutable u32 turn;

    __device__ __forceinline__ SampleRows(const Problem<T>& problem, const SampleMemory& samples)
        : CellRows(samples, samples.own), problem(problem), samples(samples), turn(0) {}

    __device__ __forceinline__ Tile tile() const { return Tile(memory.work(), memory.rows); }

    // Sums and maxima over the block: every thread gets them, in an order that depends on nothing.
    template <class Join>
    __device__ __forceinline__ double of_block(double value, Join join) const {
        double of_warp = of_rows(value, join);
        if constexpr (WARPS > 1) {
            // By turns: who comes late still reads the last ones while others write the next.
            double* told = samples.told() + turn * WARPS;
            turn ^= 1;
            if (lane == 0) {
                told[threadIdx.x / WARP_LANES] = of_warp;
            }
            __syncthreads();
            of_warp = told[0];
            for (u32 other = 1; other < WARPS; ++other) {
                of_warp = join(of_warp, told[other]);
            }
        }
        return of_warp;
    }

    __device__ __forceinline__ double sum_of_block(double value) const { return of_block(value, Plus()); }

    __device__ __forceinline__ double most_of_block(double value) const { return of_block(value, Most()); }

    // A sum, or a maximum, for each of so many things over the samples of the tile, joined to `sums`, which are so many, or a
    // lane's own where several lanes share a thing: `term_of(thing)(sample)` is a term.
    template <class TermOf, class Join>
    __device__ __forceinline__ void fold(u32 count, double* sums, TermOf term_of, Join join) const {
        u32 parts = count < WARP_LANES ? WARP_LANES / count : 1;
#pragma unroll 1
        for (u32 at = lane; at < parts * count; at += WARP_LANES) {
            auto term = term_of(parts > 1 ? at % count : at);
            double sum = 0.0;
#pragma unroll 4
            for (u32 s = parts > 1 ? at / count : 0; s < TILE; s += parts) {
                sum = join(sum, term(s));
            }
            sums[at] = join(sums[at], sum);
        }
    }

    template <class TermOf>
    __device__ __forceinline__ void add_up(u32 count, double* sums, TermOf term_of) const {
        fold(count, sums, term_of, Plus());
    }

    // What all lanes and warps have in such sums, at the same place in the work of each, for all to know.
    template <class Join>
    __device__ __forceinline__ void gather(u32 count, const double* sums, double* all, Join join) const {
        u32 parts = count < WARP_LANES ? WARP_LANES / count : 1;
        // (Those of the first warp.)
        const double* first = sums - threadIdx.x / WARP_LANES * samples.machine_doubles;
        __syncthreads();
#pragma unroll 1
        for (u32 at = threadIdx.x; at < count; at += LANES) {
            double value = 0.0;
#pragma unroll 1
            for (u32 warp = 0; warp < WARPS; ++warp) {
#pragma unroll 1
                for (u32 part = 0; part < parts; ++part) {
                    value = join(value, first[warp * samples.machine_doubles + part * count + at]);
                }
            }
            all[at] = value;
        }
        __syncthreads();
    }

    __device__ __forceinline__ void gather_sums(u32 count, const double* sums, double* all) const {
        gather(count, sums, all, Plus());
    }

    // Adds the products of all pairs of rows over the samples of the tile, of these weights.
    __device__ __forceinline__ void add_pairs(const double* weight) const {
        add_up(pairs_of(m), pair_sums(), [&](u32 n) {
            RowPair pair(n);
            const double* a = tile().row(pair.row);
            const double* b = tile().row(pair.column);
            return [=](u32 s) { return a[s] * weight[s] * b[s]; };
        });
    }

    // Room for such sums: of pairs of rows, and of twice as many things as there are rows.
    __device__ __forceinline__ double* pair_sums() const { return tile().end(); }
    __device__ __forceinline__ double* row_sums() const { return pair_sums() + partial_of(pairs_of(memory.rows)); }

    __device__ __forceinline__ void clear(double* sums, u32 count) const {
        for (u32 at = lane; at < partial_of(count); at += WARP_LANES) {
            sums[at] = 0.0;
        }
        __syncwarp();
    }

    // Goes over the samples, 32 a warp at a time: `element(i, is_there)` by the lane that has the sample, and, when all lanes did,
    // `of_tile()`.
    template <class Element, class OfTile>
    __device__ __forceinline__ void each_sample(Element element, OfTile of_tile) const {
#pragma unroll 1
        for (u32 first = threadIdx.x - lane; first < problem.n; first += LANES) {
            load_tile(first);
            element(first + lane, first + lane < problem.n);
            __syncwarp();
            of_tile();
            __syncwarp();
        }
    }

    template <class Element>
    __device__ __forceinline__ void each_sample(Element element) const {
        each_sample(element, [] {});
    }

    // Loads the tile(). Samples that there are not have no weight, and coefficients of zero.
    __device__ __forceinline__ void load_tile(u32 first) const {
        u32 i = first + lane;
        bool there = i < problem.n;
        double total = *samples.total(), weight = there ? problem.weight(i) : 1.0;
        tile().weight[lane] = there ? weight / total : 0.0;
        tile().inverse()[lane] = there ? total / weight : 0.0;
        if (over_cells > 0) {
            u32 cell = there ? problem.cells()[i] : 0;
            for (u32 r = 0; r < over_cells; ++r) {
                tile().coefficients[r * TILE_PITCH + lane] = there ? coefficient(r, cell) : 0.0;
            }
        }
        __syncwarp();
        // Four rows at a time, a quarter of the warp each.
        u32 dense = problem.call.dense, n = problem.n, s = lane % (TILE / PACK) * PACK;
        bool is_double = problem.has(DOUBLE_COEFFICIENTS);
        const double* doubles = problem.template coefficients<double>();
        const float* floats = problem.template coefficients<float>();
        bool packed = is_double ? is_packed(doubles, n) : is_packed(floats, n);
#pragma unroll 2
        for (u32 k = lane / (TILE / PACK); k < dense; k += WARP_LANES / (TILE / PACK)) {
            u64 start = static_cast<u64>(k) * n;
            Pack<double> four;
            if (is_double) {
                four = load_pack(doubles + start, first + s, n, packed);
            } else {
                Pack<float> given = load_pack(floats + start, first + s, n, packed);
#pragma unroll
                for (u32 j = 0; j < PACK; ++j) {
                    four.values[j] = given.values[j];
                }
            }
            double unit = samples.unit()[k];
#pragma unroll
            for (u32 j = 0; j < PACK; ++j) {
                tile().row(over_cells + k)[s + j] = four.values[j] * tile().inverse()[s + j] * unit;
            }
        }
        __syncwarp();
    }

    // What multipliers, in memory, shift the lane's sample by.
    __device__ __forceinline__ double shift_of_sample(const double* multipliers) const {
        double shift = 0.0;
        for (u32 r = 0; r < m; ++r) {
            shift += tile().row(r)[lane] * multipliers[r];
        }
        return shift;
    }

    // The same of multipliers large + small, rounded only at the end.
    __device__ __forceinline__ double exact_shift_of_sample(const double* large, const double* small) const {
        TwoSum sum;
        for (u32 r = 0; r < m; ++r) {
            double factor = tile().row(r)[lane];
            if (factor != 0.0 && large[r] != 0.0) {
                sum.add_product(factor, large[r], small[r]);
            }
        }
        return sum.value();
    }

    // The sum of the sizes of what that is made of.
    __device__ __forceinline__ double size_of_shift(const double* multipliers) const {
        double size = 0.0;
        for (u32 r = 0; r < m; ++r) {
            size += size_of(tile().row(r)[lane] * multipliers[r]);
        }
        return size;
    }

    // Builds all rows; every machine gets them. False if a number of theirs cannot be used.
    __device__ __forceinline__ bool build_rows() {
        const CellsCall& call = problem.call;
        u32 first = problem.first_dense();
        SetPart all = {first < 32 ? below(first) : FULL_WARP, samples.cells < 32 ? below(samples.cells) : FULL_WARP};
        bool usable = build(problem, all, 0, 0);
        __syncthreads();
        if (call.dense > 0) {
            usable = scale_rows() && usable;
        }
        if (lane < call.dense) {
            u32 bounded = call.contrasts + lane, at = over_cells + lane;
            double low = problem.row_lower(bounded), high = problem.row_upper(bounded), unit = samples.unit()[lane];
            usable = usable && are_usable_bounds(low, high);
            memory.lower()[at] = low * unit;
            memory.upper()[at] = high * unit;
            memory.reach()[at] = memory.rough()[at] = samples.largest()[lane];
            memory.scale()[at] = 1.0;
            memory.source()[at] = first + lane;
            memory.block()[at] = NO_BLOCK;
        }
        m = over_cells + call.dense;
        __syncwarp();
        load(*this);
        return !any_lane(!usable);
    }

    // What the lane's row was multiplied by.
    __device__ __forceinline__ double unit_of_row() const { return mine && lane >= over_cells ? samples.unit()[lane - over_cells] : 1.0; }

    // Finds what the rows over samples have to be multiplied by: so that squares sum to 1, and first by the largest coefficient where
    // a square could be lost or infinite. A row of zeros stays as it is: it is met, or nothing can meet it. False if a coefficient
    // cannot be used.
    __device__ __forceinline__ bool scale_rows() const {
        u32 dense = problem.call.dense;
        bool own = lane < dense, writes = threadIdx.x < dense;
        if (writes) {
            samples.unit()[lane] = 1.0;
        }
        __syncthreads();
#pragma unroll 1
        for (;;) {
            double* squares = pair_sums();
            double* most = row_sums();
            clear(squares, dense);
            clear(most, dense);
            each_sample([](u32, bool) {}, [&] {
                add_up(dense, squares, [&](u32 k) {
                    const double* row = tile().row(over_cells + k);
                    const double* weight = tile().weight;
                    return [=](u32 s) { return row[s] * row[s] * weight[s]; };
                });
                fold(dense, most, [&](u32 k) {
                    const double* row = tile().row(over_cells + k);
                    return [=](u32 s) { return size_of(row[s]); };
                }, Most());
            });
            gather_sums(dense, squares, samples.sums_of(0));
            gather(dense, most, samples.largest(), Most());
            double largest = own ? samples.largest()[lane] : 1.0, square = own ? samples.sums_of(0)[lane] : 1.0;
            bool is_far = largest > 0.0 && largest < infinity() && !(largest >= 1e-100 && largest < 1e100);
            __syncthreads();
            double unit = samples.unit()[own ? lane : 0];
            if (any_lane(is_far)) {
                __syncthreads();
                if (writes && is_far) {
                    samples.unit()[lane] = 1.0 / largest;
                }
                __syncthreads();
                // (What was far is about 1 then, or no number.)
                continue;
            }
            double factor = square > 0.0 ? 1.0 / sqrt(square) : 1.0;
            __syncthreads();
            if (writes) {
                samples.unit()[lane] = unit * factor;
                samples.largest()[lane] = largest * factor;
            }
            __syncthreads();
            // (A NaN is lost in the largest, not in the sum of squares.)
            return !any_lane(own && !(is_finite(largest) && is_finite(square) && is_finite(unit * factor)));
        }
    }
};
