"""The machine: its GPU, its tools, and how a program is run on it."""

import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
import time


class Absent(Exception):
    """Something that a step needs is not here; the message says what."""


def run(command, seconds, **variables):
    """Runs a program with these variables more: its exit code (None if it took too long), its output, and the time taken."""
    begin = time.monotonic()
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        # (With all that it has started: a sanitizer starts the program that it looks at.)
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        code = None
    return code, output.decode(errors="replace"), time.monotonic() - begin


def needed(tool):
    """The path of a tool."""
    path = shutil.which(tool)
    if path is None:
        raise Absent(f"{tool} is not on the PATH")
    return path


def gpu():
    """Name, driver, memory and compute capability of the first GPU."""
    fields = ["name", "driver_version", "memory.total", "compute_cap"]
    query = f"--query-gpu={','.join(fields)}"
    code, output, _ = run([needed("nvidia-smi"), query, "--format=csv,noheader"], 60)
    lines = [line for line in output.splitlines() if line.count(",") == len(fields) - 1]
    if code != 0 or not lines:
        raise Absent(f"an NVIDIA GPU: nvidia-smi says {output.strip() or 'nothing'}")
    name, driver, memory, capability = (field.strip() for field in lines[0].split(","))
    return {"device": name, "driver": driver, "memory": memory, "compute_capability": capability}


def cuda_version():
    """The CUDA version of the driver, as its library says; None without one."""
    try:
        version = ctypes.c_int()
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"
    except (OSError, AttributeError):
        return None


def nvrtc_folder():
    """A folder with NVRTC for the library path, empty if the system finds it by itself. (A toolkit has it beside nvcc, a
    Python with PyTorch among its packages.)"""
    for name in ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]:
        try:
            ctypes.CDLL(name)
            return ""
        except OSError:
            pass
    places = []
    if nvcc := shutil.which("nvcc"):
        toolkit = pathlib.Path(nvcc).resolve().parent.parent
        places += [toolkit / "lib64", toolkit / "lib", toolkit / "targets/x86_64-linux/lib"]
    for packages in sys.path:
        if packages:
            places += pathlib.Path(packages).glob("nvidia/*/lib")
    for place in places:
        if any(place.glob("libnvrtc.so*")):
            return str(place)
    raise Absent("NVRTC (libnvrtc): neither on the library path, nor beside nvcc, nor among Python's packages")
