"""Training as a whole: every update, copy, game, row and file that a run promises."""

import csv
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ale_py
import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy import Scripted, only, replace_game, tiny_args


def rows_of(run_dir, name="episodes.csv"):
    """A file's rows but for the seconds, which no two runs share."""
    with open(Path(run_dir) / name) as file:
        return [
            {k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)
        ]


def weights_of(network):
    return [tensor.clone() for tensor in network.state_dict().values()]


def same(weights, others):
    return all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def counts(end):
    """Agent steps, updates and, where there is a target network, its copies."""
    names = [name for name in ("num_updates", "num_syncs") if name in end.progress]
    return end.step, *(end.progress[name] for name in names)


def spy(monkeypatch, script, name, note):
    """Calls `note(*its arguments)` before every call of the script's function."""
    original = getattr(script, name)

    def wrapped(*args):
        note(*args)
        return original(*args)

    monkeypatch.setattr(script, name, wrapped)


def test_numbers_below_the_normal_ones_are_zero_while_a_run_learns(script, monkeypatch, tmp_path):
    """Adam shrinks a dead weight's moment by a tenth an update, to numbers that take 20 ms."""
    replace_game(monkeypatch, script, Scripted)
    small, seen = torch.full((100_000,), 2e-38), []
    spy(monkeypatch, script, "update", lambda *_: seen.append((small * 0.25).count_nonzero()))
    assert (small * 0.25).all()
    script.train(tiny_args(script, tmp_path / "run"))
    assert len(seen) == 125 and not any(seen)


# --- Schedules of updates and copies --------------------------------------------------------------
@pytest.mark.parametrize("num_envs", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "changes, updates, syncs",
    [
        # By hand: multiples of 4 and of 100 in (100, 600].
        (dict(learning_starts=100, train_frequency=4, target_network_frequency=100), 125, 5),
        # 102, 105, ... 600, and 140, 210, ... 560.
        (dict(learning_starts=100, train_frequency=3, target_network_frequency=70), 167, 7),
        # 576, 600 and only 600.
        (dict(learning_starts=570, train_frequency=24, target_network_frequency=200), 2, 1),
    ],
)
def test_updates_and_syncs_happen_exactly_when_promised(
    script, monkeypatch, tmp_path, num_envs, changes, updates, syncs
):
    """Pitfalls 30, 31."""
    replace_game(monkeypatch, script, Scripted)
    end = script.train(tiny_args(script, tmp_path / "run", num_envs=num_envs, **changes))
    assert counts(end) == (600, updates, syncs)[: len(counts(end))]


def test_no_update_before_learning_starts_then_one_every_fourth_step(script, monkeypatch, tmp_path):
    """Pitfall 30."""
    replace_game(monkeypatch, script, Scripted)
    acts, updates = [], []
    spy(monkeypatch, script, "act", lambda *_: acts.append(1))
    spy(monkeypatch, script, "update", lambda *_: updates.append(len(acts)))
    script.train(tiny_args(script, tmp_path / "run"))
    assert updates == list(range(104, 601, 4)) and len(acts) == 600


@only("dqn_atari")
@pytest.mark.parametrize(
    "period, expected",
    [
        (90, [180, 181, 182, 183, 270, 271, 360, 361, 362, 363, 450, 451, 540, 541, 542, 543]),
        (150, [150, 151, 300, 301, 302, 303, 450, 451]),
    ],
)
def test_target_is_copied_at_multiples_of_its_period_in_agent_steps(
    script, monkeypatch, tmp_path, period, expected
):
    """Pitfalls 31, 32: by hand, target is online from a multiple on until an update is due."""
    replace_game(monkeypatch, script, Scripted)
    acts, networks, equal = [], [], []

    def note_act(q_network, *_):
        if networks and same(weights_of(q_network), weights_of(networks[0])):
            equal.append(len(acts))  # the agent steps that are over
        acts.append(1)

    def note_update(q_network, target_network, *_):
        if not networks:
            assert same(weights_of(q_network), weights_of(target_network)), "copied at the start"
            networks.append(target_network)

    spy(monkeypatch, script, "act", note_act)
    spy(monkeypatch, script, "update", note_update)
    args = tiny_args(script, tmp_path / "run", target_network_frequency=period)
    end = script.train(args)
    assert equal == expected
    pairs = zip(end.q_network.parameters(), end.target_network.parameters(), strict=True)
    assert all(q.data_ptr() != t.data_ptr() and t.grad is None for q, t in pairs)


