"""What the replay buffer promises, against a plain list of everything that the agent saw."""

import re
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from toy import only

pytestmark = only("dqn_atari")  # what it tests stands in all scripts in the same words

# What follows an action: nothing, a lost life, game over, a time limit, or two of them at once.
NOTHING, LIFE, OVER, LIMIT, LIFE_AND_LIMIT, OVER_AND_LIMIT = ".LOTXY"
TERMINAL = LIFE + OVER + LIFE_AND_LIMIT + OVER_AND_LIMIT
NOISE = np.random.default_rng(0).integers(1, 256, (256, 84, 84), dtype=np.uint8)
NOISE[:, 0, 0] = np.arange(256)  # no two frames are equal


def constant(value):
    return np.full((84, 84), value, np.uint8)


class Recorder:
    """Plays scripted games into a replay buffer and keeps every transition in a list.

    A script is a string with one letter per agent step. Observations are stacked as AtariGame does
    it: zeros before the first frame of a game or life. Actions number the transitions.
    """

    def __init__(self, script, rows, scripts, picture=NOISE.__getitem__, batch_size=64, seed=1):
        self.scripts, self.picture, self.rows, self.t = scripts, picture, rows, 0
        num_envs = self.num_envs = len(scripts)
        args = {"num_envs": num_envs, "batch_size": batch_size, "seed": seed}
        self.args = script.Args(buffer_size=rows * num_envs, **args)
        self.stacks = [[constant(0)] * 3 + [self.frame(0, game)] for game in range(num_envs)]
        self.transitions = []
        self.rb = script.ReplayBuffer(self.args, self.obs())

    def frame(self, t, game):
        return self.picture(t * self.num_envs + game)

    def obs(self):
        return torch.tensor(np.array(self.stacks))

    def reward(self, action):
        return 100.0 + action

    def step(self):
        letters = [script[self.t] for script in self.scripts]
        actions = self.t * self.num_envs + np.arange(self.num_envs)
        rewards = np.array([self.reward(action) for action in actions], np.float32)
        terminations = np.array([letter in TERMINAL for letter in letters])
        limit = (LIMIT, LIFE_AND_LIMIT, OVER_AND_LIMIT)
        truncations = np.array([letter in limit for letter in letters])
        for game, letter in enumerate(letters):
            stack, frame = self.stacks[game], self.frame(self.t + 1, game)
            self.stacks[game] = stack[1:] + [frame]
            if letter != NOTHING:
                self.stacks[game] = [constant(0)] * 3 + [frame]
            transition = SimpleNamespace(row=self.t, action=int(actions[game]), obs=np.array(stack))
            transition.next_obs = np.array(self.stacks[game])
            transition.reward = float(rewards[game])
            transition.termination = float(letter in TERMINAL)
            transition.cut = letter == LIMIT
            self.transitions.append(transition)
        next_obs = self.obs()
        self.rb.add(actions, rewards, terminations, truncations, next_obs)
        for given_away in (actions, rewards, terminations, truncations, next_obs):
            given_away[:] = 1  # its owner overwrites it; the replay must hold copies
        self.t += 1

    def play(self):
        while self.t < len(self.scripts[0]):
            self.step()
        return self

    def candidates(self):
        """Rows t - R + 4 to t - 1: the frames before them are not all there any more."""
        return [x for x in self.transitions if max(0, self.t - self.rows + 4) <= x.row < self.t]

    def valid(self):
        return {x.action: x for x in self.candidates() if not x.cut}

    def check_sample(self):
        """Every sampled transition is a valid one, bit for bit; returns their numbers."""
        obs, actions, rewards, terminations, next_obs = self.rb.sample()
        assert (obs.dtype, next_obs.dtype) == (torch.uint8, torch.uint8)
        assert (actions.dtype, rewards.dtype) == (torch.int64, torch.float32)
        assert terminations.dtype == torch.float32
        drawn, valid = actions.tolist(), self.valid()
        assert set(drawn) <= set(valid)
        expected = [valid[action] for action in drawn]
        assert rewards.tolist() == [x.reward for x in expected]
        assert terminations.tolist() == [x.termination for x in expected]
        assert np.array_equal(obs, [x.obs for x in expected])
        alive = terminations.numpy() == 0
        next_expected = np.array([x.next_obs for x in expected])
        assert np.array_equal(next_obs.numpy()[alive], next_expected[alive])
        return drawn

    def draw(self, count):
        """How often each transition comes, in at least `count` draws."""
        drawn = Counter()
        while drawn.total() < count:
            drawn.update(self.rb.sample()[1].tolist())
        return drawn

    def distinct(self, count=2_000):
        """Sampled transitions by number: newest to oldest pixel values, reward, termination."""
        found = {}
        while count > 0:
            obs, actions, rewards, terminations, next_obs = self.rb.sample()
            obs, next_obs = obs[:, :, 50, 50].tolist(), next_obs[:, :, 50, 50].tolist()
            rows = zip(obs, rewards.tolist(), terminations.tolist(), next_obs, strict=True)
            for action, row in zip(actions.tolist(), rows, strict=True):
                assert found.setdefault(action, row) == row
            count -= len(actions)
        return found


