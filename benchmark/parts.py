"""Milliseconds of the parts of a step of dqn_atari.py: update, act, games.

    python benchmark/parts.py --threads 2

One JSON line per setting, the median of several rounds. `games` is the wall-clock time of one
agent step of one game when nothing is learned; `learner` is the learner's own processor time of it;
`ale_vector_env` is the first for ale-py's own vector environment, which cannot save its games.
"""

import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from ale_py.vector_env import AtariVectorEnv

sys.path.insert(0, str(Path(__file__).parent.parent))
import dqn_atari  # noqa: E402


class Contiguous(dqn_atari.QNetwork):
    """The same network in torch's default memory format, to compare with."""

    def __init__(self, *args):
        super().__init__(*args)
        self.to(memory_format=torch.contiguous_format)

    def forward(self, obs):
        x = obs.to(torch.bfloat16 if self.bf16 else torch.float32).div_(255.0)
        with torch.autocast(obs.device.type, torch.bfloat16, enabled=self.bf16):
            x = self.network[:-1](x)
        return self.network[-1](x.float())


@dataclass
class Args:
    threads: int = os.cpu_count() or 1  # of torch
    rounds: int = 7  # the median of them is printed
    updates: int = 30  # per round
    env_id: str = "PongNoFrameskip-v4"  # of the games
    num_envs: tuple[int, ...] = (1, 8, 32, 64)  # games side by side


def median_ms(call, repeats: int, rounds: int) -> float:
    """Milliseconds per call; the first round warms up and does not count."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - start) / repeats * 1e3)
    return round(statistics.median(times[1:]), 2)


def learning(args: Args) -> None:
    """Updates and forward passes for acting, by precision and memory format."""
    script_args = dqn_atari.Args(buffer_size=8_000, num_envs=8)
    obs = torch.randint(256, (8, 4, 84, 84), dtype=torch.uint8)
    rb = dqn_atari.ReplayBuffer(script_args, obs)
    rb.frames.random_(256)
    rb.t = len(rb.ages)
    rb.newest.fill_(rb.t)
    act_rng, lines, calls = np.random.default_rng(0), [], []
    for network in (dqn_atari.QNetwork, Contiguous):
        for bf16 in (False, True):
            online, target = network(6, bf16), network(6, bf16)
            target.network[:-1].to(dtype=torch.bfloat16 if bf16 else None)  # as in train
            calls.append(partial(dqn_atari.act, online, obs, 0.0, act_rng))
            for fused in (True, False):
                adam = torch.optim.Adam(online.parameters(), 1e-4, fused=fused)
                calls.append(partial(dqn_atari.update, online, target, adam, rb, script_args))
            line = {"format": "channels_last" if network is dqn_atari.QNetwork else "default"}
            lines.append(line | {"bf16": bf16, "threads": args.threads})
    times = [[] for _ in calls]
    for _ in range(args.rounds):  # in turn, because the machine's speed changes
        for call, seen in zip(calls, times, strict=True):
            seen.append(median_ms(call, args.updates, 1))
    medians = [round(statistics.median(seen), 2) for seen in times]
    for k, line in enumerate(lines):
        names = ("act_8_games_ms", "update_fused_ms", "update_ms")
        print(json.dumps(line | dict(zip(names, medians[3 * k :], strict=False))), flush=True)


def games(args: Args) -> None:
    """Games without a learner."""
    for num_envs in args.num_envs:
        script_args = dqn_atari.Args(env_id=args.env_id, num_envs=num_envs)
        envs, rng = dqn_atari.make_envs(script_args), np.random.default_rng(0)
        envs.reset(seed=1)
        cpu = time.process_time()
        repeats = max(1, 400 // num_envs)
        ms = median_ms(
            lambda e=envs, r=rng, n=num_envs: e.step(r.integers(6, size=n)), repeats, args.rounds
        )
        cpu = (time.process_time() - cpu) / repeats / (args.rounds + 1) * 1e3
        dqn_atari.close_envs(envs)
        per_game = {"games_ms": round(ms / num_envs, 3), "learner_ms": round(cpu / num_envs, 3)}
        ale = AtariVectorEnv(gym.spec(args.env_id).kwargs["game"], num_envs)
        ale.reset()
        ms = median_ms(
            lambda e=ale, r=rng, n=num_envs: e.step(r.integers(6, size=n)), repeats, args.rounds
        )
        ale.close()
        per_game["ale_vector_env_ms"] = round(ms / num_envs, 3)
        print(json.dumps({"num_envs": num_envs, **per_game}), flush=True)


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(args.threads)
    print(json.dumps(dqn_atari.machine(torch.device("cpu"))), flush=True)
    games(args)
    learning(args)
