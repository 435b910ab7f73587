// `dense_newton`: projection onto rows with a coefficient for every sample, and onto spreads and contrasts beside them, a warp or a
// block a problem, all of it in one launch. The method is the machine of `newton.cuh` with every sample as its own cell. Every
// warp runs it, and all compute the same; samples they share.

#include "cell_sums.cuh"
#include "newton.cuh"
#include "rows_of_samples.cuh"

template <class T, int LANES>
__global__ void __launch_bounds__(LANES, 256 / LANES) dense_newton(const __grid_constant__ CellsCall call) {
    DYNAMIC_SHARED(double, shared);
    Problem<T> problem(call, blockIdx.x, true);
    Meeting<CellsCall> meeting(call, 1);
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
    if (!prepare<LANES>(problem, memory, meeting) || !live.build_rows()) {
        write_clipped<LANES>(problem);
        if (leads) {
            write_record(problem, Outcome{STATUS_BAD_NUMBER, 0, 0, 0, 0.0, infinity()});
        }
        return;
    }
    const Task task = {call.tolerance, Storage<T>::UNIT_ROUNDOFF, call.max_iterations, problem.has(RELAXES)};
    u32 lane = live.lane;
    // ADMM, where it has come first, has left where it ended, or a ray.
    bool follows_admm = problem.has(FOLLOWS_ADMM), has_start = follows_admm || call.warm;
    double start = 0.0;
    if (has_start && live.mine) {
        u32 source = live.memory.source()[lane];
        start = (follows_admm ? problem.multipliers()[source] : problem.warm(source)) / (live.unit_of_row() * *memory.total());
        // What cannot be used as a start is not used.
        start = is_finite(start) ? start : 0.0;
    }
    double* state = live.memory.state();
    {
        Newton<RowsOfSamples<T, LANES>> newton(live, task, state);
        newton.start(has_start, start, follows_admm ? problem.outcome().residual : 0.0);
        newton.save();
    }
    const NewtonState& now = state_in(state);
#pragma unroll 1
    while (now.waiting || !is_answer(now.status)) {
        bool is_last = !now.waiting;
        if (is_last && live.mine) {
            // (By how much the rows are exceeded at clip(z).)
            live.memory.nu_of(now.trial)[lane] = live.memory.rest_of(now.trial)[lane] = 0.0;
        }
        __syncwarp();
        live.pass(now.trial);
        if (is_last) {
            break;
        }
        Newton<RowsOfSamples<T, LANES>> newton(live, task, state);
        newton.load();
        newton.receive();
        newton.save();
    }
    Outcome outcome = {now.status, now.iterations, now.passes, live.inactive, now.test.residual, numbers_in(state).excess};
    bool has_answer = is_answer(now.status);
    u32 point = has_answer ? now.at : now.trial;
    if (!has_answer) {
        outcome.excess = live.m > 0 ? live.measured_excess(live.take_sums(point)) : 0.0;
    }
    // (Where it is, is read again: registers are few before.)
    Problem<T> again(call, blockIdx.x, true);
    live.write(again, point, has_answer);
    if (leads) {
        outcome.iterations += again.has(FOLLOWS_ADMM) ? again.outcome().iterations : 0;
        write_record(again, outcome);
        // Of an infeasible problem the ray.
        if (outcome.status != STATUS_ITERATION_LIMIT && live.mine) {
            again.multipliers()[live.memory.source()[lane]] = live.memory.nu_of(now.at)[lane] * (live.unit_of_row() * *memory.total());
        }
    }
}
