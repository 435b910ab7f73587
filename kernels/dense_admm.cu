// `dense_admm`: OSQP's operator splitting for rows with a coefficient for every sample, and for spreads and contrasts beside them or
// alone, a warp or a block a problem. Twin of `src/reference/dense_admm.rs`, where the method and its letters are explained. What it
// ends with, multipliers or a ray, is left in the record; Newton's machine, `dense_newton`, takes over and has the last word.
//
// `b` and `q` of a sample are kept as one number, `b + q / rho`, which `b` is the nearest within the bounds of. An iteration goes
// over the samples once: what the multipliers move, and what the next iteration sums.

#include "admm_rows.cuh"
#include "cell_sums.cuh"
#include "certificate.cuh"
#include "eigen.cuh"
#include "linear.cuh"
#include "rows_of_samples.cuh"

// Iterations between two looks at the residuals, and between two looks at the penalty, at first; and before a ray is first mended.
constexpr u32 CHECK_INTERVAL = 5;
constexpr u32 ADAPT_INTERVAL = 10;
constexpr u32 FIRST_MEND = 20;
// The penalty is changed where it is off by this factor.
constexpr double ADAPT_FACTOR = 2.0;
// Parts of a ray that are smaller than this, relatively, are on their way to zero.
constexpr double NEGLIGIBLE = 1e-4;
// Eigenvalues up to this part of the largest are those of a null space.
constexpr double NULL_SPACE = 1e-12;

// What bounds a sample: its bounds; nothing; or they leave it none of its own.
enum SampleKind { BOUNDED, UNBOUNDED, FROZEN };

// A residual, and the largest of what it is the difference of.
struct Residual {
    double value;
    double size;

    __device__ __forceinline__ void add(double difference, double a, double b, double c) {
        value = worse(value, size_of(difference));
        size = worse(worse(worse(size, size_of(a)), size_of(b)), size_of(c));
    }

    // The larger, or a NaN.
    static __device__ __forceinline__ double worse(double most, double value) {
        return value <= most || most != most ? most : value;
    }

    __device__ __forceinline__ bool is_within(const CellsCall& call) const { return value <= call.eps_abs + call.eps_rel * size; }

    __device__ __forceinline__ double relative() const { return value / larger(size, 0x1p-1022); }
};

template <class T, int LANES>
struct Admm : RowsOfSamples<T, LANES> {
    typedef RowsOfSamples<T, LANES> Base;
    using Base::lane;
    using Base::m;
    using Base::memory;
    using Base::mine;
    using Base::problem;
    using Base::samples;
    using Base::tile;

    const CellsCall& call;
    double rho;
    // What `b + q / rho` still has to be scaled by since rho changed.
    double change_of_rho;
    // Of the lane's row.
    double nu;
    double change;
    double s;
    double ax;
    double v;
    double penalty;
    // Of the block whose number the lane has.
    double centres;
    Residual primal;
    Residual dual;

    __device__ __forceinline__ Admm(const Problem<T>& problem, const SampleMemory& samples)
        : Base(problem, samples), call(problem.call), rho(call.rho), change_of_rho(1.0), nu(0.0), change(0.0), s(0.0), ax(0.0),
          v(0.0), penalty(1.0), centres(0.0), primal(), dual() {}

    // What the samples keep: x, and b + q / rho.
    __device__ __forceinline__ double& x_of(u32 i) const { return call.iterates[2 * (problem.first + i)]; }
    __device__ __forceinline__ double& pushed_of(u32 i) const { return call.iterates[2 * (problem.first + i) + 1]; }

    // The sums of a pass over rows; products over bounded samples, and over unbounded ones; the system of a step.
    __device__ __forceinline__ double* moments() const { return this->means_at(0); }
    __device__ __forceinline__ const double* products(SampleKind kind) const { return this->pairs_at(kind == BOUNDED ? 0 : 1); }
    __device__ __forceinline__ System system() const { return System(samples.sums_of(2), m); }

    // Rows whose multipliers, or what has their place, the samples see.
    __device__ __forceinline__ void tell(double* numbers, double own) const {
        __syncwarp();
        if (mine) {
            numbers[lane] = own;
        }
        __syncwarp();
    }

    static __device__ __forceinline__ SampleKind kind_of(double lo, double hi) {
        return lo == hi ? FROZEN : lo == -infinity() && hi == infinity() ? UNBOUNDED : BOUNDED;
    }

