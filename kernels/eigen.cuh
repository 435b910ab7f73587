// Eigenvalues of a small dense symmetric matrix by cyclic Jacobi rotations (Golub and Van Loan, Matrix Computations, section 8.5).
// Twin of `jacobi_eigen` of `src/reference/linear.rs`; a lane of a warp has a row.
#pragma once

#include "warp.cuh"

// A matrix of up to 32 rows in memory, and room for its eigenvectors.
struct Eigen {
    double* a;
    u32 pitch;
    double* vectors;
    u32 k;
    u32 lane;
    bool mine;

    __device__ __forceinline__ Eigen(double* a, u32 pitch, double* vectors, u32 k)
        : a(a), pitch(pitch), vectors(vectors), k(k), lane(threadIdx.x % WARP_LANES), mine(lane < k) {}

    __device__ __forceinline__ double& at(u32 row, u32 column) const { return a[row * pitch + column]; }

    // The lane's number of an eigenvector.
    __device__ __forceinline__ double entry(u32 vector) const { return mine ? vectors[lane * (k | 1) + vector] : 0.0; }

    // The largest eigenvalue, at least 0.
    __device__ __forceinline__ double largest() const { return most_of_rows(mine ? larger(at(lane, lane), 0.0) : 0.0); }

    // Leaves the eigenvalues on the diagonal.
    __device__ __forceinline__ void diagonalise() const {
        for (u32 j = 0; mine && j < k; ++j) {
            vectors[lane * (k | 1) + j] = lane == j ? 1.0 : 0.0;
        }
#pragma unroll 1
        for (u32 sweep = 0; sweep < 60; ++sweep) {
            __syncwarp();
            double square = 0.0, own = mine ? at(lane, lane) : 0.0;
            for (u32 j = 0; mine && j < lane; ++j) {
                square += at(lane, j) * at(lane, j);
            }
            double off = sum_of_rows(square), diagonal = sum_of_rows(own * own);
            if (off <= 1e-32 * diagonal || !is_finite(off)) {
                break;
            }
            for (u32 p = 0; p < k; ++p) {
                for (u32 q = p + 1; q < k; ++q) {
                    rotate(p, q);
                }
            }
        }
        __syncwarp();
    }

    __device__ __forceinline__ void rotate(u32 p, u32 q) const {
        __syncwarp();
        double apq = at(p, q), tau = (at(q, q) - at(p, p)) / (2.0 * apq);
        __syncwarp();
        if (apq == 0.0) {
            return;
        }
        double root = sqrt(1.0 + tau * tau), t = tau >= 0.0 ? 1.0 / (tau + root) : -1.0 / (-tau + root);
        double c = 1.0 / sqrt(1.0 + t * t), s = t * c;
        if (mine) {
            turn(at(lane, p), at(lane, q), c, s);
            turn(vectors[lane * (k | 1) + p], vectors[lane * (k | 1) + q], c, s);
        }
        __syncwarp();
        if (mine) {
            turn(at(p, lane), at(q, lane), c, s);
        }
    }

    static __device__ __forceinline__ void turn(double& p, double& q, double c, double s) {
        double in_p = p, in_q = q;
        p = c * in_p - s * in_q;
        q = s * in_p + c * in_q;
    }
};
