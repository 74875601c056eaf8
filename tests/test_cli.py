"""The command line: what is typed wrongly ends with one line that says what to type instead."""

import dataclasses
import fcntl
import os
import pty
import re
import runpy
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from toy import Scripted, only, replace_game, tiny_args


def too_long(*_):
    raise TimeoutError("the command neither ended nor was refused")


@pytest.fixture
def command(script, monkeypatch, tmp_path, capfd):
    """Runs the script as a program, in this process, in an empty directory.

    Gives its exit code, its stdout and its stderr, where a library in C would show as well.
    """
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", [script.__file__, *map(str, flags)])
        code = 0
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(60)  # what is not refused would train for hours
        try:
            runpy.run_path(script.__file__, run_name="__main__")
        except SystemExit as end:
            code = end.code
        finally:
            signal.alarm(0)
        return code, *capfd.readouterr()

    return run


def program(script, *flags, cwd):
    """The same in a process of its own: exit code, stdout, stderr."""
    argv = [sys.executable, script.__file__, *map(str, flags)]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def names_in(directory):
    """What a command left there; an empty folder of runs is nothing."""
    found = {
        path.name: list(path.iterdir()) if path.is_dir() else 1 for path in directory.iterdir()
    }
    return sorted(name for name, content in found.items() if content or name != "runs")


def assert_refused(answer, script, *fragments):
    """Exit code 2, nothing on stdout, one line on stderr: who speaks, what to type."""
    code, out, err = answer
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"{Path(script.__file__).name}: ")
    assert ": type " in err
    for fragment in fragments:
        assert fragment in err


# --- Refusals -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "env_id, instead",
    [
        ("Brakout", "type --env-id BreakoutNoFrameskip-v4"),
        ("pong", "type --env-id PongNoFrameskip-v4"),
        ("Breakout-v4", "type --env-id BreakoutNoFrameskip-v4"),  # it skips frames already
        ("CartPole-v1", "NoFrameskip-v4"),  # no Atari
        ("", "NoFrameskip-v4"),
    ],
)
def test_a_game_that_cannot_be_is_answered_with_the_nearest_that_can(
    script, command, tmp_path, env_id, instead
):
    """Pitfall 24."""
    assert_refused(command("--env-id", env_id), script, instead)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("odd", [dict(obs_type="ram"), dict(continuous=True)])
def test_a_game_without_pixels_or_discrete_actions_is_refused(
    script, command, tmp_path, monkeypatch, odd
):
    """Even where its id looks right."""
    usual = gym.registry["PongNoFrameskip-v4"]
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    monkeypatch.setattr(gym, "registry", gym.envs.registration.registry)
    gym.register("OddPongNoFrameskip-v4", usual.entry_point, kwargs={**usual.kwargs, **odd})
    answer = command("--env-id", "OddPongNoFrameskip-v4")
    assert_refused(answer, script, "type --env-id PongNoFrameskip-v4")
    assert names_in(tmp_path) == []


PERIODS = ["log-frequency", "train-frequency", "target-network-frequency"]
PERIODS_OR_NEVER = ["checkpoint-frequency", "eval-frequency"]
COUNTS = ["num-envs", "batch-size", "buffer-size", "total-timesteps", "frame-skip"]
COUNTS += ["exploration-steps", "learning-starts", "eval-games", "eval-steps", "eval-max-frames"]
REALS = ["learning-rate"]


WRONG = [(flag, 0) for flag in PERIODS + COUNTS + REALS]
WRONG += [(flag, -1) for flag in PERIODS + PERIODS_OR_NEVER + COUNTS + REALS]
WRONG += [("seed", -1), ("noop-max", -1), ("end-e", -0.1), ("gamma", -0.5)]
WRONG += [("learning-rate", "nan"), ("gamma", "nan"), ("gamma", 1.5), ("eval-epsilon", 2)]


def test_a_number_that_cannot_be_is_refused_by_its_flag(script, command, tmp_path):
    """Zero and negative periods, counts and rates, of every flag that the script has."""
    known = {field.name.replace("_", "-") for field in dataclasses.fields(script.Args)}
    wrong = [(flag, value) for flag, value in WRONG if flag in known]
    assert len(wrong) > 30
    for flag, value in wrong:
        assert_refused(command(f"--{flag}", value), script, f"type --{flag} ")
        assert names_in(tmp_path) == []


