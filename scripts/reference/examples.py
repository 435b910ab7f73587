"""The published examples of fairness_training, made anew: their sizes, kinds of bias, networks and settings.

`prepare(example, seed, folder)` leaves there
  settings.json        what both programs train by
  data.safetensors     <split>.inputs, .targets, .groups of train, valid, test; and dealt_train, dealt_valid: the batches that
                       fairness_training makes of the first two, one behind the other
  weights.safetensors  what the network begins with
"""

import json
import warnings
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from fairness_training import FairModel, create_stratified_dataloaders
from safetensors.torch import save_file
from torch import nn


@dataclass(frozen=True)
class Example:
    name: str
    samples: int
    columns: int
    # How much of the people is in group 1, for every sensitive feature. These are the first columns.
    shares: tuple
    # By how much group 1 of the i-th sensitive feature is ahead in the i-th other column.
    ahead: tuple
    # The target: these times the other columns, and these times the sensitive ones, and noise.
    merits: tuple
    privileges: tuple
    noise: float
    # Labels are 1 where the target is above it; without it the target is a number to regress on.
    threshold: float | None
    split: tuple
    criterion: str
    epsilon: float
    bounds: tuple
    # Whether the network ends in a sigmoid, and which loss its fair answers have.
    sigmoid: bool
    loss: str
    learning_rate: float
    halve_on_plateau: int | None
    patience: int
    epochs: int
    batch: int
    valid_batch: int
    test_batch: int
    b_tau: int


LOSSES = {
    "bce": nn.functional.binary_cross_entropy,
    "clamped_bce": lambda y, targets: nn.functional.binary_cross_entropy(y.clamp(1e-6, 1 - 1e-6), targets),
    "bce_of_logits": nn.functional.binary_cross_entropy_with_logits,
    "mse": nn.functional.mse_loss,
}

QUICK_START = Example(
    name="quick_start", samples=2000, columns=16, shares=(0.5,), ahead=(1.5,), merits=(1.0,), privileges=(0.0,), noise=0.5,
    threshold=0.0, split=(0.7, 0.15), criterion="parity", epsilon=0.05, bounds=(0.0, 1.0), sigmoid=True, loss="bce",
    learning_rate=1e-3, halve_on_plateau=None, patience=25, epochs=30, batch=256, valid_batch=256, test_batch=300, b_tau=64,
)  # fmt: skip

EXAMPLES = [
    QUICK_START,
    # The same with a loss that takes answers beyond 0 and 1.
    replace(QUICK_START, name="quick_start_clamped", loss="clamped_bce"),
    Example(
        name="small_batch", samples=20000, columns=20, shares=(0.3,), ahead=(0.3,), merits=(1.0, 1.0), privileges=(0.5,),
        noise=0.5, threshold=0.0, split=(0.6, 0.2), criterion="parity", epsilon=0.05, bounds=(-10.0, 10.0), sigmoid=False,
        loss="bce_of_logits", learning_rate=1e-3, halve_on_plateau=None, patience=15, epochs=30, batch=2000,
        valid_batch=2000, test_batch=64, b_tau=2000,
    ),
    Example(
        name="large_batch", samples=20000, columns=50, shares=(0.6, 0.7), ahead=(0.5, 0.3), merits=(0.5, -0.3),
        privileges=(0.8, 0.4), noise=0.5, threshold=0.5, split=(0.6, 0.2), criterion="parity", epsilon=0.05,
        bounds=(-1000.0, 1000.0), sigmoid=False, loss="bce_of_logits", learning_rate=1e-3, halve_on_plateau=None,
        patience=15, epochs=50, batch=2000, valid_batch=2000, test_batch=2000, b_tau=2000,
    ),
    # (Its 2000 validation samples seldom make one batch of 2000 there, which is an error: so 1000, and b_tau with it.)
    Example(
        name="residual", samples=10000, columns=20, shares=(0.3,), ahead=(0.5,), merits=(3.0, -2.0, 1.0), privileges=(2.0,),
        noise=0.5, threshold=None, split=(0.6, 0.2), criterion="mean_residual", epsilon=0.1, bounds=(-20.0, 20.0),
        sigmoid=False, loss="mse", learning_rate=1e-2, halve_on_plateau=5, patience=15, epochs=50, batch=2000,
        valid_batch=1000, test_batch=64, b_tau=1000,
    ),
]  # fmt: skip


def draw(example, seed):
    """Samples, cut into train, valid and test: inputs and targets, float32."""
    generator = np.random.default_rng(seed)
    sensitive = generator.random((example.samples, len(example.shares))) < np.array(example.shares)
    others = generator.standard_normal((example.samples, example.columns - len(example.shares)))
    others[:, : len(example.ahead)] += sensitive * np.array(example.ahead)
    target = others[:, : len(example.merits)] @ np.array(example.merits) + sensitive @ np.array(example.privileges)
    target += example.noise * generator.standard_normal(example.samples)
    if example.threshold is not None:
        target = target > example.threshold
    inputs = np.hstack([sensitive, others]).astype(np.float32)
    targets = target.astype(np.float32)[:, None]
    cuts = (np.cumsum(example.split) * example.samples).astype(int)
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(np.split(inputs, cuts), np.split(targets, cuts))]


def features(example):
    return list(range(len(example.shares)))


def model(example, seed):
    """The model of fairness_training with fresh weights."""
    torch.manual_seed(seed)
    settings = dict(
        input_dim=example.columns, protected_attr_idx=features(example), prediction_bounds=example.bounds,
        fairness_tolerance=example.epsilon, b_tau=example.b_tau,
        fairness_metric={"parity": "mean_pred", "mean_residual": "mean_residual"}[example.criterion],
    )  # fmt: skip
    if example.sigmoid:
        network = nn.Sequential(
            nn.Linear(example.columns, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()
        )
        return FairModel.wrap(network, **settings)
    return FairModel(hidden_dims=[64, 32], **settings)


def dealt(example, seed, train, valid):
    """The loaders of fairness_training, which makes its batches once, of samples that it draws from numpy's own generator."""
    np.random.seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # (of samples that are left out)
        return create_stratified_dataloaders(
            *train, *valid, protected_attr_idx=features(example), batch_size_train=example.batch,
            batch_size_eval=example.valid_batch,
        )  # fmt: skip


def prepare(example, seed, folder):
    folder.mkdir(parents=True, exist_ok=True)
    splits = draw(example, seed)
    loaders = dealt(example, seed, *splits[:2])
    parts = dict(zip(["train", "valid", "test"], splits))
    parts |= {f"dealt_{name}": loader.dataset.tensors for name, loader in zip(["train", "valid"], loaders)}
    tensors = {}
    for name, (inputs, targets) in parts.items():
        groups = inputs[:, features(example)].to(torch.int64)
        tensors |= {f"{name}.inputs": inputs, f"{name}.targets": targets, f"{name}.groups": groups}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "data.safetensors")
    layers = dict(zip(["first", "second", "output"], (m for m in model(example, seed).ffnn if isinstance(m, nn.Linear))))
    weights = {f"{name}.{part}": tensor for name, layer in layers.items() for part, tensor in layer.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "settings.json").write_text(json.dumps(asdict(example) | {"seed": seed}, indent=1))
    return splits, loaders
