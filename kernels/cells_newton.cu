// `cells_newton`: projection onto spreads and contrasts, a warp, a block or several blocks a problem, all of it in one launch. The
// first warp runs the machine of `newton.cuh` for every part of the constraint set; all threads sum the elements at the shifts
// that those ask for, and write them at the end, by the same arithmetic. (Of several blocks each runs the machine: they all know
// the same sums, and meet once a pass.)

#include "cell_sums.cuh"
#include "newton.cuh"
#include "spread.cuh"

// What all threads of a block have to know: what they do next, and the passes so far.
constexpr u32 NEXT = 0, PASSES = 1;

// What the threads of a block do next.
constexpr u32 DO_PASS = 0, DO_ANSWER = 1, DO_LAST_PASS = 2;

// An element at a shift, and clipped. What is stored is the clipped value rounded to the storage type: rounding is monotone
// and the bounds are of that type.
template <class A>
struct Moved {
    A t;
    A clipped;
    A lo;
    A hi;
};

template <class T>
__device__ __forceinline__ Moved<ArithmeticOf<T>> move_element(const Problem<T>& problem, const Memory& memory, u32 i, u32 cell) {
    typedef ArithmeticOf<T> A;
    SplitShift<A> shift = reinterpret_cast<const SplitShift<A>*>(memory.split)[cell];
    Moved<A> moved;
    moved.lo = problem.lo(i);
    moved.hi = problem.hi(i);
    moved.t = (problem.z(i) - shift.first) - shift.rest;
    moved.clipped = clip(moved.t, moved.lo, moved.hi);
    return moved;
}

// Sums the elements by cell at the shifts that are set, over weights that sum to 1. (For the first warp.)
template <int LANES, class T>
__device__ __forceinline__ void pass(const Problem<T>& problem, const Memory& memory, Meeting<CellsCall>& meeting) {
    sum_by_cell<LANES>(problem.order(), memory, meeting, memory.sums, [&](u32 i, u32 cell, double(&sums)[SUMS]) {
        auto moved = move_element(problem, memory, i, cell);
        double w = problem.weight(i), y = static_cast<double>(Storage<T>::widen(Storage<T>::narrow(moved.clipped)));
        sums[SUM_Y] += w * y;
        sums[SUM_SIZE] += w * size_of(y);
        sums[SUM_FREE] += moved.t == moved.clipped ? w : 0.0;
        sums[SUM_BEYOND] += w * static_cast<double>(size_of(moved.t - moved.clipped));
    });
    for (u32 at = threadIdx.x; threadIdx.x < WARP_LANES && at < SUMS * memory.cells; at += WARP_LANES) {
        memory.sums[at] /= *memory.total;
    }
    __syncwarp();
}

// Writes what is stored at the shifts that are set, and the clamp states; what is not an answer has no free element.
template <int LANES, class T>
__device__ __forceinline__ void write_elements(const Problem<T>& problem, const Memory& memory, bool is_answer) {
    T* y = problem.output(problem.call.y);
    const u8* cells = problem.cells();
    u32 lane = threadIdx.x % WARP_LANES;
    // Two words of clamp states a warp at a time.
    for (u32 base = threadIdx.x - lane; base < problem.n; base += LANES) {
        u32 i = base + lane;
        bool there = i < problem.n, below_lo = false, above_hi = false;
        if (there) {
            auto moved = move_element(problem, memory, i, cells[i]);
            y[i] = Storage<T>::narrow(moved.clipped);
            below_lo = moved.t < moved.lo;
            above_hi = moved.t > moved.hi;
        }
        u32 lower = lanes_where(below_lo), upper = lanes_where(above_hi), clamped = lower | upper, shift = lane * CLAMP_LANES;
        if (lane < 2 && base + shift < problem.n) {
            u32 word = (clamped >> shift & 0xffff) | (upper >> shift & 0xffff) << 16;
            problem.clamp()[(base + shift) / CLAMP_LANES] = is_answer ? word : ALL_CLAMPED;
        }
    }
}

// What a problem gets that cannot be used: y = clip(z), a NaN stays a NaN, and no element is free.
template <int LANES, class T>
__device__ __forceinline__ void write_clipped(const Problem<T>& problem) {
    T* y = problem.output(problem.call.y);
    for (u32 i = threadIdx.x; i < problem.n; i += LANES) {
        y[i] = Storage<T>::narrow(clip(problem.z(i), problem.lo(i), problem.hi(i)));
    }
    for (u32 word = threadIdx.x; word * CLAMP_LANES < problem.n; word += LANES) {
        problem.clamp()[word] = ALL_CLAMPED;
    }
}

// Sets the record; the first warp calls it.
template <class T>
__device__ __forceinline__ void write_record(const Problem<T>& problem, const Outcome& outcome) {
    u32 lane = threadIdx.x;
    if (lane == 0) {
        problem.outcome() = outcome;
    }
    if (lane < problem.call.rows) {
        problem.multipliers()[lane] = 0.0;
    }
    __syncwarp();
}

