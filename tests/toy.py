"""Toy games with the face of `make_env`'s, and arguments small enough for a test."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from torch import channels_last, nn


def only(*names):
    """A mark for tests of what these scripts alone have, or of what all have in the same words."""
    return pytest.mark.parametrize("script", names, indirect=True, scope="session")


class ToyGame(gym.Env):
    """What the toys share: stacks that start with zeros, and the sums of an episode.

    A toy writes `begin()` and `move(action) -> (reward, terminated, truncated, life_lost)`; both
    leave the screen in `self.screen`, (84, 84) uint8.
    """

    action_space = gym.spaces.Discrete(3)
    observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total, self.length = 0.0, 0
        self.begin()
        return self._observe(first=True), {"life_lost": False}

    def step(self, action):
        reward, terminated, truncated, life_lost = self.move(action)
        self.total, self.length = self.total + reward, self.length + 1
        info = {"life_lost": life_lost}
        if terminated or truncated:
            info["episode"] = {"r": self.total, "l": self.length}
        return self._observe(life_lost), reward, terminated, truncated, info

    @property
    def state(self):
        """All it is made of, in the words of JSON: whatever a toy keeps, and its generator."""
        about = {k: v for k, v in vars(self).items() if type(v) in (int, float, bool)}
        images = {k: v.tobytes().hex() for k, v in vars(self).items() if k in ("obs", "screen")}
        return {"about": about, "images": images, "rng": self.np_random.bit_generator.state}

    @state.setter
    def state(self, state):
        vars(self).update(state["about"])
        for name, image in state["images"].items():
            pixels = np.frombuffer(bytes.fromhex(image), np.uint8)
            setattr(self, name, pixels.reshape(-1, 84, 84).copy())
        self.screen = self.screen[0]
        self.np_random.bit_generator.state = state["rng"]

    def _observe(self, first):
        before = np.zeros((3, 84, 84), np.uint8) if first else self.obs[1:]
        self.obs = np.concatenate([before, self.screen[None]])
        return self.obs.copy()


class Catch(ToyGame):
    """A ball falls down a board of 12x12; a paddle of 3 cells moves left, stays or moves right.

    In the last row the game ends with +1 for a ball that is caught and -1 for one that is missed.
    """

    size = 12

    def begin(self):
        self.row, self.paddle = 0, self.size // 2
        self.column = int(self.np_random.integers(self.size))
        self._draw()

    def move(self, action):
        self.paddle = min(max(self.paddle + int(action) - 1, 1), self.size - 2)  # its middle
        self.row += 1
        self._draw()
        over = self.row == self.size - 1
        caught = abs(self.paddle - self.column) <= 1
        reward = (1.0 if caught else -1.0) if over else 0.0
        return reward, over, False, False

    def _draw(self):
        board = np.zeros((self.size, self.size), np.uint8)
        board[-1, self.paddle - 1 : self.paddle + 2] = 255
        board[self.row, self.column] = 255
        self.screen = board.repeat(7, axis=0).repeat(7, axis=1)


class Scripted(ToyGame):
    """A game of noise whose lengths, rewards, lost lives and end are written down beforehand.

    `lengths` are of its games in turn, again and again; `rewards` are of a game's steps likewise.
    With `action_bonus` the reward also tells the action, so that a return shows who played.
    """

    def __init__(
        self, lengths=(7,), rewards=(1.0,), lives_lost=(), truncates=False, action_bonus=0
    ):
        self.lengths, self.rewards, self.lives_lost = lengths, rewards, lives_lost
        self.truncates, self.action_bonus, self.games = truncates, action_bonus, 0

    def begin(self):
        self.games += 1
        self.screen = self.np_random.integers(256, size=(84, 84), dtype=np.uint8)

    def move(self, action):
        self.screen = self.np_random.integers(256, size=(84, 84), dtype=np.uint8)
        reward = self.rewards[self.length % len(self.rewards)] + self.action_bonus * int(action)
        over = self.length + 1 == self.lengths[(self.games - 1) % len(self.lengths)]
        life_lost = self.length + 1 in self.lives_lost
        return reward, over and not self.truncates, over and self.truncates, life_lost


class Graded(Scripted):
    """A game whose seed says its length, 3 + seed % 4, and its one reward, the seed, in the end."""

    seeds, actions = [], []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.lengths, self.rewards = (3 + seed % 4,), (0.0,) * (2 + seed % 4) + (float(seed),)
        return super().reset(seed=seed, options=options)

    def move(self, action):
        self.actions.append(int(action))
        return super().move(action)


def replace_game(monkeypatch, script, game, thin=None, **settings):
    """Every `make_env` of the script, in its worker processes too, gives this game.

    With it comes a thin network, unless something is to be learned or `thin` is False: what is
    counted, kept and resumed does not depend on its size, and most of a toy run's time does.
    """

    def make_env(args, training=True, videos=None):
        return game(**settings)

    monkeypatch.setattr(script, "make_env", make_env)
    if thin is not False and game is not Catch:
        for name, thinner in ("QNetwork", thin_network), ("make_network", thin_jax_network):
            if hasattr(script, name):
                monkeypatch.setattr(script, name, thinner(getattr(script, name)))


def thin_network(network):
    """The script's network with two convolutions of 4 channels and one layer behind them."""

    class QNetwork(network):
        def __init__(self, num_actions, bf16=False):
            super().__init__(num_actions, bf16)
            layers = nn.Conv2d(4, 4, 8, stride=8), nn.ReLU(), nn.Conv2d(4, 4, 2, stride=2)
            layers = *layers, nn.ReLU(), nn.Flatten(), nn.Linear(100, num_actions)
            self.network = nn.Sequential(*layers).to(memory_format=channels_last)

    return QNetwork


def thin_jax_network(make_network):
    """The script's network with 8 of its channels a layer."""
    sizes = (4, 8), (8, 8), (8, 8), (7 * 7 * 8, 8), (8, None)

    def make_thin_network(seed, num_actions):
        layers = zip(make_network(seed, num_actions), sizes, strict=True)
        return [
            {"weight": layer["weight"][..., :fan_in, :out], "bias": layer["bias"][:out]}
            for layer, (fan_in, out) in layers
        ]

    return make_thin_network


def tiny_args(script, run_dir, **changes):
    """Args of a run of seconds: 600 agent steps, 125 updates and 5 target copies.

    What a script has no flag for is left out.
    """
    tiny = dict(run_dir=str(run_dir), device="cpu", precision="float32", num_envs=1)
    tiny |= dict(
        batch_size=4, total_timesteps=600, buffer_size=800, learning_starts=100, train_frequency=4
    )
    tiny |= dict(target_network_frequency=100, exploration_steps=300, log_frequency=100)
    known = {field.name for field in dataclasses.fields(script.Args)}
    return script.Args(**{k: v for k, v in (tiny | changes).items() if k in known})


def tensors_in(state, name="") -> dict:
    """Every tensor of nested dictionaries and lists, by its path."""
    if hasattr(state, "state_dict"):
        state = state.state_dict()
    if isinstance(state, (dict, list, tuple)):
        parts = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: x for key, part in parts for k, x in tensors_in(part, f"{name}.{key}").items()}
    return {name: state} if hasattr(state, "numpy") else {}
