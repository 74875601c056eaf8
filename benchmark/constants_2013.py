"""Why gamma and RMSProp's constant are what they are in dqn_atari_2013.py: the paper prints none.

    OMP_NUM_THREADS=1 python benchmark/constants_2013.py > benchmark/results/constants_2013.jsonl

On Breakout: the mean Q(s, a) of a batch during 1,500 updates on 10,000 steps of random play, with
no step in between; values there should be a few tenths. On the toy game Catch: the mean return of
the last 100 games (1 is perfect, chance is about -0.5) and of all games after learning starts,
4,000 agent steps. float32. One JSON line per setting.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from toy import Catch, tiny_args  # noqa: E402

import dqn_atari_2013 as script  # noqa: E402

NATURE, OURS = 0.01 / 32**2, 1e-6
BREAKOUT = [(2.5e-4, 0.99, NATURE), (2.5e-4, 0.99, OURS), (5e-5, 0.99, NATURE)]
BREAKOUT += [(6.25e-5, 0.99, OURS), (2.5e-4, 0.95, NATURE), (2.5e-4, 0.95, OURS)]
SEEN_AT = (100, 300, 600, 1_000, 1_500)


def random_play(args):
    """A replay of random play, 8 games side by side."""
    envs, rng = script.make_envs(args), np.random.default_rng(0)
    obs, _ = envs.reset(seed=args.seed)
    rb = script.ReplayBuffer(args, torch.tensor(obs))
    for _ in range(args.buffer_size // args.num_envs - 8):
        actions = rng.integers(4, size=args.num_envs)
        envs.step_async(actions)
        obs, rewards, terminations, truncations, _ = envs.step_wait()
        rb.add(actions, np.sign(rewards), terminations, truncations, torch.tensor(obs))
    script.close_envs(envs)
    return rb


def early_values(rb, args, learning_rate, eps):
    """The mean Q(s, a) of a batch at some updates."""
    torch.manual_seed(args.seed)
    rb.generator.manual_seed(args.seed)
    network, values = script.QNetwork(4), []
    optimizer = script.RMSProp(network.parameters(), learning_rate, eps)
    for _ in range(SEEN_AT[-1]):
        values.append(script.update(network, optimizer, rb, args)[1].item())
    return {str(i): round(values[i - 1], 2) for i in SEEN_AT}


def game(args, training=True, videos=None):
    return Catch()


def catch(eps, seed):
    """Returns of the last 100 games and of all after learning starts."""
    changes = dict(num_envs=8, total_timesteps=4_000, buffer_size=4_000, batch_size=32, seed=seed)
    changes |= dict(learning_starts=800, exploration_steps=2_000, train_frequency=1, gamma=0.95)
    changes |= dict(learning_rate=2.5e-4, log_frequency=1_000, checkpoint_frequency=0)
    rmsprop = script.RMSProp
    with (
        tempfile.TemporaryDirectory() as parent,
        mock.patch.object(script, "make_env", game),
        mock.patch.object(script, "RMSProp", lambda p, lr, **_: rmsprop(p, lr, eps)),
        contextlib.redirect_stdout(sys.stderr),
    ):
        end = script.train(tiny_args(script, f"{parent}/run", **changes))
        rows = np.genfromtxt(f"{parent}/run/episodes.csv", delimiter=",", names=True)
    learning = rows["episodic_return"][rows["step"] > 800]
    last, whole = float(np.mean(end.returns[-100:])), float(learning.mean())
    return {
        "last_100": round(last, 3),
        "all": round(whole, 3),
        "updates": end.progress["num_updates"],
    }


if __name__ == "__main__":
    about = {"torch_threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    args = script.Args(buffer_size=10_048, precision="float32")
    rb = random_play(args)
    for learning_rate, gamma, eps in BREAKOUT:
        args.gamma = gamma
        setting = dict(game="Breakout", learning_rate=learning_rate, gamma=gamma, eps=eps, seed=1)
        values = early_values(rb, args, learning_rate, eps)
        print(json.dumps(setting | {"q_values": values} | about), flush=True)
    for seed in (1, 2, 3):
        for eps in (NATURE, OURS):
            setting = dict(game="Catch", learning_rate=2.5e-4, gamma=0.95, eps=eps, seed=seed)
            print(json.dumps(setting | catch(eps, seed) | about), flush=True)