    __device__ __forceinline__ double softness(SampleKind kind) const {
        return 1.0 / (1.0 + call.sigma + (kind == BOUNDED ? rho : 0.0));
    }

    // D^-1 h of a sample; of a frozen one its value.
    __device__ __forceinline__ double pulled(SampleKind kind, double z, double x, double pushed, double b, double lo) const {
        double near = z + call.sigma * x;
        return kind == FROZEN ? lo : softness(kind) * (kind == BOUNDED ? near + rho * (2.0 * b - pushed) : near);
    }

    // One sweep over the samples. They begin at clip(z); or, if they are to move, do so by the solution in `model`, and if they are to
    // be measured, are so at the multipliers in `nu_of(0)`. Ends with the rows' sums of what the next iteration needs: of D^-1 h, or,
    // at the beginning, of x, with the products of rows over bounded samples.
    __device__ __forceinline__ void sweep(bool begins, bool moves, bool measures) {
        double a = call.relaxation;
        Residual own_primal = {0.0, 0.0}, own_dual = {0.0, 0.0};
        this->clear(this->pair_sums(), pairs_of(m));
        this->clear(this->row_sums(), m);
        this->each_sample(
            [&](u32 i, bool there) {
                tile().terms(0)[lane] = tile().terms(1)[lane] = 0.0;
                if (!there) {
                    return;
                }
                double z = problem.z(i), lo = problem.lo(i), hi = problem.hi(i), weight = tile().weight[lane];
                SampleKind kind = kind_of(lo, hi);
                double x = begins ? clip(z, lo, hi) : x_of(i), pushed = x;
                double b = x;
                if (begins) {
                    pushed = x + (z - x) / rho;
                } else if (kind == BOUNDED) {
                    pushed = pushed_of(i);
                    b = clip(pushed, lo, hi);
                    pushed = b + (pushed - b) * change_of_rho;
                }
                if (moves && kind != FROZEN) {
                    double ahead = pulled(kind, z, x, pushed, b, lo) - softness(kind) * this->shift_of_sample(memory.model());
                    x += a * (ahead - x);
                    pushed += a * (ahead - b);
                    b = kind == BOUNDED ? clip(pushed, lo, hi) : x;
                }
                x_of(i) = x;
                pushed_of(i) = pushed;
                tile().terms(0)[lane] = kind == BOUNDED ? weight : 0.0;
                tile().terms(1)[lane] = weight * (begins ? x : pulled(kind, z, x, pushed, b, lo));
                if (measures) {
                    own_primal.add(x - b, x, b, 0.0);
                    if (kind != FROZEN) {
                        double pull = this->shift_of_sample(memory.nu_of(0)) + (kind == BOUNDED ? rho * (pushed - b) : 0.0);
                        own_dual.add(x - z + pull, x, z, pull);
                    }
                }
            },
            [&] {
                if (begins) {
                    this->add_pairs(tile().terms(0));
                }
                this->add_up(m, this->row_sums(), [&](u32 r) {
                    const double* row = tile().row(r);
                    const double* values = tile().terms(1);
                    return [=](u32 sample) { return row[sample] * values[sample]; };
                });
            });
        change_of_rho = 1.0;
        if (begins) {
            this->gather_sums(pairs_of(m), this->pair_sums(), samples.sums_of(0));
        }
        this->gather_sums(m, this->row_sums(), moments());
        if (measures) {
            own_primal.add(mine ? ax - s : 0.0, ax, s, 0.0);
            primal = of_all(own_primal);
            dual = of_all(own_dual);
        }
    }

    __device__ __forceinline__ Residual of_all(Residual own) const {
        return Residual{this->most_of_block(own.value), this->most_of_block(own.size)};
    }

    // Products of rows over samples that have no bounds, or, which a ray must not pull. (In the place `at` of the sums.)
    __device__ __forceinline__ void sum_products(bool barred, double* at) const {
        this->clear(this->pair_sums(), pairs_of(m));
        this->each_sample(
            [&](u32 i, bool there) {
                bool counts = false;
                if (there) {
                    double lo = problem.lo(i), hi = problem.hi(i);
                    counts = kind_of(lo, hi) == UNBOUNDED;
                    if (barred) {
                        double shift = this->shift_of_sample(memory.nu_of(1)), size = this->size_of_shift(memory.nu_of(1));
                        bool wrong = shift > 0.0 ? !is_finite(lo) : !is_finite(hi);
                        counts = !(is_finite(lo) && is_finite(hi)) && (wrong || size_of(shift) <= NEGLIGIBLE * size);
                    }
                }
                tile().terms(0)[lane] = counts ? tile().weight[lane] : 0.0;
            },
            [&] { this->add_pairs(tile().terms(0)); });
        this->gather_sums(pairs_of(m), this->pair_sums(), at);
    }

