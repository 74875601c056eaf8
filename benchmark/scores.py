"""The score table of README.md, from results/ and published.csv alone.

    python benchmark/scores.py            # prints it
    python benchmark/scores.py --write    # puts it between the marks in README.md

Training is the mean return of the last 100 games, evaluation what evaluation.txt or else the last
row of eval.csv says; with several seeds the mean and the standard deviation over seeds, with one
the standard deviation over its games. Human-normalised is 100 (score - random) / (human - random)
of an evaluation of Nature's protocol, random and human of its Extended Data Table 2, here of Pong
and Breakout alone. Agent steps are those of the shortest seed, "a to b" where the longest has over
2 % more, hours those of the longest. A run without a finished game is left out. Runs that newer
ones replace, in results/earlier/, have a table of their own.
"""

import csv
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

HERE = Path(__file__).parent
RANDOM_AND_HUMAN = {"Pong": (-20.7, 9.3), "Breakout": (1.7, 31.8)}
MARKS = "<!-- scores.py -->", "<!-- end -->"


@dataclass
class Args:
    write: bool = False  # into README.md beside this file


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def number(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def spread_of(values: list[float], single: float | None) -> str:
    """Mean and standard deviation over seeds, of one seed that over its games."""
    spread = np.std(values, ddof=1) if len(values) > 1 else single
    return number(np.mean(values)) + (f" ± {number(spread)}" if spread is not None else "")


def evaluation_of(run: Path) -> tuple[float, float] | None:
    """Mean and standard deviation over games of the last evaluation."""
    if (run / "evaluation.txt").exists():
        found = re.search(r"mean (\S+), std (\S+),", (run / "evaluation.txt").read_text())
        return float(found[1]), float(found[2])
    if (run / "eval.csv").exists():
        last = rows_of(run / "eval.csv")[-1]
        return float(last["mean"]), float(last["std"])
    return None


def of_nature(run: Path) -> bool:
    """Whether it was evaluated under Nature's protocol, which knows no sticky actions."""
    protocol = dict(eval_games=30, eval_epsilon=0.05, eval_max_frames=18_000, noop_max=30)
    args = json.loads((run / "args.json").read_text())
    return protocol.items() <= args.items() and "ALE/" not in args["env_id"]


def games_of(folder: str) -> list[str]:
    """Names of the games that have results, Nature's two first."""
    ids = {path.parent.parent.name for path in (HERE / folder).glob("*/*/seed*/episodes.csv")}
    names = {re.sub(r"^ALE-|-v5$|NoFrameskip-v4$", "", env_id) for env_id in ids}
    return [*RANDOM_AND_HUMAN, *sorted(names - {*RANDOM_AND_HUMAN})]


def ours(game: str, folder: str = "results") -> list[str]:
    """A line per setting and id, with or without sticky actions, that has results of the game."""
    lines, ids = [], {f"{game}NoFrameskip-v4": game, f"ALE-{game}-v5": f"{game}, sticky actions"}
    settings = sorted((HERE / folder).iterdir())
    for setting, (env_id, name) in itertools.product(settings, ids.items()):
        runs = [path.parent for path in sorted(setting.glob(f"{env_id}/seed*/episodes.csv"))]
        if not runs:
            continue
        games = [rows_of(run / "episodes.csv") for run in runs]
        returns = [[float(row["episodic_return"]) for row in rows][-100:] for rows in games]
        training = spread_of([np.mean(r) for r in returns], np.std(returns[0]))
        ends = [int(rows[-1]["step"]) for rows in games]
        steps = f"{min(ends) / 1e6:.2f}"
        if max(ends) > 1.02 * min(ends):
            steps += f" to {max(ends) / 1e6:.2f}"
        hours = max(float(rows[-1]["seconds"]) for rows in games) / 3600
        evaluations = [e for run in runs if (e := evaluation_of(run))]
        score, human = "none", ""
        if evaluations:
            means = [mean for mean, _ in evaluations]
            score = spread_of(means, evaluations[0][1])
            if game in RANDOM_AND_HUMAN and all(of_nature(run) for run in runs):
                random, expert = RANDOM_AND_HUMAN[game]
                human = f"{100 * (np.mean(means) - random) / (expert - random):.0f} %"
            if len(evaluations) < len(runs):
                score += f" ({len(evaluations)} of {len(runs)} seeds)"
        about = f"`{setting.name}` | {len(runs)} | {steps} M | {hours:.1f}"
        lines.append(f"| {name} | {about} | {training} | {score} | {human} |")
    return lines


def theirs(game: str) -> list[str]:
    lines = []
    for row in rows_of(HERE / "published.csv"):
        if row["game"] == game:
            spread = f" ± {row['spread']}" if row["spread"] else ""
            score = row["score"].replace("-", "−") + spread
            steps = f"{int(row['steps']) / 1e6:g} M"
            about = f"{score} | {row['what']} | {row['source']}"
            lines.append(f"| {game} | {row['system']} | {steps} | {about} |")
    return lines


def table() -> str:
    columns = "setting | seeds | agent steps | hours | training | evaluation | human-normalised"
    head = [f"| game | {columns} |", "|---" * 8 + "|"]
    published = ["| game | published | agent steps | score | of what | source |", "|---" * 6 + "|"]
    mine = [line for game in games_of("results") for line in ours(game)]
    others = [line for game in games_of("results") for line in theirs(game)]
    old = "results/earlier"
    before = [line for game in games_of(old) for line in ours(game, old)]
    earlier = ["Runs that newer ones replace, `results/earlier/`:", "", *head, *before]
    return "\n".join([*head, *mine, "", *published, *others, "", *earlier])


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    if args.write:
        path = HERE / "README.md"
        before, rest = path.read_text().split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        path.write_text(f"{before}{MARKS[0]}\n\n{table()}\n\n{MARKS[1]}{after}")
    else:
        print(table())
