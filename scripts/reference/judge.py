"""Measures what the two programs stored, in double precision and with nothing of either, and writes the comparison.

`judge.py FOLDER RESULT` reads what train.py and benches/reference.rs left in FOLDER, and writes RESULT.json (every run) and
RESULT.md (a table of every example, over its seeds).
"""

import argparse
import json
import platform
import statistics
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import oracle


def gaps(criterion, answers, targets, groups):
    """For every sensitive feature the gap, or for mean residuals every group's; and the standard error of the farthest."""
    found = []
    for ids in groups.T:
        values = [(answers - targets if criterion == "mean_residual" else answers)[ids == group] for group in (0, 1)]
        if any(len(own) == 0 for own in values):
            continue
        means, errors = [own.mean() for own in values], [own.var() / len(own) for own in values]
        if criterion == "mean_residual":
            found += [(abs(mean), error**0.5) for mean, error in zip(means, errors)]
        else:
            found.append((abs(means[0] - means[1]), sum(errors) ** 0.5))
    return max(found)


def cross_entropy(answers, targets, margin):
    inside = answers.clip(margin, 1 - margin)
    return -(targets * np.log(inside) + (1 - targets) * np.log1p(-inside))


def scores(name, answers, targets):
    """For every sample the loss, and where it has a label whether the answer is on its side.

    An answer that is 0 or 1 and wrong costs what the clamp of the loss makes of it; `loss_at_1e-4` is with a wider one, at which a
    solver's error of 1e-5 makes no difference.
    """
    if name == "mse":
        return {"loss": (answers - targets) ** 2}
    if name == "bce_of_logits":
        loss = np.maximum(answers, 0) - answers * targets + np.log1p(np.exp(-np.abs(answers)))
        return {"loss": loss, "accuracy": (answers > 0) == (targets > 0.5)}
    # (The margin of `clamped_bce` in examples.py.)
    return {
        "loss": cross_entropy(answers, targets, 1e-6),
        "loss_at_1e-4": cross_entropy(answers, targets, 1e-4),
        "accuracy": (answers > 0.5) == (targets > 0.5),
    }


def measured(settings, part, tensors):
    answers, targets, groups, sizes = (tensors[f"{part}.{name}"] for name in ("answers", "targets", "groups", "sizes"))
    answers, targets = answers.astype(np.float64), targets.astype(np.float64)
    cuts = np.cumsum(sizes)[:-1]
    batches = zip(np.split(answers, cuts), np.split(targets, cuts), np.split(groups, cuts))
    of_batches = np.array([gaps(settings["criterion"], *batch)[0] for batch in batches])
    lo, hi = settings["bounds"]
    beyond = np.maximum(lo - answers, answers - hi)
    return {
        "batches": len(sizes),
        "samples": len(answers),
        "worst_batch_gap": of_batches.max(),
        "mean_batch_gap": float(np.average(of_batches, weights=sizes)),
        "batches_above_epsilon": int((of_batches > settings["epsilon"]).sum()),
        "out_of_bounds": int((beyond > 0).sum()),
        "farthest_out": float(max(beyond.max(), 0)),
    }, (answers, targets, groups)


