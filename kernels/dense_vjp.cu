// `dense_vjp`: the gradient of a scalar function of y to every input of the projection onto rows with a coefficient for every
// sample, and onto spreads and contrasts beside them, a warp or a block a problem. Twin of `src/reference/dense_vjp.rs`, where it is
// explained.

#include "cell_sums.cuh"
#include "sample_rows.cuh"
#include "vjp_elements.cuh"

// Rows over samples, and over cells beside them, and what they make of a backward pass; a lane of every warp has a row.
template <class T, int LANES>
struct PulledSamples : SampleRows<T, LANES> {
    typedef SampleRows<T, LANES> Base;
    using Base::lane;
    using Base::m;
    using Base::memory;
    using Base::mine;
    using Base::problem;
    using Base::samples;
    using Base::tile;

    __device__ __forceinline__ PulledSamples(const Problem<T>& problem, const SampleMemory& samples) : Base(problem, samples) {}

    __device__ __forceinline__ double* of_gradient() const { return samples.sums_of(0) + pairs_of(m); }
    __device__ __forceinline__ double* of_value() const { return of_gradient() + m; }

    // The first pass: products of rows over free samples, and what rows make of the gradient and of the answer.
    __device__ __forceinline__ void sum() const {
        this->clear(this->pair_sums(), pairs_of(m));
        this->clear(this->row_sums(), 2 * m);
        this->each_sample(
            [&](u32 i, bool there) {
                bool free = there && !ClampedAt(problem.clamp(), i).any;
                tile().terms(0)[lane] = free ? tile().weight[lane] : 0.0;
                tile().terms(1)[lane] = free ? problem.gradient(i) : 0.0;
                tile().terms(2)[lane] = there ? tile().weight[lane] * problem.value(i) : 0.0;
            },
            [&] {
                this->add_pairs(tile().terms(0));
                this->add_up(2 * m, this->row_sums(), [&](u32 n) {
                    const double* row = tile().row(n < m ? n : n - m);
                    const double* values = tile().terms(n < m ? 1 : 2);
                    return [=](u32 s) { return row[s] * values[s]; };
                });
            });
        this->gather_sums(pairs_of(m), this->pair_sums(), samples.sums_of(0));
        this->gather_sums(2 * m, this->row_sums(), of_gradient());
    }

    __device__ __forceinline__ double free_product(u32 s) const { return mine ? samples.sums_of(0)[place_of_pair(lane, s)] : 0.0; }
    __device__ __forceinline__ double gradient() const { return mine ? of_gradient()[lane] : 0.0; }
    __device__ __forceinline__ double value() const { return mine ? of_value()[lane] : 0.0; }

    __device__ __forceinline__ double solve_pair(u32 first, u32 second) const {
        const double* pairs = samples.sums_of(0);
        double curvature = pairs[place_of_pair(first, first)] - 2.0 * pairs[place_of_pair(first, second)] +
                           pairs[place_of_pair(second, second)];
        return curvature > 0.0 ? (of_gradient()[first] - of_gradient()[second]) / curvature : 0.0;
    }

    // dL/dz of the lane's sample, whose rows pull it by so much.
    __device__ __forceinline__ double moved(u32 i, double pull) const {
        return ClampedAt(problem.clamp(), i).any ? 0.0 : problem.gradient(i) - tile().weight[lane] * pull;
    }

    // The second pass: the sums by cell of w y and of dL/dz, which is known by `lambda`.
    __device__ __forceinline__ void sum_by_cell(const double* lambda) const {
        u32 cells = samples.cells;
        this->clear(this->pair_sums(), cells);
        this->clear(this->row_sums(), cells);
        this->each_sample(
            [&](u32 i, bool there) {
                double pull = this->shift_of_sample(lambda);
                tile().terms(0)[lane] = there ? problem.cells()[i] : cells;
                tile().terms(1)[lane] = there ? moved(i, pull) : 0.0;
                tile().terms(2)[lane] = there ? tile().weight[lane] * problem.value(i) : 0.0;
            },
            [&] {
                for (u32 which = 0; which < 2; ++which) {
                    this->add_up(cells, which == 0 ? this->pair_sums() : this->row_sums(), [&](u32 cell) {
                        const double* values = tile().terms(which + 1);
                        const double* cell_of = tile().terms(0);
                        return [=](u32 s) { return cell_of[s] == cell ? values[s] : 0.0; };
                    });
                }
            });
        this->gather_sums(cells, this->pair_sums(), samples.sums() + SUM_OF_MOVED * cells);
        this->gather_sums(cells, this->row_sums(), samples.sums() + SUM_OF_VALUE * cells);
    }

    // The last pass: the gradients to the samples' inputs, and to the coefficients.
    __device__ __forceinline__ void write(const double* lambda, const double* nu) const {
        const CellsCall& call = problem.call;
        u32 over_cells = this->over_cells;
        double total = *samples.total();
        T* to_coefficients = static_cast<T*>(call.to_coefficients) + problem.first * call.dense;
        this->each_sample([&](u32 i, bool there) {
            if (!there) {
                return;
            }
            double pull = this->shift_of_sample(lambda), weight = tile().weight[lane], move = moved(i, pull) / weight, of_dense = 0.0;
            for (u32 r = over_cells; call.to_weights && r < m; ++r) {
                // (Rows hold coefficients per unit of weight.)
                of_dense += nu[r] * tile().row(r)[lane];
            }
            write_gradient(problem, samples, i, weight, pull, of_dense * move / total);
            for (u32 r = over_cells; call.to_coefficients && r < m; ++r) {
                u32 k = r - over_cells;
                double unit = samples.unit()[k], slope = lambda[r] * unit * problem.value(i) + nu[r] * unit * move;
                to_coefficients[static_cast<u64>(k) * problem.n + i] = Storage<T>::narrow(static_cast<ArithmeticOf<T>>(-slope));
            }
        });
    }
};

template <class T, int LANES>
__global__ void __launch_bounds__(LANES, 256 / LANES) dense_vjp(const __grid_constant__ CellsCall call) {
    DYNAMIC_SHARED(double, shared);
    Problem<T> problem(call, blockIdx.x, true);
    Meeting<CellsCall> meeting(call, 1);
    SampleMemory memory(shared, call, LANES / WARP_LANES);
    PulledSamples<T, LANES> rows(problem, memory);
    bool leads = threadIdx.x < WARP_LANES;
    if (!begin_gradients(problem) || !prepare<LANES>(problem, memory, meeting) || !rows.build_rows()) {
        write_zeros<LANES>(problem);
        return;
    }
    u32 lane = rows.lane;
    double* lambda = rows.memory.step();
    double* nu = rows.memory.model();
    if (problem.outcome().status == STATUS_RELAXED) {
        // Rows that were relaxed are held where they have a multiplier, and nowhere else. (By how much is no matter.)
        rows.relax(1.0);
    }
    rows.sum();
    double of_row = rows.mine ? problem.multipliers()[rows.memory.source()[lane]] : 0.0;
    HeldRows<PulledSamples<T, LANES>> held(rows, of_row);
    held.solve();
    if (rows.mine) {
        lambda[lane] = held.lambda;
        // Of the row as it is scaled.
        nu[lane] = of_row / (*memory.total() * rows.unit_of_row());
    }
    __syncwarp();
    if (leads) {
        write_row_gradients(problem, held, *memory.total());
    }
    if (call.to_weights || call.to_labels) {
        rows.sum_by_cell(lambda);
        if (leads) {
            set_terms(problem, held);
        }
        __syncthreads();
    }
    rows.write(lambda, nu);
}