@st.composite
def recordings(draw):
    """1 to 3 games of up to 70 steps, in a ring of 8 to 24 rows: episodes of any length."""
    num_envs, rows = draw(st.integers(1, 3)), draw(st.integers(8, 24))
    steps = draw(st.integers(1, 70))
    scripts = []
    for _ in range(num_envs):
        letters = draw(st.sampled_from([".", "." * 20 + "LOTXY", "..LOTXY", "LLO.", ".T", "...L"]))
        scripts.append(
            "".join(draw(st.lists(st.sampled_from(letters), min_size=steps, max_size=steps)))
        )
    return rows, scripts


@settings(max_examples=80, deadline=None, derandomize=True)
@given(recordings())
def test_samples_are_exactly_the_valid_transitions_that_the_agent_saw(script, recording):
    """Pitfalls 9, 10, 11, 12, 13, 14, 15, 16, 18, 19: bit for bit, at every age of the ring."""
    recorder = Recorder(script, *recording)
    for _ in recording[1][0]:
        recorder.step()
        if recorder.t % 5 == 0 and 2 * len(recorder.valid()) >= len(recorder.candidates()):
            recorder.check_sample()
    valid, candidates = recorder.valid(), recorder.candidates()
    assume(2 * len(valid) >= len(candidates))  # else 32 tries may all be cut
    drawn = set()
    for _ in range(1 + 30 * len(valid) // recorder.args.batch_size):
        drawn |= set(recorder.check_sample())
    assert drawn == set(valid)


@pytest.mark.parametrize("steps", [30, 49, 50, 51, 130])
def test_every_valid_transition_is_drawn_equally_often(script, steps):
    """Pitfall 39: chi-square, with lost lives, game overs and many cut transitions among them."""
    scripts = ["....LT.O..T" * 12, "." * 132]
    recorder = Recorder(script, 50, [x[:steps] for x in scripts], lambda t: constant(t % 256))
    recorder.rb.batch_size = 1_000
    recorder.play()
    frequencies, valid = recorder.draw(20_000), recorder.valid()
    assert set(frequencies) == set(valid)
    assert 50 < len(valid) <= 2 * min(steps, 46)
    assert stats.chisquare(list(frequencies.values())).pvalue > 1e-3


def test_no_stack_mixes_newest_and_oldest_frames(script):
    """Pitfalls 13, 14: ring of 10 rows, frames 0 to 24; by hand 6 stacks of consecutive numbers."""
    found = Recorder(script, 10, ["." * 24], constant).play().distinct()
    windows = sorted((*obs, next_obs[-1]) for obs, _, _, next_obs in found.values())
    assert windows == [tuple(range(t - 3, t + 2)) for t in range(18, 24)]
    assert all(next_obs[:3] == obs[1:] for obs, _, _, next_obs in found.values())


def test_valid_transitions_are_those_whose_five_frames_are_left_in_the_ring(script):
    """Pitfalls 13, 14: brute force over the last R frames, at every step of a full ring."""
    recorder = Recorder(script, 9, ["." * 40], constant)
    while recorder.t < 40:
        recorder.step()
        if recorder.t >= recorder.rows:
            left = set(range(recorder.t + 1)[-recorder.rows :])
            intact = {t for t in range(recorder.t) if set(range(t - 3, t + 2)) <= left}
            assert set(recorder.distinct(600)) == intact
            assert len(intact) == recorder.rows - 4


def test_before_the_ring_is_full_every_transition_is_valid(script):
    """Pitfalls 14, 39: from the first one on, and its stack starts with zeros."""
    recorder = Recorder(script, 20, ["." * 16], lambda t: constant(t + 1))
    while recorder.t < 16:
        recorder.step()
        found = recorder.distinct(600)
        assert set(found) == set(range(recorder.t))
        assert found[0] == ([0, 0, 0, 1], 100, 0, [0, 0, 1, 2])


def test_the_reward_of_a_terminal_stands_on_its_own_transition(script):
    """Pitfalls 15, 16: 7 steps with rewards 100 to 106, one termination, on the last."""
    found = Recorder(script, 40, ["......O" + "...."], constant).play().distinct()
    first_game = [found[step][1:3] for step in range(7)]
    assert first_game == [(100 + step, float(step == 6)) for step in range(7)]
    assert [found[step][1:3] for step in range(7, 11)] == [(107 + step, 0) for step in range(4)]
    assert len(found) == 11


@pytest.mark.parametrize("end", [LIFE, OVER, LIFE_AND_LIMIT, OVER_AND_LIMIT])
def test_lives_of_one_and_two_steps_share_no_frame(script, end):
    """Pitfalls 10, 11, 12: stacks by hand for lives of 1, 1, 2 and 3 steps, frames from 1."""
    recorder = Recorder(script, 30, [f"{end}{end}.{end}..{end}."], lambda t: constant(t + 1))
    found = recorder.play().distinct()
    stacks = [[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 3], [0, 0, 3, 4]]
    stacks += [[0, 0, 0, 5], [0, 0, 5, 6], [0, 5, 6, 7], [0, 0, 0, 8]]
    assert [found[step][0] for step in range(8)] == stacks
    assert [found[step][2] for step in range(8)] == [1, 1, 0, 1, 0, 0, 1, 0]
    following = {2: [0, 0, 3, 4], 4: [0, 0, 5, 6], 5: [0, 5, 6, 7], 7: [0, 0, 8, 9]}
    assert {step: found[step][3] for step in following} == following


def test_two_episodes_of_different_colour_are_never_in_one_stack(script):
    """Pitfall 10: many short episodes, white ones and grey ones, over three rounds of the ring."""
    episode = ["....O", ".L", "T", "...T"]
    letters = "".join(episode * 8)
    number = np.cumsum([0] + [letter != NOTHING for letter in letters])
    recorder = Recorder(script, 30, [letters], lambda t: constant((10, 20)[number[t] % 2]))
    for obs, _, termination, next_obs in recorder.play().distinct().values():
        seen = {*obs} if termination else {*obs, *next_obs}
        assert seen - {0} in ({10}, {20})


def test_a_transition_cut_by_truncation_is_never_drawn(script):
    """Pitfalls 18, 19: frame value = t, cut at 5: no next_obs shows the frame of the next game."""
    found = Recorder(script, 40, ["....T" + "...."], constant).play().distinct(5_000)
    assert set(found) == {0, 1, 2, 3, 5, 6, 7, 8}
    assert all(next_obs[-1] == step + 1 for step, (_, _, _, next_obs) in found.items())
    assert found[3][3] == [1, 2, 3, 4] and found[5][0] == [0, 0, 0, 5]
    assert {termination for _, _, termination, _ in found.values()} == {0}


@pytest.mark.parametrize("end", [LIFE_AND_LIMIT, OVER_AND_LIMIT])
def test_truncation_together_with_termination_counts_as_termination(script, end):
    """Pitfall 18: nothing is bootstrapped there, so the transition is as sound as any terminal."""
    found = Recorder(script, 40, [f"..{end}..."], constant).play().distinct()
    assert [found[step][2] for step in range(6)] == [0, 0, 1, 0, 0, 0]


def test_a_ring_reuses_rows_without_their_old_ends(script):
    """Pitfalls 13, 15: a first round of nothing but ends leaves no mark on the next rounds."""
    for letter in (LIFE, OVER, LIMIT):
        recorder = Recorder(script, 12, [letter * 12 + NOTHING * 24], constant).play()
        assert recorder.check_sample()
        found = recorder.distinct()
        assert {row[2] for row in found.values()} == {0}
        assert set(found) == set(range(36 - 12 + 4, 36))


def test_a_transition_takes_its_frame_and_at_most_40_bytes(script):
    """Pitfall 8: uint8 frames, each stored once, whatever the number of games."""
    for num_envs in (1, 3):
        rb = Recorder(script, 20, ["." * 5] * num_envs).play().rb
        size = 20 * num_envs
        assert rb.frames.dtype == torch.uint8
        assert rb.frames.untyped_storage().nbytes() == size * 84 * 84
        tensors = [x for x in vars(rb).values() if isinstance(x, torch.Tensor)]
        assert sum(x.untyped_storage().nbytes() for x in tensors) <= size * (84 * 84 + 40)


def test_the_buffer_and_the_time_per_add_do_not_grow(script):
    """Pitfall 40: 3 times its capacity into 2,000 rows; the same memory, the same time."""
    rb = Recorder(script, 2_000, ["."]).rb
    what_follows = np.zeros(1, np.int64), np.zeros(1, np.float32), np.zeros(1, bool)
    next_obs = torch.zeros((1, 4, 84, 84), dtype=torch.uint8)

    def memory():
        return {k: (x.shape, x.data_ptr()) for k, x in vars(rb).items() if torch.is_tensor(x)}

    before, seconds = memory(), []
    for _ in range(6_000):
        start = time.perf_counter()
        rb.add(*what_follows, np.zeros(1, bool), next_obs)
        seconds.append(time.perf_counter() - start)
    assert memory() == before
    assert np.median(seconds[-1_000:]) < 3 * np.median(seconds[500:1_500])


class NoFrames:
    """Stands for 7 GB of frames: takes what is written, and shows four pixels per frame."""

    device = torch.device("cpu")

    def view(self, dtype):
        assert dtype == torch.int32
        return self

    def __setitem__(self, index, frames):
        pass

    def __getitem__(self, index):
        shape = torch.broadcast_tensors(*index)[0].shape
        return torch.ones((*shape, 1, 1), dtype=torch.int32)


def test_draws_are_uniform_over_a_million_transitions(script, monkeypatch):
    """Pitfall 39: remainders and thousandths of the drawn numbers pass a chi-square test."""
    obs = torch.empty((1, 4, 1, 1), dtype=torch.uint8).expand(1_000, 4, 84, 84)
    monkeypatch.setattr(script.torch, "empty", lambda shape, **_: NoFrames())
    monkeypatch.setattr(script.Path, "exists", lambda path: False)
    args = script.Args(buffer_size=1_000_000, num_envs=1_000, batch_size=10_000)
    rb = script.ReplayBuffer(args, obs)
    nothing = np.zeros(1_000, np.float32), np.zeros(1_000, bool), np.zeros(1_000, bool)
    for row in range(2_000):
        rb.add((row - 1_004) * 1_000 + np.arange(1_000), *nothing, obs)
    drawn = np.concatenate([rb.sample()[1].numpy() for _ in range(40)])
    assert (drawn.min() >= 0, drawn.max() < 996_000) == (True, True)
    for parts in (drawn % 2, drawn % 16, drawn % 1_000, drawn // 16 % 16, drawn // 1_000):
        frequencies = np.bincount(parts)
        assert len(frequencies) in (2, 16, 1_000, 996)
        assert stats.chisquare(frequencies).pvalue > 1e-3
    distinct = len(np.unique(drawn))
    expected = 996_000 * -np.expm1(-400_000 / 996_000)  # as many as with perfectly uniform draws
    assert abs(distinct - expected) < 0.002 * expected


def test_one_seed_gives_one_sequence_of_samples(script):
    """Pitfall 44: equal seeds draw alike, other seeds do not."""
    runs = [Recorder(script, 30, ["." * 25], seed=seed).play().rb for seed in (1, 1, 2)]
    first, again, other = ([rb.sample()[1].tolist() for _ in range(3)] for rb in runs)
    assert first == again != other
    assert first[0] != first[1]


def test_a_buffer_with_nothing_in_it_can_be_sampled(script):
    """A CUDA graph is captured before the first step; the batch is void."""
    obs = torch.zeros((2, 4, 84, 84), dtype=torch.uint8)
    rb = script.ReplayBuffer(script.Args(buffer_size=80, num_envs=2, batch_size=8), obs)
    assert [len(part) for part in rb.sample()] == [8] * 5


def memory_of(script, monkeypatch, kilobytes):
    monkeypatch.setattr(script.Path, "exists", lambda path: True)
    text = f"MemTotal: 99 kB\nMemAvailable:  {kilobytes} kB\nBuffers: 5 kB\n"
    monkeypatch.setattr(script.Path, "read_text", lambda path, *rest: text)


def test_a_buffer_that_does_not_fit_is_refused_with_its_size(script, monkeypatch):
    """The message names the need, what is free, and a size that fits; nothing is allocated."""
    memory_of(script, monkeypatch, 1_000_000)
    obs = torch.zeros((1, 4, 84, 84), dtype=torch.uint8)
    with pytest.raises(script.BadInput) as refusal:
        script.ReplayBuffer(script.Args(num_envs=1), obs)
    assert "7.06 GB" in str(refusal.value) and "1.02 GB" in str(refusal.value)
    advice = int(re.search(r"type --buffer-size (\d+)", str(refusal.value))[1])
    assert 0.8 * 145_124 < advice <= 145_124  # 1,024,000,000 / 7,056 = 145,124.7


@pytest.mark.parametrize(("num_envs", "most"), [(1, 52), (3, 51)])
def test_the_size_that_a_refusal_names_is_accepted(script, monkeypatch, num_envs, most):
    """By hand: 90 % of 409,600 bytes hold 52.2 frames; one row more is refused."""
    memory_of(script, monkeypatch, 400)
    obs = torch.zeros((num_envs, 4, 84, 84), dtype=torch.uint8)

    def replay(size):
        return script.ReplayBuffer(script.Args(num_envs=num_envs, buffer_size=size), obs)

    assert len(replay(most).ages) == most // num_envs
    with pytest.raises(script.BadInput) as refusal:
        replay(most + num_envs)
    advice = int(re.search(r"type --buffer-size (\d+)", str(refusal.value))[1])
    assert (advice % num_envs, len(replay(advice).ages)) == (0, advice // num_envs)
    assert 0.8 * most < advice <= most
