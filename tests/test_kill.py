"""kill -9 at any moment of a real run, then --resume: nothing of the result changes.

The short test belongs to the suite; the long ones (minutes) are run by `pytest -m long`.
"""

import fcntl
import json
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_resume import assert_equal_runs
from toy import only

FLAGS = """--device cpu --num-envs 4 --total-timesteps {steps} --buffer-size 2000
--learning-starts 800 --exploration-steps 2000 --checkpoint-frequency 400
--eval-frequency 2000 --batch-size 4"""
OWN = {
    "dqn_atari": "--target-network-frequency 400 --eval-games 1 --eval-max-frames 400",
    "dqn_atari_2013": "--eval-steps 100 --train-frequency 4",
    "dqn_atari_jax": "--target-network-frequency 400 --eval-games 1 --eval-max-frames 400",
}


def start(script, run_dir, *flags):
    """A process group of its own, as a shell or a cluster starts it."""
    command = [sys.executable, script.__file__, *flags]
    output = open(f"{run_dir}.out", "a")
    one_thread = dict(os.environ, OMP_NUM_THREADS="1")  # spinning threads crawl on a busy machine
    return subprocess.Popen(
        command, stdout=output, stderr=output, start_new_session=True, env=one_thread
    )


def wait_for(condition, process, seconds=120):
    """False if the process ends before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    raise TimeoutError


def members(group):
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def whole_run(script, game, run_dir, steps):
    flags = f"--env-id {game}NoFrameskip-v4 {FLAGS} {OWN[script.__name__]}"
    flags = flags.format(steps=steps).split()
    process = start(script, run_dir, *flags, "--run-dir", str(run_dir))
    assert process.wait() == 0, Path(f"{run_dir}.out").read_text()
    return flags


def facts(script, run_dir):
    """What had happened by the last checkpoint."""
    if (run_dir / "checkpoint.npz").exists():  # JAX
        with np.load(run_dir / "checkpoint.npz") as arrays:
            progress = json.loads(str(arrays["state"]))["progress"]
    else:
        progress = script.load(run_dir / "checkpoint.pt", "progress")["progress"]
    about = {name: progress.get(name, 1) for name in ("step", "num_updates", "num_syncs")}
    full = progress["step"] > 2000
    sizes = progress["log"]["bytes"]
    return about | {
        "full": full,
        "evaluated": sizes.get("eval.csv", 0) > 0,
        "game_lost": sizes.get("episodes.csv", 0) > 0,
        "writing": (run_dir / "checkpoint.part").exists(),
    }


def killed_again_and_again(script, game, tmp_path, steps, kills, writing, number):
    """Kills a run `kills` times, `writing` times while it writes a checkpoint; a list of facts."""
    flags = whole_run(script, game, tmp_path / "whole", steps)
    run_dir, rng, seen = tmp_path / "killed", random.Random(1), []
    part, log = run_dir / "checkpoint.part", Path(f"{run_dir}.out")
    process = start(script, run_dir, *flags, "--run-dir", str(run_dir))
    while len(seen) < kills:
        words = log.stat().st_size if log.exists() else 0
        # After its start or up to two more checkpoints, and then at any time until the next.
        wait_for(lambda w=words: "files in" in log.read_text()[w:], process)
        some = rng.randint(0, 2)
        wait_for(lambda w=words, n=some: log.read_text()[w:].count("checkpoint of") >= n, process)
        time.sleep(rng.uniform(0.0, 3.0 if kills > 2 else 1.0))
        if writing and len(seen) % (kills // writing) == 0:
            wait_for(part.exists, process)
        if process.poll() is not None:
            break
        os.killpg(process.pid, number) if number != signal.SIGKILL else process.kill()
        code = process.wait()
        assert code == (-9 if number == signal.SIGKILL else 128 + number)
        gone = time.monotonic() + 10  # its games end by themselves
        while members(process.pid) and time.monotonic() < gone:
            time.sleep(0.01)
        assert members(process.pid) == []
        seen.append(facts(script, run_dir))
        part.unlink(missing_ok=True)  # so that each kill is counted by its own
        process = start(script, run_dir, "--resume", str(run_dir))
    assert process.wait() == 0, log.read_text()
    assert_equal_runs(tmp_path / "whole", run_dir)
    return seen


@only("dqn_atari")
def test_a_killed_breakout_run_ends_as_if_it_had_not_been(script, tmp_path):
    """2 kills, one of them inside the writing of a checkpoint."""
    seen = killed_again_and_again(script, "Breakout", tmp_path, 2_400, 2, 1, signal.SIGKILL)
    assert len(seen) == 2 and any(fact["writing"] for fact in seen)


@only("dqn_atari", "dqn_atari_2013")
def test_a_terminal_that_closes_leaves_a_checkpoint(script, tmp_path):
    """It is the learner's controlling terminal, and all that it prints then fails."""
    run_dir, (master, slave) = tmp_path / "run", pty.openpty()

    def take_terminal():
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        termios.tcsetwinsize(slave, (24, 80))  # without a width no bar is shown
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    flags = f"--env-id BreakoutNoFrameskip-v4 {FLAGS} {OWN[script.__name__]} --run-dir {run_dir}"
    process = subprocess.Popen(
        [sys.executable, script.__file__, *flags.format(steps=40_000).split()]
        + ["--checkpoint-frequency", "0"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), slave),
        start_new_session=True,
        preexec_fn=take_terminal,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )
    os.close(slave)
    while not (run_dir / "episodes.csv").exists():
        assert os.read(master, 4096)
    assert not (run_dir / "checkpoint.pt").exists()
    os.close(master)
    assert process.wait(60) > 0 and members(process.pid) == []
    step = facts(script, run_dir)["step"]
    more = start(script, run_dir, "--resume", str(run_dir), "--total-timesteps", str(step + 400))
    assert more.wait() == 0 and 0 < step < 40_000
    assert script.load(run_dir / "model.pt", "step")["step"] == step + 400


