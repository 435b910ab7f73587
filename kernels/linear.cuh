// Small dense symmetric systems, a lane of a warp a row, or two. Twin of `src/reference/linear.rs`.
#pragma once

#include "warp.cuh"

// Numbers of a lane's two rows: that of its own number, and the one 32 further.
struct Two {
    double first;
    double second;
};

// A system of up to 64 rows in memory. The strict upper half stays as it was filled, and so does what is kept of the diagonal;
// the lower half becomes the factors L D L^T, L unit lower, D on the diagonal. What is filled must be symmetric.
struct System {
    double* a;
    double* diagonal;
    u32 n;
    u32 pitch;
    u32 lane;

    __device__ __forceinline__ System(double* work, u32 n)
        : a(work), diagonal(work + n * (n | 1)), n(n), pitch(n | 1), lane(threadIdx.x % WARP_LANES) {}

    __device__ __forceinline__ double& at(u32 row, u32 column) const { return a[row * pitch + column]; }

    // Room for a number a row.
    __device__ __forceinline__ double* numbers() const { return diagonal + n; }

    __device__ __forceinline__ double of_row(Two x, u32 row) const {
        return row < WARP_LANES ? of_lane(x.first, row) : of_lane(x.second, row - WARP_LANES);
    }

    // Keeps the diagonal and factors, unpivoted. Lanes have filled it before.
    __device__ __forceinline__ void factor() const {
        __syncwarp();
        for (u32 row = lane; row < n; row += WARP_LANES) {
            diagonal[row] = at(row, row);
        }
        for (u32 k = 0; k < n; ++k) {
            __syncwarp();
            double inverse = 1.0 / at(k, k);
            for (u32 row = lane; row < n; row += WARP_LANES) {
                if (row > k) {
                    // (The column still holds L * D here.)
                    double part = at(row, k) * inverse;
                    for (u32 j = k + 1; j <= row; ++j) {
                        at(row, j) -= part * at(j, k);
                    }
                }
            }
            __syncwarp();
            for (u32 row = lane; row < n; row += WARP_LANES) {
                at(row, k) *= row > k ? inverse : 1.0;
            }
        }
        __syncwarp();
    }

    __device__ __forceinline__ Two solve_once(Two x) const {
        bool tall = n > WARP_LANES;
        u32 other = lane + WARP_LANES;
        for (u32 i = 0; i < n; ++i) {
            double known = of_row(x, i);
            x.first -= lane > i && lane < n ? at(lane, i) * known : 0.0;
            x.second -= tall && other > i && other < n ? at(other, i) * known : 0.0;
        }
        x.first /= lane < n ? at(lane, lane) : 1.0;
        x.second /= other < n ? at(other, other) : 1.0;
        for (u32 i = n; i-- > 0;) {
            double known = of_row(x, i);
            x.first -= lane < i ? at(i, lane) * known : 0.0;
            x.second -= tall && other < i ? at(i, other) * known : 0.0;
        }
        return x;
    }

    // What was filled, times x.
    __device__ __forceinline__ Two times(Two x) const {
        Two product = {0.0, 0.0};
        u32 other = lane + WARP_LANES;
        for (u32 j = 0; j < n; ++j) {
            double value = of_row(x, j);
            product.first += lane < n ? filled(lane, j) * value : 0.0;
            product.second += other < n ? filled(other, j) * value : 0.0;
        }
        return product;
    }

    __device__ __forceinline__ double filled(u32 row, u32 column) const {
        return row == column ? diagonal[row] : row < column ? at(row, column) : at(column, row);
    }

    // Solves with two steps of iterative refinement.
    __device__ __forceinline__ Two solution(Two b) const {
        Two x = {0.0, 0.0};
#pragma unroll 1
        for (u32 step = 0; step < 3; ++step) {
            Two rest = b;
            if (step > 0) {
                Two product = times(x);
                rest = Two{b.first - product.first, b.second - product.second};
            }
            rest = solve_once(rest);
            x = Two{x.first + rest.first, x.second + rest.second};
        }
        return x;
    }

    // The same for the right-hand side in `numbers`, which becomes the solution.
    __device__ __forceinline__ void solve() const {
        __syncwarp();
        u32 other = lane + WARP_LANES;
        Two x = solution(Two{lane < n ? numbers()[lane] : 0.0, other < n ? numbers()[other] : 0.0});
        __syncwarp();
        if (lane < n) {
            numbers()[lane] = x.first;
        }
        if (other < n) {
            numbers()[other] = x.second;
        }
        __syncwarp();
    }
};
