"""Runs all that wants an NVIDIA GPU, from programs that were built elsewhere."""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import sys
import tarfile
import tempfile

import machine
import report as reports
import sanitizer
import tests
from machine import Absent

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STEPS = ["suite", "bench", "peers", "sanitizer", "wgpu"]


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/gpu-check.sh", description=__doc__)
    parser.add_argument("--pack", type=pathlib.Path, default=ROOT / "gpu-pack/programs.tgz", help="what scripts/gpu-pack.sh made")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benches/results", help="where to write")
    parser.add_argument("--only", default=",".join(STEPS), help="steps with commas, of %(default)s")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a program may take (%(default)s)")
    parsed = parser.parse_args()
    parsed.only = parsed.only.split(",")
    if unknown := set(parsed.only) - set(STEPS):
        parser.error(f"there is no step {', '.join(sorted(unknown))}")
    return parsed


def programs(folder):
    """The programs in a folder."""
    found = sorted(path for path in folder.glob("*") if path.is_file() and os.access(path, os.X_OK))
    if not found:
        raise Absent(f"programs in {folder.name} of what scripts/gpu-pack.sh made")
    return found


def unpack(file, pack):
    """Unpacks the programs; the commit that they were built from."""
    try:
        with tarfile.open(file) as packed:
            packed.extractall(pack, filter="data")
        return (pack / "commit").read_text().strip()
    except (OSError, tarfile.TarError) as problem:
        raise Absent(f"programs ({problem}): make them with scripts/gpu-pack.sh") from problem


def of_programs(name, ended):
    """The step that some programs of tests were."""
    whys = [f"{one['program']}: {one['why']} ({', '.join(one['failed'])})" for one in ended if one["why"]]
    return {
        "name": name,
        "passed": sum(one["passed"] for one in ended),
        "ignored": sum(one["ignored"] for one in ended),
        "seconds": round(sum(one["seconds"] for one in ended), 2),
        "why": "; ".join(whys) or None,
        "output": "\n".join(one["output"] for one in ended if one["why"]),
    }


def suite(pack, options, **variables):
    """All tests of the CUDA backend."""
    ended = tests.suite(programs(pack / "tests"), "cuda::", options.limit, **variables)
    yield of_programs("suite cuda", ended)


def wgpu(pack, options, **variables):
    """The tests of the wgpu backend on the same GPU, through Vulkan."""
    code, output, _ = machine.run([pack / "fairlayer", "devices"], 120, **variables)
    rows = [[field.strip() for field in line.split("┆")] for line in output.replace("│", "").splitlines()]
    found = [row for row in rows if row[0] == "wgpu" and "nvidia" in row[2].lower() and row[1] == "yes"]
    if code != 0:
        yield {"name": "suite wgpu", "why": f"fairlayer devices ended with {code}", "output": output}
    elif not found:
        yield {"name": "suite wgpu", "absent": "no Vulkan driver of this GPU: `fairlayer devices` lists none"}
    else:
        variables |= {"FAIRLAYER_WGPU_ADAPTER": found[0][2], "FAIRLAYER_REQUIRE": "wgpu"}
        of_wgpu = programs(pack / "tests")
        # Of the bodies for every device those of wgpu; and the program that has no others.
        ended = tests.suite([path for path in of_wgpu if path.name != "wgpu"], "wgpu", options.limit, **variables)
        ended += tests.suite([path for path in of_wgpu if path.name == "wgpu"], "", options.limit, **variables)
        yield {**of_programs("suite wgpu", ended), "note": f"{found[0][2]}: {found[0][3]}"}
        yield bench(pack / "benches/gpu", options, **variables)


def bench(program, options, *words, **variables):
    """A bench, with what it prints."""
    code, output, took = machine.run([program, *words], options.limit, **variables)
    why = None if code == 0 else "it took too long" if code is None else f"it ended with {code}"
    return {"name": f"bench {program.name}", "why": why, "seconds": round(took, 2), "output": output}


