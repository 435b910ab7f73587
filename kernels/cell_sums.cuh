// The elements of a problem sorted by cell, and sums by cell: of weights, labels and bounds, with the question whether every
// number of the problem can be used, and of whatever a pass asks for. All threads of the block call it.
#pragma once

#include "cells_memory.cuh"

// Lanes of the warp with the same cell as this one, among those that have one.
__device__ __forceinline__ u32 peers_of(u32 cell, bool there) {
    u32 peers = lanes_where(there);
#pragma unroll
    for (u32 bit = 0; bit < 5; ++bit) {
        bool one = (cell >> bit & 1) != 0;
        u32 ones = lanes_where(there && one);
        peers &= one ? ones : ~ones;
    }
    return peers;
}

// Sorts the elements by cell, those of a cell in their order. False if a cell is out of range.
template <int LANES, class T>
__device__ __forceinline__ bool sort_by_cell(const Problem<T>& problem, const CellMemory& memory, Meeting<CellsCall>& meeting) {
    constexpr u32 WARPS = LANES / WARP_LANES;
    const u8* cell_of = problem.cells();
    u32 warp = threadIdx.x / WARP_LANES, lane = threadIdx.x % WARP_LANES, n = problem.n, cells = memory.cells;
    // Warps have an equal part each.
    u32 part = (n + LANES - 1) / LANES * WARP_LANES;
    u32 begin = warp * part < n ? warp * part : n, end = begin + part < n ? begin + part : n;
    u32* places = reinterpret_cast<u32*>(memory.partial()) + warp * cells;
    bool usable = true;
    for (u32 cell = lane; cell < cells; cell += WARP_LANES) {
        places[cell] = 0;
    }
    __syncwarp();
    for (u32 base = begin; base < end; base += WARP_LANES) {
        u32 i = base + lane, cell = i < end ? cell_of[i] : cells;
        bool there = cell < cells;
        usable = usable && (there || i >= end);
        u32 peers = peers_of(cell, there);
        if (there && lowest_of(peers) == lane) {
            places[cell] += static_cast<u32>(__popc(peers));
        }
        __syncwarp();
    }
    if (meeting.any(!usable)) {
        return false;
    }
    if (warp == 0) {
        u32* all = reinterpret_cast<u32*>(memory.partial());
        u32 count = 0;
        for (u32 other = 0; other < WARPS && lane < cells; ++other) {
            count += all[other * cells + lane];
        }
        u32 before = count;
#pragma unroll
        for (u32 by = 1; by < WARP_LANES; by *= 2) {
            u32 lower = __shfl_up_sync(FULL_WARP, before, by);
            before += lane >= by ? lower : 0;
        }
        before -= count;
        if (lane < cells) {
            memory.starts()[lane] = before;
            for (u32 other = 0; other < WARPS; ++other) {
                u32 own = all[other * cells + lane];
                all[other * cells + lane] = before;
                before += own;
            }
        }
        if (lane == 0) {
            memory.starts()[cells] = n;
        }
    }
    __syncthreads();
    u32* order = problem.order();
    for (u32 base = begin; base < end; base += WARP_LANES) {
        u32 i = base + lane;
        bool there = i < end;
        u32 cell = there ? cell_of[i] : 0, peers = peers_of(cell, there);
        u32 place = there ? places[cell] : 0;
        __syncwarp();
        if (there) {
            order[place + static_cast<u32>(__popc(peers & below(lane)))] = i;
        }
        if (there && lowest_of(peers) == lane) {
            places[cell] = place + static_cast<u32>(__popc(peers));
        }
        __syncwarp();
    }
    __syncthreads();
    return true;
}

// Four sums of every cell over all blocks of the problem: `element(i, cell, sums)` adds an element's part. All threads call it;
// the order of every sum depends on the number of elements alone. `sums` holds all of the first, then all of the second, and so
// on; it is there when this returns.
template <int LANES, class Element>
__device__ __forceinline__ void sum_by_cell(const u32* order, const CellMemory& memory, Meeting<CellsCall>& meeting, double* sums,
                                            Element element) {
    constexpr u32 WARPS = LANES / WARP_LANES;
    u32 warp = threadIdx.x / WARP_LANES, lane = threadIdx.x % WARP_LANES, cells = memory.cells;
    for (u32 cell = 0; cell < cells; ++cell) {
        u32 begin = memory.starts()[cell], end = memory.starts()[cell + 1];
        double own[SUMS] = {0.0, 0.0, 0.0, 0.0};
        if (begin + warp * WARP_LANES < end) {
#pragma unroll 2
            for (u32 k = begin + threadIdx.x; k < end; k += LANES) {
                element(order[k], cell, own);
            }
            __syncwarp();
#pragma unroll
            for (u32 j = 0; j < SUMS; ++j) {
                own[j] = sum_of_rows(own[j]);
            }
        }
        if (lane < SUMS) {
            double mine = lane == 0 ? own[0] : lane == 1 ? own[1] : lane == 2 ? own[2] : own[3];
            memory.partial()[(warp * SUMS + lane) * cells + cell] = mine;
        }
    }
    __syncthreads();
    for (u32 at = threadIdx.x; warp == 0 && at < SUMS * cells; at += WARP_LANES) {
        double sum = 0.0;
        for (u32 other = 0; other < WARPS; ++other) {
            sum += memory.partial()[other * SUMS * cells + at];
        }
        sums[at] = sum;
    }
    meeting.add_up_all(sums, SUMS * cells);
}

// The totals of the problem, over weights that sum to 1. False if a number of it cannot be used.
template <int LANES, class T>
__device__ __forceinline__ bool prepare(const Problem<T>& problem, const CellMemory& memory, Meeting<CellsCall>& meeting) {
    if (!sort_by_cell<LANES>(problem, memory, meeting)) {
        return false;
    }
    bool usable = true, has_ratio = problem.has(HAS_RATIO);
    // (The four arrays lie one behind the other.)
    sum_by_cell<LANES>(problem.order(), memory, meeting, memory.weight(), [&](u32 i, u32, double(&sums)[SUMS]) {
        double w = problem.weight(i), label = problem.label(i), lo = problem.lo(i), hi = problem.hi(i);
        usable = usable && w > 0.0 && w < infinity() && is_finite(problem.z(i)) && is_finite(label);
        usable = usable && lo <= hi && lo < infinity() && hi > -infinity() && (!has_ratio || lo >= 0.0);
        sums[0] += w;
        sums[1] += w * label;
        sums[2] += w * lo;
        sums[3] += w * hi;
    });
    if (threadIdx.x < WARP_LANES) {
        double total = sum_of_rows(threadIdx.x < memory.cells ? memory.weight()[threadIdx.x] : 0.0);
        usable = usable && total < infinity() && total >= 0x1p-1022;
        double inverse = 1.0 / total;
        for (u32 at = threadIdx.x; at < SUMS * memory.cells; at += WARP_LANES) {
            memory.weight()[at] *= inverse;
        }
        if (threadIdx.x == 0) {
            *memory.total() = total;
        }
    }
    return !meeting.any(!usable);
}
