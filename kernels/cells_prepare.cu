// `cells_prepare`: groups, labels and control values to the one-byte cells that all other kernels read, a thread an element.

#include "cells_call.cuh"

// What is written of an element that is in no cell.
constexpr u32 NO_CELL = 0xff;

// The problem that an element is of: the last that begins where it is, or before.
__device__ __forceinline__ u32 problem_of(const CellsCall& call, u64 element) {
    u32 from = 0, to = call.count;
    while (to - from > 1) {
        u32 middle = from + (to - from) / 2;
        bool before = call.offsets[middle] <= element;
        from = before ? middle : from;
        to = before ? to : middle;
    }
    return from;
}

__global__ void __launch_bounds__(256) cells_prepare(const __grid_constant__ CellsCall call) {
    u64 element = blockIdx.x * static_cast<u64>(blockDim.x) + threadIdx.x;
    u64 total = call.offsets ? call.offsets[call.count] : static_cast<u64>(call.count) * call.n;
    if (element >= total) {
        return;
    }
    // Where it is in arrays that all problems share.
    u64 in_problem = call.offsets ? element - call.offsets[problem_of(call, element)] : element % call.n;
    auto at = [&](bool shared) { return shared ? in_problem : element; };
    u32 cell = 0;
    bool within = true;
    for (u32 f = 0; f < call.feature_count; ++f) {
        const Feature& feature = call.features[f];
        u32 group = call.groups[feature.start + at(feature.shared != 0)];
        within = within && group < feature.groups;
        cell = cell * feature.groups + group;
    }
    if (call.strata > 0) {
        u32 stratum = 0;
        if ((call.flags & STRATA_BY_LABEL) != 0) {
            stratum = real_at(call.labels, (call.flags & DOUBLE_LABELS) != 0, at((call.flags & SHARED_LABELS) != 0)) > 0.5;
        } else if (call.control) {
            stratum = call.control[at((call.flags & SHARED_CONTROL) != 0)];
        }
        within = within && stratum < call.strata;
        cell = cell * call.strata + stratum;
    }
    call.own_cells[element] = static_cast<u8>(within ? cell : NO_CELL);
}
