// The Newton sub-problem: a small quadratic program over the multipliers, solved by an active set of signs. Twin of
// `src/reference/active_set.rs`, where it is explained; a lane of a warp has a row.
#pragma once

#include "linear.cuh"
#include "rows.cuh"

__device__ __forceinline__ double sign_of(double value) { return value > 0.0 ? 1.0 : value < 0.0 ? -1.0 : 0.0; }

struct ActiveSet {
    const Rows& rows;
    // Of the lane's row: the point, the bounds, the result, how far it is from the multiplier to more digits than the
    // difference, and what is on the way.
    double nu;
    double rest;
    double mean;
    double low;
    double high;
    double v;
    double d;
    double sign;
    double x;
    double q;
    double jacobi;
    double border;
    // Of the block whose number the lane has: the centre of its means.
    double centre;
    // Rows with a sign, and blocks with such rows, as bits.
    u32 support;
    u32 used;

    __device__ __forceinline__ explicit ActiveSet(const Rows& rows) : rows(rows) {}

    __device__ __forceinline__ double h(u32 row, u32 column) const {
        return rows.memory.h()[row * rows.memory.model_pitch() + column];
    }

    // Minimises the model at the multipliers nu + rest, whose gradient there is -mean and whose curvature is in memory;
    // optimality is met to `tolerance` in units of the predictions. `multipliers` are those of all rows, in memory.
    __device__ __forceinline__ void minimise(const double* multipliers, double tolerance) {
        tolerance = larger(tolerance, 4.0 * EPSILON * most_of_rows(rows.mine ? size_of(mean) : 0.0));
        jacobi = rows.mine ? 1.0 / sqrt(h(rows.lane, rows.lane)) : 0.0;
        d = v = x = q = border = centre = 0.0;
        sign = rows.mine ? sign_of(nu) : 0.0;
#pragma unroll 1
        for (u32 round = 0; round < 12 * rows.m + 20; ++round) {
            collect_support();
            if (support != 0) {
                solve_on_support(multipliers);
                if (walk_to_first_sign_change()) {
                    continue;
                }
            }
            d = !rows.mine ? 0.0 : sign == 0.0 ? -nu : x;
            v = nu + d;
            double pull = 0.0;
            for (u32 s = 0; s < rows.m; ++s) {
                double other = of_lane(d, s);
                pull += rows.mine ? h(rows.lane, s) * other : 0.0;
            }
            q = mean - pull;
            if (!add_worst_row(tolerance)) {
                return;
            }
        }
    }

    __device__ __forceinline__ void collect_support() {
        support = lanes_where(sign != 0.0);
        used = 0;
        for (u32 b = 0; b < rows.blocks; ++b) {
            used |= static_cast<u32>((rows.rows_of(b) & support) != 0) << b;
        }
    }

    // Minimises with the signs fixed: [H E; E^T 0] [dx; c] = [means - target + H nu_out; -E^T nu] on the support.
    __device__ __forceinline__ void solve_on_support(const double* multipliers) {
        u32 k = static_cast<u32>(__popc(support)), columns = static_cast<u32>(__popc(used)), lane = rows.lane;
        System system(rows.memory.work(), k + columns);
        u32 block = rows.own_block();
        bool held = sign != 0.0, bordered = held && block != NO_BLOCK;
        u32 i = static_cast<u32>(__popc(support & below(lane)));
        __syncwarp();
        u32 j = 0;
        for (u32 left = support; left != 0; left &= left - 1, ++j) {
            u32 s = lowest_of(left);
            double other = of_lane(jacobi, s);
            if (held) {
                system.at(i, j) = h(lane, s) * jacobi * other;
            }
        }
        double dropped = 0.0;
        for (u32 left = held ? ~support & (rows.m < 32 ? below(rows.m) : FULL_WARP) : 0; left != 0; left &= left - 1) {
            u32 s = lowest_of(left);
            dropped += h(lane, s) * multipliers[s];
        }
        border = bordered ? rows.centre_coefficient(block, sign) : 0.0;
        if (held) {
            double target = sign > 0.0 ? high : low;
            system.numbers()[i] = (mean - target + dropped) * jacobi;
            for (u32 column = 0; column < columns; ++column) {
                bool own = bordered && column == static_cast<u32>(__popc(used & below(block)));
                double value = own ? border * jacobi : 0.0;
                system.at(i, k + column) = value;
                system.at(k + column, i) = value;
            }
        }
        for (u32 at = lane; at < columns * columns; at += WARP_LANES) {
            system.at(k + at / columns, k + at % columns) = 0.0;
        }
        u32 column = 0;
        for (u32 left = used; left != 0; left &= left - 1, ++column) {
            double sum = imbalance(lowest_of(left), rest);
            if (lane == 0) {
                system.numbers()[k + column] = -sum;
            }
        }
        if (k == 2 && columns == 1) {
            solve_pair(system);
        } else {
            system.factor();
            system.solve();
        }
        x = held ? system.numbers()[i] * jacobi : x;
        column = 0;
        for (u32 left = used; left != 0; left &= left - 1, ++column) {
            u32 b = lowest_of(left);
            double solved = system.numbers()[k + column];
            centre = lane == b ? solved : centre;
            balance(b);
        }
        __syncwarp();
    }

