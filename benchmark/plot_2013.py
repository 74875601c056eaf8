"""Figure 2 of the 2013 paper from our own run: evaluations and the average max Q.

    python benchmark/plot_2013.py benchmark/results/dqn_atari_2013-two_cores breakout_2013.png

Two panels against agent steps, from eval.csv of every game and seed of a setting: mean return of an
evaluation with its best game, and the mean of max Q over the held-out states.
"""

import csv
import itertools
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def main(setting: str, output: str) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    dashes = itertools.cycle(("-", "--", ":", "-."))
    for dash, path in zip(dashes, sorted(Path(setting).glob("*/seed*/eval.csv")), strict=False):
        with open(path, newline="") as file:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        steps, name = [row["step"] / 1e6 for row in rows], f"{path.parts[-3]}, {path.parts[-2]}"
        left.plot(steps, [row["mean"] for row in rows], dash, color="black", label=f"{name}, mean")
        left.plot(steps, [row["max"] for row in rows], "^", color="0.5", label=f"{name}, best")
        right.plot(steps, [row["average_max_q"] for row in rows], dash, color="black", label=name)
    for axes, what in (left, "return of an evaluation"), (right, "average max Q"):
        axes.set_xlabel("million agent steps")
        axes.set_ylabel(what)
        axes.grid(color="0.9")
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