def judged(folder):
    """All runs on the same samples."""
    settings = json.loads((folder / "settings.json").read_text())
    theirs, runs, exact = None, [], oracle.first_answers(settings, folder)
    for path in sorted(folder.glob("f*.json"), key=lambda path: path.stem != "fairness_training"):
        run, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        seconds = run.pop("seconds")
        run = {"example": settings["name"], "seed": settings["seed"], "epsilon": settings["epsilon"]} | run
        run |= {"epoch_seconds_min": min(seconds, default=None)}
        run |= {"epoch_seconds_median": statistics.median(seconds) if seconds else None}
        run["train"], learnt = measured(settings, "train", tensors)
        learning = scores(settings["loss"], *learnt[:2])["loss"]
        if run["status"] == "trained":
            run["test"], (answers, targets, groups) = measured(settings, "test", tensors)
            pooled, error = gaps(settings["criterion"], answers, targets, groups)
            found = scores(settings["loss"], answers, targets)
            run["test"] |= {name: each.mean() for name, each in found.items()}
            run["test"] |= {"pooled_gap": pooled, "sampling_error": error}
            run["test"]["errors_beyond_epsilon"] = (pooled - settings["epsilon"]) / error
        if exact and run["variant"] in ("as shipped", "same batches"):
            first = np.split(tensors["train.answers"], np.cumsum(tensors["train.sizes"])[:2])[:2]
            run["train"]["first_errors"] = [float(abs(own - y).max()) for own, y in zip(first, exact)]
        if run["system"] == "fairness_training":
            theirs = {"learning": learning} | (found if run["status"] == "trained" else {})
        elif run["status"] == "trained" and theirs:
            for name in found.keys() & theirs.keys():
                less = found[name].astype(float) - theirs[name]
                error = less.std() / len(less) ** 0.5
                run["test"][f"{name}_less_theirs"] = {"mean": less.mean(), "standard_error": error}
        if run["variant"] == "same batches" and theirs:
            # (The same samples in the same order; whoever has stopped earlier has fewer.)
            both = min(len(learning), len(theirs["learning"]))
            steps = np.cumsum(tensors["train.sizes"])
            cuts = steps[steps < both]
            each = [np.split(own[:both], cuts) for own in (learning, theirs["learning"])]
            run["train"]["farthest_loss_from_theirs"] = max(abs(a.mean() - b.mean()) for a, b in zip(*each))
        runs.append(run)
    return runs


def machine():
    with open("/proc/cpuinfo") as file:
        cpu = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    names = ["fairness_training", "torch", "cvxpy", "cvxpylayers", "diffcp", "scs", "numpy"]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout
    about = {"command": "scripts/reference/compare.sh", "cpu": cpu, "system": platform.platform()}
    about |= {"python": platform.python_version()} | {name: version(name) for name in names}
    return about | {"fairlayer, commit": commit.strip()}


def less_theirs(runs, name, digits=4):
    """The mean difference from fairness_training on the same test samples, and its standard error."""
    less = [run["test"][f"{name}_less_theirs"] for run in runs if f"{name}_less_theirs" in run["test"]]
    if not less:
        return ""
    error = sum(own["standard_error"] ** 2 for own in less) ** 0.5 / len(less)
    return f"{statistics.mean(own['mean'] for own in less):+.{digits}f} ({error:.{digits}f})"


def row(runs):
    """One line of the table: the runs of one way of training, over the seeds."""
    trained = [run for run in runs if run["status"] == "trained"]
    parts = [run[part] for run in runs for part in ("train", "test") if part in run]
    above, batches = (sum(run["train"][key] for run in runs) for key in ("batches_above_epsilon", "batches"))
    count, farthest = sum(part["out_of_bounds"] for part in parts), max(part["farthest_out"] for part in parts)
    cells = [
        f"{runs[0]['system']}, {runs[0]['variant']}",
        f"{max(run['train']['worst_batch_gap'] for run in runs):.9g} ({above} of {batches})",
        f"{count} ({farthest:.1e})" if count else "0",
    ]
    if trained:
        of = lambda key: [run["test"][key] for run in trained]
        span = lambda key: f"{min(of(key)):.4f} to {max(of(key)):.4f}"
        cells += [
            f"{statistics.mean(of('loss')):.4f}",
            less_theirs(trained, "loss"),
            f"{statistics.mean(of('accuracy')):.4f}" if "accuracy" in trained[0]["test"] else "",
            less_theirs(trained, "accuracy"),
            span("mean_batch_gap"),
            span("pooled_gap"),
            f"{max(of('errors_beyond_epsilon')):+.2f}",
        ]
    else:
        cells += [""] * 7
    crashes = [run for run in runs if run["status"] != "trained"]
    cells.append(f"{len(crashes)} of {len(runs)}" if crashes else f"0 of {len(runs)}")
    seconds = [run["epoch_seconds_min"] for run in runs if run["epoch_seconds_min"] is not None]
    return cells + [f"{min(seconds):.4f}" if seconds else ""]


HEAD = ["", "worst training-batch gap (batches above epsilon)", "answers out of bounds (farthest)", "test loss",
        "less that of fairness_training (standard error)", "accuracy", "less that of fairness_training (standard error)",
        "test gap: mean of batches", "pooled", "beyond epsilon, in sampling errors", "crashes",
        "s per epoch"]  # fmt: skip


