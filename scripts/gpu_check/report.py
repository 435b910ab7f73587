"""What came of a check: one file for programs, one table for people."""

import itertools
import json
import re


def new_path(folder, date, device):
    """A file that is not there yet: `2026-01-31-nvidia-h100.json`, or with a number."""
    name = f"{date[:10]}-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in (folder / f"{name}.json" for name in names) if not path.exists())


def outcome(step):
    """`passed`, `FAILED`, or `absent`."""
    return "absent" if step.get("absent") else "FAILED" if step.get("why") else "passed"


def is_well(report):
    """Whether nothing failed. What is absent has not failed."""
    return all(outcome(step) != "FAILED" for step in report["steps"])


def table(report):
    """Lines of text."""
    machine = report["machine"]
    lines = [
        f"{machine['device']}, {machine['memory']}, compute capability {machine['compute_capability']}, "
        f"driver {machine['driver']}, CUDA {machine['cuda']}",
        f"commit {report['commit']}, {report['date']}",
        report["command"],
        "",
    ]
    rows = [["step", "outcome", "tests", "time", ""]]
    for step in report["steps"]:
        tests, time = step.get("passed"), step.get("seconds")
        ignored = f"{step['ignored']} more are ignored" if step.get("ignored") else ""
        note = step.get("why") or step.get("absent") or "; ".join(filter(None, [step.get("note"), ignored]))
        rows.append([
            step["name"],
            outcome(step),
            "" if tests is None else str(tests),
            "" if time is None else f"{time:.1f} s",
            " ".join(note.split()),
        ])
    widths = [max(len(row[column]) for row in rows) for column in range(4)] + [0]
    lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
    for step in report["steps"]:
        if step["name"].startswith("bench") and step.get("output"):
            lines += ["", step["output"].rstrip()]
    return "\n".join(lines) + "\n"


def write(path, report):
    """Writes both, the table beside the other; the output of what passed is in neither, but that of benches."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = []
    for step in report["steps"]:
        kept = {name: value for name, value in step.items() if name != "output"}
        if outcome(step) == "FAILED":
            kept["output"] = step.get("output", "")[-20000:]
        steps.append({**kept, "outcome": outcome(step)})
    whole = {**report, "is_well": is_well(report), "steps": steps}
    path.write_text(json.dumps(whole, indent=1) + "\n")
    path.with_suffix(".txt").write_text(table(report))
