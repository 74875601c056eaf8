"""A scripted emulator: what every frame of a game shows, pays and ends is written by the test.

    fakes = FakeAtaris(Play(reward=lambda at: at.frame))
    monkeypatch.setattr(script.gym, "make", fakes.make)

Games keep their log in shared memory, so that games in forked processes can be read as well.
"""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np

HEIGHT, WIDTH = 210, 160
ROW = np.dtype([("episode", "i4"), ("frame", "i4"), ("action", "i4")])
LOG = np.dtype([("resets", "i4"), ("count", "i4"), ("rows", ROW, 20_000)])


@dataclass
class At:
    """Where a game stands: frame 0 is the one that reset shows, episode 1 the first."""

    game: int = -1
    episode: int = 0
    frame: int = 0
    action: int = -1


@dataclass
class Play:
    """The script of a game, each a function of At. A screen is a level, a colour or an image."""

    screen: Callable = lambda at: 0
    reward: Callable = lambda at: 0
    lives: Callable = lambda at: 3
    over: Callable = lambda at: False
    truncate_at: Callable = lambda at: None  # the frame at which this episode is cut
    actions: tuple = (0, 1, 3, 4)  # the emulator's codes of the agent's actions


class FakeAle:
    def __init__(self, play: Play, logs: np.ndarray, max_frames: int | None):
        self.play, self.logs, self.max_frames, self.at = play, logs, max_frames, At()

    def start(self, seed: int | None) -> None:
        game = self.at.game if seed is None else seed
        self.at = At(game, self.at.episode + 1)
        self.logs[game]["resets"] += 1

    def act(self, action: int, paddle_strength: float = 1.0):
        assert action in self.play.actions, "no action of this game"
        assert not self.game_over(), "stepped after its end"
        self.at.frame, self.at.action = self.at.frame + 1, int(action)
        log = self.logs[self.at.game]
        log["rows"][log["count"]] = self.at.episode, self.at.frame, action
        log["count"] += 1
        return self.play.reward(self.at)

    def getScreenRGB(self, buffer: np.ndarray | None = None) -> np.ndarray | None:
        screen = np.empty((HEIGHT, WIDTH, 3), np.uint8) if buffer is None else buffer
        screen[:] = self.play.screen(self.at)
        return screen if buffer is None else None

    def lives(self) -> int:
        return self.play.lives(self.at)

    def game_over(self, with_truncation: bool = True) -> bool:
        return bool(self.play.over(self.at) or with_truncation and self.game_truncated())

    def game_truncated(self) -> bool:
        cuts = self.play.truncate_at(self.at), self.max_frames
        return any(cut is not None and self.at.frame >= cut for cut in cuts)

    def getMinimalActionSet(self) -> list[int]:
        return list(self.play.actions)

    def getEpisodeFrameNumber(self) -> int:
        return self.at.frame


class FakeAtari(gymnasium.Env):
    """One emulator frame per step, as the real environment with frameskip=1. Game i has seed i."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}

    def __init__(self, play, logs, render_mode=None, max_num_frames_per_episode=None):
        self.ale = FakeAle(play, logs, max_num_frames_per_episode)
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Discrete(len(play.actions))
        self.observation_space = gymnasium.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.ale.start(seed)
        return self.ale.getScreenRGB(), {"lives": self.ale.lives()}

    def step(self, action):
        reward = self.ale.act(self.ale.play.actions[action])
        over, truncated = self.ale.game_over(with_truncation=False), self.ale.game_truncated()
        return self.ale.getScreenRGB(), reward, over, truncated, {"lives": self.ale.lives()}

    def render(self):
        return self.ale.getScreenRGB()


class FakeAtaris:
    """Makes fakes in place of gymnasium.make and keeps what they did, game by game."""

    def __init__(self, play: Play, num_games: int = 2):
        memory = multiprocessing.RawArray("B", num_games * LOG.itemsize)
        self.play, self.logs, self.made = play, np.frombuffer(memory, LOG), []

    def make(self, env_id, frameskip, repeat_action_probability, **kwargs):
        assert frameskip == 1, "the fake has no frame skip of its own"
        assert repeat_action_probability == 0.0, "nor does it repeat actions"
        self.made.append((env_id, kwargs))
        return FakeAtari(self.play, self.logs, **kwargs)

    def resets(self, game: int) -> int:
        return int(self.logs[game]["resets"])

    def rows(self, game: int) -> np.ndarray:
        """(episode, frame, raw action) of every emulator frame."""
        return self.logs[game]["rows"][: self.logs[game]["count"]]
