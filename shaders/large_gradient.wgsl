// What the backward kernels of large problems bind and share.

@group(0) @binding(16) var<storage, read_write> large: array<atomic<u32>>;

fn fetch_spoilt(lane: u32) {
    if lane == 0u {
        atomicStore(&spoilt[team], atomicLoad(&large[large_at + LARGE_SPOILT]));
    }
}