def test_what_may_be_zero_is_accepted(script):
    """Seeds, fractions, periods that then never come."""
    names = "seed noop_max checkpoint_frequency eval_frequency start_e end_e eval_epsilon gamma"
    script.check_args(script.Args(**dict.fromkeys(names.split(), 0)))


@pytest.mark.parametrize(
    "flags, instead",
    [
        ("--buffer-size 56", "type --buffer-size 64"),  # a batch of 32, 4 rows of 8 games
        ("--buffer-size 32 --num-envs 1", "type --buffer-size 36"),
        ("--buffer-size 100001", "type --buffer-size 100008"),
        ("--total-timesteps 1001", "type --total-timesteps 1008"),
        ("--learning-starts 63", "type --learning-starts 64"),
    ],
)
def test_sizes_that_do_not_fit_are_answered_with_those_that_do(
    script, command, tmp_path, flags, instead
):
    """What the line tells to type is then accepted: the refusal moves on to the device."""
    assert_refused(command(*flags.split()), script, instead)
    told = instead.removeprefix("type ").split()
    fixed = script.Args(**{told[0][2:].replace("-", "_"): int(told[1])})
    if "--num-envs 1" in flags:
        fixed.num_envs = 1
    script.check_args(fixed)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("more", ["", "--evaluate model.pt --capture-video"])
def test_a_window_is_only_for_watching_a_model(script, command, tmp_path, more):
    """Not for training, and not while filming."""
    answer = command("--render-mode", "human", *more.split())
    assert_refused(answer, script, "type --evaluate MODEL")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_without_one_is_refused(script, command, tmp_path, monkeypatch, device):
    """The same on a machine that has it."""
    for backend in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)
    assert_refused(command("--device", device), script, "type --device cpu")
    assert names_in(tmp_path) == []


def test_the_device_is_cuda_then_apples_then_the_cpu(script, monkeypatch):
    """Whatever a machine has, and the CPU where it is asked for."""
    backends = torch.cuda, torch.backends.mps
    for there, expected in ((1, 1), "cuda"), ((1, 0), "cuda"), ((0, 1), "mps"), ((0, 0), "cpu"):
        for backend, available in zip(backends, there, strict=True):
            monkeypatch.setattr(backend, "is_available", lambda found=bool(available): found)
        assert script.choose_device("auto").type == expected
        assert script.choose_device("cpu").type == "cpu"