    // Two rows of one spread, the commonest system by far: [a b e; b d f; e f 0] x = r. The border is eliminated, which leaves
    // one number to divide by: the curvature along the direction that keeps the balance.
    __device__ __forceinline__ void solve_pair(const System& system) const {
        __syncwarp();
        double a = system.at(0, 0), b = system.at(0, 1), c = system.at(1, 1), e = system.at(0, 2), f = system.at(1, 2);
        double* r = system.numbers();
        double rhs[3] = {r[0], r[1], r[2]};
        // x = r2 (p, 0) + s (f, -e) with e p = 1.
        double p = rhs[2] / e;
        double along = a * f * f - 2.0 * b * e * f + c * e * e;
        double s = (f * (rhs[0] - a * p) - e * (rhs[1] - b * p)) / along;
        double first = p + s * f, second = -s * e;
        __syncwarp();
        if (rows.lane == 0) {
            r[0] = first;
            r[1] = second;
            r[2] = (rhs[0] - a * first - b * second) / e;
        }
        __syncwarp();
    }

    // The balance of the block's multipliers on the support, each as nu and what it lacks.
    __device__ __forceinline__ double imbalance(u32 block, double lacks) const {
        TwoSum sum;
        for (u32 left = rows.rows_of(block) & support; left != 0; left &= left - 1) {
            u32 r = lowest_of(left);
            sum.add_product(of_lane(border, r), of_lane(nu, r), of_lane(lacks, r));
        }
        return sum.value();
    }

    // Makes the block's balance exact: the row that is moved the easiest pays for the rounding.
    __device__ __forceinline__ void balance(u32 block) {
        bool held = rows.in(block) && sign != 0.0;
        double most = most_of_rows(held ? jacobi : -infinity());
        u32 payers = lanes_where(held && jacobi == most);
        double sum = imbalance(block, rest + x);
        if (payers != 0 && rows.lane == lowest_of(payers)) {
            x -= sum / border;
        }
    }

    // If nu + x leaves the orthant of its signs: moves nu + d towards it up to the first sign change, drops the rows that
    // reach zero there, and says so.
    __device__ __forceinline__ bool walk_to_first_sign_change() {
        bool leaves = sign != 0.0 && (nu + x) * sign <= 0.0;
        double own = x == d ? 0.0 : size_of((nu + d) / (x - d));
        if (!any_lane(leaves)) {
            return false;
        }
        double step = least_of_rows(leaves ? own : infinity());
        if (sign == 0.0) {
            d = -nu;
        } else if (leaves && own <= step) {
            d = -nu;
            sign = 0.0;
        } else {
            d += step * (x - d);
        }
        for (u32 left = used; left != 0; left &= left - 1) {
            u32 members = lanes_where(rows.in(lowest_of(left)) && sign != 0.0);
            // A balanced block of one member can only be zero.
            if (__popc(members) == 1 && rows.lane == lowest_of(members)) {
                d = -nu;
                sign = 0.0;
            }
        }
        return true;
    }

    // Gives a sign to the row that most violates q - c in [low, high], or to the widest pair of a spread without support.
    // False if none violates by more than the tolerance.
    __device__ __forceinline__ bool add_worst_row(double tolerance) {
        double above = q - high, under = low - q;
        bool open = rows.is_contrast() && sign == 0.0;
        double worst = tolerance;
        u32 pair[2] = {0, 0};
        bool is_pair = false;
        for (u32 b = 0; b < rows.blocks; ++b) {
            bool here = rows.in(b);
            double down = rows.centre_coefficient(b, -1.0);
            if ((used >> b & 1) != 0) {
                double middle = of_lane(centre, b);
                if (here && sign == 0.0) {
                    open = true;
                    above = q - middle - high;
                    under = low - (q - down * middle);
                }
                continue;
            }
            double from_above = here ? q - high : -infinity(), from_below = here ? (q - low) / down : infinity();
            double least = most_of_rows(from_above), most = least_of_rows(from_below);
            u32 tops = lanes_where(here && from_above == least), bottoms = lanes_where(here && from_below == most);
            centre = rows.lane == b ? 0.5 * least + 0.5 * most : centre;
            if (tops != 0 && bottoms != 0 && lowest_of(tops) != lowest_of(bottoms) && least - most > worst) {
                worst = least - most;
                is_pair = true;
                pair[0] = lowest_of(tops);
                pair[1] = lowest_of(bottoms);
            }
        }
        double violation = open ? larger(above, under) : -infinity();
        double most = most_of_rows(violation);
        if (most > worst) {
            u32 found = lanes_where(violation == most);
            if (rows.lane == lowest_of(found)) {
                sign = above >= under ? 1.0 : -1.0;
            }
            return true;
        }
        if (is_pair) {
            sign = rows.lane == pair[0] ? 1.0 : rows.lane == pair[1] ? -1.0 : sign;
        }
        return is_pair;
    }
};
