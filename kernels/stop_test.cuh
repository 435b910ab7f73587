// The stop test: whether a point is the answer, proven by sums of the values as they would be stored. Twin of
// `src/reference/stop_test.rs`, where it is explained.
#pragma once

#include "rows.cuh"

constexpr double MAX_GROWTH = 8.0;
constexpr u32 MOST_STALLS = 16;
constexpr double STALLED_RESIDUAL = 1e-3;

// What a problem is solved to.
struct Task {
    double tolerance;
    double unit_roundoff;
    u32 max_iterations;
    bool relaxes;

    // Whether the storage type is so coarse that the margin that rounding needs at the worst is not small beside the values.
    __device__ __forceinline__ bool is_coarse() const { return unit_roundoff > 1e-6; }

    // The smallest tolerance that can be asked for where rounding the stored values may cost a quarter of `rounding`.
    __device__ __forceinline__ double needed(double rounding) const {
        return larger(tolerance, (is_coarse() ? 0.25 : 1.0) * rounding);
    }

    // How many times the tolerance is accepted at the rounding floor.
    __device__ __forceinline__ double accepted() const { return is_coarse() ? 2.0 : 8.0; }
};

enum Verdict { VERDICT_SOLVED, VERDICT_STUCK, VERDICT_OPEN };

// The test with its memory of one attempt.
struct StopTest {
    double residual;
    double tolerance;
    double growth;
    double best;
    u32 stall;
    bool tightened;
    bool repaired;

    __device__ __forceinline__ void reset() {
        residual = 0.0;
        growth = 1.0;
        tightened = true;
        repaired = false;
        forget();
    }

    __device__ __forceinline__ void drop_margin() {
        tightened = false;
        forget();
    }

    __device__ __forceinline__ void forget() {
        best = infinity();
        stall = 0;
    }

    __device__ __forceinline__ double shift_error() const { return 100.0 * tolerance / growth; }

    // Judges a point, `low` and `high` becoming the lane's bounds as they are asked for. A start that the caller gave needs no
    // step if the true bounds are kept, as near to the multipliers' sides as a solution with the largest margin is.
    __device__ __forceinline__ Verdict judge(const Task& task, const Rows& rows, double mean, double nu, double needed,
                                             bool is_start, double& low, double& high) {
        double max_growth = task.is_coarse() ? 1.0 : MAX_GROWTH;
        bool met, lacks = rows.may_lack_room();
        bool kept = rows.excess(mean, 0.0, met) <= 0.0;
        bool first = is_start && kept;
#pragma unroll 1
        for (;;) {
            tolerance = first ? 2.0 * MAX_GROWTH * needed : needed * growth;
            rows.tighten(tightened && !first ? tolerance : 0.0, low, high);
            double error = rows.residual(low, high, mean, nu, tolerance);
            residual = error;
            // (What is too large for its type has an infinite rounding error, and is no solution.)
            bool solved = error <= tolerance && error < infinity() && tolerance < infinity();
            if (first && !solved) {
                first = false;
                continue;
            }
            if (solved && !kept && !tightened && !repaired) {
                // Solved without a margin, and a true bound is exceeded by rounding: from here the margin may do.
                tightened = repaired = true;
                growth = 2.0;
                forget();
                continue;
            }
            if (solved) {
                return VERDICT_SOLVED;
            }
            if (error < 0.5 * best) {
                best = error;
                stall = 0;
            } else {
                ++stall;
            }
            u32 patience = lacks ? 4 : 10;
            if (stall < patience || error > 100.0 * tolerance) {
                return VERDICT_OPEN;
            }
            // The rounding floor: what is left is accepted if it keeps the true bounds, else the margin grows, and is given up
            // where the rows have no room for one.
            if (error <= task.accepted() * tolerance && error < infinity() && (!tightened || kept)) {
                return VERDICT_SOLVED;
            }
            if (tightened && growth < max_growth) {
                growth *= 2.0;
                stall = patience / 2;
            } else if (tightened) {
                drop_margin();
            } else {
                return stall >= MOST_STALLS ? VERDICT_STUCK : VERDICT_OPEN;
            }
        }
    }

    // Whether the point has no room for the margin: rows that allow a single value between them have none, and the multipliers
    // of the tightened ones run away.
    __device__ __forceinline__ bool lacks_room(const Rows& rows) const {
        return tightened && stall >= MOST_STALLS && residual <= STALLED_RESIDUAL && rows.may_lack_room();
    }

    // Takes note that no step leads down from the point: the rounding floor, or the end. False if it is the end.
    __device__ __forceinline__ bool bears_no_descent() {
        if (residual > 100.0 * tolerance || stall >= MOST_STALLS) {
            return false;
        }
        best = 0.0;
        stall = stall > 10 ? stall : 10;
        return true;
    }
};
