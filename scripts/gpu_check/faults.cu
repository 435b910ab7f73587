// Faults that compute-sanitizer has to find, one for each of its tools: a tool that does not find its own says nothing about
// other programs. `faults none` has none.

#include <cstdio>
#include <cstring>

constexpr int THREADS = 128;

// Reads what the neighbour wrote, behind a barrier or not.
__global__ void exchange(const int* from, int* to, bool waits) {
    __shared__ int shared[THREADS];
    shared[threadIdx.x] = from[threadIdx.x];
    if (waits) __syncthreads();
    to[threadIdx.x] = shared[(threadIdx.x + 64) % THREADS];
}

// Writes an array, from here or from beyond its end and all that may lie next to it.
__global__ void write(int* to, int beyond) { to[threadIdx.x + beyond] = 0; }

// A barrier that only some threads of a warp come to.
__global__ void diverge(int* to) {
    if (threadIdx.x % 32 < 16) __syncthreads();
    to[threadIdx.x] = 1;
}

static int ended(const char* what) {
    cudaError_t error = cudaDeviceSynchronize();
    if (error != cudaSuccess) std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    return error == cudaSuccess ? 0 : 1;
}

int main(int count, char** words) {
    const char* fault = count > 1 ? words[1] : "none";
    int *from = nullptr, *to = nullptr;
    size_t bytes = THREADS * sizeof(int);
    if (cudaMalloc(&from, bytes) != cudaSuccess || cudaMalloc(&to, bytes) != cudaSuccess) return ended("no memory") | 2;
    bool is_written = std::strcmp(fault, "initcheck") != 0, waits = std::strcmp(fault, "racecheck") != 0;
    if (is_written) cudaMemset(from, 0, bytes);
    write<<<1, THREADS>>>(to, std::strcmp(fault, "memcheck") == 0 ? 4096 : 0);
    if (std::strcmp(fault, "synccheck") == 0) {
        diverge<<<1, THREADS>>>(to);
    } else {
        exchange<<<1, THREADS>>>(from, to, waits);
    }
    int code = ended(fault);
    cudaFree(from);
    cudaFree(to);
    return code;
}
