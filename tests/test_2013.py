"""What dqn_atari_2013.py has of its own: network, preprocessing, targets, evaluation, Figure 2."""

import csv

import cv2
import numpy as np
import pytest
import torch
from fake_atari import HEIGHT, WIDTH, FakeAtaris, Play
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy import Scripted, only, replace_game, tiny_args

pytestmark = only("dqn_atari_2013")
GREY = np.array([0.299, 0.587, 0.114])


def averaged(image, size):
    """(rows, columns) float means over the areas of the source that each pixel covers."""
    for axis, out in enumerate(size):
        edges = np.linspace(0, image.shape[axis], out + 1)
        weights = np.zeros((out, image.shape[axis]))
        for row, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
            cells = np.arange(image.shape[axis])
            weights[row] = np.clip(np.minimum(cells + 1, high) - np.maximum(cells, low), 0, None)
            weights[row] /= high - low
        image = np.moveaxis(np.tensordot(weights, image, axes=(1, axis)), 0, axis)
    return image


# --- Network --------------------------------------------------------------------------------------
def test_the_network_is_the_one_of_2013(script):
    """677,172 parameters for 4 actions, and every intermediate shape [NIPS s4.1]."""
    network = script.QNetwork(4)
    assert sum(p.numel() for p in network.parameters()) == 677_172
    shapes, x = [], torch.zeros(2, 4, 84, 84)
    for layer in network.network:
        x = layer(x)
        shapes.append(tuple(x.shape[1:])) if not isinstance(layer, torch.nn.ReLU) else None
    assert shapes == [(16, 20, 20), (32, 9, 9), (2592,), (256,), (4,)]


# --- Preprocessing --------------------------------------------------------------------------------
def test_a_screen_is_the_last_frame_alone(script, monkeypatch):
    """Frame 4, 8, ... as grey and area-averaged 110x84, of which rows 18 to 101 are seen."""
    rng = np.random.default_rng(0)
    screens = rng.integers(256, size=(20, HEIGHT, WIDTH, 3), dtype=np.uint8)
    monkeypatch.setattr(
        script.gym, "make", FakeAtaris(Play(screen=lambda at: screens[at.frame])).make
    )
    env = script.make_env(script.Args())
    obs, _ = env.reset(seed=0)
    for step in range(4):
        expected = averaged(screens[4 * step] @ GREY, (110, 84))[18:102]
        assert np.abs(obs[-1] - expected).max() <= 1
        obs, *_ = env.step(0)


def rows_of_colour(env, colour):
    """Of the 210 rows of the screen, those with a pixel of this colour between the side walls."""
    return np.flatnonzero((env.render()[:, 8:152] == colour).all(axis=2).any(axis=1))


def test_the_kept_rows_hold_paddle_and_ball(script):
    """Pitfall 7: on Breakout and Pong, each object changes what is seen, row by row."""
    top, bottom = 18 * 210 / 110, 102 * 210 / 110  # the rows of the screen that are kept
    breakout = script.make_env(script.Args(env_id="BreakoutNoFrameskip-v4"))
    breakout.reset(seed=0)
    ball = set()
    for step in range(400):
        breakout.step(1 if step % 5 == 0 else step % 4)
        rows = rows_of_colour(breakout, (200, 72, 72))
        paddle, ball = set(rows) & set(range(189, 193)), ball | (set(rows) & set(range(100, 185)))
        assert len(paddle) == 4 and top <= min(paddle) and max(paddle) + 1 < bottom
    assert len(ball) > 40 and top <= min(ball)  # it flew everywhere below the bricks
    pong = script.make_env(script.Args(env_id="PongNoFrameskip-v4"))
    pong.reset(seed=0)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(400):
        pong.step(rng.integers(6))
        for colour in ((236, 236, 236), (92, 186, 92), (213, 130, 74)):  # ball and paddles
            rows = rows_of_colour(pong, colour)
            seen |= set(rows[(rows >= 34) & (rows < 194)].tolist())
    assert len(seen) > 120 and top <= 34.4 and bottom > 194


@pytest.mark.parametrize("frame_skip, least, most", [(4, 0, 0), (3, 0.2, 0.6)])
def test_space_invaders_needs_a_frame_skip_of_3(script, frame_skip, least, most):
    """Lasers are painted in every other frame: 4 always meets the others [NIPS s5]."""
    env = script.make_env(script.Args(env_id="SpaceInvadersNoFrameskip-v4", frame_skip=frame_skip))
    env.reset(seed=0)
    seen = []
    for _ in range(240):
        env.step(0)
        seen.append((env.render()[40:190] == 142).all(axis=2).any())
    assert least <= np.mean(seen[60:]) <= most


