// `cells_newton`: projection onto spreads and contrasts, a warp, a block or several blocks a problem, all of it in one launch. The
// first warp runs the machine of `newton.cuh` for every part of the constraint set; all threads sum the elements at the shifts
// that those ask for, and write them at the end, by the same arithmetic. (Of several blocks each runs the machine: they all know
// the same sums, and meet once a pass.)

#include "cell_sums.cuh"
#include "elements.cuh"
#include "newton.cuh"
#include "rows_of_cells.cuh"

// What all threads of a block have to know: what they do next, and the passes so far.
constexpr u32 NEXT = 0, PASSES = 1;

// What the threads of a block do next.
constexpr u32 DO_PASS = 0, DO_ANSWER = 1, DO_LAST_PASS = 2;

// What elements of a cell are moved by.
template <class T>
__device__ __forceinline__ SplitShift<ArithmeticOf<T>> shift_of(const Memory& memory, u32 cell) {
    return reinterpret_cast<const SplitShift<ArithmeticOf<T>>*>(memory.split())[cell];
}

// Sums the elements by cell at the shifts that are set, over weights that sum to 1. (For the first warp.)
template <int LANES, class T>
__device__ __forceinline__ void pass(const Problem<T>& problem, const Memory& memory, Meeting<CellsCall>& meeting) {
    sum_by_cell<LANES>(problem.order(), memory, meeting, memory.sums(), [&](u32 i, u32 cell, double(&sums)[SUMS]) {
        auto moved = move_element(problem, shift_of<T>(memory, cell), i);
        double w = problem.weight(i), y = stored_value<T>(moved.clipped);
        sums[SUM_Y] += w * y;
        sums[SUM_SIZE] += w * size_of(y);
        sums[SUM_FREE] += moved.t == moved.clipped ? w : 0.0;
        sums[SUM_BEYOND] += w * static_cast<double>(size_of(moved.t - moved.clipped));
    });
    for (u32 at = threadIdx.x; threadIdx.x < WARP_LANES && at < SUMS * memory.cells; at += WARP_LANES) {
        memory.sums()[at] /= *memory.total();
    }
    __syncwarp();
}

// Writes what is stored at the shifts that are set, and the clamp states; what is not an answer has no free element.
template <int LANES, class T>
__device__ __forceinline__ void write_elements(const Problem<T>& problem, const Memory& memory, bool is_answer) {
    const u8* cells = problem.cells();
    u32 lane = threadIdx.x % WARP_LANES;
    for (u32 base = threadIdx.x - lane; base < problem.n; base += LANES) {
        u32 i = base + lane;
        bool there = i < problem.n;
        Moved<ArithmeticOf<T>> moved = {};
        if (there) {
            moved = move_element(problem, shift_of<T>(memory, cells[i]), i);
        }
        write_moved(problem, i, there, moved, is_answer);
    }
}

// Makes the shifts what elements are moved by.
template <class T>
__device__ __forceinline__ void split_shifts(const Memory& memory) {
    if (threadIdx.x < memory.cells) {
        reinterpret_cast<SplitShift<ArithmeticOf<T>>*>(memory.split())[threadIdx.x] =
            SplitShift<ArithmeticOf<T>>(memory.shift()[threadIdx.x]);
    }
}

// The outcome of a problem whose parts have ended, or one of them without an answer: by part the worst.
__device__ __forceinline__ Outcome outcome_of_parts(const Memory& memory, const CellsCall& call) {
    Outcome outcome = {STATUS_SOLVED, 0, memory.flags()[PASSES], 0, 0.0, 0.0};
    for (u32 part = 0; part < call.parts; ++part) {
        const NewtonState& state = state_in(memory.state() + STATE_DOUBLES * part);
        bool has_answer = is_answer(state.status);
        outcome.inactive |= state.rows.inactive;
        bool had_answer = is_answer(outcome.status);
        if (had_answer && !state.waiting && !has_answer) {
            outcome.status = state.status;
            outcome.iterations = state.iterations;
            outcome.residual = state.test.residual;
        } else if (had_answer && !state.waiting && state.rows.m > 0) {
            outcome.status = state.status == STATUS_RELAXED ? STATUS_RELAXED : outcome.status;
            outcome.iterations = state.iterations > outcome.iterations ? state.iterations : outcome.iterations;
            outcome.residual = larger(state.test.residual, outcome.residual);
            outcome.excess = larger(numbers_in(memory.state() + STATE_DOUBLES * part).excess, outcome.excess);
        }
    }
    return outcome;
}

// Begins with the parts of a problem. False, for a warp that leads, if a number of it cannot be used.
template <int LANES, class T>
__device__ __forceinline__ bool begin_parts(const Problem<T>& problem, double* shared, const Task& task, Meeting<CellsCall>& meeting) {
    const CellsCall& call = problem.call;
    Memory memory(shared, call, LANES / WARP_LANES);
    bool leads = threadIdx.x < WARP_LANES;
    if (threadIdx.x == 0) {
        memory.flags()[PASSES] = 0;
    }
    bool usable = prepare<LANES>(problem, memory, meeting);
    if (leads && usable) {
        u32 first_row = 0, first_block = 0;
        if (threadIdx.x < memory.cells) {
            memory.shift()[threadIdx.x] = 0.0;
        }
#pragma unroll 1
        for (u32 part = 0; part < call.parts; ++part) {
            RowsOfCells live(memory, memory);
            Newton<RowsOfCells> newton(live, task, memory.state() + STATE_DOUBLES * part);
            usable = live.build(problem, call.set_parts[part], first_row, first_block) && usable;
            live.load(live);
            first_row += live.m;
            first_block += live.blocks;
            double start = 0.0;
            if (call.warm && live.mine) {
                // What cannot be used as a start is not used.
                start = problem.warm(memory.source()[live.base + threadIdx.x]) / *memory.total();
                start = is_finite(start) ? start : 0.0;
            }
            newton.start(call.warm != nullptr, start, 0.0);
            newton.save();
        }
    }
    return usable || !leads;
}

