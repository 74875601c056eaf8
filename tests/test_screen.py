"""What a person sees on a screen: the game in a window, the curves in a browser."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import only

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmark" / "results"


@pytest.fixture
def display(tmp_path):
    """Name of a screen that is a file, and that file."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "640x480x24", "-fbdir", str(tmp_path)]
    quiet = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    process = subprocess.Popen(command, **quiet)
    yield f":{process.stdout.readline().strip()}", tmp_path / "Xvfb_screen0"
    process.terminate()
    process.wait()


def picture(file):
    """(height, width, 3) uint8 of a file in X's own format."""
    data = file.read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    height, row, start = header[5], header[12], header[0] + 12 * header[19]
    pixels = np.frombuffer(data, np.uint8, offset=start)[: height * row]
    return pixels.reshape(height, row // 4, 4)[:, : header[4], 2::-1]


@only("dqn_atari", "dqn_atari_2013")
@pytest.mark.xvfb
def test_a_game_is_shown_while_it_is_evaluated(script, display, tmp_path):
    """Breakout's red bricks on the screen, and the same score as without a window."""
    name, screen = display
    known = [field.name for field in dataclasses.fields(script.Args)]
    sizes = "--eval-games 1" if "eval_games" in known else "--eval-steps 75"
    file = "BreakoutNoFrameskip-v4.pt"
    file = file if script.__name__ == "dqn_atari" else f"{script.__name__}-{file}"
    flags = ["--evaluate", str(ROOT / "benchmark" / "models" / file), *sizes.split()]
    command = [sys.executable, script.__file__, *flags, "--eval-max-frames", "300"]
    env = os.environ | {"DISPLAY": name, "SDL_AUDIODRIVER": "dummy"}
    quiet = dict(capture_output=True, text=True, env=env)
    expected = subprocess.run(command, **quiet).stdout
    command += ["--render-mode", "human"]
    bricks, start = 0, time.monotonic()
    for _ in range(3):  # on a busy machine the window stayed black once
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        while process.poll() is None:
            bricks = max(bricks, (picture(screen) == (200, 72, 72)).all(axis=2).sum())
            time.sleep(0.1)
        assert process.stdout.read() == expected != ""
        if bricks:
            break
    assert bricks > 1_000 and time.monotonic() - start > 5  # 300 frames, 60 a second


@pytest.mark.chromium
def test_tensorboard_shows_three_runs(tmp_path):
    """The committed events in a real browser: a curve in the colour of each run."""
    output = tmp_path / "picture.png"
    command = [sys.executable, "benchmark/screenshot.py", str(RESULTS), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    folders = {path.parent.relative_to(RESULTS) for path in RESULTS.rglob("events.*")}
    assert len(folders) == 3 and all(str(folder) in done.stdout for folder in folders)
    pixels = cv2.cvtColor(cv2.imread(str(output)), cv2.COLOR_BGR2RGB)
    for color in ((255, 112, 67), (0, 119, 187), (204, 51, 17)):  # the first of TensorBoard's
        near = (
            np.abs(pixels[60:, 350:].astype(int) - color).max(axis=2) < 30
        )  # the first lies below
        assert near.sum() > 300, color
