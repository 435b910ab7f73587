// Proximal Newton on the dual of one part of a problem, as a machine that asks for sums, is told, and asks again. Twin of
// `src/reference/newton.rs`, where it is explained; a lane of a warp has a row, and a cell.
#pragma once

#include "certificate.cuh"
#include "line_search.cuh"
#include "stop_test.cuh"

// Attempts, each with a floor of the curvature of its own, and their limits.
constexpr u32 ATTEMPTS = 5;
constexpr u32 ATTEMPT_STEPS = 150;
constexpr u32 ATTEMPT_PASSES = 1200;
// Multipliers that, as single numbers, leave the shifts of samples to more than this are no conditioned rows' own.
constexpr double ENORMOUS = 1e-6;
// What is added to the diagonal of the curvature, relative to a row with all its elements free; and the least of it, where rows
// over samples that differ by a millionth leave curvatures which more would drown.
constexpr double PROX = 1e-9;
constexpr double LEAST_PROX = 1e-14;
// What rows are relaxed by beyond the least that is enough: at first, at the most, and where less leaves too little room to find
// the answer in; and how often.
constexpr double ROOM = 1e-9;
constexpr double MOST_ROOM = 1e-6;
constexpr double LAST_ROOM = 1e-4;
constexpr u32 MOST_RELAXATIONS = 100;

__device__ __forceinline__ double floor_factor(u32 attempt) {
    return attempt == 2 ? 10.0 : attempt == 3 ? 0.01 : attempt == 4 ? 100.0 : 1.0;
}

// What the machine waits for: the sums at the start, at a point to go on from, at a trial step, at the answer that was kept.
enum NewtonStage { AT_START, AT_NEW_POINT, AT_TRIAL, AT_KEPT };

// What comes after the work at a point.
enum Next { NEXT_ASK, NEXT_END, NEXT_GIVE_UP, NEXT_FROM_ZERO };

// What is known from one pass to the next.
struct NewtonState {
    RowsState rows;
    StopTest test;
    LineSearch search;
    NewtonStage stage;
    u32 status;
    u32 iterations;
    u32 passes;
    // Steps and passes before this attempt; steps before the rows were relaxed last.
    u32 spent_steps;
    u32 spent_passes;
    u32 before;
    u32 attempt;
    u32 relaxations;
    // The points' numbers.
    u32 at;
    u32 trial;
    u32 kept;
    bool waiting;
    // Whether the start is other than the first look at zero multipliers.
    bool warm;
    // Whether the multipliers were moved onto independent rows in this attempt.
    bool reduced;
    // Whether the margin has driven the multipliers off: the attempts to come do without.
    bool marginless;
    // Whether there is an answer that a later attempt was hoped to better.
    bool has_answer;
    double last_residual;
    double prox;
};

// The same where it is asked for seldom, which stays in memory: the residual of the answer that was kept, the excess of the one that
// was found, what the ray proves that has become the point, and what rows are relaxed by next, beyond what is needed.
struct NewtonNumbers {
    double answer_residual;
    double excess;
    double lack;
    double room;
};

static_assert(sizeof(NewtonState) + sizeof(NewtonNumbers) <= STATE_DOUBLES * sizeof(double), "the state has room in memory");

__device__ __forceinline__ NewtonState& state_in(double* state) { return *reinterpret_cast<NewtonState*>(state); }

__device__ __forceinline__ NewtonNumbers& numbers_in(double* state) {
    return *reinterpret_cast<NewtonNumbers*>(state + STATE_DOUBLES - sizeof(NewtonNumbers) / sizeof(double));
}

template <class Live>
struct Newton : NewtonState {
    Live& live;
    const RowMemory& memory;
    const Task task;
    u32 lane;

    // Its place in memory.
    double* state;

    __device__ __forceinline__ Newton(Live& live, const Task& task, double* state)
        : NewtonState(), live(live), memory(live.memory), task(task), lane(threadIdx.x % WARP_LANES), state(state) {}

    __device__ __forceinline__ void load() {
        static_cast<NewtonState&>(*this) = state_in(state);
        live.load(rows);
    }

    __device__ __forceinline__ void save() {
        rows = live;
        __syncwarp();
        if (lane == 0) {
            state_in(state) = *this;
        }
        __syncwarp();
    }

    // Asks something that goes over the samples. Registers are few there: meanwhile the state is in memory.
    template <class Question>
    __device__ __forceinline__ auto ask_samples(Question question) {
        if constexpr (Live::BY_SAMPLE) {
            save();
        }
        auto answer = question();
        if constexpr (Live::BY_SAMPLE) {
            load();
        }
        return answer;
    }

