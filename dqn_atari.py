# /// script
# requires-python = ">=3.10"
# dependencies = ["torch==2.13.0", "gymnasium>=1.2,<2", "ale-py>=0.11.2", "numpy", "tyro>=0.9",
#   "tensorboard", "opencv-python-headless", "tqdm", "filelock"]
# ///
"""DQN for Atari as in Mnih et al. 2015, checked against DeepMind's released code, in one file.

    python dqn_atari.py --env-id BreakoutNoFrameskip-v4

Then --resume runs/... goes on with a run, --evaluate with the path of its model plays.
Measured: Breakout 262.4 +- 115.2 (30 games), 3 M steps, 1 seed, 2.9 h, 2 cores, bfloat16.

Tags below: [NIPS s5], [NIPS A1] are section 5, Algorithm 1 of Mnih et al., arXiv 1312.5602 (2013);
[Nature M], [Nature A1], [Nature T1] Methods, Algorithm 1, Extended Data Table 1 of Mnih et al.,
Nature 518 (2015); [Lua FILE:n] line n of their code, google-deepmind/dqn at 9d9b1d1; [alewrap FILE]
of google-deepmind/alewrap at 5d52649; [CleanRL] vwxyzjn/cleanrl's dqn_atari.py at fe8d8a0.

Deviations from the paper by default, and the flag that restores it:
    8 games share the network      --num-envs 1
    bfloat16 where AVX512 has it   --precision float32
    Adam, 1e-4                     --optimizer rmsprop --learning-rate 2.5e-4
    squared error                  --loss clipped
    80,000 steps before learning   --learning-starts 50000
    exploration falls to 0.01      --end-e 0.1 (from learning_starts on, as released)
    target copy every 1,000 steps  --target-network-frequency 40000 (10,000 updates) or 10000 [Lua]
    10 M agent steps               --total-timesteps 50000000

No flag undoes: games run while the learner works, so an update does not see the step in flight; a
game is truncated at 108,000 frames and that transition is left out. Only in [Lua] and
not here: up to 31 no-ops after a lost life, repeats cut short by it, random ties, a padded first
convolution, samples across the write head, draws of 512 transitions ahead, 3 actions in Pong.
"""

# --- Imports --------------------------------------------------------------------------------------
import contextlib
import copy
import difflib
import hashlib
import json
import multiprocessing.connection
import os
import platform
import shutil
import signal
import sys
import time
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import ale_py  # registers the games
import cv2
import filelock
import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import tyro
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tqdm import tqdm

