// Runs the kernels of faults.cu in every order, and prints a line for each: its name, the order, and what was found.

#include "library.hpp"
#include "faults.cu"

EMULATE(sum_of_block)
EMULATE(missing_barrier)
EMULATE(divergent_barrier)
EMULATE(absent_barrier)
EMULATE(missing_lane)
EMULATE(exited_lane)
EMULATE(beyond_an_array)
EMULATE(beside_an_array)
EMULATE(before_an_array)
EMULATE(beyond_shared_memory)
EMULATE(sum_of_grid)
EMULATE(half_warps)

int main() {
    constexpr unsigned BLOCKS = 3, THREADS = 64;
    const char* orders[] = {"forward", "reverse", "shuffled"};
    for (const auto& [name, caller] : emulation::kernels()) {
        for (int order = 0; order < 3; ++order) {
            auto* values = static_cast<float*>(cuda_emulation_allocate(4 * BLOCKS * THREADS));
            auto* sums = static_cast<float*>(cuda_emulation_allocate(4 * (name == "half_warps" ? THREADS : BLOCKS)));
            auto* arrived = static_cast<unsigned*>(cuda_emulation_allocate(4));
            for (unsigned i = 0; i < BLOCKS * THREADS; ++i) values[i] = 1.0f;
            *arrived = 0;
            void* arguments[] = {&values, &sums, &arrived};
            unsigned grid[3] = {name == "half_warps" ? 1 : BLOCKS, 1, 1}, block[3] = {THREADS, 1, 1};
            bool cooperative = name == "sum_of_grid";
            const char* message = cuda_emulation_launch(name.c_str(), grid, block, 4 * THREADS, arguments, cooperative, order, 7);
            std::printf("%s %s: %s", name.c_str(), orders[order], message ? message : "sums");
            for (unsigned i = 0; !message && i < (name == "half_warps" ? THREADS : BLOCKS); ++i) std::printf(" %g", sums[i]);
            std::printf("\n");
            cuda_emulation_release(values);
            cuda_emulation_release(sums);
            cuda_emulation_release(arrived);
        }
    }
}
