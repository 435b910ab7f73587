"""What others take for the same problems on the same GPU, with torch: parity of two groups, forward and backward.

Every figure has the errors of its answers and gradients beside it, against double precision. Run by gpu-check, or by itself."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import pathlib
import statistics
import sys
import time
import types

CASES = [(256, 64), (256, 256), (65_536, 64), (65_536, 256)]
EPSILON = 0.05
# What a peer with dense matrices is given at most: more than that does not fit into its memory.
MOST_DENSE = 1 << 24


# (What follows takes arrays of numpy as well as tensors: `[problems, n]`.)


def draw(index):
    """Scores, whether they are of group 1, and a gradient, by the number of a score: those of `benches/cuda.rs`."""

    def unit(i):
        return ((i * 2_654_435_761 >> 7) & 0xFFFF) / 65_535

    ones = (index * 40_503 >> 5) % 2 * 1.0
    return unit(index) + 0.2 * ones - 0.15, ones, unit(index + 1) - 0.4


def row_of(ones):
    """The row of the constraint, mean of group 1 - mean of group 0, and what its multiplier moves a mean by if all are free."""
    count = ones.sum(axis=-1, keepdims=True)
    return ones / count - (1 - ones) / (ones.shape[-1] - count)


def at(z, row, nu):
    """The predictions for a multiplier, and their gap."""
    y = (z - nu * row).clip(0, 1)
    return y, (y * row).sum(axis=-1, keepdims=True)


def sign_of(value):
    """1, 0 or -1."""
    return (value > 0) * 1.0 - (value < 0) * 1.0


def bisection(z, row, halvings):
    """Predictions with a gap of at most epsilon, by halving a bracket of the multiplier."""
    _, gap = at(z, row, 0)
    side = sign_of(gap) * (abs(gap) > EPSILON)
    low, high = 0 * gap, 0 * gap + 2.0 * z.shape[-1]
    for _ in range(halvings):
        middle = (low + high) / 2
        far = at(z, row, side * middle)[1] * side > EPSILON
        low, high = low + far * (middle - low), high + (1.0 - far) * (middle - high)
    return at(z, row, side * high)[0], side * high


def newton(z, row, steps):
    """The same by Newton's method, within a bracket."""
    _, gap = at(z, row, 0)
    side = sign_of(gap) * (abs(gap) > EPSILON)
    low, high, size = 0 * gap, 0 * gap + 2.0 * z.shape[-1], 0 * gap
    for _ in range(steps):
        y, gap = at(z, row, side * size)
        over = gap * side - EPSILON
        far = (over > 0) * 1.0
        low, high = low + far * (size - low), high + (1.0 - far) * (size - high)
        slope = (row * row * (y > 0) * (y < 1)).sum(axis=-1, keepdims=True)
        trial = size + over / (slope + 1e-20)
        within = (trial >= low) * (trial <= high) * 1.0
        size = within * trial.clip(0, 1e6) + (1.0 - within) * (low + high) / 2
    return at(z, row, side * size)[0], side * size


def pulled_back(y, row, nu, g):
    """The gradient to the scores, in closed form."""
    free = (y > 0) * (y < 1) * 1.0
    held = free * row
    along = (held * g).sum(axis=-1, keepdims=True) / ((held * row).sum(axis=-1, keepdims=True) + 1e-30)
    return free * g - held * along * (nu != 0)


def torch_peer(method, rounds):
    """A peer that is a few lines of torch, in single precision."""

    def solve(_, z, ones, g):
        row = row_of(ones)
        y, nu = method(z, row, rounds)
        return y, pulled_back(y, row, nu, g)

    return solve


def qpth_peer(torch, z, ones, g):
    """qpth, for which the constraints are dense; in double precision, which it needs."""
    if importlib.util.find_spec("cvxpy") is None:
        # (It loads cvxpy for a solver that is not the one used here.)
        sys.modules.setdefault("cvxpy", types.ModuleType("cvxpy"))
    qp = importlib.import_module("qpth.qp").QPFunction(verbose=-1, check_Q_spd=False)
    n, count = z.shape[-1], z.shape[0]
    unit = torch.eye(n, dtype=z.dtype, device=z.device).expand(count, n, n)
    row = row_of(ones).unsqueeze(1)
    rows = torch.cat([row, -row, unit, -unit], 1)
    limits = torch.tensor([EPSILON] * 2 + [1.0] * n + [0.0] * n, dtype=z.dtype, device=z.device).expand(count, -1)
    none = torch.empty(0, dtype=z.dtype, device=z.device)
    z = z.detach().requires_grad_(True)
    y = qp(unit, -z, rows, limits, none, none)
    y.backward(g)
    return y.detach(), z.grad