    // The penalties, and the system's factor, for the present rho. The first warp factors it, for all.
    __device__ __forceinline__ void factorise() {
        u32 diagonal = place_of_pair(lane, lane);
        penalty = penalty_of(*this, rho, mine ? products(BOUNDED)[diagonal] + products(UNBOUNDED)[diagonal] : 0.0);
        __syncthreads();
        if (threadIdx.x < WARP_LANES) {
            System factors = system();
            for (u32 j = 0; mine && j < m; ++j) {
                u32 pair = place_of_pair(lane, j);
                double value = products(BOUNDED)[pair] * softness(BOUNDED) + products(UNBOUNDED)[pair] * softness(UNBOUNDED);
                factors.at(lane, j) = value + (j == lane ? 1.0 / penalty : 0.0);
            }
            factors.factor();
        }
        __syncthreads();
    }

    // What follows from the point v of the rows: its nearest, and the multipliers.
    __device__ __forceinline__ void project() {
        s = nearest(*this, v, penalty, centres);
        double last = nu;
        nu = mine ? penalty * (v - s) : 0.0;
        change = nu - last;
    }

    // The rows' part of an iteration, from the sums of D^-1 h.
    __device__ __forceinline__ void advance() {
        double right = mine ? moments()[lane] + nu / penalty - s : 0.0;
        double solved = system().solution(Two{right, 0.0}).first;
        tell(memory.model(), solved);
        double a = call.relaxation, ahead = s + (solved - nu) / penalty;
        ax += a * (ahead - ax);
        v = s + a * (ahead - s) + nu / penalty;
        project();
        tell(memory.nu_of(0), nu);
    }

    // OSQP's rule: the penalty that would make both residuals alike.
    __device__ __forceinline__ bool adapt() {
        double next = within_range(rho * sqrt(primal.relative() / larger(dual.relative(), 1e-300)));
        if (!(next > ADAPT_FACTOR * rho || next < rho / ADAPT_FACTOR)) {
            return false;
        }
        change_of_rho = rho / next;
        rho = next;
        return true;
    }

    // Whether the last change of the multipliers proves that there is no solution, and `lack` what; if so the ray is left in `nu`.
    // `stale` becomes whether the system was lost.
    __device__ __forceinline__ bool finds_ray(u32 iterations, u32& next_mend, bool& stale, double& lack) {
        double size = most_of_rows(size_of(change));
        if (size == 0.0) {
            return false;
        }
        double part = change / size, ray = mine && is_finite(part > 0.0 ? this->upper() : this->lower()) ? part : 0.0;
        settle(*this, 1.0, ray);
#pragma unroll 1
        for (u32 trial = 0; trial < 2; ++trial) {
            if (trial == 1) {
                if (iterations < next_mend) {
                    return false;
                }
                next_mend = iterations + iterations / 2;
                stale = true;
                mend(ray);
            }
            tell(memory.nu_of(1), ray);
            lack = lack_of_room(*this, memory.nu_of(1), primal.size);
            if (lack > 0.0) {
                nu = ray;
                return true;
            }
        }
        return false;
    }

