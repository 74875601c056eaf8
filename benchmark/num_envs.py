"""Does learning per agent step suffer when more games share the network? On the toy game Catch.

    python benchmark/num_envs.py --num-envs 1 8 32 > num_envs_catch.jsonl
    python benchmark/num_envs.py --num-envs 8 --precision bf16 >> num_envs_catch.jsonl

7,040 agent steps, 752 updates, nearly the setting of tests/test_learns.py, at each number of games.
One JSON line per run: the mean return of the last 100 games (1 is perfect, chance is about -0.5)
and of all games after learning starts, which is the area under the curve.
"""

import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import tyro

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from toy import Catch, tiny_args  # noqa: E402

import dqn_atari  # noqa: E402


@dataclass
class Args:
    num_envs: tuple[int, ...] = (1, 2, 4, 8, 16, 32)  # games side by side
    seeds: int = 3
    precision: tuple[str, ...] = ("float32",)  # values of --precision


def game(args, training=True, videos=None):
    return Catch()


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    settings = [
        (n, p, s + 1) for s in range(args.seeds) for p in args.precision for n in args.num_envs
    ]
    for num_envs, precision, seed in settings:
        changes = dict(total_timesteps=7_040, buffer_size=7_040, batch_size=32, gamma=0.9)
        changes |= dict(learning_starts=1_024, exploration_steps=2_000, end_e=0.01)
        changes |= dict(train_frequency=8, target_network_frequency=192, learning_rate=5e-4)
        changes |= dict(num_envs=num_envs, precision=precision, seed=seed, log_frequency=1_000)
        with (
            tempfile.TemporaryDirectory() as parent,
            mock.patch.object(dqn_atari, "make_env", game),
        ):
            with contextlib.redirect_stdout(sys.stderr):
                end = dqn_atari.train(tiny_args(dqn_atari, f"{parent}/run", **changes))
            rows = np.genfromtxt(f"{parent}/run/episodes.csv", delimiter=",", names=True)
        learning = rows["episodic_return"][rows["step"] > 1_024]
        line = {"num_envs": num_envs, "precision": precision, "seed": seed}
        line |= {"updates": end.progress["num_updates"], "games": len(rows)}
        line |= {"last_100": round(float(np.mean(end.returns[-100:])), 3)}
        print(json.dumps(line | {"all": round(float(learning.mean()), 3)}), flush=True)
