#!/bin/sh
# Fetches the part of libtorch that the feature `tch` needs on a machine without CUDA (half a gigabyte of the wheels' five),
# and says where it is: `export LIBTORCH="$(scripts/setup-libtorch.sh)"`. Does nothing but that where all is there. Whoever has a
# whole libtorch 2.11, with CUDA, sets LIBTORCH to it instead.
set -eu
version=2.11.0
folder=${XDG_CACHE_HOME:-$HOME/.cache}/fairlayer/libtorch/$version
if [ ! -d "$folder" ]; then
    echo "setup: fetching libtorch $version to $folder" >&2
    # (A folder of this name is there only whole.)
    rm -rf "$folder.new"
    mkdir -p "$folder.new/wheels"
    # The wheels of another Python version hold the same libraries.
    python3 -m pip download --quiet --no-deps --disable-pip-version-check --only-binary=:all: --python-version 3.12 \
        --dest "$folder.new/wheels" "torch==$version" "nvidia-cuda-runtime==13.0.96" "nvidia-cuda-cupti==13.0.85" >&2
    # libtorch_cpu.so finds the libraries of the CUDA runtime in ../../nvidia/cu13/lib, seen from its own folder.
    python3 - "$folder.new" >&2 <<'END'
import glob, sys, zipfile

folder = sys.argv[1]
wanted = ("torch/include/", "torch/lib/libc10.so", "torch/lib/libtorch_cpu.so", "torch/lib/libgomp",
          "nvidia/cu13/lib/libcudart.so", "nvidia/cu13/lib/libcupti.so")
for wheel in glob.glob(folder + "/wheels/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(wanted)])
END
    rm -r "$folder.new/wheels"
    # torch-sys links -ltorch, and the real one needs the libraries of CUDA.
    echo 'INPUT(-ltorch_cpu)' > "$folder.new/torch/lib/libtorch.so"
    echo "$version" > "$folder.new/torch/build-version"
    mv "$folder.new" "$folder"
fi
echo "$folder/torch"