    // A ray must not pull a sample to where it has no bound, nor move a spread's centre, and the iterates only tend to one that does
    // not: this takes out of it what is left of either, by the null space of those rows.
    __device__ __forceinline__ void mend(double& ray) const {
        double root = mine ? sqrt(this->scale()) : 1.0, length = size_of(ray) * root;
        ray = length > NEGLIGIBLE * most_of_rows(length) ? ray : 0.0;
        tell(memory.nu_of(1), ray);
        double* barred = samples.sums_of(2);
        sum_products(true, barred);
        Eigen eigen(memory.h(), memory.model_pitch(), memory.work(), m);
        u32 parts = lanes_where(ray != 0.0);
        for (u32 p = 0; p < m; ++p) {
            bool both = ray != 0.0 && (parts >> p & 1) != 0;
            double other = of_lane(root, p), value = both ? barred[place_of_pair(lane, p)] / (root * other) : 0.0;
            if (mine) {
                // What is no part of the ray stays none.
                eigen.at(lane, p) = p == lane && ray == 0.0 ? 1.0 : value;
            }
        }
        for (u32 b = 0; b < this->blocks; ++b) {
            double part = ray != 0.0 && this->in(b) ? this->centre_coefficient(b, ray) / root : 0.0;
            double square = sum_of_rows(part * part);
            for (u32 p = 0; p < m; ++p) {
                double other = of_lane(part, p);
                if (part != 0.0 && other != 0.0) {
                    eigen.at(lane, p) += part * other / square;
                }
            }
        }
        eigen.diagonalise();
        double largest = eigen.largest(), before = ray, mended = 0.0;
        for (u32 k = 0; k < m; ++k) {
            double entry = eigen.entry(k), dot = sum_of_rows(entry * before * root);
            mended += eigen.at(k, k) <= NULL_SPACE * largest ? dot * entry / root : 0.0;
        }
        ray = before == 0.0 ? 0.0 : mended;
        double rest = 0.0;
        this->balance(ray, rest);
    }

    // Runs to its end. Returns the status; `iterations` becomes how long that took, `lack` what a ray proves.
    __device__ __forceinline__ u32 run(u32& iterations, double& lack) {
        sum_products(false, samples.sums_of(1));
        sweep(true, false, false);
        tell(memory.nu_of(0), 0.0);
        ax = v = mine ? moments()[lane] : 0.0;
        u32 next_adapt = ADAPT_INTERVAL, next_mend = FIRST_MEND;
        bool stale = true, is_first = true;
        iterations = 0;
#pragma unroll 1
        for (;;) {
            if (stale) {
                factorise();
                stale = false;
            }
            if (is_first) {
                s = nearest(*this, v, penalty, centres);
            }
            u32 left = call.admm_iterations - iterations, most = left < CHECK_INTERVAL ? left : CHECK_INTERVAL;
            // (At first, and where rho has changed, the sums of the next iteration are missing.)
            u32 steps = is_first ? 0 : most;
            bool is_behind = is_first || change_of_rho != 1.0;
            is_first = false;
#pragma unroll 1
            for (u32 step = is_behind ? 0 : 1; step <= steps; ++step) {
                if (step > 0) {
                    advance();
                }
                sweep(false, step > 0, step == steps);
            }
            iterations += steps;
            if (primal.is_within(call) && dual.is_within(call)) {
                return STATUS_SOLVED;
            }
            if (iterations >= call.admm_iterations || !is_finite(primal.value + dual.value)) {
                return STATUS_ITERATION_LIMIT;
            }
            if (iterations > 0 && finds_ray(iterations, next_mend, stale, lack)) {
                return STATUS_INFEASIBLE;
            }
            if (iterations >= next_adapt) {
                stale = adapt() || stale;
                // Ever more seldom: with a penalty that keeps changing nothing need converge.
                next_adapt = iterations + iterations / 10 + ADAPT_INTERVAL;
            }
        }
    }
};

template <class T, int LANES>
__global__ void __launch_bounds__(LANES, 256 / LANES) dense_admm(const __grid_constant__ CellsCall call) {
    DYNAMIC_SHARED(double, shared);
    Problem<T> problem(call, blockIdx.x, true);
    Meeting<CellsCall> meeting(call, 1);
    SampleMemory memory(shared, call, LANES / WARP_LANES);
    Admm<T, LANES> admm(problem, memory);
    u32 iterations = 0, status = STATUS_ITERATION_LIMIT;
    double lack = 0.0;
    bool usable = problem.n > 0 && prepare<LANES>(problem, memory, meeting) && admm.build_rows();
    if (usable && admm.m > 0) {
        status = admm.run(iterations, lack);
        if (status != STATUS_INFEASIBLE) {
            settle(admm, -1.0, admm.nu);
        }
    }
    // (What cannot be used Newton finds again.)
    if (threadIdx.x < WARP_LANES) {
        // (In the place of the residual what the ray proves.)
        write_record(problem, Outcome{status, iterations, 0, 0, lack, 0.0});
        if (usable && admm.mine) {
            problem.multipliers()[admm.memory.source()[admm.lane]] = admm.nu * (admm.unit_of_row() * *memory.total());
        }
    }
}