def test_an_existing_run_directory_is_refused_and_left_alone(script, command, tmp_path):
    """Old results survive."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.pt").write_text("kept")
    assert_refused(command("--run-dir", "old"), script, "old exists")
    assert names_in(tmp_path) == ["old"]
    assert (tmp_path / "old" / "model.pt").read_text() == "kept"


def test_a_refusal_after_the_games_began_leaves_no_videos(script, command, tmp_path):
    """Memory is looked at when the games are there."""
    answer = command("--capture-video", "--buffer-size", "1000000000")
    assert_refused(answer, script, "the replay needs", "type --buffer-size")
    assert names_in(tmp_path) == []


@pytest.fixture
def model_file(script, tmp_path):
    """Writes one of the files that is no model of Breakout."""

    def write(kind):
        path = tmp_path / "model.pt"
        if kind == "missing":
            return path
        if kind == "text":
            path.write_text("no model\n")
            return path
        if kind == "other weights":
            torch.save({"layer": torch.zeros(3)}, path)
            return path
        actions = 3 if kind == "fewer actions" else 4
        game = "PongNoFrameskip-v4" if kind == "other game" else "BreakoutNoFrameskip-v4"
        script.save(path, {"env_id": game, "weights": script.QNetwork(actions).state_dict()})
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:100_000])
        return path

    return write


@pytest.mark.parametrize("flag", ["--evaluate", "--init-from"])
@pytest.mark.parametrize(
    "kind, instead",
    [
        ("other game", "type --env-id PongNoFrameskip-v4"),
        ("fewer actions", "type the path of a model.pt"),
        ("truncated", "type the path of a model.pt"),
        ("text", "type the path of a model.pt"),
        ("other weights", "type the path of a model.pt"),
        ("missing", "type the path of a model.pt"),
    ],
)
def test_a_file_that_is_no_model_of_this_game_is_refused(
    script, command, model_file, tmp_path, flag, kind, instead
):
    """For playing and for training alike; the file stays, no run directory is left."""
    path = model_file(kind)
    before = names_in(tmp_path)
    flags = "--device cpu --num-envs 1 --buffer-size 1000".split()
    assert_refused(command(flag, path, *flags), script, str(path), instead)
    assert names_in(tmp_path) == before


def test_a_refusal_in_a_process_of_its_own_is_one_line_and_code_2(script, tmp_path):
    """As a user sees it."""
    answer = program(script, "--env-id", "Brakout", cwd=tmp_path)
    assert_refused(answer, script, "type --env-id BreakoutNoFrameskip-v4")
    assert names_in(tmp_path) == []


@only("dqn_atari")
def test_an_error_while_games_start_ends_the_program(script, tmp_path):
    """No room for the pipes of 40 games: those that began ignore SIGTERM and would hold it up."""
    flags = "--env-id PongNoFrameskip-v4 --num-envs 40 --buffer-size 40000 --run-dir run"
    command = f"ulimit -n 40; exec {sys.executable} {script.__file__} {flags} --device cpu"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 1 and b"Too many open files" in done.stderr
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("flags", ["--sede 3", "--seed three", "--precision 8", "--device gpu"])
def test_an_unknown_flag_or_value_ends_with_code_2(command, tmp_path, flags):
    """tyro's own refusals."""
    code, out, err = command(*flags.split())
    assert code == 2
    assert flags.split()[0] in out + err
    assert names_in(tmp_path) == []


# --- Help -----------------------------------------------------------------------------------------
@only("dqn_atari", "dqn_atari_2013", "dqn_atari_jax")
def test_help_shows_every_flag_with_its_comment_within_10_seconds(script, tmp_path):
    """The trailing comments of Args are the manual. Of up to three starts the fastest counts: one
    took 11 s beside other tests, and 4 s alone."""
    seconds = []
    while min(seconds, default=10) >= 10 and len(seconds) < 3:
        start = time.monotonic()
        code, out, err = program(script, "--help", cwd=tmp_path)
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 10
    assert (code, err) == (0, "")
    shown = re.sub(r"[\s│]", "", out)
    source = Path(script.__file__).read_text()
    fields = dataclasses.fields(script.Args)
    assert len(fields) > 30
    for field in fields:
        comments = re.findall(rf"^    {field.name}: .*  # (.*)$", source, re.MULTILINE)
        assert len(comments) == 1, field.name
        assert f"--{field.name.replace('_', '-')}" in shown
        assert re.sub(r"\s", "", comments[0]) in shown, field.name