def crashes(runs):
    lines = [
        f"- {run['system']}, {run['variant']}, seed {run['seed']}: after {run['steps']} steps, {run['problem']}"
        for run in runs
        if run["status"] != "trained"
    ]
    return ["", *lines] if lines else []


def agreement(runs):
    """How near the two come to each other, and to exact training, on the same batches."""
    lines = []
    for variant in ("same batches", "own batches"):
        less = less_theirs([run for run in runs if run["variant"] == variant and "test" in run], "loss_at_1e-4", 5)
        if less:
            lines += ["", f"With answers clamped to [1e-4, 1 - 1e-4], {variant}: test loss less that of fairness_training {less}."]
    losses = [run["train"]["farthest_loss_from_theirs"] for run in runs if "farthest_loss_from_theirs" in run["train"]]
    if losses:
        lines += ["", f"On the same batches, step by step, their training losses differ by at most {max(losses):.1e}."]
    errors = {}
    for run in runs:
        if "first_errors" in run["train"]:
            errors.setdefault(run["system"], []).append(run["train"]["first_errors"])
    for system, own in errors.items():
        first, second = (max(each) for each in zip(*own))
        lines += ["", f"{system}: the first answers are within {first:.1e} of exact ones, those after one step {second:.1e}."]
    return lines


ORDER = ["as shipped", "same batches", "own batches", "no layer"]


def table(runs):
    lines = []
    for example in dict.fromkeys(run["example"] for run in runs):
        own = [run for run in runs if run["example"] == example]
        lines += [f"\n## {example}, epsilon {own[0]['epsilon']}\n", "| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
        for way in dict.fromkeys((run["system"], run["variant"]) for run in own):
            same = [run for run in own if (run["system"], run["variant"]) == way]
            lines.append("| " + " | ".join(row(same)) + " |")
        lines += agreement(own) + crashes(own)
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.folder.glob("*/*/settings.json"))
    runs = [run for folder in folders for run in judged(folder)]
    runs.sort(key=lambda run: (run["example"], ORDER.index(run["variant"]), run["seed"]))
    about = machine()
    loads = [run["load"][0] for run in runs]
    with open(f"{arguments.result}.json", "w") as file:
        json.dump({"machine": about, "runs": runs}, file, indent=1)
    with open(f"{arguments.result}.md", "w") as file:
        file.write("# The published examples, by fairness_training and by fairlayer\n\n")
        file.write("\n".join(f"- {name}: {value}" for name, value in about.items()) + "\n")
        file.write(f"- load average when a training began: {min(loads):.1f} to {max(loads):.1f}; one thread each\n")
        file.write(
            "\nThe same samples, first weights, optimiser and epochs, made by `scripts/reference/examples.py`; measured by"
            "\n`scripts/reference/judge.py` in double precision on the numbers as they were stored. Test samples come in the same"
            "\nbatches to all. `same batches` learns from those that fairness_training makes (once, without the samples that do not"
            "\nfit) and ends, as that does, with the weights of the last epoch, or the best if that stopped early. `own batches`"
            "\nlearns from those of fairlayer's loader (all samples, shuffled anew) and ends with the weights of the best epoch; `no"
            "\nlayer` is the same with nothing made fair.\n"
            "\nGaps of training and answers out of bounds are of all epochs and seeds; losses and accuracies are means over the seeds."
            "\nA difference of losses is of the same test samples. The sampling error is the standard error of the pooled gap: +1 says"
            "\nthat it is epsilon and one such error. A time is the least of all epochs, with validation.\n"
            "\nAn answer that is 0 or 1 exactly and wrong costs -log(1e-6) where the loss is clamped to that; the same answer with a"
            "\nsolver's error of 1e-5 costs less. Where it is clamped to 1e-4 that makes no difference.\n"
            "\nExact answers after one step are those of a training in double precision in closed form (`oracle.py`). Adam makes"
            "\ngradients that are zero but for rounding as large as others, so that single precision alone may be 1e-2 from it.\n"
        )
        file.write(table(runs))
    print(Path(f"{arguments.result}.md").read_text())


if __name__ == "__main__":
    main()
