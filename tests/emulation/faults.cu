// Kernels with faults, and one without: the emulation must say which is which.

__global__ void sum_of_block(const float* values, float* sums) {
    DYNAMIC_SHARED(float, scratch);
    scratch[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x];
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
    }
    __syncthreads();
    if (threadIdx.x == 0) sums[blockIdx.x] = scratch[0];
}

__global__ void missing_barrier(const float* values, float* sums) {
    DYNAMIC_SHARED(float, scratch);
    scratch[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x];
    // Here one is missing.
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (unsigned i = 0; i < blockDim.x; ++i) sum += scratch[i];
        sums[blockIdx.x] = sum;
    }
}

__global__ void divergent_barrier(const float* values, float* sums) {
    if (threadIdx.x < 5) {
        __syncthreads();
        sums[blockIdx.x] = values[0];
    } else {
        __syncthreads();
    }
}

__global__ void absent_barrier(const float* values, float* sums) {
    if (threadIdx.x < 5) __syncthreads();
    __syncwarp();
    if (threadIdx.x == 0) sums[blockIdx.x] = values[0];
}

__global__ void missing_lane(const float* values, float* sums) {
    float value = values[threadIdx.x];
    if (threadIdx.x % 32 != 7) value += __shfl_xor_sync(0xffffffffu, value, 1);
    __syncthreads();
    if (threadIdx.x == 0) sums[blockIdx.x] = value;
}

__global__ void exited_lane(const float* values, float* sums) {
    if (threadIdx.x % 32 == 7) return;
    float value = __shfl_xor_sync(0xffffffffu, values[threadIdx.x], 1);
    if (threadIdx.x == 0) sums[blockIdx.x] = value;
}

__global__ void beyond_an_array(const float* values, float* sums) {
    sums[blockIdx.x] = values[threadIdx.x + gridDim.x * blockDim.x];
}

__global__ void beside_an_array(const float* values, float* sums) {
    if (threadIdx.x == 0) sums[gridDim.x] = values[0];
}

__global__ void before_an_array(const float* values, float* sums) {
    if (threadIdx.x == 0) sums[-2048] = values[0];
}

__global__ void beyond_shared_memory(const float* values, float* sums) {
    DYNAMIC_SHARED(float, scratch);
    scratch[blockDim.x] = values[0];
    sums[blockIdx.x] = scratch[blockDim.x];
}

// Blocks that wait for each other: only a cooperative launch keeps all of them alive.
__global__ void sum_of_grid(const float* values, float* sums, unsigned* arrived) {
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = values[blockIdx.x * blockDim.x];
        __threadfence();
        atomicAdd(arrived, 1u);
        while (*static_cast<volatile unsigned*>(arrived) < gridDim.x) __nanosleep(20);
    }
    __syncthreads();
    float sum = 0.0f;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += sums[i];
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(arrived, 1u);
        while (*static_cast<volatile unsigned*>(arrived) < 2 * gridDim.x) __nanosleep(20);
        sums[blockIdx.x] = sum;
    }
}

// Half warps at a time, each with a mask of its own.
__global__ void half_warps(const float* values, float* sums) {
    float value = values[threadIdx.x];
    unsigned upper = threadIdx.x / 16 % 2, mask = upper ? 0xffff0000u : 0x0000ffffu;
    for (unsigned turn = 0; turn <= upper; ++turn) {
        for (int flip = 8; flip > 0; flip /= 2) value += __shfl_xor_sync(mask, value, flip, 16);
    }
    sums[threadIdx.x] = value;
}