@only("dqn_atari")
def test_under_nohup_a_terminal_that_closes_changes_nothing(script, tmp_path):
    """What nohup ignores stays ignored, in the learner and in its games."""
    flags = f"--env-id BreakoutNoFrameskip-v4 {FLAGS} {OWN[script.__name__]}"
    command = ["nohup", sys.executable, script.__file__, *flags.format(steps=1_200).split()]
    with open(tmp_path / "out", "w") as out:
        process = subprocess.Popen(
            [*command, "--run-dir", str(tmp_path / "run")],
            **dict.fromkeys(("stdout", "stderr"), out),
            start_new_session=True,
        )
    wait_for(lambda: "files in" in (tmp_path / "out").read_text(), process)
    assert len(members(process.pid)) == 5
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait() == 0, (tmp_path / "out").read_text()
    assert script.load(tmp_path / "run" / "model.pt", "step")["step"] == 1_200


@only("dqn_atari_2013", "dqn_atari_jax")
@pytest.mark.long
def test_a_killed_run_of_another_script_ends_as_if_it_had_not_been(script, tmp_path):
    """As above; JAX compiles its programs anew at every start."""
    test_a_killed_breakout_run_ends_as_if_it_had_not_been(script, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("game", ["Breakout", "Qbert"])
def test_twenty_kills(script, tmp_path, game):
    """At least half of them late, five inside the writing of a checkpoint."""
    seen = killed_again_and_again(script, game, tmp_path, 16_000, 20, 5, signal.SIGKILL)
    print(*seen, sep="\n")
    names = ("num_updates", "num_syncs", "full", "evaluated", "game_lost")
    late = [fact for fact in seen if all(fact[name] for name in names)]
    assert len(seen) == 20 and len(late) >= 10
    assert sum(fact["writing"] for fact in seen) >= 5


@pytest.mark.long
@pytest.mark.parametrize("game", ["Breakout", "Qbert"])
def test_ten_signals_to_the_whole_group(script, tmp_path, game):
    """As a terminal, a container or a cluster ends a job."""
    seen = killed_again_and_again(script, game, tmp_path, 10_000, 10, 0, signal.SIGTERM)
    print(*seen, sep="\n")
    assert len(seen) == 10 and len({fact["step"] for fact in seen}) == 10


@only("dqn_atari")
@pytest.mark.long
def test_a_killed_worker_ends_the_run_in_time_ten_times_of_ten(script, tmp_path):
    """Within 10 s, with a message and a checkpoint that goes on to the same end."""
    flags = whole_run(script, "Breakout", tmp_path / "whole", 6_000)
    run_dir, rng, log = tmp_path / "killed", random.Random(2), tmp_path / "killed.out"
    process = start(script, run_dir, *flags, "--run-dir", str(run_dir))
    times = []
    while len(times) < 10:
        words = log.stat().st_size if log.exists() else 0
        wait_for(lambda w=words: "files in" in log.read_text()[w:], process)
        time.sleep(rng.uniform(0.0, 3.0))
        workers = [pid for pid in members(process.pid) if pid != process.pid]
        assert len(workers) == 4
        os.kill(rng.choice(workers), signal.SIGKILL)
        killed = time.monotonic()
        assert process.wait(10) == 1
        times.append(time.monotonic() - killed)
        assert "exit code -9" in log.read_text()[words:] and members(process.pid) == []
        process = start(script, run_dir, "--resume", str(run_dir))
    print(f"ended after {min(times):.2f} to {max(times):.2f} s")
    assert process.wait() == 0, log.read_text()
    assert_equal_runs(tmp_path / "whole", run_dir)


@only("dqn_atari")
@pytest.mark.long
def test_three_hundred_thousand_steps_do_not_grow(script, tmp_path):
    """Resident memory within 2 %, and as many open files and processes as before."""
    run_dir = tmp_path / "run"
    flags = "--device cpu --num-envs 8 --total-timesteps 340000 --buffer-size 20000"
    flags += " --learning-starts 2000 --train-frequency 200 --checkpoint-frequency 50000"
    process = start(script, run_dir, *flags.split(), "--run-dir", str(run_dir))
    log, seen = Path(f"{run_dir}.out"), []
    for step in range(40_000, 340_000, 20_000):
        wait_for(lambda s=step: f"step {s}: return" in log.read_text(), process, 600)
        group = members(process.pid)
        looks = []
        for _ in range(3):  # a log or a checkpoint is open while it is written
            looks.append(sum(len(list(Path(f"/proc/{p}/fd").iterdir())) for p in group))
            time.sleep(0.5)
        files = min(looks)
        resident = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in group)
        seen.append((step, resident * 4096 / 1e6, files, len(group)))
    print(*seen, sep="\n")
    assert process.wait() == 0
    _, resident, files, group = zip(*seen, strict=True)
    assert max(resident) < 1.02 * resident[0] and len(set(files)) == len(set(group)) == 1
    assert torch.load(run_dir / "model.pt", weights_only=True)["step"] == 340_000