# --- Runs -----------------------------------------------------------------------------------------
def test_a_tiny_run_on_pong_trains_and_its_model_plays(script, tmp_path):
    """Whole lines where stderr is no terminal; pitfall 26: 6 actions in today's Pong."""
    flags = "--env-id PongNoFrameskip-v4 --run-dir run --device cpu --num-envs 2 --batch-size 4"
    flags += " --total-timesteps 400 --buffer-size 400 --learning-starts 240 --log-frequency 20"
    code, out, err = program(script, *flags.split(), cwd=tmp_path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 4
    assert all(re.search(rf"\b{word}\b", lines[0]) for word in ("PongNoFrameskip-v4", "cpu", "run"))
    assert "6 actions" in lines[0]
    assert re.fullmatch(r"step 0: checkpoint of 0\.0[123] GB in \d+\.\d s", lines[1])
    assert re.fullmatch(r"step 200: return \S+, \d+ steps/s, not learning yet", lines[2])
    assert re.fullmatch(r"step 400: return \S+, \d+ steps/s, \d+\.\d\d h left", lines[3])
    assert names_in(tmp_path) == ["run"] and (tmp_path / "run" / "model.pt").exists()

    flags = "--env-id PongNoFrameskip-v4 --evaluate run/model.pt --device cpu"
    flags += " --eval-max-frames 800"  # that is 200 agent steps
    flags += " --eval-games 2" if hasattr(script.Args, "eval_games") else " --eval-steps 201"
    code, out, err = program(script, *flags.split(), cwd=tmp_path)
    assert (code, err) == (0, "")
    number = r"-?\d+(?:\.\d+)?"
    line = rf"games 2, mean ({number}), std {number}, min ({number}), max ({number})\n"
    mean, least, most = map(float, re.fullmatch(line, out).groups())
    assert mean == (least + most) / 2 and -21 <= least <= most <= 21
    assert names_in(tmp_path) == ["run"]


def test_a_run_without_a_directory_is_named_and_a_stopped_one_says_how_it_goes_on(
    script, monkeypatch, tmp_path, capsys
):
    """Game, script, seed and time; the command is that of its directory."""
    replace_game(monkeypatch, script, Scripted)
    monkeypatch.chdir(tmp_path)
    original = script.linear_schedule

    def schedule(args, step):
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(args, step)

    monkeypatch.setattr(script, "linear_schedule", schedule)
    args = dataclasses.replace(tiny_args(script, tmp_path, seed=7), run_dir=None)
    end = script.train(args)
    name = rf"runs/BreakoutNoFrameskip-v4__{script.__name__}__7__\d+"
    assert re.fullmatch(name, str(end.run_dir)) and end.run_dir.exists()
    line = f"stopped at step 11: python {sys.argv[0]} --resume {end.run_dir} goes on\n"
    assert line in capsys.readouterr().out


@only("dqn_atari")
def test_a_signal_after_the_last_step_finds_a_finished_run(script, command, tmp_path, monkeypatch):
    """Exit code 0: it has its model and no checkpoint, so there is nothing to be resumed."""
    original, sent = os.replace, []

    def replace(part, path):
        original(part, path)
        if path.name == "model.pt":
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    monkeypatch.setattr(os, "replace", replace)
    flags = "--env-id PongNoFrameskip-v4 --run-dir run --device cpu --num-envs 1 --batch-size 4"
    flags += " --total-timesteps 20 --buffer-size 20 --learning-starts 40"
    code, out, _ = command(*flags.split())
    assert (code, len(sent), "stopped" in out) == (0, 1, False)
    assert (tmp_path / "run" / "model.pt").exists()
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@only("dqn_atari")
def test_an_evaluation_in_a_terminal_shows_its_games_and_ends_with_ctrl_c(script, tmp_path):
    """One line, exit code 130 as of any command, no traceback."""
    model = tmp_path / "model.pt"
    weights = script.QNetwork(6).state_dict()
    script.save(model, {"env_id": "PongNoFrameskip-v4", "weights": weights})
    argv = [sys.executable, script.__file__, "--env-id", "PongNoFrameskip-v4", "--evaluate", model]
    argv += ["--eval-max-frames", "40", "--eval-games", "100000", "--device", "cpu"]
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's "&" ignores it
        os.execv(argv[0], argv)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    output, interrupted = "", False
    try:
        while more := os.read(terminal, 4096):
            output += more.decode()
            if not interrupted and re.search(r"evaluation:.* [1-9]\d*/100000 ", output):
                interrupted = os.write(terminal, b"\x03")
    except OSError:  # its end, on Linux
        pass
    finally:
        signal.alarm(0)
        os.close(terminal)  # ends it, if it has not ended
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert output.rstrip().endswith("dqn_atari.py: interrupted") and "Traceback" not in output


def test_importing_the_script_does_nothing(script, tmp_path):
    """No file, no process, no CUDA context, not a word."""
    lines = [
        f"import sys; sys.path.insert(0, {str(Path(script.__file__).parent)!r})",
        "sys.dont_write_bytecode = True",
        f"import {Path(script.__file__).stem}",
        "import os, torch",
        "assert not torch.cuda.is_initialized()",
        "try: os.waitpid(-1, os.WNOHANG)",
        "except ChildProcessError: sys.exit(7)",
    ]
    argv = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert names_in(tmp_path) == []