@only("dqn_atari")
@pytest.mark.parametrize("thin", [True, False])
def test_in_bf16_the_target_is_cast_when_copied_with_the_same_numbers(
    script, monkeypatch, tmp_path, thin
):
    """Autocast would cast a float32 one in each update; two runs, bit for bit alike."""
    replace_game(monkeypatch, script, Scripted, thin=thin)
    original, ends = torch.nn.Sequential.to, []
    for kept in (None, torch.float32):

        def to(self, dtype=None, kept=kept, **kwargs):
            return original(self, dtype=kept or dtype, **kwargs)

        monkeypatch.setattr(torch.nn.Sequential, "to", to)
        args = tiny_args(script, tmp_path / str(kept), precision="bf16", total_timesteps=260)
        ends.append(script.train(args))
    cast, uncast = ([p.dtype for p in end.target_network.parameters()] for end in ends)
    assert cast[:-2] == [torch.bfloat16] * len(cast[:-2]) and len(cast) == (6 if thin else 10)
    assert {*cast[-2:], *uncast} == {torch.float32}
    assert [counts(end) for end in ends] == [(260, 40, 1)] * 2
    q_networks, targets = zip(*((end.q_network, end.target_network) for end in ends), strict=True)
    assert same(*map(weights_of, q_networks))
    assert same(weights_of(targets[0])[:-2], [w.bfloat16() for w in weights_of(targets[1])[:-2]])
    assert not same(weights_of(targets[1])[:-2], [w.float() for w in weights_of(targets[0])[:-2]])


# --- Games ----------------------------------------------------------------------------------------
def test_every_finished_game_has_one_row_at_its_own_agent_step(script, monkeypatch, tmp_path):
    """Pitfall 43: 4 games at once, 7 steps long, 15 steps each: a third is unfinished."""
    replace_game(monkeypatch, script, Scripted, lengths=(7,), rewards=(5.0,))
    args = tiny_args(script, tmp_path / "run", num_envs=4, total_timesteps=60, log_frequency=4)
    end = script.train(args)
    steps = [25, 26, 27, 28, 53, 54, 55, 56]  # by hand: 6 * 4 + i + 1 and 13 * 4 + i + 1
    numbers = dict(episodic_return=35.0, episodic_length=7.0)
    assert rows_of(end.run_dir) == [dict(step=s, frames=4 * s, **numbers) for s in steps]
    assert end.returns == [35.0] * 8


def test_frames_are_agent_steps_times_frame_skip(script, monkeypatch, tmp_path):
    """Pitfall 29: one game of 20 steps at 3 frames each."""
    replace_game(monkeypatch, script, Scripted, lengths=(20,))
    end = script.train(tiny_args(script, tmp_path / "run", total_timesteps=50, frame_skip=3))
    assert [(r["step"], r["frames"]) for r in rows_of(end.run_dir)] == [(20, 60), (40, 120)]


def test_returns_are_raw_and_learned_rewards_are_signs(script, monkeypatch, tmp_path):
    """Pitfalls 21, 23, 43."""
    rewards = (5.0, -3.0, 0.0, 0.5, 100.0)
    replace_game(monkeypatch, script, Scripted, lengths=(5,), rewards=rewards)
    end = script.train(tiny_args(script, tmp_path / "run", total_timesteps=20))
    assert [row["episodic_return"] for row in rows_of(end.run_dir)] == [102.5] * 4
    assert end.rb.rewards[:20, 0].tolist() == [1.0, -1.0, 0.0, 1.0, 1.0] * 4


def test_a_lost_life_ends_what_is_learned_and_not_the_game(script, monkeypatch, tmp_path):
    """Pitfalls 15, 16, 20: games of 10 steps, lives lost at steps 3 and 6."""
    replace_game(monkeypatch, script, Scripted, lengths=(10,), lives_lost=(3, 6))
    end = script.train(tiny_args(script, tmp_path / "run", total_timesteps=30))
    assert end.rb.terminations[:30, 0].tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 0, 1] * 3
    assert not end.rb.truncations.any()
    rows = rows_of(end.run_dir)
    assert [(row["step"], row["episodic_length"]) for row in rows] == [(10, 10), (20, 10), (30, 10)]


