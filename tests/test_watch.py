"""The video of an agent shows what the agent saw, did and expected."""

import subprocess
import sys
from pathlib import Path

import cv2
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from toy import only

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import watch  # noqa: E402


@pytest.fixture
def model(script, tmp_path):
    """A model file of random weights for Breakout."""
    about = {"script": script.__name__, "env_id": "BreakoutNoFrameskip-v4", "num_actions": 4}
    if script.__name__ == "dqn_atari_jax":
        path, network = tmp_path / "model.npz", script.make_network(1, 4)
        script.save(path, about | {"step": 8, "arrays": script.named(network)})
    else:
        torch.manual_seed(1)
        path, network = tmp_path / "model.pt", script.QNetwork(4)
        torch.save(about | {"step": 8, "weights": network.state_dict()}, path)
    return path


@only("dqn_atari", "dqn_atari_2013", "dqn_atari_jax")
def test_a_video_has_the_steps_and_the_score_of_the_game(script, model, tmp_path, capsys):
    """As many pictures as steps, none blank; the score is the one of script.act's own game."""
    output = tmp_path / "out.mp4"
    figures = watch.main(watch.Args(model, output, steps=60, seed=3, epsilon=0.5, skip=20))
    agent, rng, score = watch.Agent(model), np.random.default_rng(3), 0.0
    env = script.make_env(script.Args(env_id="BreakoutNoFrameskip-v4"), training=False)
    (obs, _), best = env.reset(seed=3), []
    for _ in range(80):
        best.append(agent.values(obs).max())
        action = script.act(agent.network, agent.to_device(obs[None]), 0.5, rng)[0]
        obs, reward, *_ = env.step(action)
        score += reward
    assert figures["score_of_the_last"] == score
    assert figures["greatest_value"] == pytest.approx(max(best))
    assert f"{output}: steps 60, games_ended 0" in capsys.readouterr().out
    pictures = [picture for picture in imageio.get_reader(output)]  # list() asks for its length
    assert len(pictures) == 60 and pictures[0].shape == (watch.HEIGHT, watch.WIDTH, 3)
    assert min(picture.std() for picture in pictures) > 20
    assert imageio.get_reader(output).get_meta_data()["fps"] == 15


def test_a_picture_shows_the_screens_and_the_values():
    """The frames as they are, a bar in proportion, the chosen one blue, a mark for a reward."""
    rng = np.random.default_rng(0)
    screen, obs = (
        rng.integers(256, size=(210, 160, 3), dtype=np.uint8),
        rng.integers(256, size=(4, 84, 84), dtype=np.uint8),
    )
    curve = [0.0, 1.0, 0.5], [0.0, 1.0, 0.0], (0.0, 1.0)
    values, names = np.array([0.0, 1.0, 0.5]), ["noop", "fire", "left"]
    picture = watch.draw(screen, obs, names, values, 2, False, *curve, "a title")
    expected = cv2.resize(screen, (320, 420), interpolation=cv2.INTER_NEAREST)
    assert (picture[40:460, 12:332] == expected).all()
    for i in range(4):
        frame = cv2.resize(obs[i], (105, 105), interpolation=cv2.INTER_NEAREST)
        x = 345 + 112 * i
        assert (picture[56:161, x : x + 105] == frame[:, :, None]).all()
    bars = [(picture[200 + 26 * i, 462:690] != 255).any(axis=1).sum() for i in range(3)]
    assert bars[0] < 5 and abs(bars[1] - 2 * bars[2]) < 5 and bars[1] > 200
    assert (picture[200 + 52, 470] == watch.BLUE).all() and (picture[226, 470] == watch.LIGHT).all()
    without = watch.draw(
        screen, obs, names, values, 2, False, curve[0], [0.0] * 3, curve[2], "a title"
    )
    changed = np.flatnonzero((picture != without).any(axis=(1, 2)))
    assert 370 < changed.min() and changed.max() < 385


def test_the_command_makes_a_gif(tmp_path):
    """Of the committed weights."""
    model, output = ROOT / "benchmark" / "models" / "BreakoutNoFrameskip-v4.pt", tmp_path / "a.gif"
    command = [sys.executable, str(ROOT / "benchmark" / "watch.py"), str(model)]
    done = subprocess.run([*command, "--output", str(output), "--steps", "12"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert len(imageio.mimread(output, memtest=False)) == 12


@only("dqn_atari")
def test_a_renamed_script_is_found_beside_its_model(script, tmp_path):
    """As in the folder of a run of one's own copy."""
    text = Path(script.__file__).read_text()
    (tmp_path / "my_dqn.py").write_text(text)
    about = {"script": "my_dqn", "env_id": "BreakoutNoFrameskip-v4", "num_actions": 4, "step": 8}
    network = script.QNetwork(4)
    torch.save(about | {"weights": network.state_dict()}, tmp_path / "model.pt")
    agent = watch.Agent(tmp_path / "model.pt")
    assert agent.script.__file__ == str(tmp_path / "my_dqn.py")
    obs = np.zeros((4, 84, 84), np.uint8)
    assert np.allclose(agent.values(obs), network(torch.from_numpy(obs[None])).detach()[0])
