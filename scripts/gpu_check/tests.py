"""Programs of tests: running them, and what they say."""

import re

from machine import run

RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)
FAILED = re.compile(r"^test (\S+) \.\.\. FAILED$", re.M)


def names(program, part):
    """The tests of a program with this in their names."""
    code, output, _ = run([program, "--list", part], 60)
    if code != 0:
        raise RuntimeError(f"{program} does not list its tests: {output[-500:]}")
    return [line.removesuffix(": test") for line in output.splitlines() if line.endswith(": test")]


def judge(code, output):
    """What a run of tests came to: how many passed and were ignored, which failed, and why it is no success, if it is none."""
    result, failed = RESULT.search(output), FAILED.findall(output)
    passed = int(result[1]) if result else 0
    skipped = output.count("\nSKIP ") + output.startswith("SKIP ")
    why = None
    if code is None:
        why = "it took too long"
    elif result is None:
        why = f"it ended with {code} and no result"
    elif code != 0 or int(result[2]) > 0 or failed:
        why = f"{result[2]} of {passed + int(result[2])} tests failed"
    elif passed == 0:
        why = "it ran no tests"
    elif skipped:
        why = f"{skipped} tests were skipped"
    return {"passed": passed, "ignored": int(result[3]) if result else 0, "failed": failed, "why": why}


def suite(programs, part, seconds, **variables):
    """Runs the tests with this in their names, of all programs that have such; how they ended, by program."""
    ended = []
    for program in programs:
        if not names(program, part):
            continue
        code, output, took = run([program, part], seconds, **variables)
        ended.append({"program": program.name, **judge(code, output), "seconds": round(took, 2), "output": output})
    if not ended:
        raise RuntimeError(f"no program has tests of {part}")
    return ended
