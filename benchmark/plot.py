"""Learning curves of one game from the results in this folder, against agent steps and hours, and
beside the published scores (published.csv), each at its number of agent steps.

    python benchmark/plot.py PongNoFrameskip-v4 benchmark/pong.png

Reads results/<setting>/<env_id>/seed<N>/episodes.csv of every setting, not of earlier/. A line is
the mean over seeds of the mean return of a seed's last 100 games, as far as all seeds have come.
The band is the 95 % bootstrap interval of that mean; with one seed there is none, and the legend
says so. Of two or three seeds it is their range, which holds the true mean less often than in 95 %
of cases.
"""

import csv
import itertools
import sys
from pathlib import Path

import matplotlib
import numpy as np
from scipy import stats

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

RESULTS = Path(__file__).parent / "results"


def last_100(returns: list[float]) -> np.ndarray:
    """Mean of the last 100 games, of all so far where there are fewer."""
    sums = np.cumsum([0.0, *returns])
    ends = np.arange(1, len(returns) + 1)
    starts = np.maximum(ends - 100, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def read(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each game of a seed its end, in a column of episodes.csv, and last_100."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    ends = np.array([float(row[column]) for row in rows])
    return ends, last_100([float(row["episodic_return"]) for row in rows])


def curve(seeds: list[tuple[np.ndarray, np.ndarray]]):
    """Places, the mean over seeds there and, of several seeds, the ends of its 95 % interval."""
    first, last = max(ends[0] for ends, _ in seeds), min(ends[-1] for ends, _ in seeds)
    places = np.linspace(first, last, 400)
    values = np.stack([np.interp(places, *seed) for seed in seeds])
    if len(seeds) == 1:
        return places, values[0], None
    interval = stats.bootstrap(
        (values,), np.mean, axis=0, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return places, values.mean(axis=0), interval


def published(game: str) -> list[tuple[str, float, float]]:
    """System, agent steps and score of each published result of a game."""
    with open(RESULTS.parent / "published.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["game"] == game]
    return [(row["system"], float(row["steps"]), float(row["score"])) for row in rows]


def main(env_id: str, output: str) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    panels[1].sharey(panels[0])
    styles = [(dash, color) for color in ("black", "0.5") for dash in ("-", "--", ":", "-.")]
    env_id = env_id.replace("/", "-")
    settings = sorted(path.parent for path in RESULTS.glob(f"*/{env_id}"))
    if not settings:
        ids = sorted({path.parent.parent.name for path in RESULTS.glob("*/*/seed*/episodes.csv")})
        raise SystemExit(f"there are no results of {env_id}: type {' or '.join(ids)}")
    for setting, (dash, color) in zip(settings, itertools.cycle(styles)):
        paths = sorted((setting / env_id).glob("seed*/episodes.csv"))
        many = "1 seed, no band" if len(paths) == 1 else f"{len(paths)} seeds"
        units = ("step", 1e6), ("seconds", 3600), ("step", 1e6)
        for axes, (column, unit) in zip(panels, units, strict=True):
            places, mean, interval = curve([read(path, column) for path in paths])
            axes.plot(places / unit, mean, dash, color=color, label=f"{setting.name}, {many}")
            if interval is not None:
                axes.fill_between(places / unit, *interval, color=color, alpha=0.2, linewidth=0)
    game = env_id.removeprefix("ALE-").removesuffix("-v5").removesuffix("NoFrameskip-v4")
    for (system, steps, score), marker in zip(published(game), itertools.cycle("osD^vP*X<")):
        panels[2].plot(steps / 1e6, score, marker, color="black", fillstyle="none")
        panels[2].lines[-1].set_label(f"{system}: {score:g}")
    panels[0].set_xlabel("million agent steps (4 emulator frames each)")
    panels[1].set_xlabel("hours")
    panels[2].set_xlabel("million agent steps, the published scores as marks")
    panels[2].set_xscale("log")
    panels[2].set_xlim(0.03, 100)
    if max((score for _, _, score in published(game)), default=0) > 100:
        panels[2].set_yscale("log")
        panels[2].set_ylim(0.5, 1_000)
    panels[0].set_ylabel("return of training games, mean of 100")
    figure.suptitle(env_id)
    for axes in panels:
        axes.grid(color="0.9")
    figure.legend(
        *panels[2].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8
    )
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