    __device__ __forceinline__ const NewtonNumbers& numbers() const { return numbers_in(state); }

    __device__ __forceinline__ void keep(double NewtonNumbers::*which, double value) const {
        __syncwarp();
        if (lane == 0) {
            numbers_in(state).*which = value;
        }
        __syncwarp();
    }

    __device__ __forceinline__ double* nu_of(u32 point) const { return memory.nu_of(point); }
    __device__ __forceinline__ double* rest_of(u32 point) const { return memory.rest_of(point); }
    __device__ __forceinline__ double* mean_of(u32 point) const { return memory.mean_of(point); }

    // The lane's own of an array over all rows.
    __device__ __forceinline__ double own(const double* array) const { return live.mine ? array[live.base + lane] : 0.0; }

    __device__ __forceinline__ void set_own(double* array, double value) const {
        if (live.mine) {
            array[live.base + lane] = value;
        }
    }

    __device__ __forceinline__ void set_point(u32 point, double nu, double rest) const {
        set_own(nu_of(point), nu);
        set_own(rest_of(point), rest);
        __syncwarp();
    }

    // Begins with a problem whose rows were built and loaded; the lane's multiplier to start from, if there is one, which is that
    // of a ray where there is something that it proves.
    __device__ __forceinline__ void start(bool has_start, double nu, double given_lack) {
        iterations = passes = before = relaxations = 0;
        keep(&NewtonNumbers::room, ROOM);
        keep(&NewtonNumbers::lack, given_lack);
        keep(&NewtonNumbers::excess, 0.0);
        at = 0;
        trial = 1;
        kept = 2;
        begin(has_start, nu);
    }

    // Begins anew, with all attempts.
    __device__ __forceinline__ void begin(bool has_start, double nu) {
        status = STATUS_SOLVED;
        has_answer = marginless = false;
        waiting = live.m > 0;
        begin_attempt(0);
        warm = has_start;
        double rest = 0.0;
        if (has_start) {
            live.balance(nu, rest);
        }
        set_point(trial, nu, rest);
        live.ask(trial);
    }

    __device__ __forceinline__ void begin_attempt(u32 number) {
        attempt = number;
        spent_steps = iterations;
        spent_passes = passes;
        reduced = false;
        last_residual = infinity();
        test.reset();
        if (marginless) {
            test.drop_margin();
        }
        prox = PROX;
        stage = AT_START;
        warm = true;
    }

    __device__ __forceinline__ bool out_of_steps() const { return iterations - before >= task.max_iterations; }

    __device__ __forceinline__ bool out_of_passes() const { return passes - spent_passes >= ATTEMPT_PASSES; }

    __device__ __forceinline__ void go_to_trial() {
        u32 last = at;
        at = trial;
        trial = last;
    }

    // Takes the sums at the point asked for, and works until it needs the next or has ended.
    __device__ __forceinline__ void receive() {
        ++passes;
        double mean = live.take_sums(trial);
        set_own(mean_of(trial), mean);
        __syncwarp();
        conclude(is_contradiction() || is_given_ray() ? NEXT_END : take(mean));
    }

    // Whether a row without coefficients cannot be met. (Until rows are relaxed by enough.) Its ray becomes the point then.
    __device__ __forceinline__ bool is_contradiction() {
        double ray = live.contradiction();
        if (!any_lane(ray != 0.0)) {
            return false;
        }
        go_to_trial();
        take_ray(ray, sum_of_rows(ray > 0.0 ? -live.upper() : ray < 0.0 ? live.lower() : 0.0));
        return true;
    }

    // Whether it was begun with a ray, which becomes the point then.
    __device__ __forceinline__ bool is_given_ray() {
        if (passes > 1 || !(numbers().lack > 0.0)) {
            return false;
        }
        go_to_trial();
        take_ray(own(nu_of(at)), numbers().lack);
        return true;
    }

    __device__ __forceinline__ void take_ray(double ray, double lack) {
        set_point(at, ray, 0.0);
        keep(&NewtonNumbers::lack, lack);
        status = STATUS_INFEASIBLE;
    }

