"""The numbers in the READMEs and in benchmark/history.md are those of the data beside them."""

import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import only

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmark" / "results"
PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"
RUNS = [  # with weights: run, agent steps, lowest and highest return there is
    (f"dqn_atari-two_cores/{PONG}/seed2", 1_000_000, -21, 21),
    (f"dqn_atari/{BREAKOUT}/seed1", 3_000_000, 0, 864),
]


def of_benchmark():
    """Both documents of that folder."""
    return "\n".join((ROOT / "benchmark" / x).read_text() for x in ("README.md", "history.md"))


def quoted(value):
    return f"{value:.1f}".replace("-", "−")


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def evaluation_of(run):
    """Number, mean and standard deviation in what --evaluate printed."""
    found = re.search(r"games (\d+), mean (\S+), std (\S+),", (run / "evaluation.txt").read_text())
    return int(found[1]), float(found[2]), float(found[3])


ALL = sorted(str(path.parent.relative_to(RESULTS)) for path in RESULTS.glob("**/episodes.csv"))


@pytest.mark.parametrize("run", ALL)
def test_a_curve_is_whole(run):
    """Steps rise to the end, frames are 4 per step, lengths add up to the steps."""
    rows = [
        {k: float(v) for k, v in row.items()} for row in rows_of(RESULTS / run / "episodes.csv")
    ]
    steps = np.array([row["step"] for row in rows])
    args = json.loads((RESULTS / run / "args.json").read_text())
    total, last = args["total_timesteps"], steps[-1]
    assert (np.diff(steps) >= 0).all() and last <= total
    played = sum(row["episodic_length"] for row in rows)
    whole = 0.95 if args.get("num_envs", 1) <= 8 else 0.94  # without the games under way
    if (RESULTS / run / "evaluation.txt").exists():  # it came to its end
        assert last > 0.98 * total and played > whole * total
    assert all(row["frames"] == 4 * row["step"] for row in rows)
    assert whole * last < played <= total
    least, most = (-21, 21) if PONG in run else (0, 864)
    assert all(least <= row["episodic_return"] <= most for row in rows)


TABLE = {  # row of README.md: setting, game
    "Breakout, default flags": ("dqn_atari", BREAKOUT),
    "Breakout, short setting, bfloat16": ("dqn_atari-two_cores", BREAKOUT),
    "Breakout, short setting, float32": ("dqn_atari-two_cores_float32", BREAKOUT),
    "Breakout, short setting, float32, one game": ("dqn_atari-two_cores_one_game", BREAKOUT),
    "Breakout, short setting, bfloat16, again": ("dqn_atari-two_cores_8_games", BREAKOUT),
    "Breakout, short setting, bfloat16, 32 games": ("dqn_atari-two_cores_32_games", BREAKOUT),
    "Pong, short setting, float32": ("dqn_atari-two_cores_float32", PONG),
    "Pong, short setting, bfloat16": ("dqn_atari-two_cores", PONG),
}


def test_the_hours_of_an_evening_are_quoted():
    """Of Breakout's six runs of 8 games in bfloat16, in README.md and in the script's comment."""
    runs = [*(RESULTS / "dqn_atari-two_cores" / BREAKOUT).glob("seed*")]
    runs += (RESULTS / "dqn_atari-two_cores_8_games" / BREAKOUT).glob("seed*")
    hours = sorted(float(rows_of(run / "episodes.csv")[-1]["seconds"]) / 3600 for run in runs)
    assert len(hours) == 6
    said = f"{hours[0]:.1f} to {hours[-1]:.1f} hours"
    assert f"0.24 M steps, here {said}" in (ROOT / "README.md").read_text()
    assert f"took {said}" in (ROOT / "benchmark" / "breakout_two_cores.sh").read_text()


@pytest.mark.parametrize("row", TABLE)
def test_a_row_of_the_results_is_of_the_data(row):
    """Of several seeds means and standard deviations over seeds, hours of the slowest."""
    setting, env_id = TABLE[row]
    runs = sorted((RESULTS / setting / env_id).glob("seed*"))
    games = [rows_of(run / "episodes.csv") for run in runs]
    returns = [[float(game["episodic_return"]) for game in seed] for seed in games]
    steps = {json.loads((run / "args.json").read_text())["total_timesteps"] for run in runs}
    hours = max(float(seed[-1]["seconds"]) for seed in games) / 3600
    first = quoted(np.mean([np.mean(seed[:20]) for seed in returns]))
    last = [np.mean(seed[-100:]) for seed in returns]
    plays = [evaluation_of(run) for run in runs]
    assert [play[0] for play in plays] == [30] * len(runs) and len(steps) == 1
    scores = []
    for means, of_one in (last, np.std(returns[0][-100:])), ([x[1] for x in plays], plays[0][2]):
        spread = np.std(means, ddof=1) if len(runs) > 1 else of_one
        scores.append(f"{quoted(np.mean(means))} ± {quoted(spread)}")
    cells = [row, str(len(runs)), f"{steps.pop() / 1e6:g} M", f"{hours:.1f}", first, *scores]
    assert f"| {' | '.join(cells)} |" in (ROOT / "README.md").read_text()


def test_the_run_of_the_defaults_is_quoted():
    """Its evaluations, and its verdict: rising to the end, beyond what 2013 has after 10 M."""
    run = RESULTS / "dqn_atari" / BREAKOUT / "seed1"
    readme, more = (
        " ".join((ROOT / name).read_text().split()) for name in ("README.md", "benchmark/README.md")
    )
    rows = rows_of(run / "eval.csv")
    assert [row["step"] for row in rows] == ["1000000", "2000000", "3000000"]
    first, second, end = (f"{quoted(float(x['mean']))} ± {quoted(float(x['std']))}" for x in rows)
    assert (
        f"After 1 M steps 30 games had {first}, after 2 M {second}, at the end {end} in" in readme
    )
    _, mean, std = evaluation_of(run)
    most = re.search(r"max (\S+)", (run / "evaluation.txt").read_text())[1]
    assert f"{quoted(mean)} ± {quoted(std)} in float32, the best of them {most}." in readme
    assert f"{quoted(mean)} after 3 M steps, one seed, above the 168 that" in more
    assert mean > 168 and f"{100 * mean / 401.2:.0f} % of Nature's 401.2 after 50 M" in more
    games = [(int(x["step"]), float(x["episodic_return"])) for x in rows_of(run / "episodes.csv")]
    means = [np.mean([r for s, r in games if k < s / 1e5 <= k + 1]) for k in range(30)]
    assert (np.diff(means)[:26] > 0).all() and means[27] < means[26]
    last = ", ".join(map(quoted, means[26:29]))
    assert f"up to 2.7 M, the last four had {last} and {quoted(means[29])}." in more
    assert (
        "took 2.9, to training scores above 300." in readme and (np.array(means[26:]) > 300).all()
    )
    assert f"{float(rows_of(run / 'episodes.csv')[-1]['seconds']) / 3600:.1f}" == "2.9"
    early = [quoted(means[k]) for k in (1, 4, 8)]
    assert (
        f"had {early[0]}, {early[1]} and {early[2]} in the spans of 0.1 M steps that end" in readme
    )
    assert f"its training games had {quoted(means[-1])} in the 0.1 M steps to 3 M" in readme


@pytest.mark.parametrize("run, total, least, most", RUNS)
def test_an_evaluation_is_quoted_and_its_weights_are_here(run, total, least, most):
    """30 games; the model file is the one that ran all steps."""
    games, mean, std = evaluation_of(RESULTS / run)
    assert games == 30 and least <= mean <= most
    assert f"{quoted(mean)} ± {quoted(std)}" in (ROOT / "README.md").read_text()
    env_id = run.split("/")[-2]
    path = ROOT / "benchmark" / "models" / f"{env_id}.pt"
    assert path.stat().st_size < 7_000_000
    model = torch.load(path, weights_only=True)
    assert (model["env_id"], model["step"]) == (env_id, total)


