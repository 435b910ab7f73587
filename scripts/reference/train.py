"""Makes the examples (examples.py) and trains them with fairness_training, as it ships.

`train.py FOLDER --seeds 0 1 2` leaves in FOLDER/<example>/<seed>, beside the data, what judge.py reads:
  fairness_training.json         what became of it, and how long it took
  fairness_training.safetensors  the answers, as they were stored (see `Record.save`)
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import torch
from fairness_training import FairTrainer, create_dataloaders
from safetensors.torch import save_file
from torch import optim

import examples


class Record:
    """Keeps every answer of a model, without a hand in its making."""

    def __init__(self, model):
        self.train, self.test, self.phase, self.times = [], [], "fit", []
        model.register_forward_hook(self.take)

    def take(self, model, inputs, answers):
        self.times.append(time.perf_counter())
        if self.phase == "test" or model.training:
            batch = (answers.detach().clone(), inputs[0][:, model.protected_attr_idx].to(torch.int64))
            (self.test if self.phase == "test" else self.train).append(batch)

    def save(self, path, train_targets, test_targets):
        """<part>.answers [n], .targets [n], .groups [n, F] of all batches one behind the other, .sizes of the batches."""
        tensors = {}
        for part, batches, targets in [("train", self.train, train_targets), ("test", self.test, test_targets)]:
            if batches:
                answers, groups = (torch.cat(tensors) for tensors in zip(*batches))
                # (Every epoch has the same batches.)
                targets = targets.flatten().repeat(-(-len(answers) // len(targets)))[: len(answers)]
                tensors |= {f"{part}.answers": answers.flatten(), f"{part}.targets": targets, f"{part}.groups": groups}
                tensors[f"{part}.sizes"] = torch.tensor([len(batch) for batch, _ in batches])
        save_file(tensors, path)


def run(example, seed, folder):
    (train, valid, test), (train_loader, valid_loader) = examples.prepare(example, seed, folder)
    model = examples.model(example, seed)
    record = Record(model)
    optimiser = optim.Adam(model.parameters(), lr=example.learning_rate)
    plateau = example.halve_on_plateau
    scheduler = plateau and optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=plateau, factor=0.5)
    trainer = FairTrainer(
        model, examples.LOSSES[example.loss], optimiser, scheduler=scheduler or None, early_stopping_patience=example.patience
    )
    *_, test_loader = create_dataloaders(*train, *valid, *test, batch_size_eval=example.test_batch)
    # (An epoch ends with the last answer in validation.)
    calls = len(train_loader) + len(valid_loader)
    result = {"system": "fairness_training", "variant": "as shipped", "load": os.getloadavg()}
    began = time.perf_counter()
    try:
        trainer.fit(train_loader, valid_loader, epochs=example.epochs, verbose=0)
        result["status"] = "trained"
    except Exception as error:  # (whatever it dies of)
        result |= {"status": "crashed", "problem": f"{type(error).__name__}: {error}".splitlines()[0]}
    ends = [began] + record.times[calls - 1 :: calls]
    result |= {
        "epochs": len(trainer.history["train_loss"]),
        "steps": len(record.train) - (result["status"] == "crashed" and model.training),
        "seconds": [after - before for before, after in zip(ends, ends[1:])],
    }
    if result["status"] == "trained":
        record.phase, began = "test", time.perf_counter()
        trainer.evaluate(test_loader)
        result |= {"test_seconds": time.perf_counter() - began, "lambda_max": model.lambda_max}
    record.save(folder / "fairness_training.safetensors", train_loader.dataset.tensors[1], test[1])
    (folder / "fairness_training.json").write_text(json.dumps(result, indent=1))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--examples", nargs="+", choices=[example.name for example in examples.EXAMPLES])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for seed in arguments.seeds:
        for example in examples.EXAMPLES:
            if not arguments.examples or example.name in arguments.examples:
                result = run(example, seed, arguments.folder / example.name / str(seed))
                what = result.get("problem", f"{min(result['seconds']):.3f} s an epoch at best" if result["seconds"] else "")
                print(f"{example.name}, seed {seed}: {result['status']}, {result['epochs']} epochs, {what}", flush=True)


if __name__ == "__main__":
    main()
