#!/bin/sh
# Checks what `cargo package` would publish: every file that must be in it is, nothing that must not be is, and the
# packaged sources build by themselves.
set -eu
cd "$(dirname "$0")/.."

list=$(cargo package --list --allow-dirty)
for file in README.md ARCHITECTURE.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE Cargo.lock src/lib.rs src/main.rs shaders/common.wgsl kernels/common.cuh \
    scripts/gpu-check.sh scripts/gpu_check/__main__.py scripts/gpu_check/faults.cu \
    data/README.md data/german_credit_scores.csv; do
    if ! printf '%s\n' "$list" | grep -qxF "$file"; then
        echo "package: $file is missing; see \`include\` in Cargo.toml" >&2
        exit 1
    fi
done
for name in target .venv .ci gpu-pack; do
    if printf '%s\n' "$list" | grep -q "^$name"; then
        echo "package: files of $name do not belong in it; see \`include\` in Cargo.toml" >&2
        exit 1
    fi
done
cargo package --allow-dirty
