# /// script
# requires-python = ">=3.10"
# dependencies = [
#   "torch==2.13.0",
#   "gymnasium>=1.2,<2",
#   "ale-py>=0.11.2",
#   "numpy",
#   "tyro>=0.9",
#   "tensorboard",
#   "opencv-python-headless",
#   "tqdm",
# ]
# ///
"""DQN for Atari as in Mnih et al. 2015, checked against DeepMind's released code; in one file.

    python dqn_atari.py --env-id BreakoutNoFrameskip-v4 --seed 1
    python dqn_atari.py --env-id PongNoFrameskip-v4 --evaluate runs/.../model.pt --capture-video

References, used as tags below:
    [Nature M], [Nature A1], [Nature T1]  Mnih et al., Human-level control through deep reinforcement
        learning, Nature 518 (2015): Methods, Algorithm 1, Extended Data Table 1.
    [Lua FILE:n]  line n of that file in google-deepmind/dqn at 9d9b1d1, the code they released.
    [alewrap FILE]  google-deepmind/alewrap at 5d52649, its environment.
    [CleanRL]  the hyper-parameters of vwxyzjn/cleanrl's dqn_atari.py at fe8d8a0.

Deviations by default, each with the flag that restores the paper (benchmark/ has whole commands):
    Adam, 1e-4                       --optimizer rmsprop --learning-rate 2.5e-4
    squared error                    --loss clipped
    80,000 steps before learning     --learning-starts 50000
    exploration down to 0.01         --end-e 0.1
    target copy every 1,000 steps    --target-network-frequency 10000 (released), 40000 (printed)
    8 games share one network        --num-envs 1
    10 M steps of training           --total-timesteps 50000000
Deviations without a flag:
    The games run while the learner works, so an update does not see the step in flight.
    The released code plays up to 31 no-ops after a lost life, ends a repeat on it, breaks ties
    at random, pads the first convolution by one pixel and may sample a stack that mixes the
    newest frames with the oldest; the paper prints none of this and this file does none of it.
    Pong has 6 actions in today's emulator, 3 in DeepMind's.
"""

# --- Imports --------------------------------------------------------------------------------------
import collections
import contextlib
import csv
import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from typing import Literal, NamedTuple

import ale_py
import cv2
import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import tyro
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.summary.writer import event_file_writer
from tqdm import tqdm

gym.register_envs(ale_py)


# --- Args -----------------------------------------------------------------------------------------
# One unit everywhere: the agent step, one chosen action in one game, 4 emulator frames.
@dataclass
class Args:
    env_id: str = "BreakoutNoFrameskip-v4"  # any Atari id without frame skip, or ALE/X-v5 (sticky)
    seed: int = 1  # of the network, exploration, replay and (seed + i) game i
    total_timesteps: int = 10_000_000  # agent steps in all games together [CleanRL] (Nature: 50 M)
    exp_name: str = "dqn_atari"  # part of the run directory's name
    run_dir: str | None = None  # where to write; None: runs/{env_id}__{exp_name}__{seed}__{time}
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"  # auto: CUDA, then Apple's MPS, then CPU
    bf16: bool = False  # bfloat16 convolutions and products, weights stay float32
    log_frequency: int = 1_000  # agent steps between points of the loss curves
    save_frequency: int = 0  # agent steps between snapshots model_{step}.pt; 0: the last one only
    capture_video: bool = False  # mp4 of whole games: 0, 1, 8, 27, ... 1000, 2000, ... of game 0
    track: bool = False  # mirror TensorBoard to Weights & Biases
    wandb_project_name: str = "dqn-atari"  # where to, with --track

    init_from: str | None = None  # start from the weights of this model.pt
    evaluate: str | None = None  # play with this model.pt instead of training
    render_mode: Literal["human"] | None = None  # human: show the evaluation in a window
    eval_frequency: int = 0  # agent steps between evaluations while training; 0: none
    eval_games: int = 30  # games of an evaluation, game k from seed + k [Nature M]
    eval_steps: int = 0  # agent steps instead of games, finished games count [Lua run_gpu: 125000]
    eval_epsilon: float = 0.05  # exploration while evaluating [Nature M]
    eval_max_frames: int = 18_000  # emulator frames of an evaluation game, 5 minutes [Nature M]

    num_envs: int = 8  # games stepped together; 1 is the paper's setting
    num_workers: int = 0  # processes they run in; 0: one a core, less one for the learner
    frame_skip: int = 4  # emulator frames per agent step [Nature T1]
    noop_max: int = 30  # at most so many single no-op frames start a game, at least 1 [Nature T1]
    life_loss_terminal: bool = True  # a lost life ends the return that is learned [Nature M]

    buffer_size: int = 1_000_000  # transitions, 7,056 bytes each [Nature T1]
    learning_starts: int = 80_000  # agent steps of random play first [CleanRL] (Nature: 50,000)
    train_frequency: int = 4  # agent steps per update [Nature T1]
    batch_size: int = 32  # transitions per update [Nature T1]
    target_network_frequency: int = 1_000  # agent steps per copy [CleanRL] (Lua: 10,000)
    gamma: float = 0.99  # discount [Nature T1]
    optimizer: Literal["adam", "rmsprop"] = "adam"  # rmsprop: DeepMind's own rule [Nature T1]
    learning_rate: float = 1e-4  # [CleanRL] (Nature: 2.5e-4 with rmsprop)
    loss: Literal["squared", "clipped"] = "squared"  # clipped: error within +-1 [Nature M]

    start_e: float = 1.0  # exploration until learning_starts [Nature T1]
    end_e: float = 0.01  # and at the end of its fall [CleanRL] (Nature: 0.1)
    exploration_steps: int = 1_000_000  # agent steps of the fall, from learning_starts on [Lua]


