"""stable-baselines3's DQN with the settings of dqn_atari.py, to compare its speed with.

python benchmark/sb3_dqn.py --total-timesteps 6000
"""

from dataclasses import dataclass

import tyro
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack


@dataclass
class Args:
    env_id: str = "PongNoFrameskip-v4"
    total_timesteps: int = 10_000  # agent steps
    buffer_size: int = 100_000  # transitions
    learning_starts: int = 200  # agent steps
    seed: int = 1


if __name__ == "__main__":
    args = tyro.cli(Args)
    env = VecFrameStack(make_atari_env(args.env_id, seed=args.seed), n_stack=4)
    model = DQN(
        "CnnPolicy",
        env,
        learning_rate=1e-4,
        buffer_size=args.buffer_size,
        learning_starts=args.learning_starts,
        batch_size=32,
        gamma=0.99,
        train_freq=4,
        gradient_steps=1,
        target_update_interval=1_000,
        exploration_fraction=0.1,
        exploration_final_eps=0.01,
        seed=args.seed,
    )
    model.learn(args.total_timesteps)
