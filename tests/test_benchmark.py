"""The measuring commands measure: they count, and say what they ran on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lines_of(*command):
    """The JSON lines that a command of benchmark/ prints."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_speed_of_a_setting_has_rate_split_memory_and_machine():
    """The parts of the split are the time of a step; 0.25 updates a step."""
    flags = "--steps 900 --num-envs 4 --precision float32 --buffer-size 1000 --threads 1"
    (line,) = lines_of("benchmark/speed.py", *flags.split())
    assert (line["num_envs"], line["bf16"], line["torch_threads"]) == (4, False, 1)
    assert line["updates_per_second"] == pytest.approx(line["steps_per_second"] / 4, abs=0.1)
    parts = line["split_ms"]
    assert set(parts) == {"acting", "learning", "sending", "waiting", "storing", "other"}
    assert all(ms >= 0 for ms in parts.values()) and parts["learning"] > parts["storing"]
    assert 0.05 < line["emulating_ms"] < 5 and 0.1 < line["host_memory_gb"] < 5
    assert {"device", "torch", "commit"} <= set(line)


def test_speed_of_commands_counts_their_updates(tmp_path):
    """Twice the same command: a ratio, and an update every 4 steps by the optimizer's own count."""
    flags = "--device cpu --num-envs 4 --learning-starts 100 --buffer-size 1000 --batch-size 4"
    counted = f"{sys.executable} benchmark/counted.py dqn_atari.py {flags}"
    command = counted + " --total-timesteps {steps} --run-dir {dir}"
    sizes = ["--short", 400, "--long", 1_200]
    *rates, ratio = lines_of("benchmark/speed.py", *sizes, "--commands", command, command + " ")
    assert [line["updates_per_step"] for line in rates] == [0.25, 0.25]
    expected = rates[0]["steps_per_second"] / rates[1]["steps_per_second"]
    assert ratio["ratio"] == pytest.approx(expected, abs=0.02)
