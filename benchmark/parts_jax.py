"""Milliseconds of an update of dqn_atari_jax.py: the updates of a vector step written out one after
the other, as the script has them, or in one loop of XLA.

    python benchmark/parts_jax.py

One JSON line for each, the median of several rounds, with the seconds of the first call, which
compiles. Of 8 games and a replay of 8,000 transitions.
"""

import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))
import dqn_atari_jax  # noqa: E402


@dataclass
class Args:
    rounds: int = 6  # the median of them is printed
    calls: int = 15  # per round
    updates: int = 2  # per call


def looped(learner: dict, rb, count: int, optimizer, args) -> dict:
    """Like `updates` of the script."""
    return jax.lax.fori_loop(
        0, count, lambda _, learner: dqn_atari_jax.update(learner, rb, optimizer, args), learner
    )


def filled_replay(args: dqn_atari_jax.Args) -> dqn_atari_jax.ReplayBuffer:
    rng, n = np.random.default_rng(0), args.num_envs
    rb = dqn_atari_jax.ReplayBuffer(args, jnp.zeros((n, 4, 84, 84), jnp.uint8))
    followed = np.ones(n), np.zeros(n, bool), np.zeros(n, bool)
    for _ in range(args.buffer_size // n // 2):
        frames = rng.integers(256, size=(n, 4, 84, 84), dtype=np.uint8)
        rb.add(rng.integers(4, size=n), *followed, jnp.array(frames))
    return rb


def main(args: Args) -> None:
    settings = dqn_atari_jax.Args(buffer_size=8_000)
    rb, optimizer = filled_replay(settings), dqn_atari_jax.make_optimizer(settings)
    for name, many in ("written out", dqn_atari_jax.updates), ("loop", looped):
        q_network = dqn_atari_jax.make_network(1, 4)
        learner = dict(q_network=q_network, target_network=jax.tree.map(jnp.copy, q_network))
        learner |= dict(optimizer=optimizer.init(q_network), num_updates=jnp.zeros((), jnp.int32))
        learner |= dict(loss=jnp.zeros(()), q_values=jnp.zeros(()))
        learn = partial(many, optimizer=optimizer, args=settings)
        learn = jax.jit(learn, static_argnums=2, donate_argnums=0)
        times = []
        for calls in (1, *[args.calls] * args.rounds):
            start = time.perf_counter()
            for _ in range(calls):
                learner = learn(learner, rb, args.updates)
            jax.block_until_ready(learner)
            times.append((time.perf_counter() - start) / calls / args.updates)
        line = {"updates": name, "ms": round(statistics.median(times[1:]) * 1e3, 1)}
        line |= {"first_call_s": round(times[0] * args.updates, 2), "cores": os.cpu_count()}
        line |= {"num_updates": int(learner["num_updates"]), "jax": jax.__version__}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