def test_the_defaults_are_the_papers_and_those_of_the_docstring(script):
    """What [NIPS] prints, and what it does not, by hand; an argument more or less is told too."""
    args = vars(script.Args())
    printed = dict(total_timesteps=10_000_000, frame_skip=4, buffer_size=1_000_000, batch_size=32)
    printed |= dict(train_frequency=1, start_e=1.0, end_e=0.1, exploration_steps=1_000_000)
    printed |= dict(eval_frequency=50_000, eval_steps=10_000, eval_epsilon=0.05)
    ours = dict(gamma=0.95, learning_rate=2.5e-4, learning_starts=50_000, noop_max=0)
    ours |= dict(life_loss_terminal=False, eval_max_frames=108_000, num_envs=8)
    assert {name: args[name] for name in printed | ours} == printed | ours


# --- Learning -------------------------------------------------------------------------------------
def test_targets_come_from_the_same_network_and_errors_are_not_clipped(script):
    """Against a transcription of equation 3 in numpy; errors beyond 1 keep their slope."""
    torch.manual_seed(0)
    network, rng = script.QNetwork(3), np.random.default_rng(0)
    obs, next_obs = (torch.tensor(rng.integers(256, size=(8, 4, 84, 84), dtype="u1")) for _ in "12")
    actions = torch.tensor(rng.integers(3, size=8))
    rewards = torch.tensor(rng.normal(0, 5, size=8), dtype=torch.float32)
    ends = torch.tensor([0.0, 1] * 4)
    args = script.Args(gamma=0.9)
    loss, q_values = script.td_loss(network, (obs, actions, rewards, ends, next_obs), args)
    q, q_next = network(obs).detach().numpy(), network(next_obs).detach().numpy()
    target = rewards.numpy() + 0.9 * q_next.max(axis=1) * (1 - ends.numpy())
    errors = q[np.arange(8), actions] - target
    assert loss.item() == pytest.approx((errors**2 / 2).mean(), rel=1e-5)
    assert np.abs(errors).max() > 3
    weights, slopes = list(network.parameters()), torch.tensor(errors / 8)
    ours = torch.autograd.grad(loss, weights, retain_graph=True)
    theirs = torch.autograd.grad(q_values, weights, slopes, retain_graph=True)
    for a, b in zip(ours, theirs, strict=True):  # none by way of the target
        torch.testing.assert_close(a, b)
    (slopes,) = torch.autograd.grad(loss, q_values)
    assert slopes.numpy() == pytest.approx(errors / 8, rel=1e-4)
    assert q_values.grad_fn is not None and loss.requires_grad


def test_epsilon_falls_from_the_first_step_on(script):
    """1 to 0.1 over a million steps [NIPS s5], whenever learning starts."""
    args = script.Args()
    steps = {0: 1.0, 50_000: 0.955, 500_000: 0.55, 1_000_000: 0.1, 9_000_000: 0.1}
    for step, epsilon in steps.items():
        assert script.linear_schedule(args, step) == pytest.approx(epsilon)


