#!/usr/bin/env python3
"""What a layer in training is worth: `fairlayer train` on German credit and UCI Adult, demographic parity and equalized odds,
epsilon 0.01 and 0.05, by 20 seeds that were fixed before the first run: 0 to 19.

    scripts/study/train.py PROGRAM ADULT.csv RESULT.json [--jobs N]

PROGRAM is a fairlayer with the features cli and tch, ADULT.csv what `scripts/adult.sh` has fetched. Every figure is of the test
rows. A difference is that of the network with the layer less that of the same network without it, projected afterwards, seed by
seed: its mean and the standard error of that.
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = range(20)
EPSILONS = [0.01, 0.05]
CRITERIA = ["demographic-parity", "equalized-odds"]
FIGURES = ["loss", "accuracy", "auc"]


def data_sets(adult):
    german = [ROOT / "data/german_credit.csv", "--label", "credit_risk", "--positive", "1"]
    return {
        "German credit": [*german, "--sensitive", "personal_status_and_sex"],
        "Adult": [adult, "--label", "income", "--positive", ">50K", "--sensitive", "sex"],
    }


def run(program, data, criterion, epsilon, seed):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        options = ["--criterion", criterion, "--epsilon", str(epsilon), "--seed", str(seed), "--report", report]
        # One thread each: the networks are small, and several run at a time.
        subprocess.run(
            [program, "train", *data, *options],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        return json.loads(report.read_text())


def mean_and_error(values):
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def summary(reports):
    """Of one data set, criterion and epsilon."""
    by_name = [{model["name"]: model for model in report["networks"]} for report in reports]
    layer = [models["with the layer"] for models in by_name]
    after = [models["projected afterwards"] for models in by_name]
    free = [models["unconstrained"] for models in by_name]
    fair = [training for report in reports for training in report["trainings"] if training["name"] == "with the layer"]
    epochs = [epoch for training in fair for epoch in training["epochs"]]
    return {
        "seeds": len(reports),
        "unconstrained": {figure: statistics.fmean(own[figure] for own in free) for figure in FIGURES},
        "with the layer": {figure: statistics.fmean(own[figure] for own in layer) for figure in FIGURES},
        "projected afterwards": {figure: statistics.fmean(own[figure] for own in after) for figure in FIGURES},
        "difference": {
            figure: mean_and_error([own[figure] - other[figure] for own, other in zip(layer, after)]) for figure in FIGURES
        },
        "training batches beyond epsilon": sum(epoch["train_batch_excess"] > 0 for epoch in epochs),
        "epochs": len(epochs),
        "worst gap of a training batch": max(epoch["train_batch_gap"] for epoch in epochs),
        "unsolved training batches": sum(epoch["unsolved_batches"] for epoch in epochs),
        "worst pooled test gap": max(own["gap"]["pooled"] for own in layer),
        "unconstrained test gap": statistics.fmean(own["gap"]["pooled"] for own in free),
    }


def table(rows):
    yield "| data, criterion, epsilon | gap without | loss: layer, afterwards | difference | accuracy | difference | AUC | difference |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, own in rows.items():
        cells = [name, f"{own['unconstrained test gap']:.3f}"]
        for figure in FIGURES:
            both = f"{own['with the layer'][figure]:.4f}, {own['projected afterwards'][figure]:.4f}"
            mean, error = own["difference"][figure]
            cells += [both, f"{mean:+.4f} +- {error:.4f}"]
        yield "| " + " | ".join(cells) + " |"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program", type=pathlib.Path)
    arguments.add_argument("adult", type=pathlib.Path)
    arguments.add_argument("result", type=pathlib.Path)
    arguments.add_argument("--jobs", type=int, default=2)
    given = arguments.parse_args()
    rows = {}
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        for data_name, data in data_sets(given.adult).items():
            for criterion in CRITERIA:
                for epsilon in EPSILONS:
                    asked = [pool.submit(run, given.program, data, criterion, epsilon, seed) for seed in SEEDS]
                    name = f"{data_name}, {criterion}, {epsilon}"
                    rows[name] = summary([report.result() for report in asked])
                    print(name, json.dumps(rows[name]["difference"]), flush=True)
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    given.result.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
