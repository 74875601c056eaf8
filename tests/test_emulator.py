"""An emulator's state is complete: a game goes on exactly in a process that has not seen it."""

import multiprocessing

import numpy as np
import pytest
from toy import only

pytestmark = only("dqn_atari")  # what it tests stands in all scripts in the same words

GAMES = """Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Bowling
Boxing Breakout Centipede ChopperCommand CrazyClimber DemonAttack DoubleDunk Enduro FishingDerby
Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond Kangaroo Krull KungFuMaster
MontezumaRevenge MsPacman NameThisGame Pong PrivateEye Qbert Riverraid RoadRunner Robotank Seaquest
SpaceInvaders StarGunner Tennis TimePilot Tutankham UpNDown Venture VideoPinball WizardOfWor
Zaxxon""".split()


def played(env, actions):
    """All that a game tells, step by step; a game that ends starts again."""
    steps = []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        steps.append((obs.tobytes(), env.render().tobytes(), reward, terminated, truncated, info))
        if terminated or truncated:
            steps.append(env.reset()[0].tobytes())
    return steps


def continued(module, args, state, actions):
    """In a process that has not seen the game."""
    script = __import__(module)
    env = script.make_env(script.Args(**args))
    env.reset(seed=99)
    env.set_wrapper_attr("state", state)
    return played(env, actions)


@pytest.fixture(scope="module")
def fresh_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


def continues_exactly(script, fresh_process, env_id, steps=250, **changes):
    args = dict(env_id=env_id, **changes)
    env, rng = script.make_env(script.Args(**args)), np.random.default_rng(7)
    env.reset(seed=3)
    actions = rng.integers(env.action_space.n, size=150 + steps)
    played(env, actions[:150])
    state = env.get_wrapper_attr("state")
    job = script.__name__, args, state, actions[150:]
    there = fresh_process.apply_async(continued, job)
    return played(env, actions[150:]) == there.get(120)


@pytest.mark.parametrize("game", GAMES[::2])
def test_a_game_goes_on_exactly_in_another_process(script, fresh_process, game):
    """Colours, stacks, rewards, lives and no-ops of the next 250 steps."""
    assert continues_exactly(script, fresh_process, f"{game}NoFrameskip-v4")


def test_a_game_without_no_ops_goes_on_exactly(script, fresh_process):
    """Of the emulator there, no frame has run before its state is set; Qbert tells."""
    assert continues_exactly(script, fresh_process, "QbertNoFrameskip-v4", noop_max=0)


@pytest.mark.long
@pytest.mark.parametrize("game", GAMES)
def test_every_game_goes_on_exactly_for_long(script, fresh_process, game):
    """5,000 steps, in which most games end and start again."""
    assert continues_exactly(script, fresh_process, f"{game}NoFrameskip-v4", 5_000)


@pytest.mark.parametrize("game", ["Breakout", "Qbert"])
def test_a_sticky_game_goes_on_exactly(script, game):
    """From 20 moments; the next action is another than the held one, which ale-py does not save."""
    args = script.Args(env_id=f"ALE/{game}-v5")
    env, rng = script.make_env(args), np.random.default_rng(7)
    env.reset(seed=3)
    for moment in range(20):
        held = int(rng.integers(env.action_space.n))
        played(env, [held] * int(rng.integers(5, 30)))
        state = env.get_wrapper_attr("state")
        other = script.make_env(args)
        other.reset(seed=99 + moment)
        other.set_wrapper_attr("state", state)
        emulators = [e.unwrapped.ale.cloneState(include_rng=True) for e in (env, other)]
        assert emulators[0].serialize() == emulators[1].serialize()  # its generator too
        actions = [(held + 1) % int(env.action_space.n), *rng.integers(3, size=30)]
        assert played(env, actions) == played(other, actions), moment


def test_a_state_counts_the_frames_to_the_truncation(script):
    """A restored game is cut at the same frame."""
    args = script.Args(env_id="PongNoFrameskip-v4", eval_max_frames=800, noop_max=0)
    games = [script.make_env(args, training=False) for _ in range(2)]
    for env in games:
        env.reset(seed=1)
    for _ in range(150):
        games[0].step(0)
    games[1].set_wrapper_attr("state", games[0].get_wrapper_attr("state"))
    ends = []
    for env in games:
        truncated, steps = False, 0
        while not truncated and steps < 200:
            *_, truncated, info = env.step(0)
            steps += 1
        ends.append((steps, info["episode"]["l"]))
    assert ends == [(50, 200)] * 2
