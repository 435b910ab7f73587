// What the Newton machine asks of rows over samples, and of rows over cells beside them: as `rows_of_cells.cuh`, with every sample
// as its own cell. A pass goes over the coefficients once; whatever else is asked for is a pass of its own.
#pragma once

#include "elements.cuh"
#include "live_rows.cuh"
#include "sample_rows.cuh"

template <class T, int LANES>
struct RowsOfSamples : SampleRows<T, LANES> {
    typedef ArithmeticOf<T> A;
    typedef SampleRows<T, LANES> Base;
    using Base::lane;
    using Base::m;
    using Base::memory;
    using Base::mine;
    using Base::problem;
    using Base::samples;
    using Base::tile;

    static constexpr bool BY_SAMPLE = true;

    // Whether free weights are floored in the model in hand.
    mutable bool is_flooring;

    __device__ __forceinline__ RowsOfSamples(const Problem<T>& problem, const SampleMemory& samples)
        : Base(problem, samples), is_flooring(false) {}

    // What a pass found at a point.
    __device__ __forceinline__ const double* pairs_at(u32 point) const { return samples.sums_of(point); }
    __device__ __forceinline__ double* means_at(u32 point) const { return samples.sums_of(point) + pairs_of(m); }
    __device__ __forceinline__ double* sizes_at(u32 point) const { return means_at(point) + m; }
    __device__ __forceinline__ double* farthest_at(u32 point) const { return sizes_at(point) + m; }

    // (A pass reads the multipliers themselves.)
    __device__ __forceinline__ void ask(u32) const {}

    // Whether shifts have to be summed to twice the digits.
    __device__ __forceinline__ bool may_cancel(u32 point) const {
        return 4.0 * EPSILON * this->largest_shift_size(mine ? memory.nu_of(point)[lane] : 0.0) > HARMLESS;
    }

    // The lane's sample at the multipliers of a point.
    __device__ __forceinline__ Moved<A> move_sample(u32 point, bool cancels, u32 i) const {
        double shift = cancels ? this->exact_shift_of_sample(memory.nu_of(point), memory.rest_of(point))
                               : this->shift_of_sample(memory.nu_of(point));
        return move_element(problem, SplitShift<A>(shift), i);
    }

    // What a sample has of free weight, which is what it has at all if it is free, and what the model takes for it.
    __device__ __forceinline__ double floored_weight(const Floor& floor, double free, double distance) const {
        bool plenty = !floor.everywhere && free > 0.0;
        return plenty ? free : larger(floor.of(tile().weight[lane], distance), free);
    }

    // The pass: what every sample adds to the rows at the multipliers of a point.
    __device__ __forceinline__ void pass(u32 point) const {
        bool cancels = may_cancel(point);
        double farthest = 0.0;
        this->clear(this->pair_sums(), pairs_of(m));
        this->clear(this->row_sums(), 2 * m);
        this->each_sample(
            [&](u32 i, bool there) {
                double y = 0.0;
                bool free = false;
                if (there) {
                    auto moved = move_sample(point, cancels, i);
                    y = stored_value<T>(moved.clipped);
                    free = moved.t == moved.clipped;
                    farthest = larger(static_cast<double>(size_of(moved.t - moved.clipped)), farthest);
                }
                double w = tile().weight[lane];
                tile().terms(0)[lane] = free ? w : 0.0;
                tile().terms(1)[lane] = w * y;
                tile().terms(2)[lane] = w * size_of(y);
            },
            [&] {
                this->add_pairs(tile().terms(0));
                this->add_up(2 * m, this->row_sums(), [&](u32 n) {
                    bool is_size = n >= m;
                    const double* row = tile().row(is_size ? n - m : n);
                    const double* values = tile().terms(is_size ? 2 : 1);
                    return [=](u32 s) { return (is_size ? size_of(row[s]) : row[s]) * values[s]; };
                });
            });
        farthest = this->most_of_block(farthest);
        if (threadIdx.x == 0) {
            *farthest_at(point) = farthest;
        }
        this->gather_sums(pairs_of(m), this->pair_sums(), samples.sums_of(point));
        this->gather_sums(2 * m, this->row_sums(), means_at(point));
    }

    // The lane's mean at the point of the last pass.
    __device__ __forceinline__ double take_sums(u32 point) const { return mine ? means_at(point)[lane] : 0.0; }

    // Four times what rounding the stored values may move a row by at the worst: a mean of values of this size, two means of a
    // spread.
    __device__ __forceinline__ double rounding(double unit_roundoff, u32 point) const {
        double size = mine ? sizes_at(point)[lane] : 0.0;
        return most_of_rows(size * (this->own_block() == NO_BLOCK ? 4.0 : 8.0)) * unit_roundoff;
    }

    __device__ __forceinline__ double farthest(u32 point) const { return *farthest_at(point); }

