// The backward solve of one part of a problem: lambda = pinv(A P W^-1 A^T) A P W^-1 g over the rows that are held, the
// multipliers of a spread balanced. Twin of `src/reference/cells_vjp.rs`; a lane of a warp has a row.
#pragma once

#include "eigen.cuh"
#include "linear.cuh"
#include "rows.cuh"

// Eigenvalues up to this part of the largest count as zero.
constexpr double RANK_CUT = 1e-9;
// Pivots this far apart leave no doubt about the rank.
constexpr double SURE_PIVOT = 1e-6;

// `Live` are the rows, which say what they make of the elements: `free_product(s)`, of the lane's row with row s over free ones,
// `gradient()`, of the gradient there, and `solve_pair`.
template <class Live>
struct HeldRows {
    const Live& rows;
    const RowMemory& memory;
    u32 lane;
    // The lane's multiplier in the answer, and what the balance of its spread is scaled by.
    double nu;
    double jacobi;
    bool is_held;
    // Lanes whose rows are held, as bits; how many; and the place of the lane's own among them.
    u32 held;
    u32 k;
    u32 place;
    double lambda;

    __device__ __forceinline__ HeldRows(const Live& rows, double nu)
        : rows(rows), memory(rows.memory), lane(rows.lane), nu(nu), jacobi(0.0), lambda(0.0) {
        is_held = rows.mine && (nu != 0.0 || rows.is_equality());
        held = lanes_where(is_held);
        k = static_cast<u32>(__popc(held));
        place = static_cast<u32>(__popc(held & below(lane)));
    }

    __device__ __forceinline__ double& system_at(u32 row, u32 column) const { return memory.h()[row * memory.model_pitch() + column]; }

    // The unit vector of a block's balance over the held rows, scaled like the system; zero if the block is not held.
    __device__ __forceinline__ double unit_of(u32 block) const {
        double own = is_held && rows.in(block) ? rows.centre_coefficient(block, nu) * jacobi : 0.0;
        double length = sqrt(sum_of_rows(own * own));
        return length > 0.0 ? own / length : 0.0;
    }

    // Solves for lambda.
    __device__ __forceinline__ void solve() {
        u32 first = held != 0 ? lowest_of(held) : 0, last = held != 0 ? 31 - static_cast<u32>(__clz(static_cast<int>(held))) : 0;
        u32 blocks[2] = {__shfl_sync(FULL_WARP, rows.own_block(), static_cast<int>(first)),
                         __shfl_sync(FULL_WARP, rows.own_block(), static_cast<int>(last))};
        if (k == 0) {
            return;
        }
        if (k == 2 && blocks[0] == blocks[1] && blocks[0] != NO_BLOCK && !rows.is_ratio_block(blocks[0])) {
            // Two rows of one spread: lambda is (x, -x), and one number is divided by.
            double x = rows.solve_pair(first, last);
            lambda = lane == first ? x : lane == last ? -x : 0.0;
            return;
        }
        // One scale for all rows of a spread: minimum norm then means the same for every one of them.
        double scale = rows.scale();
        for (u32 b = 0; b < rows.blocks; ++b) {
            double most = most_of_rows(rows.in(b) ? rows.scale() : 0.0);
            scale = rows.in(b) ? most : scale;
        }
        jacobi = is_held ? 1.0 / sqrt(scale) : 0.0;
        fill();
        double trace = sum_of_rows(is_held ? system_at(place, place) : 0.0), lift = trace > 0.0 ? trace / k : 1.0;
        double rhs = rows.gradient() * jacobi;
        // The balance of every block confines lambda to the complement of one direction a block: project onto it.
        for (u32 b = 0; b < rows.blocks; ++b) {
            double unit = unit_of(b);
            if (any_lane(unit != 0.0)) {
                project(unit, rhs);
            }
        }
        // Lifting the confined directions makes the system regular where the rows are independent.
        System system(memory.work(), k);
        __syncwarp();
        for (u32 j = 0; is_held && j < k; ++j) {
            system.at(place, j) = system_at(place, j);
        }
        for (u32 b = 0; b < rows.blocks; ++b) {
            double unit = unit_of(b);
            u32 j = 0;
            for (u32 left = held; left != 0; left &= left - 1, ++j) {
                double other = of_lane(unit, lowest_of(left));
                if (is_held) {
                    system.at(place, j) += lift * unit * other;
                }
            }
        }
        if (is_held) {
            system.numbers()[place] = rhs;
        }
        system.factor();
        double pivot = lane < k ? system.at(lane, lane) : infinity();
        double least = least_of_rows(pivot == pivot ? pivot : -infinity()), most = most_of_rows(lane < k ? pivot : 0.0);
        if (least > SURE_PIVOT * most) {
            system.solve();
            lambda = is_held ? system.numbers()[place] * jacobi : 0.0;
        } else {
            __syncwarp();
            double b = lane < k ? system.numbers()[lane] : 0.0;
            double x = pseudo_solve(b);
            lambda = is_held ? jacobi : 0.0;
            lambda *= __shfl_sync(FULL_WARP, x, static_cast<int>(place < 32 ? place : 0));
        }
        __syncwarp();
    }

    // What is left of the gradient in the lane's row.
    __device__ __forceinline__ double moved() const {
        double value = rows.gradient();
        for (u32 s = 0; s < rows.m; ++s) {
            value -= rows.free_product(s) * of_lane(lambda, s);
        }
        return value;
    }

    // Fills the system, [k, k].
    __device__ __forceinline__ void fill() const {
        __syncwarp();
        u32 j = 0;
        for (u32 rest = held; rest != 0; rest &= rest - 1, ++j) {
            u32 s = lowest_of(rest);
            double other = of_lane(jacobi, s), value = rows.free_product(s);
            if (is_held) {
                system_at(place, j) = value * jacobi * other;
            }
        }
        __syncwarp();
    }

    // a <- (I - u u^T) a (I - u u^T), b <- (I - u u^T) b, for the system a.
    __device__ __forceinline__ void project(double unit, double& b) const {
#pragma unroll 1
        for (u32 side = 0; side < 2; ++side) {
            double dot = 0.0;
            __syncwarp();
            u32 j = 0;
            for (u32 left = held; left != 0; left &= left - 1, ++j) {
                double other = of_lane(unit, lowest_of(left));
                dot += !is_held ? 0.0 : other * (side == 0 ? system_at(place, j) : system_at(j, place));
            }
            j = 0;
            for (u32 left = held; left != 0; left &= left - 1, ++j) {
                double other = of_lane(unit, lowest_of(left));
                if (is_held) {
                    (side == 0 ? system_at(place, j) : system_at(j, place)) -= dot * other;
                }
            }
            __syncwarp();
        }
        b -= sum_of_rows(unit * b) * unit;
    }

    // x = pinv(a) b for the system a, which is overwritten. Lanes below k have a number of b, and get one of x.
    __device__ __forceinline__ double pseudo_solve(double b) const {
        Eigen eigen(memory.h(), memory.model_pitch(), memory.work(), k);
        eigen.diagonalise();
        double largest = eigen.largest(), x = 0.0;
        for (u32 i = 0; i < k; ++i) {
            double value = eigen.at(i, i);
            if (value > RANK_CUT * largest) {
                double entry = eigen.entry(i);
                x += entry * sum_of_rows(entry * b) / value;
            }
        }
        return x;
    }
};
