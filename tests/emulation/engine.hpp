// Runs a grid: one fiber a thread, one block after the other (of a cooperative launch all blocks at once), and says what
// no GPU says: barriers that not all threads reach, lanes that are missing, memory that is not theirs.
#pragma once

#include "memory.hpp"
#include <algorithm>
#include <cstdarg>
#include <functional>
#include <vector>

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulation {

constexpr unsigned WARP = 32;
constexpr size_t MOST_SHARED = 227 * 1024;

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The orders that threads and blocks run in, where nothing says which goes first.
enum class Order { Forward, Reverse, Shuffled };

struct Launch {
    dim3 grid, block;
    size_t shared_bytes = 0;
    bool cooperative = false;
    Order order = Order::Forward;
    uint64_t seed = 1;
    std::function<void()> body;
};

// Where the running thread is: what kernels call threadIdx and so on.
struct Coordinates {
    dim3 thread, block, block_size, grid_size;
};
inline thread_local Coordinates here;

// What the lanes of a warp do together.
enum class Together { Nothing, Shuffle, Ballot, Sync, AddUp, Or, Most, Least };

inline const char* name_of(Together what) {
    switch (what) {
        case Together::Shuffle: return "a shuffle";
        case Together::Ballot: return "a vote";
        case Together::Sync: return "__syncwarp";
        case Together::Nothing: return "nothing";
        default: return "a reduction";
    }
}

// What a lane brings to it.
struct Offer {
    Together what = Together::Nothing;
    uint32_t mask = 0;
    int line = 0;
    uint64_t value = 0;
    int source = 0;
};

enum class State : uint8_t { Ready, AtBarrier, InWarp, Done };

class Engine {
  public:
    static Engine& get() {
        static thread_local Engine engine;
        return engine;
    }

    void run(const Launch& launch) {
        unsigned threads = launch.block.x * launch.block.y * launch.block.z;
        uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
        if (threads == 0 || blocks == 0) throw Failure("launch: no threads");
        if (threads > 1024) throw Failure("launch: a block has more than 1024 threads");
        if (launch.shared_bytes > MOST_SHARED) throw Failure("launch: more than 227 KiB of shared memory");
        FaultHandler::install(&Engine::land, [] { return running_ != nullptr; });
        launch_ = &launch;
        threads_ = threads;
        unsigned resident = launch.cooperative ? unsigned(blocks) : 1;
        reserve(resident);
        auto order = permutation(unsigned(blocks), launch.seed);
        for (uint64_t first = 0; first < blocks; first += resident) {
            for (unsigned slot = 0; slot < resident; ++slot) begin_block(slot, order[first + slot]);
            run_resident(resident, launch.seed + first);
        }
        if (!Memory::get().all_kept()) throw Failure("global memory: written just beside an array");
    }

    // What follows is called by the running thread.

    // Waits for all threads of the block; the sum of what they bring.
    unsigned barrier(unsigned value, int line) {
        Block& block = blocks_[current_ / threads_];
        if (block.arrived > 0 && block.line != line) {
            fail("__syncthreads: threads of a block are at barriers in lines %d and %d", block.line, line);
        }
        block.line = line;
        block.sum += value;
        if (++block.arrived == block.live) {
            release(current_ / threads_);
        } else {
            fibers_[current_].state = State::AtBarrier;
            yield();
        }
        return block.result;
    }

    uint64_t together(Together what, uint32_t mask, uint64_t value, int source, int line) {
        unsigned lane = current_ % threads_ % WARP, first = current_ - lane;
        if (!(mask >> lane & 1)) fail("%s: the mask %08x lacks the calling lane", name_of(what), mask);
        Fiber& own = fibers_[current_];
        own.offer = Offer{what, mask, line, value, source};
        own.state = State::InWarp;
        if (!try_together(first, mask)) yield();
        return own.answer;
    }

    // Gives others a turn: what loops that wait for another block must call.
    void pause() {
        ++idle_;
        if (idle_ > 100000000) fail("threads wait for each other for ever");
        yield();
    }

    char* shared() { return blocks_[current_ / threads_].shared; }
    unsigned lane() const { return current_ % threads_ % WARP; }

    [[noreturn]] void fail(const char* format, ...) {
        char text[300], place[100];
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        std::snprintf(place, sizeof place, " [block %u, thread %u]", here.block.x, here.thread.x);
        failure_ = std::string(text) + place;
        switch_context(fibers_[current_].context, scheduler_);
        std::abort();
    }

  private:
    static constexpr size_t STACK = 128 * 1024;

    struct Fiber {
        Context context;
        std::unique_ptr<GuardedPages> stack;
        State state = State::Done;
        Offer offer;
        uint64_t answer = 0;
    };
    struct Block {
        dim3 index;
        unsigned live = 0, arrived = 0, sum = 0, result = 0;
        int line = 0;
        std::unique_ptr<GuardedPages> memory;
        char* shared = nullptr;
    };

    void reserve(unsigned resident) {
        size_t needed = size_t(resident) * threads_;
        while (fibers_.size() < needed) fibers_.emplace_back();
        for (size_t i = 0; i < needed; ++i) {
            if (!fibers_[i].stack) fibers_[i].stack = std::make_unique<GuardedPages>(STACK);
            fibers_[i].state = State::Done;
            // Tops of stacks do not fall on the same lines of the cache.
            size_t shift = i * 320 & 0x3fc0;
            begin_at(fibers_[i].context, fibers_[i].stack->begin(), STACK - shift, &Engine::enter);
        }
        if (blocks_.size() < resident) blocks_.resize(resident);
    }

    void begin_block(unsigned slot, unsigned number) {
        Block& block = blocks_[slot];
        const dim3& grid = launch_->grid;
        block.index = dim3(number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y));
        block.live = threads_;
        block.arrived = block.sum = 0;
        if (!block.memory) block.memory = std::make_unique<GuardedPages>(MOST_SHARED);
        size_t bytes = (launch_->shared_bytes + 15) / 16 * 16;
        block.shared = block.memory->begin() + block.memory->size() - bytes;
        std::memset(block.shared, POISON, bytes);
        for (unsigned i = slot * threads_; i < (slot + 1) * threads_; ++i) {
            fibers_[i].state = State::Ready;
            fibers_[i].offer = Offer{};
        }
    }

    // Runs the blocks that have begun until all have ended.
    void run_resident(unsigned resident, uint64_t seed) {
        unsigned count = resident * threads_;
        order_ = permutation(count, seed);
        place_.resize(count);
        for (unsigned at = 0; at < count; ++at) place_[order_[at]] = at;
        live_ = count;
        idle_ = 0;
        running_ = this;
        while (live_ > 0) {
            bool any = false;
            for (unsigned at = 0; at < count && failure_.empty(); ++at) {
                if (fibers_[order_[at]].state != State::Ready) continue;
                any = true;
                resume(order_[at], scheduler_);
            }
            if (failure_.empty() && !any && live_ > 0) failure_ = describe_deadlock(count);
            if (!failure_.empty()) break;
        }
        running_ = nullptr;
        if (!failure_.empty()) {
            std::string text;
            text.swap(failure_);
            throw Failure(text);
        }
    }

    void resume(unsigned fiber, Context& from) {
        const Block& block = blocks_[fiber / threads_];
        const dim3& size = launch_->block;
        unsigned thread = fiber % threads_;
        current_ = fiber;
        here.thread = dim3(thread % size.x, thread / size.x % size.y, thread / (size.x * size.y));
        here.block = block.index;
        here.block_size = size;
        here.grid_size = launch_->grid;
        switch_context(from, fibers_[fiber].context);
    }

    // The next thread that can go on; the scheduler if there is none.
    void yield() {
        unsigned me = current_, count = unsigned(order_.size());
        for (unsigned step = 1, at = place_[me] + 1; step <= count; ++step, ++at) {
            if (at >= count) at = 0;
            unsigned next = order_[at];
            if (fibers_[next].state != State::Ready) continue;
            if (next != me) resume(next, fibers_[me].context);
            return;
        }
        switch_context(fibers_[me].context, scheduler_);
    }

    void release(unsigned slot) {
        Block& block = blocks_[slot];
        block.result = block.sum;
        block.arrived = block.sum = 0;
        idle_ = 0;
        for (unsigned i = slot * threads_; i < (slot + 1) * threads_; ++i) {
            if (fibers_[i].state == State::AtBarrier) fibers_[i].state = State::Ready;
        }
    }

    // Lets the lanes of the mask do what they all came for, if they all came.
    bool try_together(unsigned first, uint32_t mask) {
        unsigned lanes = std::min(WARP, threads_ - first % threads_);
        const Offer* offer = nullptr;
        uint32_t arrived = 0;
        for (unsigned lane = 0; lane < WARP; ++lane) {
            if (!(mask >> lane & 1) || lane >= lanes) continue;
            const Fiber& fiber = fibers_[first + lane];
            if (fiber.state == State::Done) continue;
            if (fiber.state != State::InWarp) return false;
            if (!offer) offer = &fiber.offer;
            if (fiber.offer.what != offer->what || fiber.offer.mask != offer->mask || fiber.offer.line != offer->line) {
                fail("lanes of a warp are at %s in line %d (mask %08x) and at %s in line %d (mask %08x)",
                     name_of(offer->what), offer->line, offer->mask, name_of(fiber.offer.what), fiber.offer.line,
                     fiber.offer.mask);
            }
            arrived |= 1u << lane;
        }
        if (offer) answer(first, arrived);
        return true;
    }

    void answer(unsigned first, uint32_t arrived) {
        auto fiber = [&](unsigned lane) -> Fiber& { return fibers_[first + lane]; };
        uint64_t all = 0;
        bool any = false;
        for (unsigned lane = 0; lane < WARP; ++lane) {
            if (!(arrived >> lane & 1)) continue;
            uint64_t value = fiber(lane).offer.value;
            switch (fiber(lane).offer.what) {
                case Together::Ballot: all |= uint64_t(value != 0) << lane; break;
                case Together::AddUp: all = uint32_t(all + value); break;
                case Together::Or: all |= value; break;
                case Together::Most: all = any ? std::max(all, value) : value; break;
                case Together::Least: all = any ? std::min(all, value) : value; break;
                default: break;
            }
            any = true;
        }
        for (unsigned lane = 0; lane < WARP; ++lane) {
            if (!(arrived >> lane & 1)) continue;
            Offer& offer = fiber(lane).offer;
            if (offer.what == Together::Shuffle) {
                if (!(arrived >> offer.source & 1)) {
                    fail("a shuffle in line %d: lane %u reads lane %d, which does not take part", offer.line, lane,
                         offer.source);
                }
                fiber(lane).answer = fiber(unsigned(offer.source)).offer.value;
            } else {
                fiber(lane).answer = all;
            }
        }
        for (unsigned lane = 0; lane < WARP; ++lane) {
            if (arrived >> lane & 1) fiber(lane).state = State::Ready;
        }
    }

    static void enter() {
        for (;;) {
            Engine& engine = get();
            engine.launch_->body();
            engine.end_thread();
        }
    }

    void end_thread() {
        Block& block = blocks_[current_ / threads_];
        unsigned first = current_ - lane();
        fibers_[current_].state = State::Done;
        --live_;
        --block.live;
        if (block.live > 0 && block.arrived == block.live) release(current_ / threads_);
        // Lanes that waited for this one go on without.
        for (unsigned other = 0; other < WARP && first % threads_ + other < threads_; ++other) {
            if (fibers_[first + other].state == State::InWarp) try_together(first, fibers_[first + other].offer.mask);
        }
        yield();
    }

    // Where a thread goes on that touched what it must not.
    static void land() {
        Engine& engine = get();
        const void* address = FaultHandler::address;
        for (const Fiber& fiber : engine.fibers_) {
            if (fiber.stack && fiber.stack->guards(address)) engine.fail("a thread has more local variables than fit");
        }
        for (const Block& block : engine.blocks_) {
            if (block.memory && block.memory->guards(address)) {
                engine.fail("shared memory: beyond the %zu bytes of the launch", engine.launch_->shared_bytes);
            }
        }
        engine.fail("%s", Memory::get().describe(address).c_str());
    }

    std::string describe_deadlock(unsigned count) const {
        unsigned waiting = 0, in_warp = 0;
        const Offer* offer = nullptr;
        for (unsigned i = 0; i < count; ++i) {
            waiting += fibers_[i].state == State::AtBarrier;
            if (fibers_[i].state != State::InWarp) continue;
            ++in_warp;
            offer = &fibers_[i].offer;
        }
        char text[300];
        int length = std::snprintf(text, sizeof text, "not all threads come: %u wait at __syncthreads in line %d", waiting,
                                   blocks_[0].line);
        if (offer) {
            std::snprintf(text + length, sizeof text - size_t(length), ", %u for lanes of mask %08x at %s in line %d",
                          in_warp, offer->mask, name_of(offer->what), offer->line);
        }
        return text;
    }

    std::vector<unsigned> permutation(unsigned count, uint64_t seed) const {
        std::vector<unsigned> order(count);
        for (unsigned i = 0; i < count; ++i) order[i] = launch_->order == Order::Reverse ? count - 1 - i : i;
        if (launch_->order != Order::Shuffled) return order;
        for (unsigned i = count; i > 1; --i) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            std::swap(order[i - 1], order[(seed >> 33) % i]);
        }
        return order;
    }

    static inline thread_local Engine* running_ = nullptr;

    const Launch* launch_ = nullptr;
    unsigned threads_ = 0, current_ = 0, live_ = 0;
    uint64_t idle_ = 0;
    std::vector<Fiber> fibers_;
    std::vector<Block> blocks_;
    std::vector<unsigned> order_, place_;
    Context scheduler_;
    std::string failure_;
};

}  // namespace emulation
