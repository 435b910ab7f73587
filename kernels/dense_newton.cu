// `dense_newton`: projection onto rows with a coefficient for every sample, and onto spreads and contrasts beside them, a warp or a
// block a problem, all of it in one launch. The method is the machine of `newton.cuh` with every sample as its own cell. Every
// warp runs it, and all compute the same; samples they share.

#include "cell_sums.cuh"
#include "newton.cuh"
#include "rows_of_samples.cuh"

template <class T, int LANES>
__global__ void __launch_bounds__(LANES, 256 / LANES) dense_newton(const __grid_constant__ CellsCall call) {
    DYNAMIC_SHARED(double, shared);
    Problem<T> problem(call, blockIdx.x);
    SampleMemory memory(shared, call, LANES / WARP_LANES);
    bool leads = threadIdx.x < WARP_LANES;
    if (problem.n == 0) {
        if (leads) {
            u32 all = call.rows < 32 ? below(call.rows) : FULL_WARP;
            write_record(problem, Outcome{STATUS_SOLVED, 0, 0, all, 0.0, 0.0});
        }
        return;
    }
    RowsOfSamples<T, LANES> live(problem, memory);
    if (!prepare<LANES>(problem, memory) || !live.build_rows()) {
        write_clipped<LANES>(problem);
        if (leads) {
            write_record(problem, Outcome{STATUS_BAD_NUMBER, 0, 0, 0, 0.0, infinity()});
        }
        return;
    }
    const Task task = {call.tolerance, Storage<T>::UNIT_ROUNDOFF, call.max_iterations, problem.has(RELAXES)};
    u32 lane = live.lane;
    double factor = live.unit_of_row() * *memory.total, start = 0.0;
    if (call.warm && live.mine) {
        // What cannot be used as a start is not used.
        start = problem.warm(live.memory.source[lane]) / factor;
        start = is_finite(start) ? start : 0.0;
    }
    double* state = live.memory.state;
    {
        Newton<RowsOfSamples<T, LANES>> newton(live, task);
        newton.start(0, call.warm != nullptr, start);
        newton.save(state);
    }
    const NewtonState& now = *reinterpret_cast<const NewtonState*>(state);
#pragma unroll 1
    while (now.waiting) {
        live.pass(now.trial);
        Newton<RowsOfSamples<T, LANES>> newton(live, task);
        newton.load(state);
        newton.receive();
        newton.save(state);
    }
    bool has_answer = is_answer(now.status);
    Outcome outcome = {now.status, now.iterations, now.passes, live.inactive, now.test.residual, now.excess};
    u32 point = has_answer ? now.at : now.trial;
    if (!has_answer) {
        // (By how much the rows are exceeded at clip(z).)
        if (live.mine) {
            live.memory.nu_of(point)[lane] = live.memory.rest_of(point)[lane] = 0.0;
        }
        __syncwarp();
        live.pass(point);
        outcome.excess = live.m > 0 ? live.measured_excess(live.take_sums(point)) : 0.0;
    }
    live.write(point, has_answer);
    if (leads) {
        write_record(problem, outcome);
        // Of an infeasible problem the ray.
        if (outcome.status != STATUS_ITERATION_LIMIT && live.mine) {
            problem.multipliers()[live.memory.source[lane]] = live.memory.nu_of(now.at)[lane] * factor;
        }
    }
}
