"""Learning curves of one game from the results in this folder.

    python benchmark/plot.py PongNoFrameskip-v4 benchmark/pong.png

Reads results/<setting>/<env_id>/seed<N>/episodes.csv of every setting. A line is the mean of the
last 100 games of one seed; with one seed there is no band, and the legend says how many there are.
"""

import csv
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

RESULTS = Path(__file__).parent / "results"


def last_100(returns: list[float]) -> np.ndarray:
    """Mean of the last 100 games, of all so far where there are fewer."""
    sums = np.cumsum([0.0, *returns])
    ends = np.arange(1, len(returns) + 1)
    starts = np.maximum(ends - 100, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def main(env_id: str, output: str) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for setting, style in zip(sorted(RESULTS.iterdir()), ("-", "--", ":", "-."), strict=False):
        seeds = sorted((setting / env_id).glob("seed*/episodes.csv"))
        for k, path in enumerate(seeds):
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            steps = np.array([int(row["step"]) for row in rows]) / 1e6
            returns = [float(row["episodic_return"]) for row in rows]
            label = f"{setting.name}, {len(seeds)} seed{'s' * (len(seeds) > 1)}" if k == 0 else None
            axes.plot(steps, last_100(returns), style, color="black", linewidth=1.2, label=label)
            axes.plot(steps, returns, ".", color="0.75", markersize=2, zorder=0)
    axes.set_xlabel("million agent steps (4 emulator frames each)")
    axes.set_ylabel("return of training games, mean of 100")
    axes.set_title(env_id)
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    figure.savefig(output, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