// Projects a problem.
template <int LANES, class T>
__device__ __forceinline__ void project(const Problem<T>& problem, Meeting<CellsCall>& meeting) {
    DYNAMIC_SHARED(double, shared);
    const CellsCall& call = problem.call;
    constexpr u32 WARPS = LANES / WARP_LANES;
    bool leads = threadIdx.x < WARP_LANES, writes = leads && meeting.block() == 0;
    if (problem.whole == 0) {
        if (writes) {
            u32 all = call.rows < 32 ? below(call.rows) : FULL_WARP;
            write_record(problem, Outcome{STATUS_SOLVED, 0, 0, all, 0.0, 0.0});
        }
        return;
    }
    const Task task = {call.tolerance, Storage<T>::UNIT_ROUNDOFF, call.max_iterations, problem.has(RELAXES)};
    bool usable = begin_parts<LANES>(problem, shared, task, meeting);
    if (__syncthreads_or(!usable)) {
        write_clipped<LANES>(problem);
        if (writes) {
            write_record(problem, Outcome{STATUS_BAD_NUMBER, 0, 0, 0, 0.0, infinity()});
        }
        return;
    }
#pragma unroll 1
    for (;;) {
        Memory memory(shared, call, WARPS);
        if (leads) {
            bool waits = false, fails = false;
            for (u32 part = 0; part < call.parts; ++part) {
                const NewtonState& state = state_in(memory.state() + STATE_DOUBLES * part);
                waits = waits || state.waiting;
                fails = fails || (!state.waiting && !is_answer(state.status));
            }
            if (fails && threadIdx.x < memory.cells) {
                // (By how much the rows are exceeded at clip(z).)
                memory.shift()[threadIdx.x] = 0.0;
            }
            __syncwarp();
            split_shifts<T>(memory);
            if (threadIdx.x == 0) {
                // One part without an answer is a problem without one.
                memory.flags()[NEXT] = fails ? DO_LAST_PASS : waits ? DO_PASS : DO_ANSWER;
            }
        }
        __syncthreads();
        u32 next = memory.flags()[NEXT];
        if (next != DO_ANSWER) {
            pass<LANES>(problem, memory, meeting);
        }
        if (next != DO_PASS) {
            write_elements<LANES>(problem, memory, next == DO_ANSWER);
            break;
        }
        if (leads) {
            if (threadIdx.x == 0) {
                ++memory.flags()[PASSES];
            }
#pragma unroll 1
            for (u32 part = 0; part < call.parts; ++part) {
                double* state = memory.state() + STATE_DOUBLES * part;
                if (state_in(state).waiting) {
                    RowsOfCells live(memory, memory);
                    Newton<RowsOfCells> newton(live, task, state);
                    newton.load();
                    newton.receive();
                    newton.save();
                }
            }
        }
        // (Others still read what was to be done.)
        __syncthreads();
    }
    if (!writes) {
        return;
    }
    Memory memory(shared, call, WARPS);
    Outcome outcome = outcome_of_parts(memory, call);
    bool has_answer = is_answer(outcome.status);
    RowsOfCells live(memory, memory);
    Newton<RowsOfCells> newton(live, task, memory.state());
    if (!has_answer) {
        double worst = 0.0;
        for (u32 part = 0; part < call.parts; ++part) {
            newton.state = memory.state() + STATE_DOUBLES * part;
            newton.load();
            double mean = live.mean_of(memory.sums() + SUM_Y * memory.cells);
            worst = live.m > 0 ? larger(live.measured_excess(mean), worst) : worst;
        }
        outcome.excess = worst;
    }
    write_record(problem, outcome);
    for (u32 part = 0; part < call.parts && outcome.status != STATUS_ITERATION_LIMIT; ++part) {
        newton.state = memory.state() + STATE_DOUBLES * part;
        newton.load();
        // Of an infeasible problem the ray.
        if ((has_answer || newton.status == outcome.status) && !newton.waiting && live.mine) {
            problem.multipliers()[memory.source()[live.base + threadIdx.x]] = newton.own(newton.nu_of(newton.at)) * *memory.total();
        }
    }
}

template <class T, int LANES>
__global__ void __launch_bounds__(LANES, 256 / LANES) cells_newton(const __grid_constant__ CellsCall call) {
    Problem<T> problem(call, blockIdx.x / call.blocks);
    // (There may be more blocks than this problem needs.)
    if (problem.block() >= problem.blocks) {
        return;
    }
    Meeting<CellsCall> meeting(call, LANES == WARP_LANES ? 1 : problem.blocks);
    project<LANES>(problem, meeting);
    meeting.leave();
}
