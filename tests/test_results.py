"""The numbers that the README and benchmark/README.md state are those of the data beside them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmark" / "results" / "dqn_atari"
RUNS = [("PongNoFrameskip-v4", 1_200_000, -21, 21), ("BreakoutNoFrameskip-v4", 240_000, 0, 864)]


def quoted(value):
    return f"{value:.1f}".replace("-", "−")


def evaluation_of(run):
    """Number, mean and standard deviation in what --evaluate printed."""
    found = re.search(r"games (\d+), mean (\S+), std (\S+),", (run / "evaluation.txt").read_text())
    return int(found[1]), float(found[2]), float(found[3])


@pytest.mark.parametrize("env_id, total, least, most", RUNS)
def test_a_curve_is_whole_and_its_figures_are_quoted(env_id, total, least, most):
    """Steps rise, frames are 4 per step, lengths add up to the steps, the README says the end."""
    run = RESULTS / env_id / "seed1"
    with open(run / "episodes.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    steps = np.array([row["step"] for row in rows])
    args = json.loads((run / "args.json").read_text())
    assert (np.diff(steps) >= 0).all() and steps[-1] <= args["total_timesteps"] == total
    assert all(row["frames"] == 4 * row["step"] for row in rows)
    played = sum(row["episodic_length"] for row in rows)
    assert 0.95 * total < played <= total
    returns = [row["episodic_return"] for row in rows]
    assert all(least <= value <= most for value in returns)
    readme = (ROOT / "README.md").read_text()
    assert f"| {quoted(np.mean(returns[-100:]))} |" in readme
    assert f"| {quoted(np.mean(returns[:20]))} |" in readme


@pytest.mark.parametrize("env_id, total, least, most", RUNS)
def test_an_evaluation_is_quoted_and_its_weights_are_here(env_id, total, least, most):
    """30 games; the model file is the one that ran all steps."""
    games, mean, std = evaluation_of(RESULTS / env_id / "seed1")
    assert games == 30 and least <= mean <= most
    assert f"{quoted(mean)} ± {quoted(std)}" in (ROOT / "README.md").read_text()
    path = ROOT / "benchmark" / "models" / f"{env_id}.pt"
    assert path.stat().st_size < 7_000_000
    model = torch.load(path, weights_only=True)
    assert (model["env_id"], model["step"]) == (env_id, total)


def test_the_speeds_are_quoted():
    """Each rate and ratio of the measured commands."""
    lines = (ROOT / "benchmark" / "results" / "speed_two_cores.jsonl").read_text().splitlines()
    rates = [json.loads(line)["steps_per_second"] for line in lines]
    for name in ("README.md", "benchmark/README.md"):
        text = (ROOT / name).read_text()
        assert all(f"| {rate:.0f} |" in text for rate in rates)
        assert all(f"{rate / rates[-1]:.2f}" in text for rate in rates[:-1])


def test_the_script_quotes_its_measurement(script):
    """The header's claim is the evaluation's."""
    _, mean, std = evaluation_of(RESULTS / "PongNoFrameskip-v4" / "seed1")
    assert f"Measured: Pong {mean:.1f} +- {std:.1f} (30 games)" in script.__doc__