def test_a_truncated_game_is_counted_and_learned_as_no_end(script, monkeypatch, tmp_path):
    """Pitfalls 18, 43."""
    replace_game(monkeypatch, script, Scripted, lengths=(5,), truncates=True)
    end = script.train(tiny_args(script, tmp_path / "run", total_timesteps=20))
    assert end.rb.truncations[:20, 0].tolist() == [False, False, False, False, True] * 4
    assert not end.rb.terminations.any()
    assert [row["step"] for row in rows_of(end.run_dir)] == [5, 10, 15, 20]


# --- Seeds and order ------------------------------------------------------------------------------
def test_one_seed_is_one_run_and_another_seed_another(script, monkeypatch, tmp_path):
    """Pitfall 44: two runs of one seed agree bit for bit in weights, frames, actions and games."""
    replace_game(monkeypatch, script, Scripted, lengths=(7, 9), action_bonus=10)
    seeds = {"first": 1, "again": 1, "other": 2}
    first, again, other = (
        script.train(tiny_args(script, tmp_path / name, seed=seed, num_envs=4))
        for name, seed in seeds.items()
    )
    assert same(weights_of(first.q_network), weights_of(again.q_network))
    assert rows_of(first.run_dir) == rows_of(again.run_dir)
    for kept in ("frames", "actions", "rewards"):
        used = slice(0, first.rb.t + 1)  # the rest is not set
        assert torch.equal(getattr(first.rb, kept)[used], getattr(again.rb, kept)[used])
    assert not same(weights_of(first.q_network), weights_of(other.q_network))
    assert rows_of(first.run_dir) != rows_of(other.run_dir)
    assert not torch.equal(first.rb.actions, other.rb.actions)


def test_game_i_is_seeded_with_seed_plus_i(script, monkeypatch, tmp_path):
    """Pitfall 44: each game's first screen is that of a game seeded by hand."""
    replace_game(monkeypatch, script, Scripted)
    end = script.train(tiny_args(script, tmp_path / "run", seed=40, num_envs=4, total_timesteps=8))
    for i in range(4):
        obs, _ = Scripted().reset(seed=40 + i)
        assert np.array_equal(end.rb.frames[0, i].numpy(), obs[-1])


@only("dqn_atari")
def test_one_game_equals_a_scalar_loop_bit_for_bit(script, monkeypatch, tmp_path):
    """Pitfalls 29, 30, 31: act, learn, copy, store; so no update sees its own step."""
    settings = dict(lengths=(11, 6), rewards=(0.0, 3.0, -2.0), lives_lost=(4,), action_bonus=1)
    replace_game(monkeypatch, script, Scripted, thin=False, **settings)
    args = tiny_args(script, tmp_path / "run", target_network_frequency=90)

    env = Scripted(**settings)
    obs, _ = env.reset(seed=1)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    online, target = script.QNetwork(3), script.QNetwork(3)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), 1e-4, fused=True)
    replay = script.ReplayBuffer(args, torch.tensor(obs[None]))
    returns, total = [], 0.0
    for decision in range(1, 601):
        fallen = min(max(decision - 1 - 100, 0) / 300, 1.0)
        action = script.act(online, torch.tensor(obs[None]), 1.0 + (0.01 - 1.0) * fallen, rng)
        if decision > 100 and decision % 4 == 0:
            script.update(online, target, optimizer, replay, args)
        if decision > 100 and decision % 90 == 0:
            target.load_state_dict(online.state_dict())
        obs, reward, terminated, truncated, info = env.step(action[0])
        total += reward
        ends = np.array([terminated or info["life_lost"]])
        if terminated:
            returns, total = [*returns, total], 0.0
            obs, _ = env.reset()
        sign = np.array([float(reward > 0) - float(reward < 0)])
        replay.add(action, sign, ends, np.array([truncated]), torch.tensor(obs[None]))

    end = script.train(args)
    assert same(weights_of(end.q_network), weights_of(online))
    assert same(weights_of(end.target_network), weights_of(target))
    assert end.returns == returns and len(returns) == 70  # 35 pairs of 17 steps and a rest