def cvxpylayers_peer(torch, z, ones, g):
    """cvxpylayers as its page shows it: a layer built beforehand, which solves on the CPU."""
    cvxpy = importlib.import_module("cvxpy")
    layer_of = importlib.import_module("cvxpylayers.torch").CvxpyLayer
    n = z.shape[-1]
    y, of_z, of_row = cvxpy.Variable(n), cvxpy.Parameter(n), cvxpy.Parameter(n)
    constraints = [of_row @ y <= EPSILON, -of_row @ y <= EPSILON, y >= 0, y <= 1]
    layer = layer_of(cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(y - of_z)), constraints), [of_z, of_row], [y])
    z = z.detach().cpu().requires_grad_(True)
    (answer,) = layer(z, row_of(ones).cpu())
    answer.backward(g.cpu())
    return answer.detach().to(g.device), z.grad.to(g.device)


# A peer: what it is called, what it needs beside torch, its number type, whether it has dense matrices, and how it solves.
PEERS = [
    ("bisection in torch", [], "float32", False, torch_peer(bisection, 40)),
    ("Newton in torch", [], "float32", False, torch_peer(newton, 16)),
    ("qpth", ["qpth"], "float64", True, qpth_peer),
    ("cvxpylayers", ["cvxpy", "cvxpylayers"], "float64", True, cvxpylayers_peer),
]


def measure(torch, device, peer, problems, n, seconds=2.0):
    """The median time of forward and backward together, and the errors."""
    name, needs, dtype, dense, solve = peer
    for need in needs:
        if importlib.util.find_spec(need) is None:
            raise ImportError(f"there is no {need}")
    index = torch.arange(problems * n, device=device).view(problems, n)
    wide = [values.to(torch.float64) for values in draw(index)]
    timed = min(problems, max(1, MOST_DENSE // (2 * n * n))) if dense else problems
    some = [values[:timed] for values in wide]
    inputs = [values.to(getattr(torch, dtype)) for values in some]

    def wait():
        if device != "cpu":
            torch.cuda.synchronize()

    times, begin, answer = [], time.perf_counter(), None
    while len(times) < 3 or (time.perf_counter() - begin < seconds and len(times) < 50):
        wait()
        start = time.perf_counter()
        answer = solve(torch, *inputs)
        wait()
        times.append(time.perf_counter() - start)
    row = row_of(some[1])
    y, nu = bisection(some[0], row, 120)
    off = abs(answer[0] - y).max().item()
    off_gradient = abs(answer[1] - pulled_back(y, row, nu, some[2])).max().item()
    versions = {of: importlib.metadata.version(of) for of in ["torch", *needs]}
    return {
        "peer": name,
        "problems": problems,
        "n": n,
        "timed_problems": timed,
        # (The first one is for what is made ready.)
        "both_us_a_problem": statistics.median(times[1:]) / timed * 1e6,
        "error": off,
        "error_of_gradients": off_gradient,
        "dtype": dtype,
        "versions": versions,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=pathlib.Path, help="where to write the figures")
    parser.add_argument("--device", default="cuda", help="of torch (%(default)s)")
    options = parser.parse_args()
    try:
        torch = importlib.import_module("torch")
    except ImportError as problem:
        sys.exit(f"absent: {problem}")
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("absent: torch sees no GPU")
    rows = []
    for peer in PEERS:
        for problems, n in CASES:
            try:
                row = measure(torch, options.device, peer, problems, n)
                print(
                    f"{row['peer']:20} {problems:6} x {n:4}: {row['both_us_a_problem']:10.3f} us a problem, errors "
                    f"{row['error']:.1e}, {row['error_of_gradients']:.1e} (of {row['timed_problems']})",
                    flush=True,
                )
            except ImportError as problem:
                row = {"peer": peer[0], "not_measured": str(problem)}
            # (One peer's failure is a figure about it, and not ours.)
            except Exception as problem:  # noqa: BLE001
                row = {"peer": peer[0], "problems": problems, "n": n, "failed": f"{type(problem).__name__}: {problem}"[:300]}
            if "both_us_a_problem" not in row:
                print(f"{row['peer']:20} {row.get('not_measured') or row['failed']}", flush=True)
            rows.append(row)
            if "not_measured" in row:
                break
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
