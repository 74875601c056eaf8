"""Agent steps per second against the number of games, from what speed.py printed.

python benchmark/plot_speed.py benchmark/results/num_envs_two_cores.jsonl benchmark/num_envs.png
"""

import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tyro


@dataclass
class Args:
    results: tyro.conf.Positional[Path]  # JSON lines of speed.py
    output: tyro.conf.Positional[Path]  # picture to write


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    lines = [json.loads(line) for line in args.results.read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for bf16, style in ((False, "o-"), (True, "s--")):
        points = sorted((x["num_envs"], x["steps_per_second"]) for x in lines if x["bf16"] == bf16)
        if points:
            axes.plot(*zip(*points, strict=True), style, color="black" if bf16 else "tab:blue")
            axes.lines[-1].set_label("bfloat16 products" if bf16 else "float32")
    axes.set_xscale("log", base=2)
    games = sorted({x["num_envs"] for x in lines})
    axes.set_xticks(games, [str(n) for n in games])
    axes.set_ylim(0, 1.1 * max(x["steps_per_second"] for x in lines))
    axes.set_xlabel("games side by side (num_envs)")
    axes.set_ylabel("agent steps per second")
    axes.set_title(
        f"Learning, {lines[0]['device']}, {lines[0]['cores']} cores, 0.25 updates a step"
    )
    axes.legend()
    figure.savefig(args.output, dpi=130)