# --- Evaluation -----------------------------------------------------------------------------------
@only("dqn_atari")
@pytest.mark.parametrize("truncates", [False, True])
def test_evaluation_plays_exactly_its_games_each_from_its_seed(script, graded, truncates):
    """Pitfalls 21, 43, 44: raw returns of whole games; truncated ones count."""
    args, network = script.Args(eval_games=5), script.QNetwork(3)
    figures = script.evaluate(network, graded(truncates=truncates), args, 20)
    assert graded.seeds == [20, 21, 22, 23, 24]
    assert len(graded.actions) == 3 + 4 + 5 + 6 + 3
    assert figures == dict(games=5, mean=22.0, std=pytest.approx(2**0.5), min=20.0, max=24.0)


@only("dqn_atari")
def test_evaluation_stops_once_a_signal_came(script, graded):
    """Before its next step; nothing is said of games that were not finished."""
    stop = {}

    class Interrupted(graded):
        def move(self, action):
            stop.update({15: None} if len(self.actions) == 4 else {})  # in the second game
            return super().move(action)

    assert script.evaluate(script.QNetwork(3), Interrupted(), script.Args(), 20, stop) is None
    assert len(graded.actions) == 5


@only("dqn_atari")
def test_evaluation_explores_with_its_own_epsilon_and_draws(script, graded, monkeypatch):
    """Pitfall 42: greedy at 0, else the same draws from the same seed."""
    network = script.QNetwork(3)
    with torch.no_grad():
        network.network[-1].bias.copy_(torch.tensor([0.0, 9.0, 0.0]))

    def actions(seed, **changes):
        graded.actions.clear()
        script.evaluate(network, graded(), script.Args(eval_games=200, **changes), seed)
        return list(graded.actions)

    greedy = actions(4, eval_epsilon=0.0)
    assert greedy == [1] * 900  # 200 games of 3, 4, 5 and 6 steps
    epsilons = []
    spy(monkeypatch, script, "act", lambda *given: epsilons.append(given[2]))
    explored = actions(4)
    assert set(epsilons) == {0.05}
    others = sum(action != 1 for action in explored)
    assert 12 <= others <= 50  # 30 expected, two of three random actions differ
    np.random.seed(0), torch.manual_seed(0)
    assert actions(4) == explored
    assert actions(8) != explored


@only("dqn_atari")
def test_evaluation_does_not_change_training(script, graded, monkeypatch, tmp_path):
    """Pitfalls 42, 44: the same weights and games with and without; its games have other seeds."""
    replace_game(monkeypatch, script, Scripted, lengths=(7, 9), action_bonus=10)
    plain = script.train(tiny_args(script, tmp_path / "plain", num_envs=2))
    training_game = script.make_env

    def make_env(args, training=True, videos=None):
        return training_game(args) if training else graded()

    monkeypatch.setattr(script, "make_env", make_env)
    changes = dict(num_envs=2, eval_frequency=200, eval_games=3)
    evaluated = script.train(tiny_args(script, tmp_path / "evaluated", **changes))
    assert same(weights_of(plain.q_network), weights_of(evaluated.q_network))
    assert torch.equal(plain.rb.actions, evaluated.rb.actions)
    assert rows_of(plain.run_dir) == rows_of(evaluated.run_dir)
    assert graded.seeds == [10_001, 10_002, 10_003] * 3
    figures = dict(games=3, mean=10_002, std=pytest.approx((2 / 3) ** 0.5), min=10_001, max=10_003)
    expected = [dict(step=step, frames=4 * step, **figures) for step in (200, 400, 600)]
    assert rows_of(evaluated.run_dir, "eval.csv") == expected
    assert not (plain.run_dir / "eval.csv").exists()


@only("dqn_atari")
def test_a_model_is_played_as_in_an_evaluation_from_the_seed_on(
    script, graded, monkeypatch, tmp_path
):
    """Not as in training, whose games are longer and lose lives."""

    def make_env(args, training=True, videos=None):
        return Scripted() if training else graded()

    monkeypatch.setattr(script, "make_env", make_env)
    about = {"env_id": "BreakoutNoFrameskip-v4", "weights": script.QNetwork(3).state_dict()}
    script.save(tmp_path / "model.pt", about)
    args = script.Args(evaluate=str(tmp_path / "model.pt"), seed=20, eval_games=5, device="cpu")
    assert script.play(args)["mean"] == 22 and graded.seeds == [20, 21, 22, 23, 24]


