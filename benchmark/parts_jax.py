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


def looped(q_network, target_network, optimizer, rb, num_updates, count: int, args):
    """Like `updates` of the script."""

    def update(i, learned):
        learner = learned[0], target_network, learned[1], rb
        return dqn_atari_jax.update(*learner, num_updates + i, args)

    losses = {"loss": jnp.zeros(()), "q_values": jnp.zeros(())}
    return jax.lax.fori_loop(0, count, update, (q_network, optimizer, losses))


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
    rb = filled_replay(settings)
    for name, many in ("written out", dqn_atari_jax.updates), ("loop", looped):
        q_network = dqn_atari_jax.make_network(1, 4)
        target_network = jax.tree.map(jnp.copy, q_network)
        optimizer = dqn_atari_jax.make_optimizer(settings).init(q_network)
        learn = partial(many, args=settings)
        learn = jax.jit(learn, static_argnums=5, donate_argnums=(0, 2))
        times, num_updates = [], 0
        for calls in (1, *[args.calls] * args.rounds):
            start = time.perf_counter()
            for _ in range(calls):
                learner = q_network, target_network, optimizer, rb
                q_network, optimizer, losses = learn(*learner, num_updates, args.updates)
                num_updates += args.updates
            jax.block_until_ready((q_network, optimizer, losses))
            times.append((time.perf_counter() - start) / calls / args.updates)
        line = {"updates": name, "ms": round(statistics.median(times[1:]) * 1e3, 1)}
        line |= {"first_call_s": round(times[0] * args.updates, 2), "cores": os.cpu_count()}
        line |= {"num_updates": int(optimizer[0].count), "jax": jax.__version__}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
