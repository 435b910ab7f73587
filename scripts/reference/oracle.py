"""What the first two training batches are answered by an exact layer and exact gradients, in double precision.

The projection is done in closed form, by trying which rows hold with equality, and torch differentiates that form. It knows no
bounds, and so has no answer where they would matter.
"""

from itertools import product

import torch
from safetensors.torch import load_file
from torch import nn

from examples import LOSSES


def rows(settings, targets, groups):
    """a and c of all rows |a y - c| <= epsilon."""
    means = [(ids == group) / (ids == group).sum() for ids in groups.T for group in (0, 1)]
    if settings["criterion"] == "mean_residual":
        a = torch.stack(means)
        return a.double(), a.double() @ targets
    a = torch.stack([first - second for first, second in zip(means[::2], means[1::2])]).double()
    return a, torch.zeros(len(a), dtype=torch.float64)


def projected(settings, z, targets, groups):
    """The nearest fair answers, or nothing where bounds matter. The multipliers of rows that hold with equality push inwards."""
    a, c = rows(settings, targets, groups)
    for sides in product([0, 1, -1], repeat=len(a)):
        sides = torch.tensor(sides, dtype=torch.float64)
        held = sides != 0
        own, limits = a[held], (c + sides * settings["epsilon"])[held]
        multipliers = torch.linalg.solve(own @ own.T, own @ z - limits)
        y = z - own.T @ multipliers
        if (multipliers * sides[held] >= 0).all() and ((a @ y - c).abs() <= settings["epsilon"] + 1e-12).all():
            inside = (y > settings["bounds"][0]).all() and (y < settings["bounds"][1]).all()
            return y if inside else None
    return None


def first_answers(settings, folder):
    """The answers to the first training batch, and to the second after a step of Adam; nothing where bounds matter."""
    weights, data = load_file(folder / "weights.safetensors"), load_file(folder / "data.safetensors")
    layers = [nn.Linear(*weights[f"{name}.weight"].shape[::-1]).double() for name in ("first", "second", "output")]
    for name, layer in zip(("first", "second", "output"), layers):
        layer.load_state_dict({part: weights[f"{name}.{part}"] for part in ("weight", "bias")})
    end = nn.Sigmoid() if settings["sigmoid"] else nn.Identity()
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], end)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings["learning_rate"])
    answers = []
    for start in (0, settings["batch"]):
        inputs, targets, groups = (
            data[f"dealt_train.{what}"][start : start + settings["batch"]] for what in ("inputs", "targets", "groups")
        )
        targets = targets.double().flatten()
        y = projected(settings, network(inputs.double()).flatten(), targets, groups)
        if y is None:
            return None
        optimiser.zero_grad()
        LOSSES[settings["loss"]](y, targets).backward()
        optimiser.step()
        answers.append(y.detach().numpy())
    return answers
