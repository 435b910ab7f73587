#!/bin/sh
# Installs what building and testing need beside Rust itself: a linker, cargo's fmt and clippy, and for the tests of the GPU
# kernels Mesa's lavapipe, a Vulkan device that the CPU emulates, a C++ compiler, and NVRTC, NVIDIA's compiler of CUDA
# kernels, which needs no GPU; and Python. Does nothing where all is there. Rust is not installed: which one, and from where, is the
# user's choice.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is not on the PATH; install Rust 1.88 or later first (https://rust-lang.org/tools/install)" >&2
    exit 1
fi

missing=
command -v cc >/dev/null || missing="$missing gcc libc6-dev"
command -v c++ >/dev/null || missing="$missing g++"
command -v make >/dev/null || missing="$missing make"
# The loader, and any driver.
PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || missing="$missing libvulkan1"
# NVRTC comes as a wheel; its version is one that drivers for CUDA 13.0 and later load code of.
nvrtc=$(./scripts/nvrtc.sh)
command -v python3 >/dev/null || missing="$missing python3"
[ -d "$nvrtc" ] || python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
find /usr/share/vulkan/icd.d /etc/vulkan/icd.d -name '*.json' 2>/dev/null | grep -q . || \
    missing="$missing mesa-vulkan-drivers"
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: missing:$missing; install them with this system's package manager" >&2
        exit 1
    fi
    root=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "setup: missing:$missing; run this as root: apt-get install$missing" >&2
            exit 1
        fi
        root=sudo
    fi
    echo "setup: installing$missing"
    $root apt-get update -qq
    # shellcheck disable=SC2086 # one word a package
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

if [ ! -d "$nvrtc" ]; then
    echo "setup: fetching NVRTC to $nvrtc"
    # (A folder of this name is there only whole.)
    rm -rf "$nvrtc.new"
    python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore \
        --target "$nvrtc.new" "nvidia-cuda-nvrtc==$(basename "$nvrtc")"
    mv "$nvrtc.new" "$nvrtc"
fi

for component in rustfmt clippy; do
    case $component in rustfmt) command=fmt ;; *) command=$component ;; esac
    if ! cargo "$command" --version >/dev/null 2>&1; then
        if ! command -v rustup >/dev/null; then
            echo "setup: cargo $command is missing; install $component of the same version as cargo" >&2
            exit 1
        fi
        rustup component add "$component"
    fi
done
