"""The environment: what the agent sees, is paid and is told, frame by frame.

Promises that training relies on hold for one game and through make_envs (fixture `drive`).
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import namedtuple
from types import SimpleNamespace

import ale_py
import cv2
import gymnasium
import numpy as np
import psutil
import pytest
from fake_atari import HEIGHT, WIDTH, FakeAtaris, Play
from stable_baselines3.common.atari_wrappers import MaxAndSkipEnv, NoopResetEnv, WarpFrame
from toy import Scripted, only

gymnasium.register_envs(ale_py)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"
Step = namedtuple("Step", "obs reward terminated truncated life_lost ended final")


# --- Means ----------------------------------------------------------------------------------------
class HangError(BaseException):
    """No error that a script could mean."""


@contextlib.contextmanager
def within(seconds):
    """What takes longer fails."""

    def fail(*_):
        raise HangError(f"after {seconds} s")

    old = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@pytest.fixture(autouse=True)
def no_process_outlives_a_test():
    yield
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


class OneGame:
    """One game behind the interface of several: games are rows, a game that ends is reset."""

    def __init__(self, script, args):
        self.env = script.make_env(args)
        self.obs = self.env.reset(seed=args.seed)[0][None].copy()

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        ended, final = [], {}
        if terminated or truncated:
            ended, final = [(0, info["episode"]["r"], info["episode"]["l"])], {0: obs}
            obs = self.env.reset()[0]
        told = (reward, terminated, truncated, info["life_lost"])
        return Step(obs[None].copy(), *(np.array([x]) for x in told), ended, final)


class SeveralGames:
    """The games of make_envs, each in a process."""

    def __init__(self, script, args):
        self.envs = script.make_envs(args)
        self.num_actions = self.envs.single_action_space.n
        self.obs = self.envs.reset(seed=args.seed)[0].copy()

    def step(self, actions):
        self.envs.step_async(np.broadcast_to(actions, len(self.obs)))
        obs, reward, terminated, truncated, infos = self.envs.step_wait()
        ends = np.flatnonzero(terminated | truncated).tolist()
        episodes = infos["final_info"]["episode"] if ends else {}
        ended = [(i, episodes["r"][i].item(), episodes["l"][i].item()) for i in ends]
        final = {i: infos["final_obs"][i] for i in ends}
        told = (reward, terminated, truncated, infos["life_lost"].copy())
        return Step(obs.copy(), *told, ended, final)


@pytest.fixture(params=[OneGame, SeveralGames], ids=["single", "vector"])
def drive(request, script, monkeypatch):
    """Starts scripted games, without no-ops unless asked: drive(play) -> games, fakes."""

    def start(play, **flags):
        fakes = FakeAtaris(play)
        monkeypatch.setattr(script.gym, "make", fakes.make)
        flags = dict(seed=0, noop_max=0, num_envs=2, life_loss_terminal=True) | flags
        return request.param(script, script.Args(**flags)), fakes

    return start


@pytest.fixture
def make_fake(script, monkeypatch):
    """One scripted game as make_env returns it: make_fake(play) -> env, fakes."""

    def start(play, training=True, **flags):
        fakes = FakeAtaris(play)
        monkeypatch.setattr(script.gym, "make", fakes.make)
        return script.make_env(script.Args(**{"noop_max": 0} | flags), training), fakes

    return start


def image(*blocks):
    """A black screen with blocks (rows, columns, colour)."""
    screen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for rows, columns, colour in blocks:
        screen[rows, columns] = colour
    return screen


def block(number, level=200):
    """A screen whose lit block tells its number, 0 to 41; no two share a pixel of the agent's."""
    row, column = divmod(number, 6)
    return image(
        (slice(30 * row + 5, 30 * row + 25), slice(25 * column + 4, 25 * column + 20), level)
    )


def overlaps(size, into=84):
    """(into, size) share of a target cell that every source pixel covers, on a line."""
    edges, pixels = np.arange(into + 1) * size / into, np.arange(size)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return np.clip(high - low, 0, None) * into / size


def seen(screen):
    """Oracle of an 84x84 frame: ITU-R BT.601 luminance, then exact box average."""
    luminance = np.rint(screen.astype(float) @ [0.299, 0.587, 0.114])
    return overlaps(HEIGHT) @ luminance @ overlaps(WIDTH).T


def assert_seen(frame, screen):
    assert np.abs(frame - seen(screen)).max() <= 1


def levels(obs):
    """The grey levels of a stack of plain frames, oldest first."""
    assert (obs == obs[:, :1, :1]).all()
    return obs[:, 0, 0].tolist()


# --- Rewards and frames of a step -----------------------------------------------------------------
def test_reward_is_the_raw_sum_of_the_4_frames(drive):
    """Pitfalls 23, 45."""
    rewards = [0, 1, 1, 0, 0, 300, -2, 50, 0, 0, 0, 0, -7, 0, 0, -1]
    games, _ = drive(Play(reward=lambda at: rewards[at.frame - 1]))
    for expected in (2, 348, 0, -8):
        assert (games.step(0).reward == expected).all()


