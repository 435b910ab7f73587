// What the Newton machine and its parts are told of the problem beside its rows. What they ask is answered by `rows_of_cells.cuh`
// or `rows_of_samples.cuh`, by functions of the same names.
#pragma once

#include "rows.cuh"

// How free weights are floored in the curvature, so that what has no free element does not look flat: what lies so far beyond its
// bounds as the residual has half its weight, times a factor. What has plenty of it free is floored only on request.
struct Floor {
    double error;
    double factor;
    bool everywhere;

    // The floor of a weight whose elements lie so far beyond their bounds, on average.
    __device__ __forceinline__ double of(double weight, double distance) const {
        return factor * weight * error / (error + distance);
    }
};

// With this part of the weight free there is plenty.
constexpr double PLENTY_FREE = 0.25;

// How far a step moves any element, and whether one that moves is steeper in the model than it is. Where nothing lies beyond the
// bounds the floor is the free weight but for rounding.
struct Extent {
    double longest;
    bool is_floored;
};

constexpr double STEEPER = 1.000001;

// What a ray can make of the elements within their bounds: the least by a plain sum; the same but for what is left of zeros, and
// what of it is in doubt; and the largest of the bounds that there are.
struct RaySums {
    double plain;
    double least;
    double doubt;
    double largest;
};

// Where elements have no bound, what is left of a pull there must not do for values up to this many times the size of those that
// there are.
constexpr double FAR = 1e3;

__device__ __forceinline__ double finite_size(double bound) { return is_finite(bound) ? size_of(bound) : 0.0; }

// The same of elements of this weight that a ray shifts together, the sum of the sizes of what that is made of being `magnitude`;
// `lo` and `hi` are their bounds times the weight, `size` is how large values are, about.
__device__ __forceinline__ RaySums sums_of_pull(double shift, double magnitude, double weight, double lo, double hi, double size) {
    double bound = shift > 0.0 ? lo : hi, plain = shift != 0.0 ? shift * bound : 0.0;
    // What cancellation leaves of a zero must not meet an infinite bound.
    bool vanishes = size_of(shift) <= 1e-11 * magnitude;
    // (Of what is left of a zero the sign is not known, either.)
    double known = larger(finite_size(lo), finite_size(hi));
    double reached = is_finite(bound) ? known : larger(known, FAR * size * weight);
    // (Coefficients that were rounded leave what they left.)
    double left = size_of(shift) + 4.0 * EPSILON * magnitude;
    double doubt = vanishes ? left * reached : 1e-10 * size_of(plain) + 1e-14 * magnitude * size_of(bound);
    return RaySums{plain, vanishes ? 0.0 : plain, doubt, weight > 0.0 ? known / weight : 0.0};
}