MODEL, CHECKPOINT = "model.pt", "checkpoint.pt"  # in the directory of a run
SIGNALS = [s for s in signal.Signals if s.name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1")]
SIGNALS = [s for s in SIGNALS if s.name != "SIGHUP" or not signal.getsignal(s)]  # but for nohup


# --- Args -----------------------------------------------------------------------------------------
# One unit everywhere: the agent step, one action chosen in one game, 4 emulator frames. [Nature]
# prints it as "frame": its 50 M frames are 38 days of play, 200 M of the emulator's.
@dataclass
class Args:
    env_id: str = "BreakoutNoFrameskip-v4"  # any Atari id without frame skip, or ALE/X-v5 (sticky)
    seed: int = 1  # of network, exploration and replay; game i has seed + i
    total_timesteps: int = 10_000_000  # agent steps of all games [NIPS s5] [CleanRL] (Nature: 50 M)
    exp_name: str = Path(__file__).stem  # part of the run directory's name
    run_dir: str | None = None  # where to write; None: runs/{env_id}__{exp_name}__{seed}__{time}
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"  # auto: CUDA, then Apple's MPS, then CPU
    precision: Literal["auto", "float32", "tf32", "bf16"] = "auto"  # auto: bf16 if AVX512 has it
    torch_deterministic: bool = True  # cuDNN's deterministic kernels: equal seeds, equal weights
    log_frequency: int = 1_000  # agent steps between points of the curves
    checkpoint_frequency: int = 1_000_000  # agent steps between checkpoints; 0: only at a signal
    keep_checkpoint: bool = False  # a finished run can then be resumed with more --total-timesteps
    resume: str | None = None  # continue the run in this directory, exactly
    capture_video: bool = False  # mp4 of the first environment's games 0, 1, 2, 4, 8, ...
    init_from: str | None = None  # start from the weights in this model

    evaluate: str | None = None  # do not train: play with the weights in this model
    render_mode: Literal["human"] | None = None  # human: --evaluate in a window
    eval_frequency: int = 0  # agent steps between evaluations while training; 0: none
    eval_games: int = 30  # games of an evaluation [Nature M]
    eval_epsilon: float = 0.05  # exploration in an evaluation [NIPS s5.1] [Nature M]
    eval_max_frames: int = 18_000  # emulator frames after which a game is cut: 5 minutes [Nature M]

    num_envs: int = 8  # games stepped together; 1 is the paper's setting
    frame_skip: int = 4  # emulator frames per agent step [NIPS s5] [Nature T1]
    noop_max: int = 30  # a game starts with 1 to this many no-op frames [Nature T1]
    life_loss_terminal: bool = True  # a lost life ends the return that is learned [Nature M]

    buffer_size: int = 1_000_000  # transitions, 7,056 bytes each [NIPS s5] [Nature T1]
    learning_starts: int = 80_000  # agent steps before the first update [CleanRL] (Nature: 50,000)
    train_frequency: int = 4  # agent steps per update [Nature T1]
    batch_size: int = 32  # transitions per update [NIPS s5] [Nature T1]
    target_network_frequency: int = 1_000  # agent steps per copy [CleanRL] (Nature: 10,000 updates)
    gamma: float = 0.99  # discount [Nature T1]
    optimizer: Literal["adam", "rmsprop"] = "adam"  # [CleanRL] (Nature: DeepMind's rmsprop)
    learning_rate: float = 1e-4  # [CleanRL] (Nature: 2.5e-4)
    loss: Literal["squared", "clipped"] = "squared"  # [CleanRL] (Nature: error clipped to +-1)
    start_e: float = 1.0  # epsilon until it falls [NIPS s5] [Nature T1]
    end_e: float = 0.01  # epsilon at the end of its fall [CleanRL] (Nature: 0.1)
    exploration_steps: int = 1_000_000  # agent steps of its fall [NIPS s5] [Nature T1]


class BadInput(ValueError):
    """What was typed cannot work; the message is one line that says what to type instead."""


def require(good: object, message: str) -> None:
    if not good:
        raise BadInput(message)


def check_args(args: Args) -> None:
    """Refuse what can be seen not to work, before there is any process or file."""
    atari = {k: v.kwargs for k, v in gym.registry.items() if "ale_py" in str(v.entry_point)}
    games = [k for k, v in atari.items() if v.get("obs_type") != "ram" and not v.get("continuous")]
    games = [k for k in games if "ALE/" in k or atari[k]["frameskip"] == 1]
    near = difflib.get_close_matches(args.env_id, [k for k in games if "v4" in k], 1, 0.0)[0]
    what = f"{args.env_id} is not a game this script plays (XNoFrameskip-v4 or ALE/X-v5)"
    require(args.env_id in games, f"{what}: type --env-id {near}")
    fractions = ("start_e", "end_e", "eval_epsilon", "gamma")
    may_be_0 = ("seed", "noop_max", "checkpoint_frequency", "eval_frequency", *fractions)
    for name, value in vars(args).items():
        if type(value) in (int, float):
            flag, limit = f"--{name.replace('_', '-')}", 1 if name in fractions else np.inf
            fine = 0 <= value <= limit and (value > 0 or name in may_be_0)
            require(fine, f"{flag} {value} cannot be: type {flag} {getattr(Args, name)}")
    for flag, value in ("total-timesteps", args.total_timesteps), ("buffer-size", args.buffer_size):
        more = -(-value // args.num_envs) * args.num_envs
        require(value == more, f"{value} is no multiple of --num-envs: type --{flag} {more}")
    least = args.batch_size + 4 * args.num_envs
    require(args.buffer_size >= least, f"no batch fits: type --buffer-size {least} or more")
    require(args.learning_starts >= least, f"no batch yet: type --learning-starts {least} or more")
    watched = not args.render_mode or args.evaluate and not args.capture_video
    require(watched, "--render-mode human: type --evaluate MODEL with it, and no --capture-video")
    require(args.device in ("auto", "cpu", choose_device("auto").type), "no GPU: type --device cpu")
    taken = not args.resume and os.path.exists(args.run_dir or "")
    require(not taken, f"{args.run_dir} exists: type another path, or --resume {args.run_dir}")


# --- Environment ----------------------------------------------------------------------------------
class AtariGame(gym.Wrapper):
    """A game as the agent plays and sees it; rewards as the game gives them.

    It starts with 1 to noop_max no-ops, if any, in single frames [alewrap GameEnvironment:131-156].
    An agent step is one action for frame_skip frames, rewards summed; only a game's end cuts it.
    ALE/X-v5's sticky actions are drawn here, because an emulator does not save the one it holds.
    A screen is the maximum of a step's last 2 frames, by colour: sprites flicker [Nature M].
    Seen are the last 4 screens as luminance, 84x84, oldest first, zeros before the first of a game
    or life [Lua TransitionTable:171-212]. With life_loss_terminal a lost life ends the return.
    `videos` gets mp4s of whole games 0, 1, 2, 4, 8, ...; RecordVideo would hold 2.7 GB for one.
    """

    def __init__(self, env, args: Args, training: bool, videos: Path | None):
        super().__init__(env)
        self.args, self.training, self.ale = args, training, self.unwrapped.ale
        self.sticky = gym.spec(args.env_id).kwargs["repeat_action_probability"]
        self.obs, self.games = np.zeros((4, 84, 84), np.uint8), -1  # the number of its game
        self.observation_space = gym.spaces.Box(0, 255, self.obs.shape, np.uint8)
        self.part, self.video = videos and videos / "unfinished.mp4", None

    def reset(self, **kwargs):
        self.screens, self.held, self.games = [self.env.reset(**kwargs)[0]], 0, self.games + 1
        for _ in range(self.np_random.integers(min(1, self.args.noop_max), self.args.noop_max + 1)):
            self._repeat(0, 1)
            if self.ale.game_over():
                self.screens = [self.env.reset()[0]]
        self.lives, self.episode = self.ale.lives(), {"r": 0.0, "l": 0}
        return self._observe(first=True), {"life_lost": False}

    def step(self, action):
        self.screens = []
        reward = self._repeat(int(action), self.args.frame_skip)
        lives, self.lives = self.lives, self.ale.lives()
        life_lost = self.training and self.args.life_loss_terminal and self.lives < lives
        self.episode = {"r": self.episode["r"] + reward, "l": self.episode["l"] + 1}
        over, truncated = self.ale.game_over(with_truncation=False), self.ale.game_truncated()
        info = {"life_lost": life_lost} | ({"episode": self.episode} if over or truncated else {})
        obs = self._observe(life_lost)
        self._film(over or truncated)
        return obs, reward, over, truncated, info

    def _repeat(self, action, frames):
        reward, actions = 0.0, self.ale.getMinimalActionSet()
        for left in reversed(range(frames)):
            if not self.sticky or self.np_random.random() >= self.sticky:
                self.held = action
            reward += self.ale.act(actions[self.held])  # past env.step, which costs more
            over = self.ale.game_over()
            if left < 2 or over:  # no screen shows more than two, at a game's end perhaps one
                self.screens = [*self.screens[-1:], self.ale.getScreenRGB()]
            if over:
                break
        return reward

    def _observe(self, first):
        # [Lua Scale:24-25] says "bilinear", in Torch an average over areas where it shrinks.
        gray = cv2.cvtColor(self.render(), cv2.COLOR_RGB2GRAY)
        self.obs[:-1] = 0 if first else self.obs[1:]
        self.obs[-1] = cv2.resize(gray, (84, 84), interpolation=cv2.INTER_AREA)
        return self.obs.copy()

    def render(self):
        return np.maximum(self.screens[0], self.screens[-1])

    def _film(self, ended):
        if self.part and self.episode["l"] == 1 and self.games & (self.games - 1) == 0:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            codec, size = cv2.VideoWriter.fourcc(*"vp09"), self.render().shape[1::-1]
            self.video = cv2.VideoWriter(str(self.part), codec, 15, size)
        if self.video:
            self.video.write(cv2.cvtColor(self.render(), cv2.COLOR_RGB2BGR))
        if self.video and ended:
            self.video.release()
            self.part.rename(self.part.with_name(f"{int(time.time())}-game-{self.games}.mp4"))
            self.video = None

    @property
    def state(self) -> dict:
        """Everything its future depends on, in the words of JSON."""
        about = {name: vars(self)[name] for name in ("lives", "episode", "held", "games")}
        about |= {"ale": self.ale.cloneState(include_rng=True).serialize().hex()}
        return about | {"obs": self.obs.tobytes().hex(), "rng": self.np_random.bit_generator.state}

    @state.setter
    def state(self, state: dict):
        # An emulator's state lacks a part that its first frame sets (ale-py 0.12, seen in Qbert).
        self.env.step(0)
        self.ale.restoreState(ale_py.ALEState(bytes.fromhex(state["ale"])))
        self.np_random.bit_generator.state = state["rng"]
        vars(self).update({name: state[name] for name in ("lives", "episode", "held", "games")})
        self.obs[:] = np.frombuffer(bytes.fromhex(state["obs"]), np.uint8).reshape(self.obs.shape)


def make_env(args: Args, training: bool = True, videos: Path | None = None) -> gym.Env:
    """One game, wrapped. Unless training, lives do not count and eval_max_frames ends it."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    if multiprocessing.current_process().daemon:  # in a game's own process
        for number in SIGNALS:  # Ctrl-C or a cluster's signal reaches all; the learner ends them
            signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)  # frames are small and games many
    kwargs = {} if training else {"max_num_frames_per_episode": args.eval_max_frames}
    kwargs |= {"frameskip": 1, "repeat_action_probability": 0.0, "render_mode": args.render_mode}
    return AtariGame(gym.make(args.env_id, **kwargs), args, training, videos)


def make_envs(args: Args, videos: Path | None = None) -> gym.vector.AsyncVectorEnv:
    """num_envs games, each in a process of its own, because single ALE games hold the GIL.

    A game that ends starts again within the same step; the observation is then the new game's
    first and infos["final_info"] the old one's last. Game 0 is the one of the videos.
    """
    makers = [partial(make_env, args, videos=None if i else videos) for i in range(args.num_envs)]
    cv2.setNumThreads(1)  # here too: a forked process waits for ever for OpenCV's other threads
    context = "fork" if sys.platform == "linux" else "spawn"
    return gym.vector.AsyncVectorEnv(makers, context=context, copy=False, autoreset_mode="SameStep")


def close_envs(envs: gym.vector.AsyncVectorEnv, kind=None, error=None, trace=None) -> None:
    """Kills them, since envs.close() waits for dead ones; raises if a death was the error."""
    lost = isinstance(error, (EOFError, ConnectionError))
    ended = multiprocessing.connection.wait([p.sentinel for p in envs.processes], 5) if lost else []
    for process in envs.processes:
        process.kill()
        process.join()
    envs.closed = True
    games = enumerate(envs.processes)
    died = [f"game {i} (exit code {p.exitcode})" for i, p in games if p.sentinel in ended]
    if died:
        why = "-9 is a kill, often for lack of memory: --resume continues from the last checkpoint"
        raise RuntimeError(f"a process died: {', '.join(died)}; {why}") from error


# --- Replay buffer --------------------------------------------------------------------------------
def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy; on CUDA by way of pinned memory, for which the learner does not wait."""
    if device.type == "cuda":
        return torch.from_numpy(array).pin_memory().to(device, non_blocking=True)
    return torch.tensor(array, device=device)


class ReplayBuffer:
    """The last buffer_size frames and what followed, on the learner's device: 7.06 GB for 1 M.

    Row t holds of each game the newest frame of observation t, the number of frames before it in
    its life, and what followed: action, reward, end. Stacks are put together when sampled.
    """

    def __init__(self, args: Args, obs):
        """obs: the games' first observations, (num_envs, 4, 84, 84) uint8, on the device."""
        shape, device = (args.buffer_size // args.num_envs, args.num_envs), obs.device
        needed, free, meminfo = args.buffer_size * 84 * 84, np.inf, Path("/proc/meminfo")
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
        elif meminfo.exists():
            free = int(meminfo.read_text().split("MemAvailable:")[1].split()[0]) * 1024
        what = f"the replay needs {needed / 1e9:.2f} GB, {device} has {free / 1e9:.2f} GB free"
        fits = int(min(free, needed) * 0.9 / 84 / 84) // args.num_envs * args.num_envs
        require(needed <= 0.9 * free, f"{what}: type --buffer-size {fits} or less")
        # Not zeroed, which takes seconds: what a stack lacks is masked by its age.
        self.frames = torch.empty((*shape, 84, 84), dtype=torch.uint8, device=device)
        self.frames[0] = obs[:, -1]
        zeros = partial(torch.zeros, shape, device=device)
        self.ages = zeros(dtype=int)
        self.actions = zeros(dtype=int)
        self.rewards = zeros()
        self.terminations = zeros()
        self.truncations = zeros()
        self.t = 0  # rows complete since the start; row t has only its frame and age
        self.newest = torch.zeros((), dtype=torch.int64, device=device)  # t, where a graph sees it
        self.batch_size = args.batch_size
        self.generator = torch.Generator(device).manual_seed(args.seed)

    def add(self, actions, rewards, terminations, truncations, next_obs):
        """What followed the newest observations, numpy (num_envs,), and the next, on the device."""
        row, next_row = self.t % len(self.ages), (self.t + 1) % len(self.ages)
        followed = np.stack([actions, rewards, terminations, truncations]).astype(np.float32)
        self.actions[row], self.rewards[row], ends, cuts = to_device(followed, self.frames.device)
        self.terminations[row], self.truncations[row] = ends, cuts > ends
        self.ages[next_row] = (self.ages[row] + 1) * (ends + cuts == 0)
        self.frames[next_row] = next_obs[:, -1]
        self.t += 1
        self.newest += 1

    def state_dict(self) -> dict:
        """Rows in use, on the host; not as slices, of which torch.save would write the whole."""
        names = ("frames", "ages", "actions", "rewards", "terminations", "truncations")
        rows = {k: torch.from_numpy(getattr(self, k)[: self.t + 1].cpu().numpy()) for k in names}
        return {"t": self.t, "draws": self.generator.get_state(), "rows": rows}

    def load_state_dict(self, state: dict) -> None:
        self.t = state["t"]
        self.newest.fill_(self.t)
        self.generator.set_state(state["draws"])
        for name, x in state["rows"].items():
            getattr(self, name)[: self.t + 1] = x

    def sample(self):
        """Uniform with replacement: obs, actions, rewards, terminations, next_obs; the first and
        last (batch, 4, 84, 84) uint8, actions int, else float32; after an end next_obs is void.

        Row t is a frame without an action; it has overwritten the oldest once the ring is full, and
        the 3 rows after it lack frames of their stack. A transition cut by truncation is followed
        by another game, so of 32 candidates the first sound one is taken, a cut one if all are cut.
        """
        num_rows, num_envs = self.ages.shape
        window = torch.arange(-3, 2, device=self.ages.device)[None]  # rows of s and s', from t
        oldest = (self.newest - num_rows + 4).clip(min=0)
        count = ((self.newest - oldest) * num_envs).clip(min=1)  # 1 while it is empty
        # count is on the device, so no bound for randint; float32 torch.rand has only 24 bits.
        size = 2, self.batch_size, 32
        bits = torch.randint(2**30, size, generator=self.generator, device=self.ages.device)
        draws = ((bits[0] << 30) + bits[1]) % count
        rows, games = (oldest + draws // num_envs) % num_rows, draws % num_envs
        sound = self.truncations[rows, games].argmin(axis=1, keepdims=True)
        rows, games = rows.gather(1, sound), games.gather(1, sound)  # (batch, 1)
        frames = self.frames.view(torch.int32)[(rows + window) % num_rows, games]
        frames *= (self.ages[rows, games] >= -window)[:, :, None, None]  # as in AtariGame
        frames = frames.view(torch.uint8)  # (batch, 5, 84, 84), by 4 pixels at a time, faster
        index = rows[:, 0], games[:, 0]
        followed = self.actions[index], self.rewards[index], self.terminations[index]
        return frames[:, :4], *followed, frames[:, 1:]


# --- Q-network ------------------------------------------------------------------------------------
class QNetwork(nn.Module):
    """The network of [Nature M], 1,686,180 parameters for 4 actions; they begin uniform
    within +-1/sqrt(fan_in), biases also, in torch as in the released code."""

    def __init__(self, num_actions: int, bf16: bool = False):
        super().__init__()
        self.num_actions, self.bf16 = num_actions, bf16
        self.network = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.Flatten(),  # before ReLU, whose gradient then has one layout in memory: faster
            nn.ReLU(),
            nn.Linear(3136, 512),
            nn.ReLU(),
            nn.Linear(512, num_actions),
        ).to(memory_format=torch.channels_last)  # see benchmark/README.md

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """(batch, 4, 84, 84) uint8 to action values (batch, num_actions) float32."""
        x = obs.to(torch.bfloat16 if self.bf16 else torch.float32, copy=True).div_(255.0)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            x = self.network[:-1](x)
        return self.network[-1](x.float())  # values in bfloat16 would often tie


# --- Learning -------------------------------------------------------------------------------------
class RMSProp(torch.optim.Optimizer):
    """DeepMind's centred RMSProp [Nature T1] [Lua NeuralQLearner:266-277].

    eps, 0.01 there, stands inside the root and belongs to gradients summed over the batch; of a
    mean loss it is 0.01 / batch_size**2. torch.optim.RMSprop adds it outside: where slopes vanish
    it divides by 0.01 instead of 0.1. "Gradient momentum" 0.95 is the decay of g, not a velocity.
    """

    def __init__(self, parameters, lr, eps):
        super().__init__(parameters, dict(lr=lr, eps=eps))
        for p in self.param_groups[0]["params"]:
            self.state[p] = {"g": torch.zeros_like(p), "g2": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                g, g2 = self.state[p]["g"], self.state[p]["g2"]
                g.lerp_(p.grad, 0.05)
                g2.mul_(0.95).addcmul_(p.grad, p.grad, value=0.05)
                p.addcdiv_(p.grad, (g2 - g * g + group["eps"]).sqrt_(), value=-group["lr"])


def make_optimizer(q_network: QNetwork, args: Args) -> torch.optim.Optimizer:
    """Its state exists from the start, because a CUDA graph and a checkpoint need it in place."""
    parameters, lr = list(q_network.parameters()), args.learning_rate
    if args.optimizer == "rmsprop":
        return RMSProp(parameters, lr, eps=0.01 / args.batch_size**2)
    adam = torch.optim.Adam(parameters, lr, fused=True, capturable=parameters[0].is_cuda)
    for p in parameters:
        adam.state[p] = {"step": torch.zeros((), device=p.device)}
        adam.state[p] |= {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
    return adam


def choose_device(name: str) -> torch.device:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    return torch.device(name if name != "auto" else "cuda" if cuda else "mps" if mps else "cpu")


def choose_bf16(args: Args, device: torch.device) -> bool:
    """Whether products are in bfloat16; sets TF32, on by default in cuDNN, as asked."""
    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    fit = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return args.precision == "bf16" or args.precision == "auto" and fit


def linear_schedule(args: Args, step: int) -> float:
    """Epsilon: falls from step 0 in [NIPS s5], learning_starts in [Lua NeuralQLearner:369-371]."""
    fallen = min(max(step - args.learning_starts, 0) / args.exploration_steps, 1.0)
    return args.start_e + (args.end_e - args.start_e) * fallen


def crossings(step: int, n: int, period: int) -> int:
    """Multiples of `period` in (step, step + n], none for period 0: exact for any num_envs."""
    return (step + n) // period - step // period if period else 0


@torch.no_grad()
def act(q_network, obs, epsilon: float, rng) -> np.ndarray:
    """Epsilon-greedy actions (num_envs,) int64 from one forward pass [NIPS A1] [Nature A1]."""
    actions = rng.integers(q_network.num_actions, size=len(obs))
    explore = rng.random(len(obs)) < epsilon
    if explore.all():
        return actions
    return np.where(explore, actions, q_network(obs).argmax(dim=1).cpu().numpy())


def td_loss(q_network, target_network, batch, args: Args):
    """Mean loss and Q(s, a) (batch,); the half, not in [CleanRL], makes its slope the error."""
    obs, actions, rewards, terminations, next_obs = batch
    with torch.no_grad():
        q_next = target_network(next_obs).max(dim=1).values  # [Nature A1]
        td_target = rewards + args.gamma * q_next * (1.0 - terminations)
    q_values = q_network(obs).gather(1, actions[:, None]).squeeze(1)
    if args.loss == "clipped":
        # The error is clipped to +-1, not the loss: that goes on as a line of slope 1 [Nature M].
        return nn.functional.huber_loss(q_values, td_target), q_values
    return 0.5 * nn.functional.mse_loss(q_values, td_target), q_values


def update(q_network, target_network, optimizer, rb: ReplayBuffer, args: Args):
    """One gradient step on one batch; the loss and the mean Q(s, a) stay on the device."""
    loss, q_values = td_loss(q_network, target_network, rb.sample(), args)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach(), q_values.detach().mean()


class CapturedUpdate:
    """`update` as one CUDA graph: the same kernels and numbers, one launch for all of them.

    A graph repeats what was recorded. So what changes is on the device, the replay's size too, and
    nothing in it waits for the host. It is rehearsed first, because libraries set themselves up in
    their first calls: by copies of the networks and optimizer; the generator is then set back.
    """

    def __init__(self, learner: tuple, args: Args):
        *learns, rb = learner
        doubles, draws = copy.deepcopy(learns), rb.generator.get_state()
        self.graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        self.graph.register_generator_state(rb.generator)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                update(*doubles, rb, args)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self.graph, stream=stream):
            self.loss_and_q_values = update(*learner, args)
        rb.generator.set_state(draws)

    def __call__(self):
        self.graph.replay()
        return self.loss_and_q_values


def evaluate(q_network, env, args: Args, seed: int, stop=()) -> dict[str, float] | None:
    """Statistics of whole games' returns, game k from seed + k; None once `stop` has an entry."""
    device, rng, games = next(q_network.parameters()).device, np.random.default_rng(seed), []
    for _ in tqdm(range(args.eval_games), "evaluation", unit="games", leave=False, disable=None):
        obs, info = env.reset(seed=seed + len(games))
        while "episode" not in info:
            if stop:
                return None
            action = act(q_network, to_device(obs[None], device), args.eval_epsilon, rng)
            obs, _, _, _, info = env.step(action[0])
        games.append(info["episode"])
    returns = [game["r"] for game in games]
    spread = {"std": float(np.std(returns)), "min": min(returns), "max": max(returns)}
    return {"games": len(returns), "mean": float(np.mean(returns)), **spread}


# --- Training -------------------------------------------------------------------------------------
class Log:
    """TensorBoard curves and, where a file is named, its rows. Steps are agent steps."""

    def __init__(self, run_dir: Path, args: Args, step: int, kept: dict | None):
        """kept: what `position` said at a checkpoint; what was written later is cut off."""
        self.run_dir, self.args, self.last = run_dir, args, (step, time.time())
        self.start_time = time.time() - (kept["seconds"] if kept else 0.0)
        for file in self.files() if kept else ():
            os.truncate(file, kept["bytes"].get(file.name, 0))
        self.events = EventFileWriter(str(run_dir), flush_secs=20)
        if not kept:
            flags = hparams_pb({name: str(value) for name, value in vars(args).items()})
            self.events.add_event(Event(wall_time=time.time(), summary=flags))

    def files(self) -> list[Path]:
        return [x for k in ("episodes.csv", "eval.csv", "events.*") for x in self.run_dir.glob(k)]

    def position(self) -> dict:
        self.events.flush()
        sizes = {file.name: file.stat().st_size for file in self.files()}
        return {"seconds": time.time() - self.start_time, "bytes": sizes}

    def progress(self, bar: tqdm, step: int, returns: list[float]) -> float:
        """Steps per second since the last call; also shown, in lines where there is no terminal."""
        (last_step, last_time), self.last = self.last, (step, time.time())
        sps = (step - last_step) / (self.last[1] - last_time)
        status = f"return {np.mean(returns[-100:] or [np.nan]):.2f}, {sps:.0f} steps/s"
        bar.set_postfix_str(status)
        if bar.disable and step % (10 * self.args.log_frequency) < self.args.num_envs:
            hours = (self.args.total_timesteps - step) / sps / 3600
            left = f"{hours:.2f} h left" if step > self.args.learning_starts else "not learning yet"
            print(f"step {step}: {status}, {left}", flush=True)
        return sps

    def __call__(self, group: str, step: int, file: str | None = None, **values: float) -> None:
        for name, value in values.items():
            point = scalar_pb(f"{group}/{name}", float(value))
            self.events.add_event(Event(wall_time=time.time(), step=step, summary=point))
        if file:
            columns = {"step": step, "frames": step * self.args.frame_skip, **values}
            columns["seconds"] = f"{time.time() - self.start_time:.1f}"
            with open(self.run_dir / file, "a") as rows:
                if rows.tell() == 0:
                    print(*columns, sep=",", file=rows)
                print(*columns.values(), sep=",", file=rows)


def machine(device) -> dict:
    """What a result must say: hardware, versions, script."""
    about = {"device": torch.cuda.get_device_name() if device.type == "cuda" else str(device)}
    about |= {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()}
    info = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    about |= {"cpu": info.partition("model name\t: ")[2].partition("\n")[0]}
    about |= {"platform": platform.platform(), "python": platform.python_version()}
    about |= {module.__name__: str(module.__version__) for module in (torch, gym, ale_py, np, cv2)}
    return about | {"script_sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}


def save(path: Path, state: dict) -> None:
    """A zip; the file before stays until this one is whole and on the disk."""
    part = path.with_suffix(".part")
    try:
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file)
        os.replace(part, path)
        if os.name == "posix":
            directory = os.open(path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path, key: str) -> dict:
    """What `save` wrote, with this key, once its checksums are compared. Executes nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            require(not archive.testzip(), "damaged")
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        require(key in state, "of another kind")
        return state
    except Exception as error:
        what = f"{path} is missing, damaged or of another kind ({type(error).__name__})"
        raise BadInput(f"{what}: type the path of a {MODEL} or of an unfinished run") from error


def load_model(path: str, q_network, args: Args) -> None:
    """Weights into q_network; refuses those of another game or network."""
    model = load(Path(path), "env_id")
    require(model["env_id"] == args.env_id, f"{path}: other game: type --env-id {model['env_id']}")
    try:
        q_network.load_state_dict(model["weights"])
    except (RuntimeError, LookupError, ValueError) as error:
        raise BadInput(f"{path} is of another network: type the path of a {MODEL}") from error


def save_checkpoint(run_dir: Path, about, progress, learner, envs, rng, stop) -> None:
    """All that the future depends on; if it cannot be saved only a run that is to stop fails."""
    start_time, path, step = time.time(), run_dir / CHECKPOINT, progress["step"]
    if not all(x.isfinite().all() for x in learner[0].parameters()):
        raise RuntimeError(f"weights are not finite at step {step}")
    state = about | {"progress": progress, "learner": [x.state_dict() for x in learner]}
    state |= {"rng": rng.bit_generator.state, "games": envs.get_attr("state")}
    try:
        save(path, state)
        size, seconds = path.stat().st_size / 1e9, time.time() - start_time
        tqdm.write(f"step {step}: checkpoint of {size:.2f} GB in {seconds:.1f} s")
    except (OSError, RuntimeError) as error:
        free = f"{shutil.disk_usage(run_dir).free / 1e9:.2f} GB free"
        tqdm.write(f"step {step}: NO checkpoint, the one before stays: {free}, {error}")
        require(not stop, f"step {step} is not kept: type --resume {run_dir} for what was before")


def restore(run_dir: Path, about, learner, envs, rng) -> dict:
    """Puts a checkpoint back and returns its progress; only a few arguments may have changed."""
    state = load(run_dir / CHECKPOINT, "progress")
    try:
        require(state["script"] == about["script"], "it is of another script")
        for name, was in state["args"].items():
            free = name in ("total_timesteps", "checkpoint_frequency", "keep_checkpoint", "resume")
            flag, same = f"--{name.replace('_', '-')}", about["args"][name] == was
            require(same or free, f"the run has {flag} {was}: leave {flag} out")
        step, total = state["progress"]["step"], about["args"]["total_timesteps"]
        require(step <= total, f"{step} steps are done: type --total-timesteps {step} or more")
        for x, saved in zip(learner, state["learner"], strict=True):  # saved: mapped from the file
            x.load_state_dict(saved if isinstance(x, ReplayBuffer) else copy.deepcopy(saved))
        rng.bit_generator.state = state["rng"]
        envs.set_attr("state", state["games"])
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise BadInput(f"cannot resume from {run_dir}: {error}") from error
    was, now = state["machine"], about["machine"]
    if other := [f"{k} {was.get(k)} is now {now[k]}" for k in now if now[k] != was.get(k)]:
        print(f"it goes on, but not bit for bit: {', '.join(other)}", flush=True)
    return copy.deepcopy(state["progress"])  # its tensors too lie in the file


def train(args: Args) -> SimpleNamespace:
    """Algorithm 1 of the paper; returns the state at its end, all local names."""
    check_args(args)
    name = f"{args.env_id.replace('/', '-')}__{args.exp_name}__{args.seed}__{int(time.time())}"
    run_dir = Path(args.resume or args.run_dir or f"runs/{name}")
    with contextlib.ExitStack() as stack:
        stop = {}  # the signals that came
        with contextlib.suppress(ValueError):  # only the main thread may catch them
            for number in SIGNALS:  # stop[number] = its frame; the old handler returns at the end
                stack.callback(signal.signal, number, signal.signal(number, stop.__setitem__))
        # Processes first: later they would inherit thread pools, a CUDA context and the lock.
        videos = (run_dir / "videos") if args.capture_video else None
        envs = make_envs(args, videos)
        stack.push(partial(close_envs, envs))
        num_actions = int(envs.single_action_space.n)
        device, rng = choose_device(args.device), np.random.default_rng(args.seed)
        torch.backends.cudnn.deterministic = args.torch_deterministic
        torch.set_flush_denormal(True)  # the optimizer's means for dead weights become such: slow
        torch.manual_seed(args.seed)
        q_network = QNetwork(num_actions, choose_bf16(args, device)).to(device)
        if args.init_from and not args.resume:
            load_model(args.init_from, q_network, args)
        target_network = copy.deepcopy(q_network)  # bf16 is cast at each copy, not in each update
        target_network.network[:-1].to(dtype=torch.bfloat16 if q_network.bf16 else None)
        optimizer = make_optimizer(q_network, args)
        obs = to_device(envs.reset(seed=args.seed)[0], device)
        rb = ReplayBuffer(args, obs)
        learner = q_network, target_network, optimizer, rb
        needed = 2e-9 * rb.frames.nbytes if args.checkpoint_frequency and not args.resume else 0
        parent = next(path for path in run_dir.absolute().parents if path.exists())
        disk = shutil.disk_usage(parent).free / 1e9
        what = f"two checkpoints can need {needed:.2f} GB, {parent} has {disk:.2f} GB"
        require(disk > needed, f"{what}: type --checkpoint-frequency 0")
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(run_dir / ".lock", timeout=0))
        except OSError as error:
            what = f"cannot use {run_dir}, does another process train there? {error}"
            raise BadInput(f"{what}: type another --run-dir") from error
        about = {"script": Path(__file__).stem, "args": vars(args), "machine": machine(device)}
        about["machine"]["bfloat16"] = q_network.bf16
        progress = dict(step=0, num_updates=0, num_syncs=0, returns=[], loss=0.0, q_values=0.0)
        if args.resume:
            progress = restore(run_dir, about, learner, envs, rng)
            obs = to_device(np.stack(envs.get_attr("obs")), device)
        step, returns = progress["step"], progress["returns"]
        learn = partial(update, *learner, args)
        if device.type == "cuda":
            learn = CapturedUpdate(learner, args)

        (run_dir / Path(__file__).name).write_bytes(Path(__file__).read_bytes())
        for name, x in ("args", vars(args)), ("machine", about["machine"] | {"command": sys.argv}):
            (run_dir / f"{name}.json").write_text(json.dumps(x, indent=2) + "\n")
        log = Log(run_dir, args, step, progress.get("log"))
        stack.callback(log.events.close)
        if args.eval_frequency:
            eval_env = make_env(args, False, videos and run_dir / "eval_videos")
            stack.callback(eval_env.close)
        sticky = gym.spec(args.env_id).kwargs["repeat_action_probability"]
        facts = f"{num_actions} actions, sticky {sticky}, replay {rb.frames.nbytes / 1e9:.2f} GB"
        print(f"{args.env_id} on {device}: {facts}, files in {run_dir}", flush=True)

        n, total, resumed = args.num_envs, args.total_timesteps, step if args.resume else None
        steps, done = range(step, total + 1, n), dict(total=total // n, initial=step // n)
        bar = tqdm(steps, unit="steps", unit_scale=n, disable=None, **done)
        for step in bar:
            # Keep. eval.csv's row comes after the checkpoint: a resumed run evaluates again first.
            last, figures = step == total, None
            if step and crossings(step - n, n, args.eval_frequency):
                figures = evaluate(q_network, eval_env, args, args.seed + 10_000, stop)
            stopped, due = bool(stop), crossings(step - n, n, args.checkpoint_frequency)
            if stopped or (args.keep_checkpoint if last else due and step != resumed):
                progress |= dict(step=step, log=log.position())
                save_checkpoint(run_dir, about, progress, learner, envs, rng, stop)
                stopped = bool(stop)  # a signal that came meanwhile needs no other checkpoint
            if figures and not stopped:
                log("eval", step, "eval.csv", **figures)
            if stopped or last:
                break

            # Act: one epsilon and one network for all games.
            epsilon = linear_schedule(args, step)
            actions = act(q_network, obs, epsilon, rng)
            envs.step_async(actions)  # the games run while the learner works

            # Learn: what is due at those steps in (step, step + num_envs] after learning_starts.
            start = min(max(step, args.learning_starts), step + n)
            for _ in range(crossings(start, step + n - start, args.train_frequency)):
                progress["loss"], progress["q_values"] = learn()
                progress["num_updates"] += 1
            if crossings(start, step + n - start, args.target_network_frequency):
                target_network.load_state_dict(q_network.state_dict())
                progress["num_syncs"] += 1

            # Store: only the learner sees rewards as signs and, if they count, lost lives as ends.
            next_obs, rewards, terminations, truncations, infos = envs.step_wait()
            obs = to_device(next_obs, device)
            rb.add(actions, np.sign(rewards), terminations | infos["life_lost"], truncations, obs)

            # Log; the transition of game i is agent step `step + i + 1`.
            for i in np.flatnonzero(terminations | truncations):
                game = infos["final_info"]["episode"]
                returns.append(game["r"][i].item())
                figures = {"episodic_return": returns[-1], "episodic_length": game["l"][i].item()}
                log("charts", step + i + 1, "episodes.csv", **figures)
            if crossings(step, n, args.log_frequency):
                log("charts", step + n, SPS=log.progress(bar, step + n, returns), epsilon=epsilon)
                if progress["num_updates"]:
                    loss = float(progress["loss"])
                    log("losses", step + n, td_loss=loss, q_values=progress["q_values"])
                    if not np.isfinite(loss):
                        raise RuntimeError(f"the loss is {loss} at step {step + n}")
        if stopped:
            print(f"stopped at step {step}: python {sys.argv[0]} --resume {run_dir} goes on")
        else:
            model = dict(script=about["script"], env_id=args.env_id, num_actions=num_actions)
            save(run_dir / MODEL, model | dict(step=step, weights=q_network.state_dict()))
            for name in () if args.keep_checkpoint else (CHECKPOINT, "checkpoint.part"):
                (run_dir / name).unlink(missing_ok=True)
    return SimpleNamespace(**locals())


def play(args: Args) -> dict[str, float]:
    """--evaluate: one evaluation of a model; its videos go beside it."""
    check_args(args)
    videos = Path(args.evaluate).parent / "videos_play" if args.capture_video else None
    device = choose_device(args.device)
    with contextlib.closing(make_env(args, False, videos)) as env:
        q_network = QNetwork(int(env.action_space.n), choose_bf16(args, device)).to(device)
        load_model(args.evaluate, q_network, args)
        figures = evaluate(q_network, env, args, args.seed)
    print(", ".join(f"{name} {value:g}" for name, value in figures.items()))
    return figures


# --- Entry ----------------------------------------------------------------------------------------
if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    try:
        if args.resume:
            was = load(Path(args.resume, CHECKPOINT), "args")["args"]
            require(not was.keys() - vars(args), f"another version: run the copy in {args.resume}")
            args = tyro.cli(Args, default=Args(**was | {"resume": args.resume}))
        if args.evaluate:
            play(args)
        elif (end := train(args)).stopped:
            sys.exit(128 + min(end.stop))  # as a shell says it
    except (BadInput, KeyboardInterrupt) as error:
        print(f"{Path(__file__).name}: {str(error) or 'interrupted'}", file=sys.stderr)
        sys.exit(2 if isinstance(error, BadInput) else 128 + signal.SIGINT)
    finally:
        for process in multiprocessing.active_children():  # games, after an error at their start
            process.kill()