def test_one_game_equals_a_scalar_loop_bit_for_bit(script, monkeypatch, tmp_path):
    """Act, learn, store, with one update at every step after learning starts."""
    settings = dict(lengths=(11, 6), rewards=(0.0, 3.0, -2.0), action_bonus=1)
    replace_game(monkeypatch, script, Scripted, thin=False, **settings)
    args = tiny_args(script, tmp_path / "run", train_frequency=1, end_e=0.1)
    env = Scripted(**settings)
    obs, _ = env.reset(seed=1)
    torch.manual_seed(1)
    rng, network = np.random.default_rng(1), script.QNetwork(3)
    optimizer = script.RMSProp(network.parameters(), 2.5e-4, 1e-6)
    replay = script.ReplayBuffer(args, torch.tensor(obs[None]))
    for step in range(600):
        epsilon = 1.0 - 0.9 * min(step / 300, 1.0)
        action = script.act(network, torch.tensor(obs[None]), epsilon, rng)
        if step >= 100:
            script.update(network, optimizer, replay, args)
        obs, reward, terminated, _, _ = env.step(action[0])
        if terminated:
            obs, _ = env.reset()
        followed = (action, np.sign([reward]), np.array([terminated]), np.array([False]))
        replay.add(*followed, torch.tensor(obs[None]))
    end = script.train(args)
    assert end.progress["num_updates"] == 500
    for ours, theirs in zip(end.q_network.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# --- Evaluation -----------------------------------------------------------------------------------
def test_an_evaluation_lasts_eval_steps_and_ends_with_a_game(script):
    """Games of 7 steps: 15 are over in the third, which is played to its end."""
    figures = script.evaluate(
        script.QNetwork(3), Scripted(lengths=(7,)), script.Args(eval_steps=15), 1
    )
    assert figures == dict(games=3, mean=7.0, std=0.0, min=7.0, max=7.0)


def test_games_of_an_evaluation_have_seeds_of_their_own_and_its_epsilon(
    script, graded, monkeypatch
):
    """15 steps are over in the fourth game; returns are the seeds."""
    epsilons, original = [], script.act

    def act(*given):
        epsilons.append(given[2])
        return original(*given)

    monkeypatch.setattr(script, "act", act)
    figures = script.evaluate(script.QNetwork(3), graded(), script.Args(eval_steps=15), 20)
    assert graded.seeds == [20, 21, 22, 23] and set(epsilons) == {0.05}
    assert len(graded.actions) == len(epsilons) == 3 + 4 + 5 + 6
    assert figures == dict(games=4, mean=21.5, std=pytest.approx(1.25**0.5), min=20.0, max=23.0)


def test_a_game_of_an_evaluation_is_not_cut_at_natures_5_minutes(script, monkeypatch):
    """[NIPS] prints no limit, and Enduro's 470 takes longer; 30 minutes are 108,000 frames."""
    ataris = FakeAtaris(Play())
    monkeypatch.setattr(script.gym, "make", ataris.make)
    script.make_env(script.Args(), training=False)
    ((_, kwargs),) = ataris.made
    assert kwargs["max_num_frames_per_episode"] == 30 * 60 * 60


def test_held_out_states_are_every_tenth_of_random_games(script):
    """The same for one seed, others for another; stacks start with zeros at each game's start."""
    args = script.Args(seed=3)
    states = script.held_out_states(Scripted(lengths=(95,)), args)
    assert (states.shape, states.dtype) == ((500, 4, 84, 84), np.uint8)
    assert np.array_equal(states, script.held_out_states(Scripted(lengths=(95,)), args))
    other = script.held_out_states(Scripted(lengths=(95,)), script.Args(seed=4))
    assert not np.array_equal(states, other)
    env, rng = Scripted(lengths=(95,)), np.random.default_rng(3)
    obs, _ = env.reset(seed=20_003)
    for step in range(5_000):
        if step % 10 == 0:
            assert np.array_equal(states[step // 10], obs)
        obs, _, over, _, _ = env.step(rng.integers(3))
        if over:
            obs, _ = env.reset()


def test_held_out_games_are_none_that_are_evaluated_or_filmed(script, monkeypatch, tmp_path):
    """Filmed, the last of them, cut short, would be the beginning of the next game's video."""
    replace_game(monkeypatch, script, Scripted)
    played, original = [], script.held_out_states

    def noted(env, args):
        played.append(env)
        return original(env, args)

    monkeypatch.setattr(script, "held_out_states", noted)
    changes = dict(eval_frequency=200, eval_steps=10, capture_video=True)
    end = script.train(tiny_args(script, tmp_path / "run", **changes))
    assert len(played) == 1 and played[0] is not end.eval_env


def test_the_average_max_q_is_that_of_the_network_at_its_step(script, monkeypatch, tmp_path):
    """Figure 2: a network that cannot learn has one value, in eval.csv and in TensorBoard."""
    replace_game(monkeypatch, script, Scripted)
    changes = dict(eval_frequency=200, eval_steps=10, learning_rate=1e-30)
    end = script.train(tiny_args(script, tmp_path / "run", **changes))
    held_out = torch.tensor(script.held_out_states(Scripted(), end.args))
    with torch.no_grad():
        expected = end.q_network(held_out).max(dim=1).values.mean().item()
    with open(end.run_dir / "eval.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [200, 400, 600]
    assert [float(row["average_max_q"]) for row in rows] == pytest.approx([expected] * 3)
    events = EventAccumulator(str(end.run_dir), size_guidance={"tensors": 0}).Reload()
    points = [e.tensor_proto.float_val[0] for e in events.Tensors("eval/average_max_q")]
    assert points == pytest.approx([expected] * 3) and expected != 0


def test_a_lost_life_and_no_ops_are_as_silent_as_the_paper(script):
    """By default a real game starts at frame 0 and loses its lives without an end."""
    env = script.make_env(script.Args(env_id="BreakoutNoFrameskip-v4"))
    env.reset(seed=0)
    assert env.unwrapped.ale.getEpisodeFrameNumber() == 0
    lives, lost = 5, []
    while lives > 2:
        _, _, terminated, _, info = env.step(1)
        lost.append(info["life_lost"] or terminated)
        lives = env.unwrapped.ale.lives()
    assert not any(lost)


def test_cv2_averages_areas(script):
    """The oracle above is what INTER_AREA computes, to rounding."""
    image = np.random.default_rng(0).integers(256, size=(210, 160), dtype=np.uint8)
    ours = cv2.resize(image, (84, 110), interpolation=cv2.INTER_AREA)
    assert np.abs(ours - averaged(image.astype(float), (110, 84))).max() <= 1
