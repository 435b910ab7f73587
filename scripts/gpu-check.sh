#!/bin/sh
# Runs all that wants an NVIDIA GPU, from programs that scripts/gpu-pack.sh built elsewhere: needs Python 3, no Rust and no
# network. `scripts/gpu-check.sh --help` says what it takes. Ends with 0 if all is well, 1 if something failed, and 2 if
# something that it needs is absent.
set -eu
if ! command -v python3 >/dev/null; then
    echo "gpu-check: python3 is absent" >&2
    exit 2
fi
exec python3 "${0%/*}/gpu_check" "$@"