class BadInput(ValueError):
    """Something the user typed cannot work; the message is one line that says what to type."""


def check_args(args: Args) -> None:
    """Raise BadInput for a setting that cannot work, before anything is created."""
    specs = {k: s for k, s in gym.registry.items() if "ale_py" in str(s.entry_point)}
    playable = [k for k, s in specs.items() if "ALE/" in k or s.kwargs.get("frameskip") == 1]
    spec = specs.get(args.env_id)
    if spec is None:
        near = difflib.get_close_matches(args.env_id, playable, 1, 0) or ["PongNoFrameskip-v4"]
        known = "is not an Atari game" if args.env_id in gym.registry else "is unknown"
        raise BadInput(f"{args.env_id} {known}: type --env-id {near[0]}")
    if args.env_id not in playable:
        game = args.env_id.rsplit("-", 1)[0]
        raise BadInput(f"{args.env_id} skips frames already: type --env-id {game}NoFrameskip-v4")
    if spec.kwargs.get("obs_type", "rgb") != "rgb" or spec.kwargs.get("continuous", False):
        raise BadInput(f"{args.env_id} must have pixels and discrete actions, as other ids do")
    for name in ("total_timesteps", "log_frequency", "eval_games", "eval_max_frames", "num_envs",
                 "frame_skip", "buffer_size", "learning_starts", "train_frequency", "batch_size",
                 "target_network_frequency", "exploration_steps", "learning_rate"):  # fmt: skip
        if not getattr(args, name) > 0:
            raise BadInput(f"--{name.replace('_', '-')} must be greater than 0")
    for name in ("seed", "save_frequency", "eval_frequency", "eval_steps", "num_workers",
                 "noop_max"):  # fmt: skip
        if getattr(args, name) < 0:
            raise BadInput(f"--{name.replace('_', '-')} must not be negative")
    for name in ("start_e", "end_e", "eval_epsilon", "gamma"):
        if not 0 <= getattr(args, name) <= 1:
            raise BadInput(f"--{name.replace('_', '-')} must be between 0 and 1")
    for name in ("total_timesteps", "buffer_size"):
        if rest := getattr(args, name) % args.num_envs:
            raise BadInput(
                f"--{name.replace('_', '-')} must be a multiple of --num-envs {args.num_envs}: "
                f"type {getattr(args, name) - rest + args.num_envs}"
            )
    if args.buffer_size < (least := args.batch_size + 4 * args.num_envs):
        raise BadInput(f"--buffer-size {args.buffer_size} is too small for a batch: {least}")
    if args.learning_starts < (least := args.batch_size + args.num_envs):
        raise BadInput(f"--learning-starts {args.learning_starts} comes before a batch: {least}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("this machine or this build of torch has no CUDA: type --device auto")
    if args.device == "mps" and not torch.backends.mps.is_available():
        raise BadInput("this machine or this build of torch has no MPS: type --device auto")
    if args.capture_video and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise BadInput("--capture-video needs one more package: pip install imageio-ffmpeg")
    if args.track and importlib.util.find_spec("wandb") is None:
        raise BadInput("--track needs one more package: pip install wandb")
    if args.run_dir and pathlib.Path(args.run_dir).exists():
        raise BadInput(f"--run-dir {args.run_dir} exists: type another one or remove it")


# --- Environment ----------------------------------------------------------------------------------
class NoopStart(gym.Wrapper):
    """A new game begins with 1 to noop_max no-ops, in single frames [alewrap GameEnvironment]."""

    def __init__(self, env, noop_max):
        super().__init__(env)
        self.noop_max = noop_max

    def reset(self, **kwargs):
        _, info = self.env.reset(**kwargs)
        ale = self.unwrapped.ale
        for _ in range(self.unwrapped.np_random.integers(min(1, self.noop_max), self.noop_max + 1)):
            ale.act(ale_py.Action.NOOP)
            if ale.game_over():
                _, info = self.env.reset()
        return ale.getScreenRGB(), info


class RepeatAction(gym.Wrapper):
    """One agent step: an action held for frame_skip frames, rewards summed [Nature M].

    The observation is the per-pixel, per-colour maximum of the last two frames, because sprites
    flicker [Nature M]. Only game over cuts a repeat short, and then only its own frames are used.
    """

    def __init__(self, env, frame_skip):
        super().__init__(env)
        self.frame_skip = frame_skip
        self.ale = self.unwrapped.ale
        self.actions = self.ale.getMinimalActionSet()
        self.screens = np.zeros((2, *env.observation_space.shape), np.uint8)

    def step(self, action):
        reward = 0.0
        for frame in range(self.frame_skip):
            reward += self.ale.act(self.actions[action])
            self.ale.getScreenRGB(self.screens[frame % 2])
            if self.ale.game_over():
                break
        obs = np.maximum(*self.screens) if frame > 0 else self.screens[0].copy()
        return obs, reward, self.ale.game_over(with_truncation=False), self.ale.game_truncated(), {}


class RecordVideo(gym.Wrapper):
    """mp4 of whole games as the agent sees them, in colour: 15 agent steps are one second."""

    def __init__(self, env, video_dir, prefix):
        super().__init__(env)
        self.path, self.prefix, self.game, self.writer = pathlib.Path(video_dir), prefix, 0, None

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        self.drop()
        if round(self.game ** (1 / 3)) ** 3 == self.game < 1000 or self.game % 1000 == 0:
            import imageio_ffmpeg

            self.path.mkdir(parents=True, exist_ok=True)
            self.part = self.path / f"{self.prefix}{self.game:06d}.part.mp4"
            self.writer = imageio_ffmpeg.write_frames(
                str(self.part), obs.shape[1::-1], fps=15, macro_block_size=2
            )
            self.writer.send(None)
            self.writer.send(obs)
        self.game += 1
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self.writer:
            self.writer.send(obs)
            if terminated or truncated:
                self.writer.close()
                self.writer = None
                self.part.rename(str(self.part).replace(".part", ""))
        return obs, reward, terminated, truncated, info

    def drop(self):
        """Whole games only: forget the video of one that was not finished."""
        if self.writer:
            self.writer.close()
            self.part.unlink()
            self.writer = None

    def close(self):
        self.drop()
        super().close()


class GrayResize(gym.ObservationWrapper):
    """Luminance, 84x84. [Lua Scale] says "bilinear"; when it shrinks that is an area average."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, (84, 84), np.uint8)

    def observation(self, obs):
        gray = cv2.cvtColor(obs, cv2.COLOR_RGB2GRAY)
        return cv2.resize(gray, (84, 84), interpolation=cv2.INTER_AREA)


class LifeLoss(gym.Wrapper):
    """Reports a lost life beside `terminated`, never as it: the game goes on [Nature M]."""

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        self.lives = self.unwrapped.ale.lives()
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        lives, self.lives = self.lives, self.unwrapped.ale.lives()
        return obs, reward, terminated, truncated, {**info, "life_loss": self.lives < lives}


class GameStatistics(gym.Wrapper):
    """info["game"] = (return, agent steps) of the whole game at its end, rewards unclipped."""

    def reset(self, **kwargs):
        self.episodic_return, self.episodic_length = 0.0, 0
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.episodic_return += reward
        self.episodic_length += 1
        if terminated or truncated:
            info["game"] = (self.episodic_return, self.episodic_length)
        return obs, reward, terminated, truncated, info


class StackFrames(gym.Wrapper):
    """The last 4 frames, oldest first; zeros before the first of a game or life [Lua TransitionTable:150-187]."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        self.frames = np.zeros((4, 84, 84), np.uint8)

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        self.frames[:] = 0
        self.frames[-1] = obs
        return self.frames.copy(), info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.frames[:-1] = 0 if info.get("life_loss") else self.frames[1:]
        self.frames[-1] = obs
        return self.frames.copy(), reward, terminated, truncated, info


def make_env(args: Args, training: bool = True, video_dir=None, prefix: str = "game") -> gym.Env:
    """One game with the whole wrapper stack: observations (4, 84, 84) uint8, raw rewards.

    Without `training`, lives do not matter and `eval_max_frames` ends a game.
    """
    limit = {} if training else {"max_num_frames_per_episode": args.eval_max_frames}
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    env = gym.make(
        args.env_id, frameskip=1, render_mode=None if training else args.render_mode, **limit
    )
    env = NoopStart(env, args.noop_max)
    env = RepeatAction(env, args.frame_skip)
    if video_dir:
        env = RecordVideo(env, video_dir, prefix)
    env = GrayResize(env)
    env = GameStatistics(env)
    if training and args.life_loss_terminal:
        env = LifeLoss(env)
    return StackFrames(env)


def shared_arrays(memory, num_envs):
    """Views of the memory that the learner and the games share, by name."""
    shapes = dict(
        obs=(4, 84, 84), actions=(), rewards=(), terminations=(), truncations=(), life_losses=()
    )
    kinds = dict(obs=np.uint8, actions=np.int64, rewards=np.float32)
    return {
        k: np.frombuffer(memory[k], kinds.get(k, np.bool_)).reshape(num_envs, *s)
        for k, s in shapes.items()
    }


class VectorEnv:
    """`num_envs` games that step together in worker processes, over shared memory.

    ALE's single games hold the GIL, so games in parallel mean processes. `send` returns at once;
    `recv` waits. A game that ends starts again within the same step: its `obs` is then the first
    of the next game. Arrays that `recv` returns are overwritten by the next `send`.
    """

    def __init__(self, args: Args, num_envs: int, training: bool = True, **video):
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        sizes = dict(
            obs=4 * 84 * 84, actions=8, rewards=4, terminations=1, truncations=1, life_losses=1
        )
        memory = {k: context.RawArray("B", num_envs * size) for k, size in sizes.items()}
        vars(self).update(shared_arrays(memory, num_envs))
        self.num_envs = num_envs
        workers = min(num_envs, args.num_workers or max(1, (os.cpu_count() or 1) - 1))
        self.pipes, self.workers, self.games = [], [], np.array_split(np.arange(num_envs), workers)
        for games in self.games:
            pipe, worker_pipe = context.Pipe()
            worker = context.Process(
                target=play_games, daemon=True,
                args=(worker_pipe, pipe, memory, games.tolist(), num_envs, args, training, video),
            )  # fmt: skip
            worker.start()
            worker_pipe.close()
            self.pipes.append(pipe)
            self.workers.append(worker)
        self.num_actions = [self._receive(k) for k in range(workers)][0]

    def _receive(self, k):
        try:
            return self.pipes[k].recv()
        except (EOFError, ConnectionError):
            self.workers[k].join()
            code = self.workers[k].exitcode
            raise RuntimeError(f"the process of games {self.games[k]} ended, code {code}") from None

    def reset(self, seed: int) -> np.ndarray:
        """Start game i from seed + i; observations (num_envs, 4, 84, 84) uint8."""
        for pipe in self.pipes:
            pipe.send(seed)
        for k in range(len(self.pipes)):
            self._receive(k)
        return self.obs

    def send(self, actions: np.ndarray) -> None:
        """Actions (num_envs,) int64; a negative one leaves its game alone."""
        self.actions[:] = actions
        for pipe in self.pipes:
            pipe.send(None)

    def recv(self):
        """obs, raw rewards float32, terminations, truncations, infos; infos["games"] lists the games
        that ended as (i, return, agent steps), infos["life_losses"] is a mask beside terminations."""
        games = [game for k in range(len(self.pipes)) for game in self._receive(k)]
        infos = {"life_losses": self.life_losses, "games": games}
        return self.obs, self.rewards, self.terminations, self.truncations, infos

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for worker in self.workers:
            worker.join()


def play_games(pipe, parent_pipe, memory, games, num_envs, args, training, video) -> None:
    """A worker process: resets its games when sent a seed, steps them when sent None."""
    parent_pipe.close()  # held open here, it would hide the parent's end from this process
    for name in {"SIGINT", "SIGTERM", "SIGUSR1"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # sent to the whole group, the
        # learner's business alone: it finishes its step and closes the pipe
    cv2.setNumThreads(1)
    m = shared_arrays(memory, num_envs)
    envs = {i: make_env(args, training, **(video if i == 0 else {})) for i in games}
    seeds = dict.fromkeys(games)  # None continues a game's own random numbers
    with contextlib.suppress(EOFError, ConnectionError, BrokenPipeError):
        pipe.send(int(envs[games[0]].action_space.n))
        while True:
            seed, finished = pipe.recv(), []
            for i, env in envs.items():
                if seed is not None:
                    m["obs"][i], _ = env.reset(seed=seed + i)
                    seeds[i] = None if training else seed + i
                elif m["actions"][i] >= 0:
                    m["obs"][i], m["rewards"][i], terminated, truncated, info = env.step(
                        m["actions"][i]
                    )
                    m["terminations"][i], m["truncations"][i] = terminated, truncated
                    m["life_losses"][i] = info.get("life_loss", False)
                    if terminated or truncated:
                        finished.append((i, *info["game"]))
                        if not training:
                            seeds[i] += num_envs  # game k of an evaluation has seed + k
                        m["obs"][i], _ = env.reset(seed=seeds[i])
            pipe.send(finished)
    for env in envs.values():
        env.close()


# --- Replay buffer --------------------------------------------------------------------------------
class Batch(NamedTuple):
    obs: torch.Tensor  # (batch, 4, 84, 84) uint8
    actions: torch.Tensor  # (batch,) int64
    rewards: torch.Tensor  # (batch,) float32
    terminations: torch.Tensor  # (batch,) float32, 1 where the return that is learned ends
    next_obs: torch.Tensor  # (batch, 4, 84, 84) uint8, without meaning where terminations is 1


class ReplayBuffer:
    """The last `size` transitions as single frames, (time, env, 84, 84) uint8 on the learner's device.

    Row t holds, for each game, the newest frame of observation t and what followed: the action,
    the reward, and whether the return or the game ended. Stacks are put together when sampled.
    """

    def __init__(self, size, num_envs, batch_size, device, seed):
        self.rows, self.num_envs, self.batch_size = size // num_envs, num_envs, batch_size
        shape = (self.rows, num_envs)
        self.frames = torch.zeros((*shape, 84, 84), dtype=torch.uint8, device=device)
        self.actions = torch.zeros(shape, dtype=torch.int64, device=device)
        self.rewards = torch.zeros(shape, dtype=torch.float32, device=device)
        self.terminations = torch.zeros(shape, dtype=torch.float32, device=device)
        self.truncations = torch.zeros(shape, dtype=torch.bool, device=device)
        self.ages = torch.zeros(shape, dtype=torch.int64, device=device)  # frames before this one
        self.t = 0  # rows complete since the start
        self.written = torch.zeros((), dtype=torch.int64, device=device)  # the same, for sample()
        self.past = torch.arange(-3, 2, device=device)  # rows of s and s', relative to t
        self.generator = torch.Generator(device).manual_seed(seed)

    def start(self, obs):
        """The first observations, (num_envs, 4, 84, 84) uint8."""
        self.frames[0] = obs[:, -1]

    def add(self, actions, rewards, terminations, truncations, next_obs):
        """What followed the newest observations; arrays of (num_envs,) and the next observations."""
        row, next_row = self.t % self.rows, (self.t + 1) % self.rows
        device = self.frames.device
        ended = torch.as_tensor(terminations | truncations, device=device)
        self.actions[row] = torch.as_tensor(actions, device=device)
        self.rewards[row] = torch.as_tensor(rewards, device=device)
        self.terminations[row] = torch.as_tensor(terminations, device=device).float()
        self.truncations[row] = torch.as_tensor(truncations & ~terminations, device=device)
        self.frames[next_row] = next_obs[:, -1]
        self.ages[next_row] = torch.where(ended, 0, self.ages[row] + 1)
        self.t += 1
        self.written.fill_(self.t)

    def sample(self) -> Batch:
        """Uniform, with replacement, over all transitions whose frames s and s' are there.

        Row t is complete up to `written` - 1; row `written` holds a frame only. Once the ring is
        full that frame has replaced the oldest, and the 3 rows after it have lost part of their
        stack. A transition cut by truncation is followed by another game: of 32 candidates the
        first other one is taken, which misses only if all 32 are cut.
        """
        oldest = (self.written - self.rows + 4).clamp(min=0)
        count = (self.written - oldest) * self.num_envs
        shape = (self.batch_size, 32)
        draws = torch.randint(2**62, shape, generator=self.generator, device=self.frames.device)
        draws %= count  # 62 bits: a float32 draw would never reach some of a million entries
        rows, envs = (oldest + draws // self.num_envs) % self.rows, draws % self.num_envs
        first = (~self.truncations[rows, envs]).int().argmax(dim=1, keepdim=True)
        rows, envs = rows.gather(1, first), envs.gather(1, first)  # (batch, 1)
        frames = self.frames[(rows + self.past) % self.rows, envs]  # (batch, 5, 84, 84)
        frames *= (-self.past <= self.ages[rows, envs])[:, :, None, None]  # zeros before the first
        rows, envs = rows.squeeze(1), envs.squeeze(1)
        return Batch(
            obs=frames[:, :4],
            actions=self.actions[rows, envs],
            rewards=self.rewards[rows, envs],
            terminations=self.terminations[rows, envs],
            next_obs=frames[:, 1:],
        )


def check_memory(args: Args, device: torch.device) -> None:
    """Raise BadInput if the replay buffer does not fit the device."""
    needed = args.buffer_size * 84 * 84
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif os.path.exists("/proc/meminfo"):
        meminfo = pathlib.Path("/proc/meminfo").read_text()
        free = int(meminfo.split("MemAvailable:")[1].split()[0]) * 1024
    else:
        return
    if needed > free:
        fits = int(free * 0.8 / (84 * 84)) // args.num_envs * args.num_envs
        raise BadInput(
            f"the replay buffer needs {needed / 1e9:.2f} GB and {device} has {free / 1e9:.2f} GB "
            f"free: type --buffer-size {fits}"
        )


# --- Q-network ------------------------------------------------------------------------------------
class QNetwork(nn.Module):
    """The network of [Nature M]: 1,686,180 parameters for 4 actions.

    torch initialises weights and biases uniformly within +-1/sqrt(fan_in), as the released code
    does; the JAX script writes it out.
    """

    def __init__(self, num_actions: int, bf16: bool = False):
        super().__init__()
        self.num_actions, self.bf16 = num_actions, bf16
        self.network = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3136, 512),
            nn.ReLU(),
            nn.Linear(512, num_actions),
        ).to(memory_format=torch.channels_last)  # a quarter faster on a CPU, same numbers

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """obs (batch, 4, 84, 84) uint8; action values (batch, num_actions) float32."""
        x = obs.to(torch.float32, memory_format=torch.channels_last) / 255.0
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            return self.network(x).float()


# --- Learning -------------------------------------------------------------------------------------
class RMSProp(torch.optim.Optimizer):
    """DeepMind's centred RMSProp [Nature T1] [Lua NeuralQLearner:266-273].

    The root holds 0.01, for gradients summed over the batch; our losses are means, hence
    0.01 / batch_size**2. torch.optim.RMSprop adds eps outside the root, a step 10 times larger
    where gradients vanish. "Gradient momentum" 0.95 is the mean that centres, not a velocity.
    """

    def __init__(self, parameters, lr, batch_size):
        super().__init__(parameters, dict(lr=lr, eps=0.01 / batch_size**2))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if not self.state[p]:
                    self.state[p] = {"g": torch.zeros_like(p), "g2": torch.zeros_like(p)}
                g, g2 = self.state[p].values()
                g.mul_(0.95).add_(p.grad, alpha=0.05)
                g2.mul_(0.95).addcmul_(p.grad, p.grad, value=0.05)
                root = (g2 - g * g + group["eps"]).sqrt_()
                p.addcdiv_(p.grad, root, value=-group["lr"])


def linear_schedule(args: Args, step: int) -> float:
    """Exploration at an agent step: start_e until learning_starts, then a straight fall [Lua]."""
    fall = min(max(step - args.learning_starts, 0) / args.exploration_steps, 1.0)
    return args.start_e + (args.end_e - args.start_e) * fall


def crossings(step: int, n: int, period: int) -> int:
    """Multiples of `period` in (step, step + n]: keeps every ratio exact for any num_envs."""
    return (step + n) // period - step // period


def act(q_network: QNetwork, obs: torch.Tensor, epsilon: float, rng) -> np.ndarray:
    """Epsilon-greedy actions (num_envs,) int64, one forward pass for all games [Nature A1]."""
    actions = rng.integers(q_network.num_actions, size=len(obs))
    explore = rng.random(len(obs)) < epsilon
    if not explore.all():
        with torch.no_grad():
            greedy = q_network(obs).argmax(dim=1)
        actions = np.where(explore, actions, greedy.cpu().numpy())
    return actions


def td_loss(q_network, target_network, batch: Batch, args: Args):
    """Loss and the action values it is about; half the squared error, so that its slope is the error.

    Clipped is the error, not the loss: past +-1 the slope stays 1 [Nature M]. Mean over the batch.
    """
    with torch.no_grad():
        q_next = target_network(batch.next_obs).max(dim=1).values  # [Nature A1]
        td_target = batch.rewards + args.gamma * q_next * (1.0 - batch.terminations)
    q_values = q_network(batch.obs).gather(1, batch.actions[:, None]).squeeze(1)
    if args.loss == "clipped":
        return F.huber_loss(q_values, td_target), q_values
    return 0.5 * F.mse_loss(q_values, td_target), q_values


def make_optimizer(q_network: QNetwork, args: Args) -> torch.optim.Optimizer:
    if args.optimizer == "rmsprop":
        return RMSProp(q_network.parameters(), args.learning_rate, args.batch_size)
    return torch.optim.Adam(q_network.parameters(), args.learning_rate, fused=True)


def update(q_network, target_network, optimizer, rb: ReplayBuffer, args: Args):
    """One gradient step; the loss and the mean action value stay on the device."""
    loss, q_values = td_loss(q_network, target_network, rb.sample(), args)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach(), q_values.detach().mean()


def eval_slots(args: Args) -> int:
    """Games that an evaluation plays side by side; one where steps are counted or it is watched."""
    return 1 if args.eval_steps or args.render_mode else args.eval_games


def evaluate(q_network, envs: VectorEnv, args: Args, seed: int) -> list[tuple[float, int]]:
    """(return, agent steps) of whole games played under the paper's protocol [Nature M].

    Either exactly eval_games, all of which count however long they are, or the games that finish
    within eval_steps.
    """
    device = next(q_network.parameters()).device
    rng = np.random.default_rng(seed)
    obs = envs.reset(seed)
    playing, started, steps, results = np.ones(envs.num_envs, bool), envs.num_envs, 0, []
    while playing.any() and not 0 < args.eval_steps <= steps:
        actions = act(q_network, torch.tensor(obs, device=device), args.eval_epsilon, rng)
        envs.send(np.where(playing, actions, -1))
        obs, *_, infos = envs.recv()
        steps += int(playing.sum())
        for i, episodic_return, episodic_length in infos["games"]:
            results.append((episodic_return, episodic_length))
            playing[i] = bool(args.eval_steps) or started < args.eval_games
            started += 1
    return results


# --- Training -------------------------------------------------------------------------------------
class RunLog:
    """The files of a run: TensorBoard events, episodes.csv, eval.csv. Steps are agent steps."""

    def __init__(self, run_dir: pathlib.Path, args: Args):
        self.frame_skip, self.start = args.frame_skip, time.perf_counter()
        self.events = event_file_writer.EventFileWriter(str(run_dir))
        self.files = [
            open(run_dir / f"{name}.csv", "w", newline="") for name in ("episodes", "eval")
        ]
        self.episodes, self.evaluations = (csv.writer(file) for file in self.files)
        self.episodes.writerow(["step", "frames", "episodic_return", "episodic_length", "seconds"])
        self.evaluations.writerow(
            ["step", "frames", "games", "mean", "std", "min", "max", "seconds"]
        )
        table = "".join(f"\n|{k}|{v}|" for k, v in vars(args).items())
        text = tensor_pb2.TensorProto(
            dtype="DT_STRING", string_val=[f"|flag|value|\n|-|-|{table}".encode()]
        )
        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
        metadata = summary_pb2.SummaryMetadata(plugin_data=plugin)
        self._event(0, tag="hyperparameters", metadata=metadata, tensor=text)

    def _event(self, step, **value):
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(**value)])
        self.events.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def scalars(self, step: int, **values: float) -> None:
        """One point per TensorBoard tag; `charts__SPS` becomes charts/SPS."""
        for tag, value in values.items():
            self._event(step, tag=tag.replace("__", "/"), simple_value=value)

    def game(self, step: int, episodic_return: float, episodic_length: int) -> None:
        """A finished training game: a CSV row and two points."""
        seconds = round(time.perf_counter() - self.start, 1)
        frames = step * self.frame_skip
        self.episodes.writerow([step, frames, episodic_return, episodic_length, seconds])
        self.scalars(
            step,
            charts__episodic_return=episodic_return,
            charts__episodic_length=episodic_length,
        )

    def evaluation(self, step: int, results: list[tuple[float, int]]) -> None:
        """A finished evaluation: a CSV row and a point; nothing if no game finished."""
        if results:
            seconds = round(time.perf_counter() - self.start, 1)
            summary = summarise(results)
            self.evaluations.writerow([step, step * self.frame_skip, *summary.values(), seconds])
            self.scalars(step, eval__episodic_return=summary["mean"])

    def flush(self) -> None:
        self.events.flush()
        for file in self.files:
            file.flush()

    def close(self) -> None:
        self.events.close()
        for file in self.files:
            file.close()


