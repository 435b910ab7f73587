"""compute-sanitizer: its tools, proven live by planted faults, and a small part of the tests under each of them."""

import pathlib
import re
import tempfile

from machine import needed, run
from tests import judge, names

TOOLS = ["memcheck", "racecheck", "initcheck", "synccheck"]

# Tests that are small, and between them run every kernel forward and backward: by program.
PART = {
    "cuda": [
        "cuda::what_cannot_be_used_spoils_one_problem",
        "cuda::the_iteration_limit_leaves_the_clipped_input",
        "cuda::dense_rows_agree_with_the_reference",
    ],
    "suite": ["cuda::gradients_by_hand", "cuda::clipping_by_hand", "cuda::weights_by_hand", "cuda::ratio_by_hand"],
}

# The last line that a tool prints of a program; racecheck has one of its own.
SUMMARY = re.compile(r"^=+ (?:ERROR SUMMARY: (\d+) errors?|RACECHECK SUMMARY: (\d+) hazards? displayed)", re.M)


def errors(output):
    """The errors that a tool says it found; None if it does not say."""
    found = [int(match[1] or match[2]) for match in SUMMARY.finditer(output)]
    return sum(found) if found else None


def build_faults(folder, capability):
    """Compiles the planted faults."""
    program = folder / "faults"
    source = pathlib.Path(__file__).parent / "faults.cu"
    target = "sm_" + capability.replace(".", "")
    code, output, _ = run([needed("nvcc"), f"-arch={target}", "-lineinfo", "-o", program, source], 300)
    if code != 0 or not program.exists():
        raise RuntimeError(f"nvcc does not compile the planted faults: {output[-1000:]}")
    return program


def look(tool, command, seconds, **variables):
    """Runs a program under a tool: what its summary says, and all that was printed."""
    under = [needed("compute-sanitizer"), "--tool", tool, "--target-processes", "all"]
    code, output, took = run(under + [str(word) for word in command], seconds, **variables)
    return code, errors(output), output, took


def check(tool, faults, programs, seconds, **variables):
    """A tool over a program without faults, over one with its fault, and over the tests; `why` says what is wrong."""
    report = {"name": f"compute-sanitizer {tool}", "why": None, "passed": 0, "output": "", "seconds": 0.0}

    def on(what, command, expected, is_test=False):
        code, found, output, took = look(tool, command, seconds, **variables)
        report["seconds"] = round(report["seconds"] + took, 2)
        report["output"] += f"--- {what}\n{output}"
        if found is None:
            return f"{what}: no summary line (exit code {code})"
        if expected and found == 0:
            return f"{what}: not found, so the tool does not work here"
        if not expected and found > 0:
            return f"{what}: {found} errors"
        if is_test:
            ended = judge(code, output)
            report["passed"] += ended["passed"]
            return f"{what}: {ended['why']}" if ended["why"] else None
        return None if expected or code == 0 else f"{what}: exit code {code}"

    report["why"] = on("no fault", [faults, "none"], False) or on("planted fault", [faults, tool], True)
    if report["why"]:
        return report
    for program in programs:
        there = names(program, "cuda::")
        for name in PART.get(program.name, []):
            missing = None if name in there else f"{program.name} has no test {name}"
            report["why"] = report["why"] or missing or on(name, [program, "--exact", name], False, True)
    if not report["why"] and report["passed"] == 0:
        report["why"] = "none of the programs is there"
    return report


def check_all(programs, capability, seconds, **variables):
    """All tools, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        faults = build_faults(pathlib.Path(folder), capability)
        for tool in TOOLS:
            yield check(tool, faults, programs, seconds, **variables)