    __device__ __forceinline__ double& model(u32 row, u32 column) const {
        return memory.h()[row * memory.model_pitch() + column];
    }

    __device__ __forceinline__ void take_pairs(const double* pairs, double prox) const {
        __syncwarp();
        for (u32 q = 0; mine && q < m; ++q) {
            model(lane, q) = pairs[place_of_pair(lane, q)] + (q == lane ? prox * this->scale() : 0.0);
        }
        __syncwarp();
    }

    // Fills the curvature of the dual in the rows' multipliers. A sample is free or not: what may look flat is a row, and then free
    // weights are floored.
    __device__ __forceinline__ void fill_curvature(u32 point, const Floor& floor, double prox) const {
        is_flooring = floor.everywhere;
        if (!floor.everywhere) {
            take_pairs(pairs_at(point), prox);
            is_flooring = any_lane(mine && !(model(mine ? lane : 0, mine ? lane : 0) >= PLENTY_FREE * this->scale()));
        }
        if (!is_flooring) {
            return;
        }
        bool cancels = may_cancel(point);
        this->clear(this->pair_sums(), pairs_of(m));
        this->each_sample(
            [&](u32 i, bool there) {
                double weight = 0.0;
                if (there) {
                    auto moved = move_sample(point, cancels, i);
                    double free = moved.t == moved.clipped ? tile().weight[lane] : 0.0;
                    weight = floored_weight(floor, free, static_cast<double>(size_of(moved.t - moved.clipped)));
                }
                tile().terms(0)[lane] = weight;
            },
            [&] { this->add_pairs(tile().terms(0)); });
        this->gather_sums(pairs_of(m), this->pair_sums(), samples.sums_of(POINTS));
        take_pairs(samples.sums_of(POINTS), prox);
    }

    // What the step in memory moves, in the model of this point: its length only where it is asked for.
    __device__ __forceinline__ Extent extent_of_step(u32 point, const Floor& floor, bool needs_length) const {
        if (!needs_length && !is_flooring) {
            return Extent{0.0, false};
        }
        bool cancels = may_cancel(point), steeper = false;
        double longest = 0.0;
        this->each_sample([&](u32 i, bool there) {
            double step = size_of(this->shift_of_sample(memory.step()));
            longest = larger(step, longest);
            if (is_flooring && there && step != 0.0) {
                auto moved = move_sample(point, cancels, i);
                double free = moved.t == moved.clipped ? tile().weight[lane] : 0.0;
                double distance = static_cast<double>(size_of(moved.t - moved.clipped));
                steeper = steeper || floored_weight(floor, free, distance) > STEEPER * free;
            }
        });
        return Extent{this->most_of_block(longest), this->most_of_block(steeper ? 1.0 : 0.0) > 0.0};
    }

    // Whether the multipliers of a point, as single numbers, leave free samples by more than an error, or clamped ones by more
    // than they lie beyond their bounds.
    __device__ __forceinline__ bool are_lost(u32 point, double error) const {
        bool cancels = may_cancel(point), lost = false;
        this->each_sample([&](u32 i, bool there) {
            if (there) {
                auto moved = move_sample(point, cancels, i);
                double beyond = static_cast<double>(size_of(moved.t - moved.clipped));
                lost = lost || 2.0 * EPSILON * this->size_of_shift(memory.nu_of(point)) > larger(error, 0.25 * beyond);
            }
        });
        return this->most_of_block(lost ? 1.0 : 0.0) > 0.0;
    }

    // (Rows over samples are told apart by their coefficients, which are not at hand.)
    __device__ __forceinline__ bool reduce(double&) const { return false; }

    // What a ray can make of the samples, values being about this large.
    __device__ __forceinline__ RaySums sum_ray(const double* ray, double size) const {
        RaySums all = {0.0, 0.0, 0.0, 0.0};
        this->each_sample([&](u32 i, bool there) {
            double weight = tile().weight[lane];
            if (there) {
                double lo = weight * static_cast<double>(problem.lo(i)), hi = weight * static_cast<double>(problem.hi(i));
                RaySums own = sums_of_pull(this->shift_of_sample(ray), this->size_of_shift(ray), weight, lo, hi, size);
                all.plain += own.plain;
                all.least += own.least;
                all.doubt += own.doubt;
                all.largest = larger(own.largest, all.largest);
            }
        });
        return RaySums{this->sum_of_block(all.plain), this->sum_of_block(all.least), this->sum_of_block(all.doubt),
                       this->most_of_block(all.largest)};
    }

    // Writes the samples as they are at a point, by the arithmetic of the pass.
    __device__ __forceinline__ void write(const Problem<T>& to, u32 point, bool is_answer) const {
        bool cancels = may_cancel(point);
        this->each_sample([&](u32 i, bool there) {
            Moved<A> moved = {};
            if (there) {
                moved = move_sample(point, cancels, i);
            }
            write_moved(to, i, there, moved, is_answer);
        });
    }
};