    __device__ __forceinline__ Next take(double mean) {
        bool is_start = false;
        if (stage == AT_TRIAL && !out_of_passes()) {
            SearchStep found = search.judge(own(memory.asked_lower()), own(memory.asked_upper()), own(memory.step()),
                                            own(memory.aim()), own(nu_of(at)), own(nu_of(trial)), mean);
            if (found == SEARCH_KEEPS || found == SEARCH_ENDS_AT_KEPT) {
                u32 last = kept;
                kept = trial;
                trial = last;
            }
            if (found == SEARCH_KEEPS || found == SEARCH_GOES_ON) {
                return NEXT_ASK;
            }
        }
        go_to_trial();
        mean = own(mean_of(at));
        double rounding = live.rounding(task.unit_roundoff, at);
        if (stage == AT_START) {
            bool met;
            live.excess(mean, rounding, met);
            if (!warm && met) {
                // Fair already: the true bounds are kept, with no margin asked for.
                return NEXT_END;
            }
            is_start = warm;
        } else if (stage == AT_KEPT) {
            test.residual = numbers().answer_residual;
            return NEXT_END;
        }
        return work(task.needed(rounding), is_start);
    }

    __device__ __forceinline__ void take_point(ActiveSet& model) const {
        model.nu = own(nu_of(at));
        model.rest = own(rest_of(at));
        model.mean = own(mean_of(at));
    }

    // And the step from there, which is in memory, too.
    __device__ __forceinline__ void take_step(ActiveSet& model) const {
        take_point(model);
        model.d = own(memory.step());
        model.v = own(memory.model());
        model.low = own(memory.asked_lower());
        model.high = own(memory.asked_upper());
    }

    // Works from the present point until it needs sums or has ended.
    __device__ __forceinline__ Next work(double needed, bool is_start) {
        ActiveSet model(live);
        take_point(model);
#pragma unroll 1
        for (;;) {
            Verdict verdict = test.judge(task, live, model.mean, model.nu, needed, is_start, model.low, model.high);
            is_start = false;
            if (verdict == VERDICT_SOLVED) {
                return accept(model.mean, model.nu);
            }
            if (verdict == VERDICT_OPEN && test.lacks_room(live)) {
                test.drop_margin();
                return NEXT_FROM_ZERO;
            }
            if (verdict == VERDICT_STUCK || iterations - spent_steps >= ATTEMPT_STEPS || out_of_steps() || out_of_passes()) {
                return NEXT_GIVE_UP;
            }
            ++iterations;
            if (Live::BY_SAMPLE && iterations - spent_steps > 1 && test.residual > 0.5 * last_residual) {
                adapt_prox();
            }
            Floor floor = {test.residual, floor_factor(attempt), attempt > 0};
            ask_samples([&rows = live, point = at, floor, added = prox] {
                rows.fill_curvature(point, floor, added);
                return 0.0;
            });
            take_point(model);
            model.minimise(nu_of(at) + live.base, 1e-3 * test.tolerance);
            if (any_lane(!is_finite(model.v))) {
                // Rounding left it no numbers.
                prox *= 100.0;
                if (prox > 1.0) {
                    return NEXT_GIVE_UP;
                }
                continue;
            }
            set_own(memory.step(), model.d);
            set_own(memory.model(), model.v);
            set_own(memory.asked_lower(), model.low);
            set_own(memory.asked_upper(), model.high);
            __syncwarp();
            if (is_infeasible()) {
                return NEXT_END;
            }
            take_step(model);
            double aim;
            if (search.begin(live, model, aim)) {
                set_own(memory.aim(), aim);
                // No farther than to where all elements are free; most steps are far shorter.
                double reach = 2.0 * test.residual + 4.0 * live.farthest(at);
                bool is_short = live.largest_shift_size(model.d) <= reach;
                Extent extent = ask_samples([&rows = live, point = at, floor, is_short] {
                    return rows.extent_of_step(point, floor, !is_short);
                });
                take_step(model);
                search.bound(live, model, is_short ? 1.0 : smaller(reach / extent.longest, 1.0), extent.is_floored);
                stage = AT_TRIAL;
                return NEXT_ASK;
            }
            if (!test.bears_no_descent()) {
                return NEXT_GIVE_UP;
            }
        }
    }

    // After a step that led nowhere: if it was a whole one, what is added to the diagonal may be more than a flat direction has, and
    // becomes less; if it was cut short, more.
    __device__ __forceinline__ void adapt_prox() {
        prox = search.step >= 1.0 ? larger(0.1 * prox, LEAST_PROX) : larger(smaller(10.0 * prox, PROX), prox);
    }

    // Whether the step, or where it leads to, is a ray that proves that there is no answer; it becomes the point then.
    __device__ __forceinline__ bool is_infeasible() {
        // It does not pay to ask of a problem that is on its way to an answer.
        double last = last_residual;
        last_residual = test.residual;
        if (iterations - spent_steps <= 1 || test.residual < 0.25 * last) {
            return false;
        }
        double size = live.rounding(1.0, at);
#pragma unroll 1
        for (u32 which = 0; which < 2; ++which) {
            const double* ray = which == 0 ? memory.step() : memory.model();
            double lack = ask_samples([&rows = live, ray, size] { return lack_of_room(rows, ray, size); });
            if (lack > 0.0) {
                take_ray(own(ray), lack);
                return true;
            }
        }
        return false;
    }

