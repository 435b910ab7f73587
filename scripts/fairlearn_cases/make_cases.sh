#!/bin/sh
# Makes tests/audit_cases/ with fairlearn itself; needs Python 3.11 and a package index.
# Usage: scripts/fairlearn_cases/make_cases.sh [OUTPUT_DIR]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../tests/audit_cases}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt"
"$work/venv/bin/python" "$here/make_cases.py" "$here/../../data/german_credit_scores.csv" "$out"