def test_a_step_is_4_emulator_frames_of_one_action(drive):
    """Pitfalls 24, 28."""
    games, fakes = drive(Play(actions=(0, 1, 3, 4)))
    for action in (2, 0, 3, 1, 1):
        games.step(action)
    for game in range(len(games.obs)):
        assert fakes.rows(game)["action"].tolist() == [3] * 4 + [0] * 4 + [4] * 4 + [1] * 8
        assert fakes.rows(game)["frame"].tolist() == list(range(1, 21))


@only("dqn_atari")
@pytest.mark.parametrize("skip", [1, 2, 3, 4, 5])
def test_screen_is_the_maximum_of_the_last_two_frames_of_a_step(drive, skip):
    """Pitfalls 1, 2."""
    games, _ = drive(Play(screen=lambda at: block(at.frame)), frame_skip=skip)
    for last in range(skip, 5 * skip + 1, skip):
        newest = games.step(0).obs[:, -1]
        expected = np.maximum(block(last), block(last - 1) if skip > 1 else 0)
        for frame in newest:
            assert_seen(frame, expected)


@only("dqn_atari")
def test_maximum_is_taken_over_colours_before_luminance(drive):
    """Pitfall 3: red then blue is 105, the luminance of magenta; of the two luminances it is 76."""
    games, _ = drive(Play(screen=lambda at: {3: RED, 4: BLUE}.get(at.frame, 0)))
    assert (games.step(0).obs[:, -1] == 105).all()


@only("dqn_atari")
@pytest.mark.parametrize("end, shown", [(1, [1]), (2, [2]), (3, [3]), (4, [3, 4])])
@pytest.mark.parametrize("how", ["over", "truncated"])
def test_a_repeat_cut_short_shows_only_its_own_frames(drive, end, shown, how):
    """Pitfall 2: frames of the step before or of an older game would light their own blocks. Of a
    game that ends before its step does only the last is seen; nothing is learned from it."""
    play = Play(
        screen=lambda at: block(14 * (at.episode - 1) % 42 + at.frame),
        over=lambda at: how == "over" and at.frame >= 8 + end,
        truncate_at=lambda at: 8 + end if how == "truncated" else None,
    )
    games, fakes = drive(play)
    for first in (0, 14, 28):
        for obs in games.step(0).obs:
            assert_seen(obs[-1], np.maximum(block(first + 3), block(first + 4)))
        games.step(0)
        step = games.step(0)
        for game in range(len(games.obs)):
            frames = [block(first + 8 + n) for n in shown]
            assert_seen(step.final[game][-1], np.maximum.reduce(frames))
            assert_seen(step.obs[game, -1], block((first + 14) % 42))
    assert len(fakes.rows(0)) == 3 * (8 + end)