def summarise(results: list[tuple[float, int]]) -> dict[str, float]:
    """Of the games' returns: number, mean, standard deviation over the games, extremes."""
    returns = np.array([episodic_return for episodic_return, _ in results])
    figures = (returns.mean(), returns.std(), returns.min(), returns.max())
    return dict(games=len(results), **dict(zip(("mean", "std", "min", "max"), map(float, figures))))


def choose_device(name: str) -> torch.device:
    """auto: CUDA, then Apple's MPS, then the CPU."""
    if name == "auto":
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else mps
    return torch.device(name)


def machine(device: torch.device) -> dict:
    """What a measurement must say: hardware, versions, and which text of this script ran."""
    names = ("torch", "gymnasium", "ale-py", "numpy", "opencv-python-headless")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "script_sha256": hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest(),
        "command": sys.argv,
    }


def save_model(path: pathlib.Path, q_network: QNetwork, args: Args, step: int) -> None:
    """Weights and what they belong to; an old file stays until the new one is whole."""
    model = {"script": "dqn_atari", "env_id": args.env_id, "step": step}
    model |= {"num_actions": q_network.num_actions, "weights": q_network.state_dict()}
    torch.save(model, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def load_model(path: str, q_network: QNetwork, args: Args) -> None:
    """Weights into q_network; BadInput if they are another game's or another network's."""
    try:
        model = torch.load(path, map_location="cpu", weights_only=True)
        env_id, script, weights = model["env_id"], model["script"], model["weights"]
        shapes = {name: value.shape for name, value in weights.items()}
    except Exception as error:
        raise BadInput(f"{path} is not a readable model ({type(error).__name__})") from None
    if env_id != args.env_id:
        raise BadInput(f"{path} plays {env_id}: type --env-id {env_id}")
    if shapes != {name: value.shape for name, value in q_network.state_dict().items()}:
        raise BadInput(f"{path} holds another network: type the path of a model of this script")
    q_network.load_state_dict(weights)


@dataclass
class End:
    """What train() returns."""

    run_dir: pathlib.Path
    q_network: QNetwork
    target_network: QNetwork
    optimizer: torch.optim.Optimizer
    rb: ReplayBuffer
    global_step: int = 0
    num_updates: int = 0
    num_syncs: int = 0
    num_games: int = 0


def report(bar, args: Args, step: int, sps: float, returns, epsilon: float) -> None:
    """The progress bar's tail; plain lines, one per 10 points, where there is no terminal."""
    mean = f"{np.mean(returns):.2f}" if returns else "-"
    tail = f"return {mean} (last {len(returns)} games), epsilon {epsilon:.3f}"
    if not bar.disable:
        bar.set_postfix_str(tail)
    elif step // args.log_frequency % 10 == 0:
        left = (args.total_timesteps - step) / sps / 3600
        print(f"step {step}, {sps:.0f} steps/s, {tail}, {left:.1f} h left", flush=True)


def train(args: Args) -> End:
    """Algorithm 1 of [Nature] for total_timesteps agent steps; files go to the run directory."""
    check_args(args)
    name = f"{args.env_id.replace('/', '-')}__{args.exp_name}__{args.seed}__{int(time.time())}"
    run_dir = pathlib.Path(args.run_dir or f"runs/{name}")
    with contextlib.ExitStack() as stack:
        # The games' processes come first: forked later they would inherit thread pools and CUDA.
        video = dict(video_dir=run_dir / "videos") if args.capture_video else {}
        envs = stack.enter_context(contextlib.closing(VectorEnv(args, args.num_envs, **video)))
        if args.eval_frequency:
            eval_envs = VectorEnv(args, eval_slots(args), False, prefix="eval", **video)
            stack.enter_context(contextlib.closing(eval_envs))

        device = choose_device(args.device)
        check_memory(args, device)
        torch.manual_seed(args.seed)
        rng = np.random.default_rng(args.seed)
        q_network = QNetwork(envs.num_actions, args.bf16).to(device)
        if args.init_from:
            load_model(args.init_from, q_network, args)
        target_network = QNetwork(envs.num_actions, args.bf16).to(device)
        target_network.load_state_dict(q_network.state_dict())
        optimizer = make_optimizer(q_network, args)
        rb = ReplayBuffer(args.buffer_size, args.num_envs, args.batch_size, device, args.seed)
        end = End(run_dir, q_network, target_network, optimizer, rb)

        run_dir.mkdir(parents=True)
        shutil.copy(__file__, run_dir)
        (run_dir / "args.json").write_text(json.dumps(vars(args), indent=2) + "\n")
        (run_dir / "machine.json").write_text(json.dumps(machine(device), indent=2) + "\n")
        if args.track:
            import wandb

            wandb.init(
                project=args.wandb_project_name, name=name, config=vars(args), sync_tensorboard=True
            )
            stack.callback(wandb.finish)
        log = stack.enter_context(contextlib.closing(RunLog(run_dir, args)))
        print(
            f"{args.env_id}: {envs.num_actions} actions, {args.num_envs} games in "
            f"{len(envs.workers)} processes, learning on {device}, replay "
            f"{args.buffer_size * 84 * 84 / 1e9:.2f} GB, files in {run_dir}",
            flush=True,
        )
        bar = stack.enter_context(
            tqdm(total=args.total_timesteps, unit="step", disable=not sys.stderr.isatty())
        )
        returns = collections.deque(maxlen=100)
        last_time = time.perf_counter()
        last_step = 0

        obs = torch.tensor(envs.reset(args.seed), device=device)
        rb.start(obs)
        for global_step in range(0, args.total_timesteps, args.num_envs):
            # Act, with one epsilon for the whole vector step.
            epsilon = linear_schedule(args, global_step)
            actions = act(q_network, obs, epsilon, rng)
            envs.send(actions)  # the games run while the learner works

            # Learn: what is due in (global_step, global_step + num_envs], after learning_starts.
            start = max(global_step, args.learning_starts)
            due = max(global_step + args.num_envs - start, 0)
            for _ in range(crossings(start, due, args.train_frequency)):
                loss, q_values = update(q_network, target_network, optimizer, rb, args)
                end.num_updates += 1
            if crossings(start, due, args.target_network_frequency):
                target_network.load_state_dict(q_network.state_dict())
                end.num_syncs += 1

            # Store: rewards as their sign, a lost life as an end; only the learner sees them so.
            next_obs, rewards, terminations, truncations, infos = envs.recv()
            obs = torch.tensor(next_obs, device=device)
            rb.add(actions, np.sign(rewards), terminations | infos["life_losses"], truncations, obs)
            end.global_step = global_step + args.num_envs

            # Log; game i's transition is agent step global_step + i + 1.
            for i, episodic_return, episodic_length in infos["games"]:
                log.game(global_step + i + 1, episodic_return, episodic_length)
                returns.append(episodic_return)
                end.num_games += 1
            bar.update(args.num_envs)
            if crossings(global_step, args.num_envs, args.log_frequency):
                sps = (end.global_step - last_step) / (time.perf_counter() - last_time)
                last_step, last_time = end.global_step, time.perf_counter()
                log.scalars(last_step, charts__SPS=sps, charts__epsilon=epsilon)
                if end.num_updates:
                    figures = dict(losses__td_loss=loss.item(), losses__q_values=q_values.item())
                    if not np.isfinite(figures["losses__td_loss"]):
                        raise RuntimeError(f"the loss is {loss.item()} at step {last_step}")
                    log.scalars(last_step, **figures)
                report(bar, args, last_step, sps, returns, epsilon)
                log.flush()
            if args.eval_frequency and crossings(global_step, args.num_envs, args.eval_frequency):
                results = evaluate(q_network, eval_envs, args, args.seed + 10_000)
                log.evaluation(end.global_step, results)
            if args.save_frequency and crossings(global_step, args.num_envs, args.save_frequency):
                save_model(
                    run_dir / f"model_{end.global_step}.pt", q_network, args, end.global_step
                )
        save_model(run_dir / "model.pt", q_network, args, end.global_step)
    return end


def play(args: Args) -> list[tuple[float, int]]:
    """--evaluate: the games of one evaluation, printed; videos go beside the model."""
    check_args(args)
    video_dir = pathlib.Path(args.evaluate).parent / "videos" if args.capture_video else None
    envs = VectorEnv(args, eval_slots(args), False, video_dir=video_dir, prefix="play")
    with contextlib.closing(envs):
        q_network = QNetwork(envs.num_actions, args.bf16).to(choose_device(args.device))
        load_model(args.evaluate, q_network, args)
        results = evaluate(q_network, envs, args, args.seed)
    for k, (episodic_return, episodic_length) in enumerate(results):
        print(f"game {k}: return {episodic_return:g}, {episodic_length} agent steps")
    if results:
        print(", ".join(f"{name} {value:g}" for name, value in summarise(results).items()))
    return results


# --- Entry ----------------------------------------------------------------------------------------
def main() -> None:
    """Train, or play with --evaluate; bad input is one line and exit code 2."""
    args = tyro.cli(Args, description=__doc__)
    try:
        play(args) if args.evaluate else train(args)
    except BadInput as error:
        print(f"dqn_atari.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