def cuda_bench(program, options, **variables):
    """The figures of the CUDA backend, and what its cache of compiled kernels saves."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "figures.json"
        step = bench(program, options, "--json", file, **variables)
        if step["why"] is None and not file.exists():
            step["why"] = "it wrote no figures"
        figures = json.loads(file.read_text()) if step["why"] is None else {}
    yield {**step, "figures": figures}
    if first := figures.get("first_use"):
        cold, warm = (first[which]["plan_ms"] for which in ["cold", "warm"])
        note = f"a plan takes {cold:.0f} ms with nothing compiled, {warm:.0f} ms from the cache"
        yield {"name": "nvrtc cache", "why": None if warm < cold else f"it saves nothing: {note}", "note": note}


def peers(pack, options, steps):
    """What others take on the same GPU, and how many times that is what the crate takes."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "peers.json"
        script = pathlib.Path(__file__).with_name("peers.py")
        folders = [str(pack / "python"), os.environ.get("PYTHONPATH")]
        command = [sys.executable, script, "--json", file]
        code, output, took = machine.run(command, options.limit, PYTHONPATH=":".join(filter(None, folders)))
        rows = json.loads(file.read_text()) if file.exists() else []
    if output.startswith("absent: "):
        yield {"name": "peers", "absent": output.removeprefix("absent: ").strip()}
        return
    own = {}
    for row in (row for step in steps for row in step.get("figures", {}).get("rows", [])):
        case, figures = row["case"], row["figures"]
        if case["groups"] == 2 and case["dtype"] == "f32" and "kernel_forward_us" in figures:
            own[case["problems"], case["n"]] = figures["kernel_forward_us"] + figures["kernel_backward_us"]
    notes = []
    for row in rows:
        ours = own.get((row.get("problems"), row.get("n")))
        if ours and "both_us_a_problem" in row:
            row["times_ours"] = row["both_us_a_problem"] * row["problems"] / ours
            notes.append(f"{row['peer']} {row['problems']} x {row['n']}: {row['times_ours']:.0f} times ours")
    why = None if code == 0 and rows else "it took too long" if code is None else f"it ended with {code}"
    yield {"name": "bench peers", "why": why, "seconds": round(took, 2), "output": output, "figures": {"peers": rows}, "note": "; ".join(notes)}


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        return check(options, pathlib.Path(folder))


def check(options, folder):
    """All steps, with what they leave in a folder; the exit code."""
    absent, found, pack = [], {}, folder / "pack"

    def look(what, of):
        try:
            found[what] = of()
        except Absent as problem:
            absent.append(str(problem))

    look("gpu", machine.gpu)
    look("commit", lambda: unpack(options.pack, pack))
    look("nvrtc", machine.nvrtc_folder)
    if "sanitizer" in options.only:
        look("nvcc", lambda: machine.needed("nvcc"))
        look("compute-sanitizer", lambda: machine.needed("compute-sanitizer"))
    if absent:
        for what in absent:
            print(f"gpu-check: absent: {what}", file=sys.stderr)
        return 2

    capability = found["gpu"]["compute_capability"]
    results = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": found["commit"],
        "command": shlex.join(["scripts/gpu-check.sh", *sys.argv[1:]]),
        "machine": {**found["gpu"], "cuda": machine.cuda_version() or "unknown"},
        "steps": [],
    }
    path = reports.new_path(options.results, results["date"], found["gpu"]["device"])
    variables = {"FAIRLAYER_CACHE": folder / "cache"}
    if found["nvrtc"]:
        folders = [found["nvrtc"], os.environ.get("LD_LIBRARY_PATH")]
        variables["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))
    required = {"FAIRLAYER_REQUIRE": "cuda", **variables}
    of_step = {
        "suite": lambda: suite(pack, options, **required),
        "bench": lambda: cuda_bench(pack / "benches/cuda", options, **variables),
        "peers": lambda: peers(pack, options, results["steps"]),
        "sanitizer": lambda: sanitizer.check_all(programs(pack / "tests"), capability, options.limit, **required),
        "wgpu": lambda: wgpu(pack, options, **variables),
    }
    for step in options.only:
        try:
            for done in of_step[step]():
                results["steps"].append(done)
                # (What was done is kept if this program is stopped.)
                reports.write(path, results)
        except (Absent, OSError, RuntimeError, json.JSONDecodeError) as problem:
            results["steps"].append({"name": step, "why": str(problem)})
            reports.write(path, results)
    print(reports.table(results), end="")
    print(f"\n{path}")
    return 0 if reports.is_well(results) else 1


sys.exit(main())
