// Numbers kept as an unevaluated sum of two: twice the digits, where single ones would cancel away. Twin of
// `src/reference/two_floats.rs`.
#pragma once

#include "common.cuh"

struct Twofold {
    double large;
    double small;
};

// a + b, and what its rounding took. (Knuth.)
__device__ __forceinline__ Twofold two_sum(double a, double b) {
    double sum = a + b, part = sum - a;
    return Twofold{sum, (a - (sum - part)) + (b - part)};
}

// A sum of numbers and products to twice the digits.
struct TwoSum {
    double sum;
    double rest;

    __device__ __forceinline__ TwoSum() : sum(0.0), rest(0.0) {}

    __device__ __forceinline__ void add(double term) {
        Twofold both = two_sum(sum, term);
        sum = both.large;
        rest += both.small;
    }

    // Adds factor * (large + small).
    __device__ __forceinline__ void add_product(double factor, double large, double small) {
        double product = factor * large;
        add(product);
        rest += fma(factor, large, -product) + factor * small;
    }

    // Beyond the range of numbers there is no second.
    __device__ __forceinline__ Twofold parts() const { return is_finite(rest) ? two_sum(sum, rest) : Twofold{sum, 0.0}; }

    __device__ __forceinline__ double value() const { return parts().large; }
};
