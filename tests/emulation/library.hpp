// What an emulated device exports: memory, and its kernels by name. A file that includes this, and kernels, names each with
// EMULATE(...).
#pragma once

#include "cuda.hpp"

namespace emulation {

using Caller = void (*)(void** arguments);

inline std::map<std::string, Caller>& kernels() {
    static std::map<std::string, Caller> kernels;
    return kernels;
}

// Calls a kernel with arguments as cuLaunchKernel takes them: pointers to their values.
template <auto kernel>
struct Call;
template <class... Arguments, void (*kernel)(Arguments...)>
struct Call<kernel> {
    static void with(void** arguments) { unpack(arguments, std::index_sequence_for<Arguments...>{}); }

  private:
    template <size_t... index>
    static void unpack(void** arguments, std::index_sequence<index...>) {
        kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<Arguments>>*>(arguments[index])...);
    }
};

struct Entry {
    Entry(const char* name, Caller caller) { kernels()[name] = caller; }
};

inline thread_local std::string message;

}  // namespace emulation

#define EMULATION_JOIN_AGAIN(a, b) a##b
#define EMULATION_JOIN(a, b) EMULATION_JOIN_AGAIN(a, b)
#define EMULATE(...)                                            \
    static const emulation::Entry EMULATION_JOIN(entry_, __COUNTER__)( \
        #__VA_ARGS__, &emulation::Call<&__VA_ARGS__>::with);

extern "C" {

// Poisoned memory; null if there is none left.
__attribute__((weak)) void* cuda_emulation_allocate(size_t bytes) {
    try {
        return emulation::Memory::get().allocate(bytes);
    } catch (const std::exception&) {
        return nullptr;
    }
}

__attribute__((weak)) int cuda_emulation_release(void* data) { return emulation::Memory::get().release(data); }

// Runs a kernel to its end. Null, or what went wrong, which is valid until this thread of the host launches again.
__attribute__((weak)) const char* cuda_emulation_launch(const char* name, const unsigned* grid, const unsigned* block,
                                                        size_t shared_bytes, void** arguments, int cooperative, int order,
                                                        uint64_t seed) {
    try {
        auto found = emulation::kernels().find(name);
        if (found == emulation::kernels().end()) throw emulation::Failure(std::string("no kernel is called ") + name);
        emulation::Launch launch;
        launch.grid = dim3(grid[0], grid[1], grid[2]);
        launch.block = dim3(block[0], block[1], block[2]);
        launch.shared_bytes = shared_bytes;
        launch.cooperative = cooperative != 0;
        launch.order = static_cast<emulation::Order>(order);
        launch.seed = seed;
        emulation::Caller caller = found->second;
        launch.body = [caller, arguments] { caller(arguments); };
        emulation::Engine::get().run(launch);
        return nullptr;
    } catch (const std::exception& failure) {
        emulation::message = std::string(name) + ": " + failure.what();
        return emulation::message.c_str();
    }
}
}