@only("dqn_atari")
def test_videos_of_a_model_lie_beside_it(script, tmp_path):
    about = {"env_id": "BreakoutNoFrameskip-v4", "weights": script.QNetwork(4).state_dict()}
    script.save(tmp_path / "model.pt", about)
    args = script.Args(evaluate=str(tmp_path / "model.pt"), capture_video=True, device="cpu")
    args.eval_games, args.eval_max_frames = 1, 40
    script.play(args)
    assert len(list((tmp_path / "videos_play").glob("*-game-0.mp4"))) == 1


# --- Files ----------------------------------------------------------------------------------------
def test_the_run_directory_says_what_ran(script, monkeypatch, tmp_path):
    """Arguments, machine and the script itself, and nothing half written."""
    replace_game(monkeypatch, script, Scripted)
    args = tiny_args(script, tmp_path / "run", total_timesteps=20)
    end = script.train(args)
    source = Path(script.__file__)
    assert json.loads((end.run_dir / "args.json").read_text()) == vars(args)
    assert (end.run_dir / source.name).read_bytes() == source.read_bytes()
    machine = json.loads((end.run_dir / "machine.json").read_text())
    for module in (torch, gym, ale_py, np, cv2):
        assert module.__version__ in machine.values(), module.__name__
    assert machine["script_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert machine["torch_threads"] == torch.get_num_threads()
    assert machine["bfloat16"] is False
    if shutil.which("lscpu") and machine["cpu"]:
        english = os.environ | {"LC_ALL": "C"}
        told = subprocess.run("lscpu", capture_output=True, text=True, env=english).stdout
        assert [machine["cpu"]] == re.findall("(?m)^ *Model name: +(.*)", told)
    assert (machine["command"], machine["device"]) == (sys.argv, "cpu")
    files = {path.name for path in end.run_dir.iterdir() if "tfevents" not in path.name}
    expected = {"args.json", "machine.json", source.name, "model.pt", "episodes.csv", ".lock"}
    assert files == expected


def test_the_model_is_saved_at_the_end(script, monkeypatch, tmp_path):
    """What it holds loads as plain tensors and is the network of the last step."""
    replace_game(monkeypatch, script, Scripted)
    end = script.train(tiny_args(script, tmp_path / "run", target_network_frequency=90))
    assert [path.name for path in end.run_dir.glob("*.pt*")] == ["model.pt"]
    model = torch.load(end.run_dir / "model.pt", weights_only=True)
    about = ("script", "env_id", "num_actions", "step")
    expected = [Path(script.__file__).stem, "BreakoutNoFrameskip-v4", 3, 600]
    assert [model[key] for key in about] == expected
    assert same(model["weights"].values(), weights_of(end.q_network))


@only("dqn_atari")
def test_curves_hold_every_game_and_epsilon_at_their_steps(script, monkeypatch, tmp_path):
    """Pitfalls 29, 43, read back with TensorBoard's own reader."""
    replace_game(monkeypatch, script, Scripted, lengths=(150,), rewards=(2.0,))
    args = tiny_args(script, tmp_path / "run", eval_frequency=300, eval_games=1)
    end = script.train(args)
    events = EventAccumulator(str(end.run_dir), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    games = {"charts/episodic_return", "charts/episodic_length"}
    figures = {"eval/games", "eval/mean", "eval/std", "eval/min", "eval/max"}
    rates = {"charts/SPS", "charts/epsilon", "losses/td_loss", "losses/q_values"}

    def curve(tag):
        if tag in events.Tags()["scalars"]:
            return [(e.step, e.value) for e in events.Scalars(tag)]
        return [(e.step, e.tensor_proto.float_val[0]) for e in events.Tensors(tag)]

    tags = {*events.Tags()["scalars"], *events.Tags()["tensors"]}
    assert tags - {"_hparams_/session_start_info"} == games | figures | rates
    assert curve("charts/episodic_return") == [(s, 300.0) for s in (150, 300, 450, 600)]
    assert curve("charts/episodic_length") == [(s, 150.0) for s in (150, 300, 450, 600)]
    assert curve("eval/mean") == [(300, 300.0), (600, 300.0)]
    # By hand: at decision s + 1, of s = 99, 199 ... 599, it has fallen (s - 100) / 300 of 0.99.
    epsilons = [1.0, 1 - 0.99 * 99 / 300, 1 - 0.99 * 199 / 300, 1 - 0.99 * 299 / 300, 0.01, 0.01]
    expected = [(100 * (i + 1), pytest.approx(e)) for i, e in enumerate(epsilons)]
    assert curve("charts/epsilon") == expected
    for name, last in ("td_loss", "loss"), ("q_values", "q_values"):
        assert [step for step, _ in curve(f"losses/{name}")] == [200, 300, 400, 500, 600]
        assert curve(f"losses/{name}")[-1][1] == pytest.approx(float(end.progress[last]))
    assert [step for step, _ in curve("charts/SPS")] == [100, 200, 300, 400, 500, 600]
    hparams = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for name, value in vars(args).items():
        assert name.encode() in hparams and str(value).encode() in hparams


def test_progress_tells_the_last_100_games_the_rate_and_the_hours(
    script, monkeypatch, tmp_path, capsys
):
    """By hand: 1,000 steps in 10 seconds, then as many in 5; 360,000 to go."""
    now = [1_000.0]
    monkeypatch.setattr(script, "time", SimpleNamespace(time=lambda: now[0]))
    args = tiny_args(script, tmp_path, total_timesteps=361_000)
    log = script.Log(tmp_path, args, 0, None)
    bar = SimpleNamespace(disable=True, set_postfix_str=lambda text: None)
    now[0] += 10
    assert log.progress(bar, 1_000, list(range(200))) == 100
    assert "return 149.50, 100 steps/s, 1.00 h left" in capsys.readouterr().out
    now[0] += 5
    assert log.progress(bar, 2_000, []) == 200


def test_deterministic_kernels_are_chosen_as_asked(script, monkeypatch, tmp_path):
    replace_game(monkeypatch, script, Scripted)
    for wanted in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", not wanted)
        changes = dict(torch_deterministic=wanted, total_timesteps=10)
        script.train(tiny_args(script, tmp_path / f"{wanted}", **changes))
        assert torch.backends.cudnn.deterministic is wanted


# --- Start and failure ----------------------------------------------------------------------------
def test_init_from_starts_with_the_weights_of_the_file(script, monkeypatch, tmp_path):
    """Both networks; no update is due in the second run."""
    replace_game(monkeypatch, script, Scripted)
    first = script.train(tiny_args(script, tmp_path / "first"))
    changes = dict(seed=2, total_timesteps=40, init_from=str(first.run_dir / "model.pt"))
    second = script.train(tiny_args(script, tmp_path / "second", **changes))
    assert second.progress["num_updates"] == 0
    assert same(weights_of(second.q_network), weights_of(first.q_network))
    targets = [network for network in second.learner[:-2] if network is not second.q_network]
    assert all(same(weights_of(target), weights_of(first.q_network)) for target in targets)


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(script, monkeypatch, tmp_path):
    """At the first logged step after it, with no model written and no process left."""
    replace_game(monkeypatch, script, Scripted)
    original = script.td_loss

    def broken(*args):
        loss, q_values = original(*args)
        return loss * float("nan"), q_values

    monkeypatch.setattr(script, "td_loss", broken)
    with pytest.raises(RuntimeError, match="nan at step 200"):
        script.train(tiny_args(script, tmp_path / "run", num_envs=2))
    assert not (tmp_path / "run" / "model.pt").exists()
    assert multiprocessing.active_children() == []


@only("dqn_atari")
def test_breakout_itself_runs_with_exact_counts(script, tmp_path):
    """Pitfalls 26, 30, 31 on the real game: 4 actions, multiples of 4 and of 100 in (200, 1000]."""
    end = script.train(
        script.Args(
            run_dir=str(tmp_path / "run"),
            device="cpu",
            num_envs=2,
            total_timesteps=1_000,
            learning_starts=200,
            buffer_size=1_000,
            batch_size=4,
            target_network_frequency=100,
            capture_video=True,
            eval_frequency=1_000,
            eval_games=1,
            eval_max_frames=120,
        )
    )
    assert counts(end) == (1_000, 200, 8)
    names = [path.name.split("-", 1)[1] for path in end.run_dir.glob("*videos/*-*")]
    assert names.count("game-0.mp4") == 2 and len(names) <= 4  # of training and of the evaluation
    for folder in ("videos", "eval_videos"):
        assert len(list((end.run_dir / folder).glob("*-game-0.mp4"))) == 1
    assert end.q_network.num_actions == 4
    rows = rows_of(end.run_dir)
    assert 0 < len(rows) == len(end.returns) < 20
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] <= 1_000
    assert end.rb.terminations.sum() >= 5 * len(rows)  # five lives a game