@pytest.mark.long
@pytest.mark.parametrize("run, total, least, most", RUNS)
def test_the_weights_play_their_score_again(run, total, least, most, tmp_path):
    """Exactly, by the command that the README gives; a few minutes."""
    env_id = run.split("/")[-2]
    flags = f"--env-id {env_id} --seed {run[-1]} --evaluate benchmark/models/{env_id}.pt"
    flags += " --device cpu --precision float32"
    assert f"OMP_NUM_THREADS=1 python dqn_atari.py {flags}" in " ".join(
        (ROOT / "README.md").read_text().split()
    )
    done = subprocess.run(
        [sys.executable, "dqn_atari.py", *flags.split()],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (RESULTS / run / "evaluation.txt").read_text()


def lines_of(name):
    lines = (ROOT / "benchmark" / "results" / name).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_speeds_are_quoted():
    """Each rate of the measured commands, and its ratios to CleanRL and to stable-baselines3."""
    lines = [line for line in lines_of("speed_two_cores_greedy.jsonl") if "command" in line]
    rates = {line["command"]: line["steps_per_second"] for line in lines}
    (cleanrl,) = (rate for command, rate in rates.items() if " cleanrl/" in command)
    (sb3,) = (rate for command, rate in rates.items() if "sb3_dqn" in command)
    assert len(rates) == 5 and {line["updates_per_step"] for line in lines} == {0.25}
    readme, more = (ROOT / "README.md").read_text(), of_benchmark()
    for rate in rates.values():
        ratios = f"{rate / cleanrl:.2f} | {rate / sb3:.2f} |"
        assert f"| 0.25 | {ratios}" in more
    bf16, float32, one, *_ = rates.values()
    first, ratio = " ".join(readme.split()), f"{bf16 / cleanrl:.2f} times CleanRL's"
    assert f"made {bf16:.0f} steps/s in its first 2,600, {ratio}" in first
    ratios = f"{one / cleanrl:.2f} and {one / sb3:.2f} times"
    assert f"in float32 {float32:.0f}, in float32 and one game {one:.0f}, {ratios}." in first
    lines = [line for line in lines_of("speed_jax_two_cores_greedy.jsonl") if "command" in line]
    jax, torch_, cleanrl = (line["steps_per_second"] for line in lines)
    assert f"| {jax:.0f} | {jax / cleanrl:.2f} | {jax / torch_:.2f} |" in readme
    assert f"{jax / torch_:.2f} and {jax / cleanrl:.2f} times." in more
    lines = [line for line in lines_of("speed_jax_versions_two_cores.jsonl") if "command" in line]
    new, middle, old, torch_, cleanrl = (line["steps_per_second"] for line in lines)
    assert f"`dqn_atari_jax.py` {new:.0f}, {middle:.0f} and {old:.0f}, `dqn_atari.py`" in more
    assert f"float32 {torch_:.0f} (92 and 152 in" in more and lines[3]["all"] == [92.5, 151.7]
    ratios = f"{new / old:.2f} times the rate with 0.10.2 and {new / cleanrl:.2f} times CleanRL's."
    assert f"with JAX 0.12.0.1 {cleanrl:.0f}: {ratios}" in more
    lines = [line for line in lines_of("speed_jax_tuple_xeon.jsonl") if "command" in line]
    new_, old_, torch_ = (line["steps_per_second"] for line in lines)
    words = f"`dqn_atari_jax.py` {new_:.0f}, as it was before", f"in float32 {torch_:.0f}:"
    ratios = f"{new_ / old_:.2f} and {new_ / torch_:.2f} times."
    words = *words, f"(commit 56fe88a) {old_:.0f}", ratios
    assert all(part in " ".join(more.split()) for part in words)
    assert f"| {new_:.0f} | not measured | {new_ / torch_:.2f} |" in readme
    row = f"({new / old:.2f} times its rate with 0.10) | {new:.0f} | {new / cleanrl:.2f} |"
    assert row in readme


def test_how_far_rounds_of_one_command_differ_is_quoted():
    """In the comparison quoted there, in all others of speed.py and in the two disturbed ones."""
    spreads = {}
    for path in (ROOT / "benchmark" / "results").glob("speed_*.jsonl"):
        for line in lines_of(path.name):
            if "command" in line:
                spreads[path.stem, line["command"]] = max(line["all"]) / min(line["all"]) - 1
    of = "speed_two_cores_greedy"
    first = max(spread for (name, _), spread in spreads.items() if name == of)
    *others, disturbed, threefold = sorted(x for (name, _), x in spreads.items() if name != of)
    words = f"two rounds differ by up to {100 * first:.0f} %; in its other comparisons rounds"
    words += f" differ by up to {100 * others[-1]:.0f} %, in two disturbed ones by"
    words += f" {100 * disturbed:.0f} % and threefold"
    assert 2 < threefold < 2.2
    assert words in " ".join((ROOT / "README.md").read_text().split())


def test_an_update_in_jax_is_quoted():
    """Written out and in a loop, of each version."""
    lines = lines_of("parts_jax_two_cores.jsonl")
    loop, out = (
        [line["ms"] for line in lines if line["updates"] == k] for k in ("loop", "written out")
    )
    versions = [line["jax"] for line in lines[::2]]
    (a, b, c), (x, y, z), (old, middle, new) = loop, out, versions
    more = of_benchmark()
    text = f"{a}, {b} and {c} ms an update instead of {x}, {y} and {z} written out"
    assert f"{text}, with JAX {old}, {middle} and {new}" in more
    assert f"{z} ms instead of {x} ([history.md](history.md))" in more


def test_one_game_on_the_other_processor_is_quoted():
    """Its split beside the EPYC's, the variants by turns, and the parts of a step."""
    more = of_benchmark()
    text = " ".join(more.split())
    xeon, epyc = (
        next(x for x in lines_of(name) if (x["num_envs"], x["bf16"]) == (1, False))
        for name in ("num_envs_two_cores_xeon.jsonl", "num_envs_two_cores.jsonl")
    )
    acting, sending, game, *others = (
        f"{value:.1f}"
        for line in (xeon, epyc)
        for value in (
            line["split_ms"]["acting"],
            line["split_ms"]["sending"],
            line["emulating_ms"],
        )
    )
    there = f"acting takes {acting} ms, sending {sending} ms and a game itself {game} ms"
    assert f"{there}, where the EPYC has {others[0]}, {others[1]} and {others[2]}" in text
    _, again, *spins = [line["ratio"][1] for line in lines_of("alternate_one_game_xeon.jsonl")]
    said = "{:.2f}, {:.2f} and {:.2f} times the unchanged one".format(*spins)
    assert f"{said}, which beside itself had {again:.2f} times" in text
    for line in lines_of("parts_two_cores_xeon.jsonl")[1:]:
        if "format" in line:
            names = ("update_fused_ms", "update_ms", "act_8_games_ms")
            row = f"{'bfloat16' if line['bf16'] else 'float32'} | "
            assert row + " | ".join(f"{line[k]:.2f}" for k in names) + " |" in more
        else:
            names = ("games_ms", "learner_ms", "ale_vector_env_ms")
            row = f"| {line['num_envs']} | "
            assert row + " | ".join(f"{line[k]:.3f}" for k in names) + " |" in more


def test_the_speeds_by_number_of_games_are_quoted():
    """Each row of the table, with epsilon at its end."""
    more = of_benchmark()
    lines = lines_of("num_envs_two_cores.jsonl")
    assert [line["num_envs"] for line in lines[::2]] == [1, 4, 8, 16, 32, 64]
    for line in lines:
        products = "bfloat16" if line["bf16"] else "float32"
        rates = f"{line['steps_per_second']:.0f} | {line['updates_per_second']:.0f}"
        parts = f"{line['split_ms']['acting']:.2f} | {line['split_ms']['learning']:.2f}"
        assert f"| {line['num_envs']} | {products} | {rates} | {parts} |" in more
        assert line["epsilon"] == 0.01


def test_the_memory_is_quoted_and_flat():
    """At most 8.5 GB with a full replay, and within 1 % over 200,000 steps."""
    full = [x["pss_gb"] for x in lines_of("memory.jsonl") if x["step"] >= 1_000_000]
    assert len(full) >= 5 and max(full) < 8.5 and max(full) < 1.01 * min(full)
    text = of_benchmark()
    assert f"{min(full):.2f} and {max(full):.2f} GB" in text


def test_more_games_learn_as_well_on_catch():
    """8 games, the default, in float32 and bfloat16: not below 1 game by more than its seeds."""
    areas = {}
    for line in lines_of("num_envs_catch.jsonl"):
        areas.setdefault((line["num_envs"], line["precision"]), []).append(line["all"])
    least = np.mean(areas[1, "float32"]) - np.std(areas[1, "float32"])
    assert np.mean(areas[8, "float32"]) >= least and np.mean(areas[8, "bf16"]) >= least
    last = [x["last_100"] for x in lines_of("num_envs_catch.jsonl") if x["num_envs"] == 8]
    caught = [round(50 + 50 * x) for x in (min(last), max(last))]  # of 100 balls
    words = f"a mean return of {min(last):.2f} to {max(last):.2f}, {caught[0]} to {caught[1]} of"
    assert f"{words} the last 100 balls" in " ".join((ROOT / "README.md").read_text().split())


def test_pong_in_float32_is_told_to_have_stood_still():
    """Means by tenths of a million steps; where the last 100 games begin."""
    rows = rows_of(RESULTS / "dqn_atari-two_cores_float32" / PONG / "seed1" / "episodes.csv")
    tenths = [[] for _ in range(10)]
    for row in rows:
        tenths[int(row["step"]) // 100_000].append(float(row["episodic_return"]))
    *spans, last = (quoted(np.mean(games)) for games in tenths[6:])
    words = f"had {', '.join(spans)} and {last} in the four spans of 0.1 M from 0.6 M on"
    assert words in " ".join(of_benchmark().split())
    since = int(rows[-100]["step"]) / 1e6
    readme = " ".join((ROOT / "README.md").read_text().split())
    bf16 = sorted((RESULTS / "dqn_atari-two_cores" / PONG).glob("seed*"))
    *others, last = (f"{int(rows_of(x / 'episodes.csv')[-100]['step']) / 1e6:.2f}" for x in bf16)
    words = f"its last 100 games reach back to {since:.2f} M there, and in bfloat16 to "
    assert f"{words}{', '.join(others)} and {last} M" in readme


@only("dqn_atari", "dqn_atari_2013", "dqn_atari_jax")
def test_the_script_quotes_its_measurement(script):
    """The header's claim is that of the evaluations, of as many steps and hours as the data has."""
    name = script.__name__
    game = "Pong" if name == "dqn_atari_jax" else "Breakout"
    folder = name if name == "dqn_atari" else f"{name}-two_cores"
    runs = sorted((RESULTS / folder / f"{game}NoFrameskip-v4").glob("seed*"))
    totals = {json.loads((run / "args.json").read_text())["total_timesteps"] for run in runs}
    assert len(runs) == len(totals) == 1
    (total,) = totals
    hours = [float(rows_of(run / "episodes.csv")[-1]["seconds"]) / 3600 for run in runs]
    hours = " to ".join(sorted({f"{min(hours):.1f}", f"{max(hours):.1f}"}))
    seeds = f"{len(runs)} seed" + "s" * (len(runs) > 1)
    if name == "dqn_atari_2013":
        last = rows_of(runs[0] / "eval.csv")[-1]
        assert float(last["step"]) == total
        spread, games = float(last["std"]), last["games"]
        score = f"{float(last['mean']):.1f} +- {spread:.1f} ({games} games)"
    else:
        games, means, stds = zip(*map(evaluation_of, runs), strict=True)
        spread = np.std(means, ddof=1) if len(runs) > 1 else stds[0]
        score = f"{np.mean(means):.1f} +- {spread:.1f} ({games[0]} games)"
    steps = f"{total / 1e6:g} M steps, {seeds}, {hours} h"
    assert f"Measured: {game} {score}, {steps}" in script.__doc__


def test_the_constants_of_2013_are_quoted_and_hold():
    """Only gamma 0.95 keeps values small at the learning rate, only 1e-6 learns Catch in time."""
    text = of_benchmark()
    areas = {}
    for line in lines_of("constants_2013.jsonl"):
        if line["game"] == "Breakout":
            values = list(line["q_values"].values())
            assert ", ".join(f"{value:g}" for value in values) in text
            runs_off = line["gamma"] == 0.99 and line["learning_rate"] == 2.5e-4
            assert (max(values) > 10) == runs_off
        else:
            areas.setdefault(line["eps"], []).append(line["all"])
    assert len(areas[1e-6]) == 3 and min(areas[1e-6]) > max(areas[0.01 / 32**2])


def test_the_curve_of_2013_is_quoted():
    """Its evaluations in both READMEs, and its weights."""
    run = (
        ROOT
        / "benchmark"
        / "results"
        / "dqn_atari_2013-two_cores"
        / "BreakoutNoFrameskip-v4"
        / "seed1"
    )
    with open(run / "eval.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [row["step"] for row in rows] == list(range(50_000, 1_000_001, 50_000))
    readme, more = (ROOT / "README.md").read_text(), of_benchmark()
    for row in rows:
        score = f"{row['mean']:.1f} ± {row['std']:.1f}"
        assert f"| {score} | {row['max']:.0f} | {row['average_max_q']:.2f} |" in more
    assert f"{score}, best game {row['max']:.0f}." in readme
    with open(run / "episodes.csv", newline="") as file:
        returns = [float(row["episodic_return"]) for row in csv.DictReader(file)]
    assert f"of the last 100 {np.mean(returns[-100:]):.1f};" in " ".join(more.split())
    path = ROOT / "benchmark" / "models" / "dqn_atari_2013-BreakoutNoFrameskip-v4.pt"
    model = torch.load(path, weights_only=True)
    assert (model["script"], model["step"]) == ("dqn_atari_2013", 1_000_000)


def test_the_curve_of_jax_is_quoted():
    """Beside the torch curve in float32 at the same step."""
    means, parts = {}, {}
    for name in ("dqn_atari_jax-two_cores", "dqn_atari-two_cores_float32"):
        rows = rows_of(RESULTS / name / PONG / "seed1" / "episodes.csv")
        rows = [{k: float(v) for k, v in row.items()} for row in rows]
        assert rows[-1]["step"] > 480_000
        rows = [row for row in rows if row["step"] <= 500_000]
        returns = [row["episodic_return"] for row in rows]
        means[name] = [quoted(np.mean(x)) for x in (returns[:20], returns[-100:], returns[-20:])]
        means[name] += [f"{np.mean([row['episodic_length'] for row in rows[-20:]]):,.0f}"]
        spans = range(350_000, 500_000, 25_000)
        spans = [[row for row in rows if 0 < row["step"] - start <= 25_000] for start in spans]
        parts[name] = [quoted(np.mean([row["episodic_return"] for row in part])) for part in spans]
    more = " ".join(of_benchmark().split())
    here, there = (", ".join(values) for values in parts.values())
    assert f"the mean returns are {here} here and {there} there" in more
    first, hundred, twenty, steps = means["dqn_atari_jax-two_cores"]
    ours = f"first 20 games {first}, last 100 {hundred}, last 20 {twenty} ({steps} steps a game);"
    _, hundred, twenty, steps = means["dqn_atari-two_cores_float32"]
    other = f"by then `dqn_atari.py` in float32 had {hundred} in its last 100 games and {twenty} in"
    other += f" its last 20 ({steps} steps a game)"
    games, mean, std = evaluation_of(RESULTS / "dqn_atari_jax-two_cores" / PONG / "seed1")
    evaluation = f"Its last weights play {quoted(mean)} ± {quoted(std)} in {games} games"
    for readme in (ROOT / "README.md", ROOT / "benchmark" / "README.md"):
        text = " ".join(readme.read_text().split())
        assert f"{ours} {other}" in text and evaluation in text


def test_the_speeds_with_one_update_per_step_are_quoted():
    """All with one update per step, counted; the ratio of the medians."""
    lines = [x for x in lines_of("speed_2013_two_cores_greedy.jsonl") if "all" in x]
    assert [line["updates_per_step"] for line in lines] == [1.0] * 3
    assert all("--exploration-steps 100 --end-e 0.01" in line["command"] for line in lines)
    older, bf16, float32 = (line["steps_per_second"] for line in lines)
    text = " ".join(of_benchmark().split())
    low, high = min(lines[0]["all"]), max(lines[0]["all"])
    ours = f"`dqn_atari_2013.py` {older:.0f} ({low:.0f} to {high:.0f}), `dqn_atari.py"
    low, high = min(lines[1]["all"]), max(lines[1]["all"])
    other = (
        f"--train-frequency 1` {bf16:.0f} ({low:.0f} to {high:.0f}) in bfloat16 and {float32:.0f}"
    )
    ratios = f"in float32: {older / bf16:.2f} and {older / float32:.2f} times"
    assert f"{ours} {other} {ratios}" in text


def span_of(setting, lo, hi):
    """Mean return, as quoted, and number of the Pong games that ended in (lo, hi]; the flags."""
    (path,) = (RESULTS / setting / "PongNoFrameskip-v4").glob("seed*/episodes.csv")
    rows = [row for row in rows_of(path) if lo < int(row["step"]) <= hi]
    mean = quoted(np.mean([float(row["episodic_return"]) for row in rows]))
    return f"{mean} ({len(rows)} games)", json.loads((path.parent / "args.json").read_text())


def test_the_pair_of_precisions_on_pong_is_quoted():
    """Games that ended in three spans, the last one of the shorter run."""
    runs = ["earlier/dqn_atari-two_cores_bf16", "earlier/dqn_atari-two_cores"]
    runs += ["dqn_atari-two_cores_float32"]
    text = of_benchmark()
    ends = [span_of(run, 0, 10**7)[1] for run in runs]
    assert [args.get("precision") for args in ends] == ["auto", None, "float32"]
    paths = [next((RESULTS / run).glob("Pong*/seed*/episodes.csv")) for run in runs]
    last = min(int(rows_of(path)[-1]["step"]) for path in paths) // 10_000 * 10_000
    for hi in (490_000, 820_000, last):
        lo, others = hi - 60_000, ["dqn_atari_jax-two_cores"] if hi == 490_000 else []
        cells = " | ".join(span_of(run, lo, hi)[0] for run in runs + others)
        assert f"| {lo:,} to {hi:,} | {cells} |" in text
    assert f"three spans (the last one to {last:,})" in text


def test_pong_in_bfloat16_is_quoted():
    """Three seeds to the end, and beside them an earlier version and float32, in five spans."""
    text = of_benchmark()
    seeds = [f"dqn_atari-two_cores/{PONG}/seed{seed}" for seed in (1, 2, 3)]
    others = "earlier/dqn_atari-two_cores_stopped", "dqn_atari-two_cores_float32"
    tables = [rows_of(RESULTS / run / "episodes.csv") for run in seeds]
    tables += [rows_of(RESULTS / run / PONG / "seed1" / "episodes.csv") for run in others]
    assert f"which ended at {int(tables[3][-1]['step']):,} steps" in text
    args = [json.loads((RESULTS / run / "args.json").read_text()) for run in seeds]
    assert [(x["precision"], x["total_timesteps"]) for x in args] == [("auto", 1_000_000)] * 3
    means = {}
    for hi in (300_000, 380_000, 490_000, 820_000, 990_000):
        spans = [
            [float(x["episodic_return"]) for x in rows if hi - 60_000 < int(x["step"]) <= hi]
            for rows in tables
        ]
        means[hi] = [np.mean(span) if span else np.nan for span in spans]
        cells = [f"{quoted(np.mean(span))} ({len(span)} games)" if span else "" for span in spans]
        row = f"| {hi - 60_000:,} to {hi:,} | {' | '.join(cells)} |".replace("|  |", "| |")
        assert row in text, row
    apart = quoted(max(max(mean[:3]) - min(mean[:3]) for mean in means.values()))
    a, b, c = (quoted(mean - means[990_000][4]) for mean in means[990_000][:3])
    text = " ".join(text.split())
    words = f"differ by up to {apart} in a span; in the last one they are ahead of float32 by "
    assert f"{words}{a}, {b} and {c}." in text
    plays = [evaluation_of(RESULTS / run) for run in (*seeds, f"{others[1]}/{PONG}/seed1")]
    a, b, c, d = (f"{quoted(mean)} ± {quoted(std)}" for _, mean, std in plays)
    assert f"play {a}, {b} and {c} in 30 games, the one of float32 {d}." in text
    times = [float(row["seconds"]) for row in tables[2]]
    gaps = sum(gap for gap in np.diff([0, *times]) if gap > 90) / 3600
    assert f"took {times[-1] / 3600:.1f} hours, {gaps:.1f} of them in gaps" in text
    ends = []
    for lo in (800_000, 900_000):
        spans = (
            [float(x["episodic_return"]) for x in rows if lo < int(x["step"]) <= lo + 100_000]
            for rows in tables[:3]
        )
        ends.append([quoted(np.mean(span)) for span in spans])
    pairs = [f"{before} and {last}" for before, last in zip(*ends, strict=True)]
    assert f"had {', '.join(pairs)} in the last two spans of 0.1 M" in text
    a, b, c = ends[1]
    last = f"Pong in bfloat16 ({a}, {b} and {c} in the last 0.1 M)"
    assert last in " ".join((ROOT / "README.md").read_text().split())


def breakout_of(setting):
    """Of three seeds the last 100 games by step 200,000 and by the end, the 30 games; a flag."""
    by_200_000, ends, plays = [], [], []
    for run in sorted((RESULTS / setting / BREAKOUT).glob("seed*")):
        rows = rows_of(run / "episodes.csv")
        steps = np.array([int(row["step"]) for row in rows])
        games = np.array([float(row["episodic_return"]) for row in rows])
        assert (239_000 if run.name == "seed1" else 238_500) < steps[-1] <= 240_000  # last game
        by_200_000.append(np.mean(games[steps <= 200_000][-100:]))
        ends.append(np.mean(games[-100:]))
        plays.append(evaluation_of(run))
        assert plays[-1][0] == 30
    assert len(ends) == 3
    return by_200_000, ends, plays, json.loads((run / "args.json").read_text())


def difference_of(ours, theirs):
    """With the standard error over seeds."""
    error = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 3)
    return f"{quoted(np.mean(ours) - np.mean(theirs))} ± {quoted(error)}"


def breakout_rows(name, by_200_000, ends, plays):
    """The rows of a setting in the tables of pairs."""
    cells = [quoted(x) for x in (*by_200_000, np.mean(by_200_000))]
    yield f"| last 100 games by step 200,000 | {name} | {' | '.join(cells)} |"
    cells = [quoted(x) for x in (*ends, np.mean(ends))]
    yield f"| last 100 games by the end | {name} | {' | '.join(cells)} |"
    cells = [f"{quoted(mean)} ± {quoted(std)}" for _, mean, std in plays]
    cells += [quoted(np.mean([mean for _, mean, _ in plays]))]
    yield f"| 30 games of the last weights | {name} | {' | '.join(cells)} |"


def test_bfloat16_beside_float32_is_quoted():
    """Three seeds each with the last layer in float32, on Breakout."""
    text = of_benchmark()
    *ours, flags = breakout_of("dqn_atari-two_cores")
    *theirs, others = breakout_of("dqn_atari-two_cores_float32")
    assert (flags["precision"], others["precision"]) == ("auto", "float32")
    rows = [*breakout_rows("bfloat16", *ours), *breakout_rows("float32", *theirs)]
    assert all(row in text for row in rows)
    first, last = (difference_of(ours[i], theirs[i]) for i in (0, 1))
    assert f"over seeds: {first} by step 200,000, {last} by the end." in text


def means_by(step, setting):
    """Of each of three seeds of Breakout the last 100 games by a step."""
    means = []
    for run in sorted((RESULTS / setting / BREAKOUT).glob("seed*")):
        rows = rows_of(run / "episodes.csv")
        assert int(rows[-1]["step"]) > step
        means.append(
            np.mean([float(x["episodic_return"]) for x in rows if int(x["step"]) <= step][-100:])
        )
    assert len(means) == 3
    return means


def test_8_games_beside_one_are_quoted():
    """Three seeds each of Breakout in float32: 8 games not worse beyond two standard errors."""
    text = of_benchmark()
    settings = "dqn_atari-two_cores_one_game", "dqn_atari-two_cores_float32"
    (*one, flags), (*eight, others) = (breakout_of(name) for name in settings)
    differ = {name for name in flags if flags[name] != others[name]}
    assert differ - {"run_dir", "resume"} == {"num_envs"}
    assert (flags["num_envs"], others["num_envs"]) == (1, 8)
    assert all(row in text for row in breakout_rows("1 game", *one))
    assert all(row in text for row in breakout_rows("8 games", *eight))
    for step in (100_000, 150_000):
        for games, setting in zip(("1 game", "8 games"), settings, strict=True):
            means = means_by(step, setting)
            cells = " | ".join(quoted(x) for x in (*means, np.mean(means)))
            assert f"| last 100 games by step {step:,} | {games} | {cells} |" in text
    first, last = (difference_of(eight[i], one[i]) for i in (0, 1))
    assert f"over seeds: {first} by step 200,000, {last} by the end. Three" in text
    readme = " ".join((ROOT / "README.md").read_text().split())
    scores = f"{quoted(np.mean(one[1]))} in the last 100 training games with one"
    assert f"{scores} and {quoted(np.mean(eight[1]))} with 8, a difference of {last}" in readme
    for ours, theirs in zip(eight[:2], one[:2], strict=True):
        error = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 3)
        assert np.mean(ours) - np.mean(theirs) > -2 * error


def test_32_games_beside_8_are_quoted():
    """Three seeds each of Breakout in bfloat16: 32 not worse by the end beyond a standard error."""
    text = of_benchmark()
    settings = "dqn_atari-two_cores_8_games", "dqn_atari-two_cores_32_games"
    (*few, flags), (*many, others) = (breakout_of(name) for name in settings)
    differ = {name for name in flags if flags[name] != others[name]}
    assert differ - {"run_dir", "resume"} == {"num_envs"}
    assert (flags["num_envs"], others["num_envs"]) == (8, 32)
    _, table = text.split("Three seeds of 32 games beside those of 8")
    rows = [*breakout_rows("8 games", *few), *breakout_rows("32 games", *many)]
    assert all(row in table for row in rows)
    means = {step: [means_by(step, name) for name in settings] for step in (100_000, 150_000)}
    for step, pair in means.items():
        for games, of_seeds in zip(("8 games", "32 games"), pair, strict=True):
            cells = " | ".join(quoted(x) for x in (*of_seeds, np.mean(of_seeds)))
            assert f"| last 100 games by step {step:,} | {games} | {cells} |" in table
    midway = difference_of(*means[150_000][::-1])
    late, last = (difference_of(many[i], few[i]) for i in (0, 1))
    said = f"{midway} by step 150,000, {late} by step 200,000, {last} by the end. So 32"
    assert f"32 games less 8, likewise: {said} games" in table
    readme = " ".join((ROOT / "README.md").read_text().split())
    said = f'{quoted(np.mean(few[1]))} with 8 ("again", of the version and processor of the 32)'
    said += f" and {quoted(np.mean(many[1]))} with 32, a difference of {last}"
    assert f"{said}; midway, at 150,000 steps, the 32 were {midway[1:]} behind" in readme
    error = np.sqrt((np.var(many[1], ddof=1) + np.var(few[1], ddof=1)) / 3)
    assert np.mean(many[1]) - np.mean(few[1]) > -error
    about = [
        json.loads((run / "machine.json").read_text())
        for setting in settings
        for run in (RESULTS / setting / BREAKOUT).glob("seed*")
    ]
    assert all(x["bfloat16"] and x["torch_threads"] == 1 for x in about)
    assert len({(x["script_sha256"], x["cpu"], x["platform"]) for x in about}) == 1


def test_a_run_made_again_has_the_same_games():
    """Seed 1 of Breakout by two versions on two EPYCs, the later resumed: all but the seconds."""
    text = " ".join(of_benchmark().split())
    assert "stopped and resumed on the way, is game for game, to its last step, the one of" in text
    settings = "dqn_atari-two_cores", "dqn_atari-two_cores_8_games"
    runs = [RESULTS / setting / BREAKOUT for setting in settings]
    about = [json.loads((run / "seed1" / "machine.json").read_text()) for run in runs]
    assert about[0]["script_sha256"] != about[1]["script_sha256"]
    assert "--resume" in about[1]["command"]
    for seed in (1, 2, 3):
        first, again = (rows_of(run / f"seed{seed}" / "episodes.csv") for run in runs)
        for row in (*first, *again):
            del row["seconds"]
        assert (first == again) == (seed == 1)
        assert first[:50] == again[:50]  # before learning starts
    assert evaluation_of(runs[0] / "seed1") == evaluation_of(runs[1] / "seed1")


def test_what_bfloat16_does_to_actions_is_quoted():
    """Each model's shares, before and with the last layer in float32."""
    text = of_benchmark()
    lines = lines_of("bfloat16_actions.jsonl")
    assert len(lines) == 3
    for line in lines:
        before, now = line["last_bfloat16"], line["last_float32"]
        shares = [100 * part[k] for part in (before, now) for k in ("differs", "ties")]
        row = "| `{}` | {:.1f} % | {:.1f} % | {:.1f} %, {:.1f} % |".format(line["model"], *shares)
        assert row in text


def test_the_score_table_is_of_the_results():
    """What scores.py prints stands between its marks."""
    command = [sys.executable, str(ROOT / "benchmark" / "scores.py")]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = of_benchmark()
    assert text.split("<!-- scores.py -->")[1].split("<!-- end -->")[0].strip() == table.strip()
    assert table.count("DQN 2015") == 2 and table.count("`dqn_atari-two_cores`") == 4


def test_sticky_actions_have_a_row_of_their_own(tmp_path, monkeypatch):
    """Runs of ALE/X-v5 are no seeds of XNoFrameskip-v4, and not normalised with Nature's scores."""
    sys.path.insert(0, str(ROOT / "benchmark"))
    import scores

    for env_id in ("ALE/Pong-v5", "PongNoFrameskip-v4"):
        run = tmp_path / "results" / "dqn_atari-x" / env_id.replace("/", "-") / "seed1"
        run.mkdir(parents=True)
        protocol = dict(eval_games=30, eval_epsilon=0.05, eval_max_frames=18_000, noop_max=30)
        (run / "args.json").write_text(json.dumps(protocol | {"env_id": env_id}))
        (run / "evaluation.txt").write_text("games 30, mean 9.3, std 1, min 5, max 12\n")
        (run / "episodes.csv").write_text("step,episodic_return,seconds\n1000000,3,3600\n")
    monkeypatch.setattr(scores, "HERE", tmp_path)
    row = "{} | `dqn_atari-x` | 1 | 1.00 M | 1.0 | 3.0 ± 0.0 | 9.3 ± 1.0 | {} |"
    rows = row.format("| Pong", "100 %"), row.format("| Pong, sticky actions", "")
    assert tuple(scores.ours("Pong")) == rows
    run = tmp_path / "results" / "dqn_atari-x" / "PongNoFrameskip-v4" / "seed1"
    (run / "eval.csv").write_text("step,mean,std\n1000000,5,2\n")  # evaluation.txt is of the end
    assert scores.ours("Pong")[0] == rows[0]
    for name in protocol:  # another protocol, no share of Nature's human
        other = protocol | {name: 7, "env_id": "PongNoFrameskip-v4"}
        (run / "args.json").write_text(json.dumps(other))
        assert scores.ours("Pong")[0] == row.format("| Pong", "")


def test_the_score_table_is_written_between_its_marks(tmp_path):
    """Nothing before or behind it changes."""
    copy = shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark", ignore=lambda *_: ["models"])
    text = (copy / "README.md").read_text()
    head, rest = text.split("<!-- scores.py -->")
    (copy / "README.md").write_text(f"{head}<!-- scores.py -->\nold\n" + rest[rest.index("<!--") :])
    subprocess.run([sys.executable, str(copy / "scores.py"), "--write"], check=True)
    assert (copy / "README.md").read_text() == text


def test_scores_of_unequal_seeds_and_of_other_games_are_told(tmp_path, monkeypatch):
    """The steps of both, no share of a human where there is no pair; no games, no row."""
    sys.path.insert(0, str(ROOT / "benchmark"))
    import scores

    for name, steps in ("Pong", (1_000_000, 2_000_000)), ("Qbert", (1_000_000, 1_010_000)):
        for seed, step in enumerate((*steps, None)):
            run = tmp_path / "results" / "dqn_atari-x" / f"{name}NoFrameskip-v4" / f"seed{seed}"
            run.mkdir(parents=True)
            if step:
                (run / "episodes.csv").write_text(f"step,episodic_return,seconds\n{step},3,3600\n")
    monkeypatch.setattr(scores, "HERE", tmp_path)
    assert scores.games_of("results") == ["Pong", "Breakout", "Qbert"]
    row = "| {} | `dqn_atari-x` | 2 | {} M | 1.0 | 3.0 ± 0.0 | none |  |"
    assert scores.ours("Pong") == [row.format("Pong", "1.00 to 2.00")]
    assert scores.ours("Qbert") == [row.format("Qbert", "1.00")]


def test_a_curve_is_the_mean_of_seeds_with_a_band(tmp_path):
    """Of two straight seeds; of one there is no band. The picture is made and not blank."""
    sys.path.insert(0, str(ROOT / "benchmark"))
    import plot

    seeds = [(np.array([0.0, 10.0]), np.array([0.0, 10.0]))]
    seeds += [(np.array([2.0, 12.0]), np.array([4.0, 24.0]))]
    places, mean, interval = plot.curve(seeds)
    assert (places[0], places[-1]) == (2, 10) and mean[0] == 3 and mean[-1] == 15
    assert (interval.low[-1], interval.high[-1]) == (10, 20)
    assert plot.curve(seeds[:1])[2] is None
    many = [(np.array([0.0, 1.0]), np.array([k, k])) for k in range(8)]
    _, mean, interval = plot.curve(many)
    error = 1.96 * np.std(range(8)) / 8**0.5  # of the mean, as of a normal distribution
    assert interval.low == pytest.approx(mean - error, abs=0.2)
    assert interval.high == pytest.approx(mean + error, abs=0.2)
    assert plot.last_100([1.0] * 100 + [3.0] * 100)[[0, 149, 199]].tolist() == [1, 2, 3]
    assert ("CleanRL dqn_atari.py", 1e7, 20.25) in plot.published("Pong")
    plot.main("PongNoFrameskip-v4", str(tmp_path / "pong.png"))
    curves = len(list(RESULTS.glob("*/PongNoFrameskip-v4")))
    by_step, by_hour, beside = plot.plt.gcf().axes
    assert len(beside.lines) == len(plot.published("Pong")) + curves
    marks = {(*line.get_xdata(), *line.get_ydata()) for line in beside.lines[curves:]}
    assert marks == {(steps / 1e6, score) for _, steps, score in plot.published("Pong")}
    several = sum((path / "seed2").exists() for path in RESULTS.glob("*/PongNoFrameskip-v4"))
    assert [len(axes.collections) for axes in (by_step, by_hour, beside)] == [several] * 3
    assert several >= 1
    plot.main(BREAKOUT, str(tmp_path / "breakout.png"))
    *_, beside = plot.plt.gcf().axes
    markers = [line.get_marker() for line in beside.lines if line.get_marker() != "None"]
    assert len(markers) == len(set(markers)) == len(plot.published("Breakout"))
    assert plot.plt.imread(tmp_path / "pong.png").std() > 0.05


def test_a_plot_of_no_results_is_refused_and_one_of_sticky_actions_has_its_marks(
    tmp_path, monkeypatch
):
    sys.path.insert(0, str(ROOT / "benchmark"))
    import plot

    with pytest.raises(SystemExit, match="type .*PongNoFrameskip-v4"):
        plot.main("Pong", str(tmp_path / "a.png"))
    assert not (tmp_path / "a.png").exists()
    run = tmp_path / "results" / "x" / "ALE-Pong-v5" / "seed1"
    run.mkdir(parents=True)
    (run / "episodes.csv").write_text("step,episodic_return,seconds\n5,3,36\n9,3,40\n")
    shutil.copy(ROOT / "benchmark" / "published.csv", tmp_path)
    monkeypatch.setattr(plot, "RESULTS", tmp_path / "results")
    plot.main("ALE/Pong-v5", str(tmp_path / "b.png"))
    by_step, by_hour, beside = plot.plt.gcf().axes
    assert len(beside.lines) == len(plot.published("Pong")) + 1
    ends = [axes.lines[0].get_xdata()[-1] for axes in (by_step, by_hour, beside)]
    assert ends == pytest.approx([9e-6, 40 / 3600, 9e-6])


def test_the_seconds_of_a_checkpoint_are_quoted():
    """A row per size, and in the README the one of a million."""
    readme, more = (ROOT / "README.md").read_text(), of_benchmark()
    for line in lines_of("checkpoint_two_cores.jsonl"):
        names = ("gb", "write_s", "disk_s", "write_s_per_gb", "check_s", "restore_s")
        assert f"| {line['buffer_size']:,} | " + " | ".join(f"{line[x]}" for x in names) in more
    plain = f"(a plain file of that size on the same disk: {line['disk_s']:.1f} s)"
    assert f"{line['write_s']} s to write {plain}" in readme
    assert f"{line['check_s']:.1f} s to check" in readme


def test_later_measurements_are_quoted():
    """The fourth comparison, and the parts again."""
    more = of_benchmark()
    rates = [x["steps_per_second"] for x in lines_of("speed_two_cores_fourth.jsonl") if "all" in x]
    with_mallopt, ours, cleanrl = rates
    assert f"flatter ours, {ours / cleanrl:.2f} times CleanRL in the last" in more
    assert f"{with_mallopt:.0f} steps/s with it, {ours:.0f} without" in more
    parts = [x for x in lines_of("parts_two_cores_again.jsonl") if "format" in x]
    last, last_bf16, default, default_bf16 = (x["update_fused_ms"] for x in parts)
    assert f"{100 * (1 - last / default):.0f} % less per update in float32" in more
    assert f"and {100 * (1 - last_bf16 / default_bf16):.0f} % less in bfloat16" in more


def test_the_variants_by_turns_are_quoted():
    """Each median ratio; passive waiting, and glibc in bfloat16, are beyond chance."""
    text = of_benchmark().split("## What was tried")[1]
    lines = lines_of("alternate_two_cores.jsonl")
    assert [line["flags"] for line in lines[::6]] == ["--precision float32", "--precision auto"]
    names = ("the unchanged", "MALLOC", "passive", "OMP_NUM_THREADS=4", "wait_first")
    for i, name in enumerate(names, 1):
        pair = lines[i], lines[i + 6]
        assert all(name in line["variant"] or i == 1 for line in pair)
        ratios = [line["ratio"][1] for line in pair]
        said = "{:.2f} times in float32, {:.2f} times in bfloat16".format(*ratios)
        assert said in " ".join(text.split())
    quartiles = [(line["ratio"][0], line["ratio"][2]) for line in lines]
    slower = [i for i, (_, high) in enumerate(quartiles) if high < 0.95]
    assert slower == [3, 9] and quartiles[8][0] > 1.08 > quartiles[7][1]


def test_the_variants_on_the_other_processor_are_quoted():
    """Each is faster than both copies of the script before; the last hardly more than the third."""
    text = of_benchmark()
    before, again, first, second, third = lines_of("alternate_two_cores_xeon.jsonl")
    for line in again, first, second, third:
        folder = line["variant"].rpartition("/")[0] or "the unchanged script beside itself"
        row = next(row for row in text.splitlines() if folder in row and "by turns" in row)
        assert f"{line['ratio'][1]:.2f} times" in row
    assert min(x["ratio"][0] for x in (first, second, third)) > max(1, again["ratio"][2])


def test_the_changes_that_leave_the_numbers_are_quoted():
    """Each median ratio; all three together are faster than the script before in most blocks."""
    lines = lines_of("alternate_same_numbers_xeon.jsonl")
    names = ["before/dqn_atari.py"] * 2 + ["cast/dqn_atari.py", "cast_words/dqn_atari.py"]
    assert [line["variant"] for line in lines] == [*names, "dqn_atari.py"]
    _, again, cast, words, every = (line["ratio"][1] for line in lines)
    text = of_benchmark()
    row = next(row for row in text.splitlines() if "`cast_words/`" in row)
    assert f"{cast:.2f} times, {words:.2f} times and, all three, {every:.2f} times" in row
    assert f"beside itself had {again:.2f} times" in row
    assert lines[-1]["ratio"][0] > 1 and f"{lines[-1]['rounds']} blocks" in row


def test_the_speeds_on_the_other_processor_are_quoted():
    """Each rate with its ratios, and the first and the third in the README."""
    lines = [line for line in lines_of("speed_two_cores_xeon.jsonl") if "command" in line]
    rates = [line["steps_per_second"] for line in lines]
    (*ours, cleanrl, sb3), more = rates, of_benchmark()
    assert len(ours) == 3 and {line["updates_per_step"] for line in lines} == {0.25}
    for line, rate in zip(lines, rates, strict=True):
        rounds = ", ".join(f"{x:.0f}" for x in line["all"])
        ratios = f"{rate / cleanrl:.2f} | {rate / sb3:.2f} |"
        assert f"| {rate:.0f} | {rounds} | 0.25 | {ratios}" in more
    single = sorted(a / b for a, b in zip(lines[0]["all"], lines[3]["all"], strict=True))
    assert f"the first is {single[0]:.2f} to {single[-1]:.2f} times CleanRL." in more


def test_memory_that_is_kept_is_quoted():
    """Ratios by turns and their quartiles, of the copy and of chance."""
    _, chance, kept = lines_of("alternate_kept_memory_xeon.jsonl")
    text = of_benchmark()
    (a, b, c), (d, e, f) = kept["ratio"], chance["ratio"]
    assert f"by turns {b:.2f} times (quartiles {a:.2f} to {c:.2f}), the unchanged" in text
    assert f"beside itself {e:.2f} ({d:.2f} to {f:.2f}); {kept['rounds']} blocks" in text


def test_the_speeds_later_in_a_run_are_quoted():
    """The table, the single rounds, and which goals the two medians reach."""
    lines = [x for x in lines_of("speed_flushed_xeon_again.jsonl") if "command" in x]
    default, cleanrl, sb3, one = lines
    assert {line["updates_per_step"] for line in lines} == {0.25}
    more = of_benchmark()
    to = {}
    for line in lines:
        rate, rounds = line["steps_per_second"], ", ".join(f"{x:.0f}" for x in line["all"])
        to[line["command"]] = [rate / other["steps_per_second"] for other in (cleanrl, sb3)]
        ratios = " | ".join(f"{ratio:.2f}" for ratio in to[line["command"]])
        assert f"| {rate:.0f} | {rounds} | 0.25 | {ratios} |" in more
    pairs = (zip(x["all"], cleanrl["all"], strict=True) for x in (default, one))
    single = [[a / b for a, b in pair] for pair in pairs]
    first, second = ("{:.2f}, {:.2f} and {:.2f}".format(*ratios) for ratios in single)
    assert f"first is {first} times CleanRL, the second {second} times." in " ".join(more.split())
    (a, b), (c, _) = to[default["command"]], to[one["command"]]
    assert a < 2.2 <= sorted(single[0])[1] and b < 3.5 and c < 1.4 <= sorted(single[1])[1]


def of_turns(name):
    """For each command of by_turns.py: its line, quartiles of the ratios to CleanRL and to
    stable-baselines3 within a round, and the ratios of the time of all blocks."""
    lines = lines_of(name)
    for line in lines:
        pairs = [list(zip(line["all"], lines[i]["all"], strict=True)) for i in (1, 2)]
        ratios = [statistics.quantiles([a / b for a, b in x], n=4) for x in pairs]
        totals = [sum(1 / b for _, b in x) / sum(1 / a for a, _ in x) for x in pairs]
        times = [a / b for a, b in zip(lines[0]["all"], line["all"], strict=True)]
        assert line["times"] == pytest.approx(statistics.quantiles(times, n=4), abs=0.005)
        yield line, ratios, totals


def test_the_speeds_by_turns_are_quoted():
    """The tables of both READMEs from the blocks, their totals, and the goals they reach."""
    readme, more = (ROOT / "README.md").read_text(), of_benchmark()
    words, columns, quartiles = " ".join(more.split()), [], []
    for name in ("by_turns_xeon.jsonl", "by_turns_zen5.jsonl", "by_turns_zen5_again.jsonl"):
        lines, ratios, totals = zip(*of_turns(name), strict=True)
        columns.append([])
        for line, of_line in zip(lines, ratios, strict=True):
            rate = f"| {4 * line['updates_per_second']:.0f} |"
            columns[-1].append(f"{rate} {' | '.join(f'{x[1]:.2f}' for x in of_line)} ")
            quoted = (f"{x[1]:.2f} ({x[0]:.2f} to {x[2]:.2f})" for x in of_line)
            assert f"{rate} {' | '.join(quoted)} |" in more
        quartiles.append([*ratios[0][0][::2], *ratios[3][0][::2]])
        first = f"the default is {totals[0][0]:.2f} times CleanRL and {totals[0][1]:.2f} times"
        first += f" stable-baselines3, one game in float32 {totals[3][0]:.2f} times CleanRL;"
        above = sum(a / b > 2.2 for a, b in zip(lines[0]["all"], lines[1]["all"], strict=True))
        first += f" in {above} of {lines[0]['rounds']} rounds the default is above 2.2 times."
        assert first in words
        (first, sb3), (one, _) = ratios[0], ratios[3]
        reached = (name != "by_turns_zen5.jsonl",) * 2 + ("xeon" in name,)
        assert (first[1] > 2.2, totals[0][0] > 2.2, one[1] > 1.4) == reached
        assert sb3[1] < 3.5 and totals[3][0] < 1.4
    xeon, earlier, zen5 = columns
    for of_xeon, of_zen5 in zip(xeon, zen5, strict=False):  # those with 32 games are of Zen 5 only
        assert f"{of_xeon}{of_zen5}| " in readme
    assert f"`dqn_atari.py --num-envs 32` (bfloat16) | – | – | – {zen5[4]}| " in readme
    text = "{:.2f} and {:.2f} for the default and {:.2f} and {:.2f} for one game in float32 on the "
    text += "Xeon, {:.2f} and {:.2f}, {:.2f} and {:.2f} on the EPYC, where earlier turns of the "
    text = text.format(*quartiles[0], *quartiles[2]) + "same learner had the medians "
    (_, a, b), (_, c, _) = (re.findall(r"[\d.]+", x) for x in (earlier[0], earlier[3]))
    assert f"{text}{a}, {c} and, to SB3, {b}." in " ".join(readme.split())
    assert f"[history.md](history.md#speed-of-earlier-versions)) had {a}, {b} and {c}:" in words
    line, ratios, totals = list(of_turns("by_turns_zen5_again.jsonl"))[4]
    low, middle, high = (1 / x for x in line["times"][::-1])
    text = f"With 32 games it is {totals[0]:.2f} and {totals[1]:.2f} times, and {middle:.2f} times "
    assert f"{text}the default (quartiles {low:.2f} to {high:.2f})" in words
    whole = [x for x in lines_of("speed_same_numbers_xeon.jsonl") if "command" in x]
    assert {line["updates_per_step"] for line in whole} == {0.25}
    *rates, one = (f"{line['steps_per_second']:.0f}" for line in whole)
    assert f"{', '.join(rates)} and {one} steps/s in the order default" in words
    single = [a / b for a, b in zip(whole[0]["all"], whole[1]["all"], strict=True)]
    assert "the first {:.2f}, {:.2f} and {:.2f} times CleanRL".format(*single) in words


def test_the_command_of_the_turns_is_the_one_that_was_run():
    """bash itself makes the commands of the block; `python` there only repeats them."""
    more = of_benchmark()
    (block,) = re.findall(r"```\n(FLAGS=[^`]*benchmark/by_turns\.py[^`]*)```", more)
    script = "python() { printf '%s\\n' \"$@\"; }\n" + block.replace("> by_turns.jsonl", "")
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    was_run = ["benchmark/by_turns.py"]
    was_run += [line["command"] for line in lines_of("by_turns_zen5_again.jsonl")]
    assert done.stdout.splitlines() == was_run
    for name in ("by_turns_xeon.jsonl", "by_turns_zen5.jsonl"):  # without the last
        assert [line["command"] for line in lines_of(name)] == was_run[1:5]


def test_what_bounds_the_speed_on_zen_5_is_quoted():
    """The tables of its parts, and the rate that nothing lost between them would give."""
    more = of_benchmark()
    for split in lines_of("num_envs_two_cores_zen5.jsonl"):
        names = ("acting", "learning", "waiting", "sending", "storing", "other")
        row = [f"{split['steps_per_second']:.0f}", f"{split['updates_per_second']:.0f}"]
        row += [f"{split['split_ms'][x]:.2f}" for x in names] + [f"{split['emulating_ms']:.2f}"]
        products = "bfloat16" if split["bf16"] else "float32"
        assert f"| {split['num_envs']} | {products} | {' | '.join(row)} |\n" in more
        assert split["epsilon"] == 0.01
    parts = lines_of("parts_two_cores_zen5.jsonl")[1:]
    for part in parts:
        if "format" in part:
            names = ("update_fused_ms", "update_ms", "act_8_games_ms")
            row = f"{'bfloat16' if part['bf16'] else 'float32'} | "
            assert row + " | ".join(f"{part[k]:.2f}" for k in names) + " |" in more
        else:
            names = ("games_ms", "learner_ms", "ale_vector_env_ms")
            row = f"| {part['num_envs']} | "
            assert row + " | ".join(f"{part[k]:.3f}" for k in names) + " |" in more
    games, script = (
        next(x for x in parts if wanted.items() <= x.items())
        for wanted in ({"num_envs": 8}, {"format": "channels_last", "bf16": True})
    )
    of_games, acting, of_update = 4 * games["games_ms"], script["act_8_games_ms"] / 2, 7.57
    assert script["update_fused_ms"] == of_update
    total = of_games + acting + of_update
    text = f"take {of_games:.2f} ms, choosing their actions {acting + 1e-9:.2f} and the update"
    text += f" {of_update}, so {total:.2f} ms if nothing were lost between them: {4000 / total:.0f}"
    lines = lines_of("by_turns_zen5.jsonl")
    ratios = [1000 / total / lines[i]["updates_per_second"] for i in (1, 2)]
    text += " steps/s, {:.2f} times CleanRL and {:.2f} times stable-baselines3".format(*ratios)
    words = " ".join(more.split())
    assert text in words and ratios[1] < 3.5
    ms = [4 * split["split_ms"][x] for x in ("learning", "sending")]  # of 8 games, in bfloat16
    said = f"goes to learning, {ms[0]:.2f} ms beside the games instead of {of_update}, and to"
    assert f"{said} sending, {ms[1]:.2f}," in words


def test_what_numbers_below_the_normal_ones_cost_is_quoted():
    """Shares and milliseconds of each checkpoint; the rates from update 950 on."""
    text = of_benchmark()
    for line in lines_of("denormals_xeon.jsonl"):
        shares = (f"{100 * line['exp_avg'][name]:.0f} %" for name in ("subnormal", "zero"))
        names = ("as_they_are", "flushed")
        times = (
            f"{line[f'{part}_ms_{name}']:.1f}" for part in ("update", "adam") for name in names
        )
        assert f"| {line['num_updates']:,} | {' | '.join([*shares, *times])} |" in text
    before, after = lines_of("alternate_flushed_xeon.jsonl")
    low, median, high = after["ratio"]
    rates = (f"{line['steps_per_second']:.0f}" for line in (before, after))
    words = " ".join(text.split())
    assert f"make {' and '.join(rates)} steps/s, {median:.2f} times (quartiles" in words
    assert f"of {after['rounds']} blocks {low:.2f} to {high:.2f};" in words
    disturbed = [line for line in lines_of("speed_flushed_xeon.jsonl") if "command" in line]
    ours, *theirs = (" and ".join(f"{x:.0f}" for x in line["all"]) for line in disturbed)
    assert f"ours made {ours} steps/s, theirs {', '.join(theirs)} (" in words
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"6,000 to 8,000 the script is {median:.2f} times as fast there" in readme