@only("dqn_atari")
def test_a_new_game_shows_no_pixel_of_the_old_one(drive):
    """Pitfalls 2, 10, 19: the observation at an end is the first of the next game."""
    ends = {1: 5, 2: 6, 3: 11, 4: 4}
    play = Play(screen=lambda at: block(at.episode), over=lambda at: at.frame >= ends[at.episode])
    games, fakes = drive(play)
    for episode in (1, 2, 3):
        for _ in range(-(-ends[episode] // 4)):
            step = games.step(0)
        assert step.terminated.all()
        assert not step.obs[:, :3].any()
        for obs in step.obs:
            assert_seen(obs[3], block(episode + 1))
    assert [fakes.resets(game) for game in range(len(games.obs))] == [4] * len(games.obs)


# --- No-ops ---------------------------------------------------------------------------------------
def test_a_game_starts_with_1_to_30_single_no_op_frames(drive):
    """Pitfalls 27, 28: every number occurs, what they pay is in no return."""
    play = Play(reward=lambda at: 1 if at.action else 5, over=lambda at: at.action == 1)
    games, fakes = drive(play, noop_max=30)
    for _ in range(400):
        step = games.step(1)
        assert (step.reward == 1).all()
        assert step.ended == [(game, 1, 1) for game in range(len(games.obs))]
    for game in range(len(games.obs)):
        rows = fakes.rows(game)
        counts = np.bincount(rows["episode"][rows["action"] == 0])[1:]
        assert len(counts) == 401
        assert set(counts) == set(range(1, 31))
        # Uniform: 401 / 30 = 13.4 of each; by chance outside 1 to 33 once in 10,000 runs.
        assert np.bincount(counts)[1:].max() <= 33


def test_the_number_of_no_ops_comes_from_the_seed_of_the_game(drive):
    """Pitfall 44: game i has seed + i, here i."""
    games, fakes = drive(Play(), noop_max=30)
    for game in range(len(games.obs)):
        rng, _ = gymnasium.utils.seeding.np_random(game)
        assert len(fakes.rows(game)) == rng.integers(1, 31)


def test_noop_max_0_starts_with_the_first_frame(drive):
    """Pitfall 27."""
    games, fakes = drive(Play(screen=lambda at: 100 + at.frame), noop_max=0)
    for game, obs in enumerate(games.obs):
        assert levels(obs) == [0, 0, 0, 100]
        assert len(fakes.rows(game)) == 0


@pytest.mark.parametrize("how", ["over", "truncated"])
def test_a_game_that_ends_in_its_no_ops_is_restarted(drive, how):
    """Pitfalls 27, 43: the agent never sees an ended game, the ended game is in no return."""
    play = Play(
        screen=lambda at: 50 * at.episode + at.frame,
        lives=lambda at: 4 - at.episode,
        over=lambda at: how == "over" and at.episode == 1 and at.frame > 0,
        truncate_at=lambda at: 1 if how == "truncated" and at.episode == 1 else None,
        reward=lambda at: 1,
    )
    games, fakes = drive(play, noop_max=30)
    for game, obs in enumerate(games.obs):
        num_noops = gymnasium.utils.seeding.np_random(game)[0].integers(1, 31)
        assert fakes.resets(game) == 2
        assert fakes.rows(game)["episode"].tolist() == [1] + [2] * (num_noops - 1)
        assert levels(obs) == [0, 0, 0, 100 + num_noops - 1]
    step = games.step(2)
    assert not (step.terminated | step.truncated | step.life_lost).any()
    assert (step.reward == 4).all()


# --- Lives and ends -------------------------------------------------------------------------------
def five_steps(lives):
    """A game of 20 frames at level 10 times its frame; lives: those from a frame on."""

    def at_frame(at):
        return [count for first, count in lives.items() if at.frame >= first][-1]

    return Play(
        screen=lambda at: 10 * at.frame,
        reward=lambda at: at.frame if at.frame % 4 == 0 else -1,
        lives=at_frame,
        over=lambda at: at.frame >= 20,
    )


# By hand: sums of 4, 8, 12, 16, 20, each with three times -1.
REWARDS, RETURN = [1, 5, 9, 13, 17], 45


def test_a_lost_life_is_told_beside_terminated_and_the_game_goes_on(drive):
    """Pitfalls 11, 20, 21, 22: the stack starts anew, the game does not; its return is whole."""
    games, fakes = drive(five_steps({0: 3, 6: 2, 14: 0}))
    steps = [games.step(1) for _ in range(5)]
    num_games = len(games.obs)
    for step, expected in zip(steps, REWARDS, strict=True):
        assert (step.reward == expected).all()
    assert [step.life_lost.tolist() for step in steps] == [
        [lost] * num_games for lost in (False, True, False, True, False)
    ]
    assert [step.terminated.all() for step in steps] == [False] * 4 + [True]
    assert [step.terminated.any() for step in steps] == [False] * 4 + [True]
    assert not any(step.truncated.any() for step in steps)
    # The first frame of a game is black, as are zeros.
    stacks = [[0, 0, 0, 40], [0, 0, 0, 80], [0, 0, 80, 120], [0, 0, 0, 160], [0, 0, 0, 0]]
    for step, stack in zip(steps, stacks, strict=True):
        for obs in step.obs:
            assert levels(obs) == stack
    assert [step.ended for step in steps[:4]] == [[]] * 4
    assert steps[4].ended == [(game, RETURN, 5) for game in range(num_games)]
    assert [fakes.resets(game) for game in range(num_games)] == [2] * num_games


def test_one_life_to_none_is_a_loss_although_the_game_is_not_over(drive):
    """Pitfall 22."""
    games, _ = drive(five_steps({0: 1, 7: 0}))
    steps = [games.step(1) for _ in range(5)]
    assert [step.life_lost.all() for step in steps] == [False, True, False, False, False]
    assert [step.terminated.any() for step in steps] == [False, False, False, False, True]


def test_a_gained_life_is_no_loss_and_counts_from_then_on(drive):
    """Pitfall 22."""
    games, _ = drive(five_steps({0: 3, 2: 4, 10: 3, 14: 2}))
    steps = [games.step(1) for _ in range(5)]
    assert [step.life_lost.all() for step in steps] == [False, False, True, True, False]
    assert [step.life_lost.any() for step in steps] == [False, False, True, True, False]
    assert levels(steps[1].obs[0]) == [0, 0, 40, 80]


def test_a_new_game_with_fewer_lives_is_no_loss(drive):
    """Pitfall 22: lives are counted anew in every game."""
    lives = {1: 5, 2: 3, 3: 1, 4: 1}
    play = Play(lives=lambda at: lives[at.episode], truncate_at=lambda at: 8)
    games, _ = drive(play)
    steps = [games.step(0) for _ in range(6)]
    assert not any(step.life_lost.any() for step in steps)
    assert [step.truncated.all() for step in steps] == [False, True] * 3


def test_life_loss_terminal_off_tells_no_lost_life(drive):
    """Pitfall 11."""
    games, _ = drive(five_steps({0: 3, 6: 2, 14: 0}), life_loss_terminal=False)
    steps = [games.step(1) for _ in range(5)]
    assert not any(step.life_lost.any() for step in steps)
    assert levels(steps[3].obs[0]) == [40, 80, 120, 160]
    assert steps[4].ended[0] == (0, RETURN, 5)


def test_evaluation_plays_whole_games_and_lives_change_nothing(make_fake):
    """Pitfalls 11, 21, 43: raw return and length of the whole game."""
    env, fakes = make_fake(five_steps({0: 3, 6: 2, 14: 0}), training=False)
    stacks = [env.reset(seed=0)[0]]
    for _ in range(5):
        obs, _, terminated, truncated, info = env.step(1)
        assert info["life_lost"] is False
        assert terminated == ("episode" in info)
        stacks.append(obs)
    assert [levels(obs) for obs in stacks[3:]] == [
        [0, 40, 80, 120],
        [40, 80, 120, 160],
        [80, 120, 160, 200],
    ]
    assert (info["episode"]["r"], info["episode"]["l"]) == (RETURN, 5)
    assert (terminated, truncated, fakes.resets(0)) == (True, False, 1)


def test_eval_max_frames_cuts_games_of_an_evaluation_only(make_fake):
    """Pitfall 43: 18 frames are 4 steps and half a step, counted with the no-ops."""
    for training, kwargs in ((False, {"max_num_frames_per_episode": 18}), (True, {})):
        env, fakes = make_fake(Play(), training=training, eval_max_frames=18)
        assert fakes.made == [("BreakoutNoFrameskip-v4", {"render_mode": None, **kwargs})]
        env.reset(seed=0)
        ends = [env.step(0)[2:4] for _ in range(5)]
        assert ends == [(False, False)] * 4 + [(False, not training)]
        assert len(fakes.rows(0)) == (20 if training else 18)


def test_truncation_is_told_apart_from_termination(drive):
    """Pitfall 18: episodes 1 and 3 are cut after 10 frames, 2 is over after 10."""
    play = Play(
        over=lambda at: at.episode == 2 and at.frame >= 10,
        truncate_at=lambda at: None if at.episode == 2 else 10,
        reward=lambda at: 1,
    )
    games, fakes = drive(play)
    ends = [(False, False)] * 2 + [(False, True)] + [(False, False)] * 2 + [(True, False)]
    num_games = len(games.obs)
    for expected in ends + ends[:3]:
        step = games.step(0)
        assert step.terminated.tolist() == [expected[0]] * num_games
        assert step.truncated.tolist() == [expected[1]] * num_games
        assert step.ended == [(game, 10, 3) for game in range(num_games) if any(expected)]
    assert len(fakes.rows(0)) == 30


# --- What is seen ---------------------------------------------------------------------------------
@pytest.mark.parametrize("colour, level", [(RED, 76), (GREEN, 150), (BLUE, 29)])
def test_a_pure_colour_has_its_grey_level(drive, colour, level):
    """Pitfall 4."""
    games, _ = drive(Play(screen=lambda at: colour))
    for frame in (*games.obs[:, -1], *games.step(0).obs[:, -1]):
        assert frame.min() == frame.max()
        assert abs(int(frame[0, 0]) - level) <= 1


@only("dqn_atari")
def test_orientation_is_kept(drive):
    """Pitfall 6: a strip of 10 rows and 80 columns, top left, covers 4 rows and 42 columns."""
    strip = image((slice(0, 10), slice(0, 80), 255))
    games, _ = drive(Play(screen=lambda at: strip))
    expected = np.zeros((84, 84), np.uint8)
    expected[:4, :42] = 255
    for frame in (*games.obs[:, -1], *games.step(0).obs[:, -1]):
        assert (frame == expected).all()


@only("dqn_atari")
def test_every_source_pixel_is_seen_and_frames_are_box_averages(drive):
    """Pitfalls 5, 7: 100 screens light every pixel once, 10 apart, then noise."""
    rng = np.random.default_rng(0)
    screens = [
        image((slice(i, None, 10), slice(j, None, 10), 255)) for i in range(10) for j in range(10)
    ]
    screens += list(rng.integers(0, 256, (5, HEIGHT, WIDTH, 3), np.uint8))
    games, _ = drive(Play(screen=lambda at: screens[(at.frame - 1) // 4]))
    rows, columns = overlaps(HEIGHT).argmax(0), overlaps(WIDTH).argmax(0)
    num_seen = 0
    for screen in screens:
        frames = games.step(0).obs[:, -1]
        assert np.abs(frames - seen(screen)).max() <= 1
        if len(np.unique(screen)) == 2:
            lit_rows, lit_columns = np.nonzero(screen[:, :, 0])
            num_seen += (frames[:, rows[lit_rows], columns[lit_columns]] > 0).all(0).sum()
    assert num_seen == HEIGHT * WIDTH


def test_a_step_fetches_only_the_screens_that_are_seen(make_fake):
    """The last two of four, or the last of a game; a tenth of the games' time goes by that."""
    fetched = []
    play = Play(screen=lambda at: fetched.append(at.frame) or 0, over=lambda at: at.frame == 10)
    env, _ = make_fake(play)
    env.reset(seed=0)
    fetched.clear()
    assert [env.step(0)[2] for _ in range(3)] == [False, False, True]
    assert fetched == [3, 4, 7, 8, 10]


def test_the_stack_is_the_last_4_screens_oldest_first(drive):
    """Pitfall 9: before the first of a game stand zeros."""
    games, _ = drive(Play(screen=lambda at: 10 + at.frame))
    stacks = [games.obs, *(games.step(0).obs for _ in range(5))]
    expected = [10, 14, 18, 22, 26, 30]
    for i, stack in enumerate(stacks):
        for obs in stack:
            assert levels(obs) == [0] * (3 - i) + expected[max(i - 3, 0) : i + 1]


def test_returned_arrays_do_not_alias(make_fake):
    """Pitfall 9: later steps change no array, and changing an array changes no later step."""
    for skip in (1, 4):
        play = Play(screen=lambda at, skip=skip: 10 + 10 * at.frame // skip)
        env, _ = make_fake(play, frame_skip=skip)
        kept = [env.reset(seed=0)[0]]
        screens = [env.render()]
        for _ in range(5):
            kept.append(env.step(0)[0])
            screens.append(env.render())
        assert [levels(obs)[-1] for obs in kept] == [10, 20, 30, 40, 50, 60]
        assert [int(screen.max()) for screen in screens] == [10, 20, 30, 40, 50, 60]
        kept[-1][:] = 255
        assert levels(env.step(0)[0]) == [40, 50, 60, 70]


def test_changing_the_shared_observations_changes_no_later_step(script, monkeypatch):
    """Pitfall 9: shared memory is a copy of what the games hold."""
    fakes = FakeAtaris(Play(screen=lambda at: 10 + 10 * at.frame // 4))
    monkeypatch.setattr(script.gym, "make", fakes.make)
    envs = script.make_envs(script.Args(noop_max=0, num_envs=2))
    shared, _ = envs.reset(seed=0)
    for i in range(6):
        shared[:] = 255
        obs = envs.step(np.zeros(2, np.int64))[0]
        assert obs is shared
        assert levels(obs[0])[-1] == levels(obs[1])[-1] == 20 + 10 * i
    assert levels(obs[0]) == levels(obs[1]) == [40, 50, 60, 70]


# --- Processes of the games -----------------------------------------------------------------------
@pytest.mark.parametrize(
    "env_id, num_steps, games_end", [(PONG, 200, False), (BREAKOUT, 400, True)]
)
def test_games_in_processes_equal_single_games_bit_for_bit(script, env_id, num_steps, games_end):
    """Pitfall 44: game i has seed + i; games end and go on alike."""
    several = SeveralGames(script, script.Args(env_id=env_id, seed=7, num_envs=2))
    alone = [OneGame(script, script.Args(env_id=env_id, seed=7 + i)) for i in range(2)]
    assert (several.obs == np.concatenate([game.obs for game in alone])).all()
    rng, ended = np.random.default_rng(0), set()
    for _ in range(num_steps):
        actions = rng.integers(several.num_actions, size=2)
        step = several.step(actions)
        for i, game in enumerate(alone):
            own = game.step(actions[i])
            assert (step.obs[i] == own.obs[0]).all()
            for name in ("reward", "terminated", "truncated"):
                assert getattr(step, name)[i] == getattr(own, name)[0]
            # At its end a game tells no lost life: it is terminated anyway.
            assert step.life_lost[i] == (own.life_lost[0] and not own.ended)
            assert [end[1:] for end in step.ended if end[0] == i] == [end[1:] for end in own.ended]
        ended |= {i for i, _, _ in step.ended}
    assert ended == ({0, 1} if games_end else set())
    assert (step.obs[0] != step.obs[1]).any()


@pytest.fixture
def start_games(script, monkeypatch):
    """Scripted games in processes: start_games(num_envs, play) -> the games, reset."""

    started = []

    def start(num_envs, play=None):
        fakes = FakeAtaris(play or Play(), num_envs)
        monkeypatch.setattr(script.gym, "make", fakes.make)
        started.append(script.make_envs(script.Args(noop_max=0, num_envs=num_envs)))
        started[-1].reset(seed=0)
        return started[-1]

    yield start
    for envs in started:
        envs.closed = True  # else its __del__ waits once more for processes that are dead


def test_each_game_has_a_process_of_its_own(start_games):
    """One game per process, none in the learner's."""
    envs = start_games(3)
    assert len({process.pid for process in envs.processes} - {os.getpid()}) == 3
    assert all(process.is_alive() for process in envs.processes)


@contextlib.contextmanager
def leaving(script, envs):
    """Leaves the games as train() does, also by an error."""
    try:
        yield envs
    finally:
        script.close_envs(envs)


DEATH = (EOFError, OSError, RuntimeError)


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_game_stops_the_learner_and_nothing_hangs(script, start_games, killed):
    """As in train(), which leaves the games by close_envs."""
    envs = start_games(3)
    with within(5), pytest.raises(DEATH), leaving(script, envs):
        envs.step(np.zeros(3, np.int64))
        os.kill(envs.processes[killed].pid, signal.SIGKILL)
        envs.processes[killed].join()
        envs.step(np.zeros(3, np.int64))


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_game_killed_while_it_steps_stops_the_learner_and_nothing_hangs(
    script, start_games, killed
):
    """The learner already waits for it."""
    envs = start_games(3, Play(reward=lambda at: at.game == killed and time.sleep(60) or 0))
    with within(5), pytest.raises(DEATH), leaving(script, envs):
        envs.step_async(np.zeros(3, np.int64))
        os.kill(envs.processes[killed].pid, signal.SIGKILL)
        envs.step_wait()


def test_one_interrupt_while_the_learner_waits_for_a_game_ends_everything(
    script, start_games, request
):
    """Game 0 has answered, game 1 has not when Ctrl-C comes."""
    envs = start_games(2, Play(reward=lambda at: time.sleep(at.game / 2) or 0))
    ctrl_c = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with within(8), pytest.raises(KeyboardInterrupt), leaving(script, envs):
        envs.step_async(np.zeros(2, np.int64))
        ctrl_c.start()
        envs.step_wait()
    assert multiprocessing.active_children() == []


def test_games_start_after_the_learner_used_the_threads_of_opencv(script):
    """A pool of threads does not survive a fork, and waits for ever for those it lacks."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2_000, 2_000, 3), np.uint8), (31, 31), 0)
    with within(20):
        envs = script.make_envs(script.Args(env_id=BREAKOUT, num_envs=2))
    with leaving(script, envs):
        envs.reset(seed=1)
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize("where", ["reward", "screen"])
def test_an_error_in_a_game_reaches_the_learner_and_leaves_no_process(script, start_games, where):
    """Its own error is raised, whatever line of the script raised it."""

    def fails(at):
        if at.game == 1 and at.frame == 7:  # of the second step
            raise FileNotFoundError("broken")
        return 0

    envs = start_games(3, Play(**{where: fails}))
    error = pytest.raises(FileNotFoundError, match="broken")
    with within(5), error, leaving(script, envs):
        for _ in range(2):
            envs.step(np.zeros(3, np.int64))
    assert multiprocessing.active_children() == []


def test_games_ignore_the_interrupt_that_a_terminal_sends_to_all(start_games):
    """Ctrl-C reaches the learner alone, which ends the games."""
    envs = start_games(2)
    for process in envs.processes:
        os.kill(process.pid, signal.SIGINT)
    try:
        for _ in range(3):
            envs.step(np.zeros(2, np.int64))
    except KeyboardInterrupt:
        pytest.fail("a game took the interrupt")
    assert all(process.is_alive() for process in envs.processes)


def tell_ignored(script, args, answer):
    """Which signals a process ignores after it has made a game."""
    for number in script.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    script.make_env(args)
    answer.put([signal.getsignal(number) == signal.SIG_IGN for number in script.SIGNALS])


@pytest.mark.parametrize("daemon", [False, True])
def test_a_learner_in_a_process_of_its_own_keeps_its_signals(script, daemon):
    """As in a pool of trainings: only games, which are daemons, ignore them."""
    context = multiprocessing.get_context("fork")
    answer, args = context.SimpleQueue(), script.Args(env_id=BREAKOUT)
    process = context.Process(target=tell_ignored, args=(script, args, answer), daemon=daemon)
    process.start()
    with within(30):
        assert answer.get() == [daemon] * len(script.SIGNALS)
    assert len(script.SIGNALS) >= 3  # under nohup SIGHUP is none of them
    process.join()


@pytest.mark.parametrize("under_way", [False, True])
def test_after_close_no_process_is_left(script, start_games, under_way):
    """Also with a step under way."""
    envs = start_games(3)
    envs.step(np.zeros(3, np.int64))
    if under_way:
        envs.step_async(np.zeros(3, np.int64))
    with within(5):
        script.close_envs(envs)
    assert not any(process.is_alive() for process in envs.processes)
    assert multiprocessing.active_children() == []


def test_games_end_when_the_learner_is_killed(start_games):
    """Every process of the learner holds `write`; once all are dead, `read` sees the end."""
    read, write = os.pipe()
    learner = os.fork()
    if learner == 0:
        try:
            envs = start_games(3)
            envs.step_async(np.zeros(3, np.int64))
            os.write(write, b"!")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 1) == b"!"
    os.kill(learner, signal.SIGKILL)
    os.waitpid(learner, 0)
    with within(5):
        assert os.read(read, 1) == b""
    os.close(read)


# --- Real games -----------------------------------------------------------------------------------
class Tap(gymnasium.Wrapper):
    """Keeps the raw frames of a step, for what is compared beside stable-baselines3."""

    def step(self, action):
        told = super().step(action)
        self.frames.append(told[0])
        return told


class Reference:
    """No-ops, skip and scaling by stable-baselines3, its stack and lives written here.

    Not used of theirs, for other rules: FireResetEnv (presses FIRE), EpisodicLifeEnv (a lost life
    is an end, and costs a no-op), VecFrameStack (never starts anew at a lost life).
    """

    def __init__(self, env_id):
        self.tap = Tap(gymnasium.make(env_id))
        self.env = WarpFrame(MaxAndSkipEnv(NoopResetEnv(self.tap, noop_max=30), skip=4))

    def reset(self, **kwargs):
        self.tap.frames = []
        self.stack = [np.zeros((84, 84), np.uint8)] * 4
        return self.show(self.env.reset(**kwargs)[0])

    def show(self, frame):
        self.stack = [*self.stack[1:], frame[:, :, 0]]
        self.lives = self.env.unwrapped.ale.lives()
        return np.stack(self.stack)

    def step(self, action):
        self.tap.frames, lives = [], self.lives
        frame, reward, terminated, truncated, _ = self.env.step(action)
        if terminated or truncated:
            # Theirs holds stale frames where the repeat was cut short; ours then shows the last.
            shown = self.tap.frames[-2:] if len(self.tap.frames) == 4 else self.tap.frames[-1:]
            frame = self.env.observation(np.maximum.reduce(shown))
        life_lost = self.env.unwrapped.ale.lives() < lives
        if life_lost:
            self.stack = [np.zeros((84, 84), np.uint8)] * 4
        return self.show(frame), reward, terminated, truncated, life_lost


@only("dqn_atari")
@pytest.mark.parametrize("game", ["Pong", "Breakout", "Seaquest", "Qbert"])
def test_a_real_game_equals_an_independent_pipeline_bit_for_bit(script, game):
    """Pitfalls 1-6, 9-11, 23, 24, 26-28, 44: 1,000 agent steps."""
    env_id = f"{game}NoFrameskip-v4"
    env, reference = script.make_env(script.Args(env_id=env_id)), Reference(env_id)
    rng = np.random.default_rng(0)
    assert (env.reset(seed=3)[0] == reference.reset(seed=3)).all()
    num_ends = num_lost = 0
    for _ in range(1000):
        action = rng.integers(env.action_space.n)
        obs, *told, info = env.step(action)
        other_obs, *other_told = reference.step(action)
        assert (obs == other_obs).all()
        assert [*told, info["life_lost"]] == other_told
        num_lost += info["life_lost"]
        if told[1] or told[2]:
            num_ends += 1
            assert (env.reset()[0] == reference.reset()).all()
    assert (num_lost > 3, num_ends > 0) == (
        (False, num_ends > 0) if game == "Pong" else (True, True)
    )


@pytest.mark.parametrize("env_id", [PONG, "ALE/Pong-v5"])
def test_a_seed_decides_the_game(script, env_id):
    """Pitfalls 25, 44: also where sticky actions draw from the emulator's own generator."""

    def play(seed):
        env = script.make_env(script.Args(env_id=env_id, noop_max=30))
        rng = np.random.default_rng(0)
        return np.stack(
            [env.reset(seed=seed)[0], *(env.step(rng.integers(6))[0] for _ in range(100))]
        )

    first = play(1)
    assert (first == play(1)).all()
    assert (first != play(2)).any()


@pytest.mark.parametrize("env_id, probability", [(PONG, 0.0), ("ALE/Pong-v5", 0.25)])
def test_sticky_actions_are_those_of_the_id(script, env_id, probability):
    """Pitfall 25: drawn by the game, frame by frame, so that a checkpoint can hold them."""
    env = script.make_env(script.Args(env_id=env_id))
    assert env.sticky == probability
    assert env.unwrapped.ale.getFloat("repeat_action_probability") == 0.0


@pytest.mark.parametrize("env_id, probability", [(PONG, 0.0), ("ALE/Pong-v5", 0.25)])
def test_a_sticky_frame_repeats_what_the_emulator_did_before(
    monkeypatch, script, env_id, probability
):
    """After a change of action, frame k still has the old one with probability 0.25**k."""
    fakes = FakeAtaris(Play())
    monkeypatch.setattr(script.gym, "make", fakes.make)
    env = script.make_env(script.Args(env_id=env_id, noop_max=0))
    env.reset(seed=0)
    for step in range(4_000):
        env.step(1 + step % 2)
    codes = fakes.rows(0)["action"].reshape(4_000, 4)
    wanted = np.array(Play().actions)[1 + np.arange(4_000) % 2]
    old = (codes != wanted[:, None]).mean(axis=0)
    expected = probability ** np.arange(1, 5)
    assert (np.abs(old - expected) <= 4 * np.sqrt(expected * (1 - expected) / 4_000)).all()


def test_the_first_frame_of_a_sticky_game_has_no_action_to_repeat(monkeypatch, script):
    """That of the game before is forgotten: the no-op after a reset is one."""
    fakes = FakeAtaris(Play(over=lambda at: at.frame >= 5))
    monkeypatch.setattr(script.gym, "make", fakes.make)
    env = script.make_env(script.Args(env_id="ALE/Pong-v5", noop_max=1))
    for game in range(200):
        env.reset(seed=None if game else 0)
        env.step(1)
    rows = fakes.rows(0)
    first = rows[rows["frame"] == 1]["action"]
    assert len(first) == 200 and (first == 0).all()


@only("dqn_atari")
def test_the_first_screen_is_the_maximum_of_two_frames_like_every_other(monkeypatch, script):
    """Of the last two no-ops, or of the reset and the only one; odd frames k show level 10 k."""
    fakes = FakeAtaris(Play(screen=lambda at: 10 * at.frame if at.frame % 2 else 0))
    monkeypatch.setattr(script.gym, "make", fakes.make)
    for noops, level in ((1, 10), (2, 10), (3, 30), (4, 30)):
        env = script.make_env(script.Args(env_id=PONG, noop_max=noops))
        env.np_random = SimpleNamespace(integers=lambda low, high: high - 1)
        assert (env.reset()[0][-1] == level).all()


@pytest.mark.parametrize("env_id", [PONG, "ALE/Pong-v5"])
def test_real_steps_are_4_frames_and_real_no_ops_one(script, env_id):
    """Pitfalls 24, 27: the emulator's own count."""
    env, raw = script.make_env(script.Args(env_id=env_id, noop_max=30)), gymnasium.make(env_id)
    for seed in range(5):
        raw.reset(seed=seed)
        num_noops = raw.unwrapped.np_random.integers(1, 31)
        env.reset(seed=seed)
        assert env.unwrapped.ale.getEpisodeFrameNumber() == num_noops
        for step in range(1, 21):
            env.step(0)
            assert env.unwrapped.ale.getEpisodeFrameNumber() == num_noops + 4 * step


@pytest.mark.parametrize("env_id, count", [(PONG, 6), (BREAKOUT, 4)])
def test_actions_are_the_minimal_set_of_the_game(script, env_id, count):
    """Pitfall 26."""
    env = script.make_env(script.Args(env_id=env_id))
    assert env.action_space.n == count
    assert len(env.unwrapped.ale.getMinimalActionSet()) == count


def test_every_legacy_id_without_frame_skip_plays(script):
    """Every game that check_args offers makes and steps."""
    ids = [env_id for env_id in gymnasium.registry if env_id.endswith("NoFrameskip-v4")]
    assert len(ids) > 50
    for env_id in ids:
        env = script.make_env(script.Args(env_id=env_id, noop_max=0))
        obs, _ = env.reset()
        assert (obs.shape, obs.dtype) == ((4, 84, 84), np.uint8)
        first_frame = env.unwrapped.ale.getEpisodeFrameNumber()
        assert env.step(0)[0].shape == (4, 84, 84)
        assert env.unwrapped.ale.getEpisodeFrameNumber() == first_frame + 4
        env.close()


def test_a_game_leaves_the_cores_to_others(script):
    """One thread of OpenCV, in an evaluation in the learner's process too."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        script.make_env(script.Args(), training=False)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


# --- Videos ---------------------------------------------------------------------------------------
def film(script, folder, games, state=None):
    """Screens of every game that ends, as the game should write them; `games` of 30 steps."""
    args = script.Args(env_id=BREAKOUT, eval_max_frames=120, noop_max=0)
    env, rng, screens = script.make_env(args, False, folder), np.random.default_rng(0), []
    env.reset(seed=1)
    if state:
        env.set_wrapper_attr("state", state)
    while len(screens) < games:
        screens.append([])
        ended = False
        while not ended:
            *_, over, truncated, _ = env.step(rng.integers(4))
            screens[-1].append(env.render())
            ended = over or truncated
        env.reset()
    return env, screens


def frames_of(path):
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == 15
    frames = []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return frames


def numbers(folder):
    return sorted(int(path.stem.split("-")[2]) for path in folder.glob("*-game-*.mp4"))


def test_the_first_of_several_games_is_filmed(script, monkeypatch, tmp_path):
    """The others would write to the same file."""

    class Told(Scripted):
        def __init__(self, videos):
            super().__init__()
            self.videos = videos

    def make_env(args, training=True, videos=None):
        return Told(videos)

    monkeypatch.setattr(script, "make_env", make_env)
    envs = script.make_envs(script.Args(num_envs=3), tmp_path)
    try:
        assert envs.get_attr("videos") == (tmp_path, None, None)
    finally:
        script.close_envs(envs)


def test_a_video_shows_every_step_of_its_game(script, tmp_path):
    """Pitfall 43: as many pictures as steps, 15 a second, each that step's screen; small files."""
    _, screens = film(script, tmp_path, 9)
    assert numbers(tmp_path) == [0, 1, 2, 4, 8]
    for number in (0, 1, 2, 4, 8):
        (path,) = tmp_path.glob(f"*-game-{number}.mp4")
        frames = frames_of(path)
        assert len(frames) == len(screens[number]) >= 29
        for frame, screen in zip(frames, screens[number], strict=True):
            assert frame.shape == screen.shape == (HEIGHT, WIDTH, 3)
            assert np.abs(frame.astype(int) - screen).mean() < 4 < screen.std()
        assert path.stat().st_size < 50_000


def test_only_whole_games_leave_a_video_and_numbers_go_on_after_a_resume(script, tmp_path):
    """Pitfall 43: what is under way has another name; a resumed game is not taken for the first."""
    env, _ = film(script, tmp_path, 5)
    env.step(0)
    state = env.get_wrapper_attr("state")
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    env, _ = film(script, tmp_path, 3, state)
    assert numbers(tmp_path) == [0, 1, 2, 4] and state["games"] == 5
    env.step(0)
    assert {path.name for path in set(tmp_path.iterdir()) - set(kept)} == {"unfinished.mp4"}
    while numbers(tmp_path) != [0, 1, 2, 4, 8]:
        env.step(0)
    assert all(path.read_bytes() == was for path, was in kept.items())
    assert not (tmp_path / "unfinished.mp4").exists()


def test_a_video_needs_no_memory_and_makes_its_folder_with_its_first_picture(script, tmp_path):
    """500 screens of 100 kB are 50 MB if they are kept."""
    env = script.make_env(script.Args(env_id=BREAKOUT), True, tmp_path / "videos")
    env.reset(seed=1)
    assert not list(tmp_path.iterdir())
    used = []
    for step in range(700):
        _, _, over, *_ = env.step(0)  # never FIRE: one game
        assert not over
        used.append(psutil.Process().memory_info().rss if step in (199, 699) else 0)
    assert env.video.isOpened() and used[699] - used[199] < 20e6


@pytest.mark.parametrize("game", ["AirRaid", "JourneyEscape", "Pong"])
def test_a_video_has_the_size_of_its_screen(script, game, tmp_path):
    """250, 230 and 210 lines."""
    args = script.Args(env_id=f"{game}NoFrameskip-v4", eval_max_frames=200)
    env, over = script.make_env(args, False, tmp_path), False
    env.reset(seed=1)
    while not over:
        *_, over, truncated, _ = env.step(0)
        over = over or truncated
    (path,) = tmp_path.iterdir()
    assert frames_of(path)[0].shape == env.render().shape
