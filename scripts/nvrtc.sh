#!/bin/sh
# Prints the folder that setup-debian.sh fetches NVRTC to, and `--libraries` the one in it that has the libraries: for
# LD_LIBRARY_PATH. Beside the user's other caches, so that it outlives a target folder.
set -eu
folder=${XDG_CACHE_HOME:-$HOME/.cache}/fairlayer/nvrtc/13.0.88
if [ "${1-}" = --libraries ]; then
    folder=$folder/nvidia/cu13/lib
fi
echo "$folder"
