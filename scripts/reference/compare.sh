#!/bin/sh
# Trains the published examples of fairness_training with it and with this crate, one after the other, and writes the comparison
# to benches/results/<date>-reference.{md,json}. Needs Python 3.11 and 6 GB for what is fetched, and takes about ten minutes.
# It is no part of `make test`.
set -eu
cd "$(dirname "$0")/../.."
folder=${CARGO_TARGET_DIR:-target}/reference
python=$(./scripts/reference/setup.sh)/bin/python
LIBTORCH=${LIBTORCH:-$(./scripts/setup-libtorch.sh)}
# (The torch of Python has libraries of its own, of another version.)
unset LD_LIBRARY_PATH
export LIBTORCH PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1

rm -rf "$folder"
mkdir -p "$folder" benches/results
folder=$(cd "$folder" && pwd)
"$python" scripts/reference/train.py "$folder" --seeds 0 1 2
# (Those that take seconds, on more samples: their test parts are small.)
"$python" scripts/reference/train.py "$folder" --seeds 3 4 5 6 7 8 9 --examples quick_start quick_start_clamped
# (FEATURES: more than it needs, for whoever has those compiled already.)
LD_LIBRARY_PATH="$LIBTORCH/lib" \
    cargo bench --no-default-features --features "${FEATURES:-tch}" --bench reference -- "$folder"
"$python" scripts/reference/judge.py "$folder" "benches/results/$(date +%F)-reference"
