#!/bin/sh
# Makes the Python environment that holds `fairness_training` as its authors ship it, and says where it is. Does nothing but
# that where all is there. Needs Python 3.11 and 5 GB: the only wheels of torch 2.6 are those with CUDA, though only the CPU is
# used.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# (An environment is of one list of packages.)
which=$(cksum <"$here/requirements.txt" | cut -d ' ' -f 1)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/fairlayer/reference/$which
if [ ! -e "$folder/whole" ]; then
    echo "setup: installing fairness_training and what it needs to $folder" >&2
    rm -rf "$folder"
    "${PYTHON:-python3.11}" -m venv "$folder"
    # (The list is complete, and a cache would take as much again.)
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --only-binary=:all: --no-deps \
        --requirement "$here/requirements.txt" >&2
    touch "$folder/whole"
fi
echo "$folder"
