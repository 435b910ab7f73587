// Global memory of the emulated device. Every array lies at the end of its pages, as near as an alignment of 16 bytes lets
// it, and what a kernel touches outside is a fault that names the array; the few bytes that are left are looked at after
// each launch.
#pragma once

#include "fibers.hpp"
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <ucontext.h>

namespace emulation {

// What fresh memory holds: NaN as any float, a large number as an index.
constexpr unsigned char POISON = 0xff;

struct Array {
    explicit Array(size_t bytes) : pages(bytes + 16), bytes(bytes) {
        std::memset(pages.begin(), POISON, pages.size());
        data = pages.begin() + (pages.size() - bytes) / 16 * 16;
    }
    char* end() const { return data + bytes; }
    // Whether the bytes around it are as they were.
    bool is_kept() const {
        const char* stop = pages.begin() + pages.size();
        for (const char* at = pages.begin(); at < stop; ++at) {
            if (at == data) at += bytes;
            if (at < stop && static_cast<unsigned char>(*at) != POISON) return false;
        }
        return true;
    }

    GuardedPages pages;
    size_t bytes;
    char* data;
};

// All arrays, whichever thread of the host asked for them.
class Memory {
  public:
    static Memory& get() {
        static Memory memory;
        return memory;
    }
    void* allocate(size_t bytes) {
        auto array = std::make_unique<Array>(bytes);
        void* data = array->data;
        std::lock_guard<std::mutex> lock(mutex_);
        arrays_[data] = std::move(array);
        return data;
    }
    bool release(void* data) {
        std::lock_guard<std::mutex> lock(mutex_);
        return arrays_.erase(data) == 1;
    }
    // What lies where nothing may be touched, in words.
    std::string describe(const void* address) {
        std::lock_guard<std::mutex> lock(mutex_);
        char text[160];
        for (const auto& [data, array] : arrays_) {
            if (!array->pages.guards(address)) continue;
            const char* at = static_cast<const char*>(address);
            bool beyond = at >= array->end();
            long distance = beyond ? at - array->end() : static_cast<char*>(data) - at;
            std::snprintf(text, sizeof text, "global memory: %ld bytes %s an array of %zu", distance,
                          beyond ? "beyond" : "before", array->bytes);
            return text;
        }
        std::snprintf(text, sizeof text, "global memory: no array is at %p", address);
        return text;
    }
    // Whether the bytes around all arrays are as they were. (Small ones only: others have been looked at by the guards.)
    bool all_kept() {
        std::lock_guard<std::mutex> lock(mutex_);
        for (const auto& [data, array] : arrays_) {
            if (array->bytes < 65536 && !array->is_kept()) return false;
        }
        return true;
    }

  private:
    std::mutex mutex_;
    std::map<void*, std::unique_ptr<Array>> arrays_;
};

// A fault of the running kernel is no end of the process: the fiber goes on in `landing`, which reports it.
class FaultHandler {
  public:
    // `active` says whether a kernel runs on this thread of the host.
    static void install(void (*landing)(), bool (*active)()) {
        static std::once_flag once;
        std::call_once(once, [&] {
            landing_ = landing;
            active_ = active;
            struct sigaction action {};
            action.sa_sigaction = &FaultHandler::handle;
            action.sa_flags = SA_SIGINFO | SA_ONSTACK;
            sigemptyset(&action.sa_mask);
            sigaction(SIGSEGV, &action, &before_);
        });
    }
    static inline thread_local const void* address = nullptr;

  private:
    static void handle(int signal, siginfo_t* info, void* where) {
        auto* context = static_cast<ucontext_t*>(where);
        if (active_()) {
            address = info->si_addr;
#if defined(__x86_64__)
            auto* registers = context->uc_mcontext.gregs;
            auto top = static_cast<uintptr_t>(registers[REG_RSP]) - 256;
            registers[REG_RSP] = static_cast<greg_t>((top & ~uintptr_t(15)) - 8);
            registers[REG_RIP] = reinterpret_cast<greg_t>(landing_);
            return;
#elif defined(__aarch64__)
            context->uc_mcontext.sp = (context->uc_mcontext.sp - 256) & ~uint64_t(15);
            context->uc_mcontext.pc = reinterpret_cast<uint64_t>(landing_);
            return;
#endif
        }
        if (before_.sa_flags & SA_SIGINFO) return before_.sa_sigaction(signal, info, where);
        if (before_.sa_handler != SIG_DFL && before_.sa_handler != SIG_IGN) return before_.sa_handler(signal);
        std::signal(signal, SIG_DFL);
    }
    static inline void (*landing_)() = nullptr;
    static inline bool (*active_)() = nullptr;
    static inline struct sigaction before_ {};
};

}  // namespace emulation