// Makes the shifts what elements are moved by.
template <class T>
__device__ __forceinline__ void split_shifts(const Memory& memory) {
    if (threadIdx.x < memory.cells) {
        reinterpret_cast<SplitShift<ArithmeticOf<T>>*>(memory.split)[threadIdx.x] =
            SplitShift<ArithmeticOf<T>>(memory.shift[threadIdx.x]);
    }
}

// The outcome of a problem whose parts have ended, or one of them without an answer: by part the worst.
__device__ __forceinline__ Outcome outcome_of_parts(const Memory& memory, const CellsCall& call) {
    Outcome outcome = {STATUS_SOLVED, 0, memory.flags[PASSES], 0, 0.0, 0.0};
    for (u32 part = 0; part < call.parts; ++part) {
        const NewtonState& state = *reinterpret_cast<const NewtonState*>(memory.state + STATE_DOUBLES * part);
        bool has_answer = state.status == STATUS_SOLVED || state.status == STATUS_RELAXED;
        outcome.inactive |= state.rows.inactive;
        bool had_answer = outcome.status == STATUS_SOLVED || outcome.status == STATUS_RELAXED;
        if (had_answer && !state.waiting && !has_answer) {
            outcome.status = state.status;
            outcome.iterations = state.iterations;
            outcome.residual = state.test.residual;
        } else if (had_answer && !state.waiting && state.rows.m > 0) {
            outcome.status = state.status == STATUS_RELAXED ? STATUS_RELAXED : outcome.status;
            outcome.iterations = state.iterations > outcome.iterations ? state.iterations : outcome.iterations;
            outcome.residual = larger(state.test.residual, outcome.residual);
            outcome.excess = larger(state.excess, outcome.excess);
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
        memory.flags[PASSES] = 0;
    }
    bool usable = prepare<LANES>(problem, memory, meeting);
    if (leads && usable) {
        u32 first_row = 0, first_block = 0;
        if (threadIdx.x < memory.cells) {
            memory.shift[threadIdx.x] = 0.0;
        }
#pragma unroll 1
        for (u32 part = 0; part < call.parts; ++part) {
            Newton newton(memory, task);
            usable = newton.live.build(problem, call.set_parts[part], first_row, first_block) && usable;
            newton.live.load(newton.live);
            first_row += newton.live.m;
            first_block += newton.live.blocks;
            double start = 0.0;
            if (call.warm && newton.live.mine) {
                // What cannot be used as a start is not used.
                start = problem.warm(memory.source[newton.live.base + threadIdx.x]) / *memory.total;
                start = is_finite(start) ? start : 0.0;
            }
            newton.start(call.warm != nullptr, start);
            newton.end_at_contradiction();
            newton.save(memory.state + STATE_DOUBLES * part);
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
                const NewtonState& state = *reinterpret_cast<const NewtonState*>(memory.state + STATE_DOUBLES * part);
                waits = waits || state.waiting;
                fails = fails || (!state.waiting && state.status != STATUS_SOLVED && state.status != STATUS_RELAXED);
            }
            if (fails && threadIdx.x < memory.cells) {
                // (By how much the rows are exceeded at clip(z).)
                memory.shift[threadIdx.x] = 0.0;
            }
            __syncwarp();
            split_shifts<T>(memory);
            if (threadIdx.x == 0) {
                // One part without an answer is a problem without one.
                memory.flags[NEXT] = fails ? DO_LAST_PASS : waits ? DO_PASS : DO_ANSWER;
            }
        }
        __syncthreads();
        u32 next = memory.flags[NEXT];
        if (next != DO_ANSWER) {
            pass<LANES>(problem, memory, meeting);
        }
        if (next != DO_PASS) {
            write_elements<LANES>(problem, memory, next == DO_ANSWER);
            break;
        }
        if (leads) {
            if (threadIdx.x == 0) {
                ++memory.flags[PASSES];
            }
#pragma unroll 1
            for (u32 part = 0; part < call.parts; ++part) {
                Memory own(shared, call, WARPS);
                double* state = own.state + STATE_DOUBLES * part;
                if (reinterpret_cast<const NewtonState*>(state)->waiting) {
                    Newton newton(own, task);
                    newton.load(state);
                    newton.receive();
                    newton.save(state);
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
    bool has_answer = outcome.status == STATUS_SOLVED || outcome.status == STATUS_RELAXED;
    Newton newton(memory, task);
    if (!has_answer) {
        double worst = 0.0;
        for (u32 part = 0; part < call.parts; ++part) {
            newton.load(memory.state + STATE_DOUBLES * part);
            double mean = newton.live.mean_of(memory.sums + SUM_Y * memory.cells);
            worst = newton.live.m > 0 ? larger(newton.live.measured_excess(mean), worst) : worst;
        }
        outcome.excess = worst;
    }
    write_record(problem, outcome);
    for (u32 part = 0; part < call.parts && outcome.status != STATUS_ITERATION_LIMIT; ++part) {
        newton.load(memory.state + STATE_DOUBLES * part);
        // Of an infeasible problem the ray.
        if ((has_answer || newton.status == outcome.status) && !newton.waiting && newton.live.mine) {
            problem.multipliers()[memory.source[newton.live.base + threadIdx.x]] = newton.own(newton.nu_of(newton.at)) * *memory.total;
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