    // Ends with the present point, unless a better one of the same quality can be hoped for.
    __device__ __forceinline__ Next accept(double mean, double nu) {
        double error = test.shift_error(), size = EPSILON * live.largest_shift_size(nu);
        bool lost = 2.0 * size > error && ask_samples([&rows = live, point = at, error] { return rows.are_lost(point, error); }) > 0.0;
        if (lost && !reduced) {
            double smaller_nu = nu, rest = 0.0;
            if (live.reduce(smaller_nu)) {
                // Goes on from smaller multipliers with the same shifts.
                reduced = true;
                live.balance(smaller_nu, rest);
                set_point(trial, smaller_nu, rest);
                live.ask(trial);
                test.forget();
                stage = AT_NEW_POINT;
                return NEXT_ASK;
            }
        }
        // Contrasts may be independent only by rounding, and another attempt may find smaller multipliers; solved without a
        // margin where there is room for one, another attempt may find it. (Multipliers of rows over samples are as large as the
        // rows make them, and y, which the test judged, does not depend on their last digits.)
        bool hopeful = lost && (!Live::BY_SAMPLE || size > ENORMOUS) && live.contrasts < live.m;
        bool needless = !test.tightened && !live.may_lack_room() && live.measured_excess(mean) > 0.0;
        status = STATUS_SOLVED;
        if ((hopeful || needless) && attempt + 1 < ATTEMPTS) {
            set_own(memory.answer_nu(), nu);
            set_own(memory.answer_rest(), own(rest_of(at)));
            has_answer = true;
            keep(&NewtonNumbers::answer_residual, test.residual);
            marginless = marginless || hopeful;
            return NEXT_GIVE_UP;
        }
        return NEXT_END;
    }

    // Does what comes after the work at a point: when it has ended, the shifts are the answer's.
    __device__ __forceinline__ void conclude(Next next) {
        if (next == NEXT_GIVE_UP) {
            if (attempt + 1 < ATTEMPTS && !out_of_steps()) {
                begin_attempt(attempt + 1);
                next = NEXT_FROM_ZERO;
            } else if (has_answer) {
                has_answer = false;
                set_point(trial, own(memory.answer_nu()), own(memory.answer_rest()));
                live.ask(trial);
                stage = AT_KEPT;
                return;
            } else {
                status = STATUS_ITERATION_LIMIT;
                next = NEXT_END;
            }
        }
        if (next == NEXT_FROM_ZERO) {
            warm = true;
            stage = AT_START;
            set_point(trial, 0.0, 0.0);
            live.ask(trial);
        } else if (next == NEXT_ASK && stage == AT_TRIAL) {
            Twofold moved = search.place(own(nu_of(at)), own(rest_of(at)), own(memory.step()));
            if (search.step > 1.0) {
                // A long step magnifies what rounding left of the balance.
                live.balance(moved.large, moved.small);
            }
            set_point(trial, moved.large, moved.small);
            live.ask(trial);
        } else if (next == NEXT_END) {
            end();
        }
    }

    // Ends, or relaxes the rows that nothing meets and begins anew.
    __device__ __forceinline__ void end() {
        waiting = false;
        keep(&NewtonNumbers::excess, live.measured_excess(own(mean_of(at))));
        bool stuck = status == STATUS_ITERATION_LIMIT, impossible = status == STATUS_INFEASIBLE;
        if (task.relaxes && (stuck || impossible) && relaxations < MOST_RELAXATIONS) {
            double needed = impossible ? least_relaxation(live, nu_of(at), numbers().lack) : 0.0, room = numbers().room;
            // Where rows were relaxed and the answer was not found, by more room.
            if (impossible ? needed > 0.0 : live.relaxed > 0.0 && room <= LAST_ROOM) {
                live.relax(needed * (1.0 + 1e-9) + room);
                keep(&NewtonNumbers::room, impossible ? smaller(2.0 * room, larger(MOST_ROOM, room)) : 10.0 * room);
                ++relaxations;
                before = iterations;
                begin(false, 0.0);
                return;
            }
        }
        if (status == STATUS_SOLVED && live.relaxed > 0.0) {
            status = STATUS_RELAXED;
        }
        live.ask(at);
    }
};
