// `cells_vjp`: the gradient of a scalar function of y to every input of the projection onto spreads and contrasts, a warp, a
// block or several blocks a problem. Twin of `src/reference/cells_vjp.rs`, where it is explained.

#include "cell_rows.cuh"
#include "cell_sums.cuh"
#include "vjp_elements.cuh"

// Rows over cells, and what they make of the sums of a backward pass; a lane has a row.
struct PulledCells : CellRows {
    __device__ __forceinline__ PulledCells(const CellMemory& of_cells, const RowMemory& memory) : CellRows(of_cells, memory) {}

    __device__ __forceinline__ const double* sums(u32 which) const { return of_cells.sums() + which * of_cells.cells; }

    // The product of the lane's row with row s over the free elements.
    __device__ __forceinline__ double free_product(u32 s) const {
        double value = 0.0;
        for (u32 left = mine ? cells : 0; left != 0; left &= left - 1) {
            u32 cell = lowest_of(left);
            value += coefficient(lane, cell) * coefficient(s, cell) * sums(SUM_OF_FREE)[cell];
        }
        return value;
    }

    // What the lane's row makes of the gradient, over free elements, and of the answer.
    __device__ __forceinline__ double gradient() const { return mean_of(sums(SUM_OF_GRADIENT)); }
    __device__ __forceinline__ double value() const { return mean_of(sums(SUM_OF_VALUE)); }

    // What two rows, of lambda x and -x, are held by.
    __device__ __forceinline__ double solve_pair(u32 first, u32 second) const {
        double curvature = 0.0, pull = 0.0;
        for (u32 left = cells; left != 0; left &= left - 1) {
            u32 cell = lowest_of(left);
            double difference = coefficient(first, cell) - coefficient(second, cell);
            curvature += difference * difference * sums(SUM_OF_FREE)[cell];
            pull += difference * sums(SUM_OF_GRADIENT)[cell];
        }
        return curvature > 0.0 ? pull / curvature : 0.0;
    }

    // What the lane's row was multiplied by.
    __device__ __forceinline__ double unit_of_row() const { return 1.0; }
};
template <class T, int LANES>
__global__ void __launch_bounds__(LANES, 256 / LANES) cells_vjp(const __grid_constant__ CellsCall call) {
    DYNAMIC_SHARED(double, shared);
    Problem<T> problem(call, blockIdx.x / call.blocks);
    u32 block = problem.block();
    if (block >= problem.blocks) {
        return;
    }
    Meeting<CellsCall> meeting(call, LANES == WARP_LANES ? 1 : problem.blocks);
    Memory memory(shared, call, LANES / WARP_LANES);
    bool leads = threadIdx.x < WARP_LANES;
    if (!begin_gradients(problem) || !prepare<LANES>(problem, memory, meeting)) {
        write_zeros<LANES>(problem);
        meeting.leave();
        return;
    }
    bool needs_terms = call.to_weights || call.to_labels, needs_values = needs_terms || problem.has(HAS_RATIO);
    sum_by_cell<LANES>(problem.order(), memory, meeting, memory.sums(), [&](u32 i, u32, double(&sums)[SUMS]) {
        bool free = !ClampedAt(problem.clamp(), i).any;
        double w = problem.weight(i);
        sums[SUM_OF_FREE] += free ? w : 0.0;
        sums[SUM_OF_GRADIENT] += free ? problem.gradient(i) : 0.0;
        sums[SUM_OF_VALUE] += needs_values ? w * problem.value(i) : 0.0;
    });
    bool usable = true;
    if (leads) {
        u32 lane = threadIdx.x;
        if (lane < memory.cells) {
            memory.sums()[SUM_OF_FREE * memory.cells + lane] /= *memory.total();
            memory.sums()[SUM_OF_VALUE * memory.cells + lane] /= *memory.total();
            memory.pull()[lane] = 0.0;
            for (u32 which = 0; which < 4; ++which) {
                terms_of(memory, which)[lane] = 0.0;
            }
        }
        __syncwarp();
        u32 first_row = 0, first_block = 0;
#pragma unroll 1
        for (u32 part = 0; part < call.parts; ++part) {
            PulledCells rows(memory, memory);
            usable = rows.build(problem, call.set_parts[part], first_row, first_block) && usable;
            rows.load(rows);
            first_row += rows.m;
            first_block += rows.blocks;
            if (problem.outcome().status == STATUS_RELAXED) {
                // Rows that were relaxed are held where they have a multiplier, and nowhere else. (By how much is no matter.)
                rows.relax(1.0);
            }
            double nu = rows.mine ? problem.multipliers()[memory.source()[rows.base + lane]] : 0.0;
            HeldRows<PulledCells> held(rows, nu);
            held.solve();
            if (rows.mine) {
                memory.step()[rows.base + lane] = held.lambda;
            }
            __syncwarp();
            double pull = rows.shift_by(memory.step());
            if (rows.has_cell()) {
                memory.pull()[lane] = pull;
                const double* sums = memory.sums();
                double moved = sums[SUM_OF_GRADIENT * memory.cells + lane] - sums[SUM_OF_FREE * memory.cells + lane] * pull;
                memory.sums()[SUM_OF_MOVED * memory.cells + lane] = moved;
            }
            __syncwarp();
            if (block == 0) {
                write_row_gradients(problem, held, *memory.total());
            }
            if (needs_terms) {
                set_terms(problem, held);
            }
        }
    }
    if (__syncthreads_or(leads && !usable)) {
        write_zeros<LANES>(problem);
    } else {
        for (u32 i = threadIdx.x; i < problem.n; i += LANES) {
            write_gradient(problem, memory, i, problem.weight(i) / *memory.total(), memory.pull()[problem.cells()[i]], 0.0);
        }
    }
    meeting.leave();
}
