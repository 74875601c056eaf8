"""The numbers that the README and benchmark/README.md state are those of the data beside them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
RUN = ROOT / "benchmark" / "results" / "dqn_atari" / "PongNoFrameskip-v4" / "seed1"


def episodes():
    with open(RUN / "episodes.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_the_curve_is_whole_and_its_figures_are_quoted():
    """Steps rise, frames are 4 per step, lengths add up to the steps, the README says the end."""
    rows, args = episodes(), json.loads((RUN / "args.json").read_text())
    steps = np.array([row["step"] for row in rows])
    assert (np.diff(steps) >= 0).all() and steps[-1] <= args["total_timesteps"] == 1_200_000
    assert all(row["frames"] == 4 * row["step"] for row in rows)
    played = sum(row["episodic_length"] for row in rows)
    assert 0.97 * args["total_timesteps"] < played <= args["total_timesteps"]
    returns = [row["episodic_return"] for row in rows]
    assert all(-21 <= value <= 21 for value in returns)
    readme = (ROOT / "README.md").read_text()
    assert f"{np.mean(returns[-100:]):.1f}".replace("-", "−") in readme
    assert f"{np.mean(returns[:20]):.1f}".replace("-", "−") in readme


def test_the_evaluation_is_quoted_and_its_weights_are_here():
    """30 games; the model file is the one that ran all steps."""
    text = (RUN / "evaluation.txt").read_text()
    found = re.search(r"games (\d+), mean (\S+), std (\S+),", text)
    assert found[1] == "30"
    quoted = f"{float(found[2]):.1f} ± {float(found[3]):.1f}".replace("-", "−")
    assert quoted in (ROOT / "README.md").read_text()
    path = ROOT / "benchmark" / "models" / "PongNoFrameskip-v4.pt"
    assert path.stat().st_size < 7_000_000
    model = torch.load(path, weights_only=True)
    assert (model["env_id"], model["step"]) == ("PongNoFrameskip-v4", 1_200_000)


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
    found = re.search(r"mean (\S+), std (\S+),", (RUN / "evaluation.txt").read_text())
    claim = f"Measured: Pong {float(found[1]):.1f} +- {float(found[2]):.1f} (30 games)"
    assert claim in script.__doc__
