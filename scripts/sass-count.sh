#!/bin/sh
# Counts the instructions that kernels have on a GPU, by the statement of the kernel that they come from: needs Python 3, nvcc
# and nvdisasm, and no GPU. `scripts/sass-count.sh --help` says what it takes.
set -eu
exec python3 "${0%/*}/sass_count.py" "$@"
