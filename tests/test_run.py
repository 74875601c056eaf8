"""Every setting of benchmark/ runs as written but shortened; what was begun is finished or told."""

import csv
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch
import tyro

ROOT = Path(__file__).parent.parent
SETTINGS = sorted(path.stem for path in (ROOT / "benchmark").glob("*.sh"))
SHORT = """--total-timesteps 1280 --buffer-size 1024 --learning-starts 800 --batch-size 4
--eval-frequency 640 --keep-checkpoint --checkpoint-frequency 640 --device cpu"""
OWN = {
    "dqn_atari.py": " --eval-games 2 --eval-max-frames 80 --target-network-frequency 200",
    "dqn_atari_2013.py": " --eval-steps 40",
    "dqn_atari_jax.py": " --eval-games 2 --eval-max-frames 80 --target-network-frequency 200",
}


def environment(extra):
    return os.environ | {"PYTHON": sys.executable, "EXTRA_FLAGS": extra}


def call(setting, extra, *flags):
    """Exit code and output of benchmark/{setting}.sh, or of a path."""
    path = ROOT / "benchmark" / f"{setting}.sh" if isinstance(setting, str) else setting
    command = ["bash", str(path), *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(extra))
    return done.returncode, done.stdout + done.stderr


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_one_that_its_script_accepts(setting):
    """Every command of its list, as the script reads it, and without a flag twice."""
    code, output = call(setting, "", "--dry-run")
    assert code == 0 and output.count("python ") == len(output.splitlines()) >= 1
    for line in output.splitlines():
        _, file, *flags = shlex.split(line)
        script = importlib.import_module(file.removesuffix(".py"))
        args = tyro.cli(script.Args, args=flags)
        script.check_args(args)
        named = [flag for flag in flags if flag.startswith("--")]
        assert len(named) == len(set(named)) and args.run_dir.endswith(f"/seed{args.seed}")


HERE = ("defaults", "nips_2013", "pong_jax_two_cores")  # one of each script; the others are long
LONG = [setting for setting in SETTINGS if setting not in HERE]


@pytest.mark.parametrize(
    "setting", [*HERE, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]
)
def test_a_setting_runs_and_leaves_its_results(setting, tmp_path):
    """At least 100 updates, a target copy, an evaluation, and a small copy of it all."""
    words = shlex.split((ROOT / "benchmark" / f"{setting}.sh").read_text(), comments=True)
    script = words[words.index("--script") + 1]
    flags = ["--seeds", 1, "--workers", 2]  # one thread each
    flags += ["--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    if "--games" not in words:
        flags += ["--games", "Breakout"]
    code, output = call(setting, SHORT + OWN[script], *flags)
    assert code == 0 and ": finished" in output, output
    (results,) = (tmp_path / "results").glob("*/*/seed1")
    names = {path.name for path in results.iterdir()} - {"episodes.csv"}  # 1,280 steps may end none
    assert names == {"eval.csv", "args.json", "machine.json", "evaluation.txt"}
    assert results.parts[-3].startswith(script.removesuffix(".py"))
    assert [row["step"] for row in rows_of(results / "eval.csv")] == ["640", "1280"]
    assert "mean" in (results / "evaluation.txt").read_text()
    args = json.loads((results / "args.json").read_text())
    learning = range(801, 1_281)
    run = tmp_path / "runs" / results.relative_to(tmp_path / "results")
    if script == "dqn_atari_jax.py":
        import numpy as np

        with np.load(run / "checkpoint.npz") as arrays:
            progress = json.loads(str(arrays["state"]))["progress"]
    else:
        progress = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]
    due = sum(step % args["train_frequency"] == 0 for step in learning)
    assert progress["num_updates"] == due >= 100
    assert progress.get("num_syncs") == (None if script == "dqn_atari_2013.py" else 2)


def test_the_flags_of_a_setting_come_last_from_the_environment(tmp_path):
    """The list has a line per game and seed, and EXTRA_FLAGS win."""
    flags = ["--games", "Pong", "ALE/Breakout-v5", "--seeds", 4, 5, "--dry-run"]
    _, output = call("defaults", "", *flags)  # has the script's name alone
    assert " --run-dir runs/benchmark/dqn_atari/PongNoFrameskip-v4/seed4" in output
    code, output = call("nature_printed", "--total-timesteps 8", *flags)
    lines = output.splitlines()
    assert code == 0 and len(lines) == 4
    ends = [line.split(" --run-dir ")[1].split()[0] for line in lines]
    name = "runs/benchmark/dqn_atari-nature_printed"
    assert ends[1:3] == [f"{name}/PongNoFrameskip-v4/seed5", f"{name}/ALE-Breakout-v5/seed4"]
    for line in lines:
        assert "--target-network-frequency 40000" in line
        assert "--total-timesteps 8 --run-dir" in line


def setting_of(path, flags):
    """A setting's shell script, as in benchmark/, for tests."""
    lines = ["#!/usr/bin/env bash", f"cd {ROOT}"]
    lines += [f'exec "$PYTHON" benchmark/run.py --setting test "$@" -- {flags}']
    path.write_text("\n".join(lines))
    return path


def test_finished_are_skipped_interrupted_resumed_and_failed_told(tmp_path):
    """One game is stopped by a signal to the runner, one does not exist; then both again."""
    setting = setting_of(tmp_path / "test.sh", "--num-envs 2 --train-frequency 40")
    flags = ["--runs", str(tmp_path / "runs"), "--workers", "2", "--seeds", "1", "--games"]
    flags += ["NoSuchGame", "Pong"]
    command = ["bash", str(setting), *flags]
    extra = SHORT + OWN["dqn_atari.py"] + " --total-timesteps 8000"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(extra))
    run = tmp_path / "runs" / "dqn_atari-test" / "PongNoFrameskip-v4" / "seed1"
    end = time.monotonic() + 120
    while not (run / "eval.csv").exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output  # a failure says more than an interruption
    assert "NoSuchGameNoFrameskip-v4/seed1: failed with exit code 2" in output
    assert "type --env-id" in output and "PongNoFrameskip-v4/seed1: interrupted" in output
    step = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]["step"]
    assert 640 <= step < 8_000
    code, output = call(setting, extra, *flags, "--only", 2)
    assert code == 0 and output.endswith("seed1: finished\n")
    assert torch.load(run / "model.pt", weights_only=True)["step"] == 8_000
    assert len(list(run.glob("events.*"))) == 2  # one each time: it was resumed, not begun again
    before = (run / "model.pt").stat().st_mtime_ns
    code, output = call(setting, extra, *flags, "--only", 2)
    assert code == 0 and output.endswith("seed1: skipped\n")
    assert (run / "model.pt").stat().st_mtime_ns == before
    code, output = call(setting, extra + " --gamma 0.5", *flags, "--only", 2)
    assert code == 1 and "failed: it was begun as dqn_atari.py --env-id Pong" in output
    for only in (0, 3):
        code, output = call(setting, extra, *flags, "--only", only)
        assert code == 1 and f"--only {only} is none of the runs 1 to 2" in output


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """Makes a runner whose script is a stand-in: runner(seeds, workers, script, act)."""
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    import run

    def make(seeds=(1,), workers=1, script="dqn_atari.py", act=lambda flags: 0):
        def call(self, flags, threads, output, errors):
            output.write_text("games 1\n")
            if "--evaluate" not in flags and (code := act(flags)):
                return code
            directory = Path(flags[flags.index("--run-dir") + 1]) if "--run-dir" in flags else None
            if directory:
                directory.mkdir(parents=True)
                (directory / "model.pt").write_text("")
            return 0

        monkeypatch.setattr(run.Runner, "call", call)
        places = dict(runs=tmp_path / "runs", results=tmp_path / "results")
        args = run.Args("test", script, ("Pong",), seeds, workers, **places)
        return run.Runner(args, [])

    return make


@pytest.mark.parametrize(
    "extra, changes, message",
    [
        ("", {"workers": 0}, "type --workers 1 or more"),
        ("", {"seeds": ()}, "a seed at least"),
        ("", {"games": ()}, "a game and a seed"),
        ("--run 'x", {}, "EXTRA_FLAGS: No closing quotation: type"),
        ("--gamma 0.5 --env_id=ALE/Pong-v5 --seed 3", {}, "have --env-id, --seed: type --games"),
        ("--resume runs/x", {}, "cannot have --resume: type"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(monkeypatch, extra, changes, message):
    """Before any run begins."""
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    import run

    monkeypatch.setenv("EXTRA_FLAGS", extra)
    with pytest.raises(SystemExit, match=message) as refused:
        run.Runner(run.Args("test", **changes), [])
    assert "\n" not in str(refused.value)


def test_a_game_or_a_seed_named_twice_is_run_once(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    import run

    games = ("Pong", "PongNoFrameskip-v4", "ALE/Pong-v5")
    assert len(run.Runner(run.Args("test", games=games, seeds=(2, 1, 2)), []).runs) == 4


def test_threads_are_told_to_torch_and_to_xla(tmp_path, monkeypatch):
    """Two workers have half of the cores each, an evaluation has one; the script is a stand-in."""
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    import run

    script = tmp_path / "stand in.py"
    script.write_text(
        """import os, pathlib, sys
print(os.environ["OMP_NUM_THREADS"], os.environ["NPROC"], file=sys.stderr)
if "--run-dir" in sys.argv:
    directory = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
    directory.mkdir()
    (directory / "model.npz").write_text("")
"""
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    args = run.Args("test", str(script), ("Pong",), (1,), workers=2, runs=tmp_path / "runs")
    assert run.Runner(args, [])() == 0
    (log,) = tmp_path.glob("runs/*/*/seed1.log")
    assert log.read_text() == "3 3\n1 1\n"
    shutil.rmtree(log.with_suffix(""))  # by hand; the log of what was before stays
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # of job.slurm, or typed
    assert run.Runner(args, [])() == 0
    assert log.read_text() == "3 3\n1 1\n5 5\n1 1\n"


def test_a_job_without_an_array_says_what_to_type(monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    code, output = call(ROOT / "benchmark" / "job.slurm", "", "benchmark/defaults.sh")
    assert code != 0 and "type sbatch --array=1-N" in output


def test_a_run_is_of_its_script(runner, tmp_path):
    """Another script of the same name is refused, and what was begun stays noted as it is."""
    assert runner()() == 0 and runner()() == 0
    (begun,) = tmp_path.glob("runs/*/*/seed1.flags")
    before = begun.stat().st_mtime_ns
    other = runner(script="mine/dqn_atari.py")
    assert other.attempt(other.runs[0]).startswith("failed: it was begun as dqn_atari.py --env")
    assert runner()() == 0 and begun.stat().st_mtime_ns == before


def test_a_run_that_another_process_works_on_is_refused(runner, tmp_path):
    """Its files stay as they are, in training as in evaluation."""
    one = runner()
    directory = one.runs[0].directory
    directory.parent.mkdir(parents=True)
    with filelock.FileLock(directory.with_suffix(".lock")):
        assert one() == 1 and not directory.exists()
    assert one() == 0


def test_published_results_give_way_only_to_their_own_run(runner, tmp_path, capsys):
    """Another run is refused before it begins; the same one, gone on, takes their place."""
    name, trained = Path("dqn_atari-test", "PongNoFrameskip-v4", "seed1"), []
    target, run_dir = tmp_path / "results" / name, tmp_path / "runs" / name
    target.mkdir(parents=True)
    (target / "episodes.csv").write_text("step\n5\n")
    one = runner(act=trained.append)
    assert one() == 1 and not trained
    assert f"failed: {target} is of another run: type another" in capsys.readouterr().out
    run_dir.mkdir(parents=True)
    (run_dir / "model.pt").write_text("")
    for games, outcome in ("step\n6\n", 1), ("step\n5\n7\n", 0):
        (run_dir / "episodes.csv").write_text(games)
        assert one() == outcome
        assert ((target / "episodes.csv").read_text() == games) == (outcome == 0)


def test_a_finished_run_is_published_again(runner, tmp_path):
    """Where its copy was lost, or --results was not typed before."""
    assert runner()() == 0
    shutil.rmtree(tmp_path / "results")
    assert runner()() == 0
    assert len(list(tmp_path.glob("results/*/*/seed1/evaluation.txt"))) == 1


def test_files_of_a_run_that_another_process_made_without_the_runner_stay(runner):
    """It holds the lock of its directory and has no checkpoint yet."""
    one = runner()
    directory = one.runs[0].directory
    directory.mkdir(parents=True)
    with filelock.FileLock(directory / ".lock"):
        (directory / "episodes.csv").write_text("")
        assert one() == 1 and (directory / "episodes.csv").exists()
    assert one() == 0


@pytest.mark.parametrize("code", [-15, 143])
def test_a_run_that_a_signal_ended_is_interrupted(runner, code):
    """Also where it had no handler, as in an evaluation; a job is then put back in its queue."""

    def act(flags):
        one.signals.add(signal.SIGTERM)
        return code

    one = runner(seeds=(1, 2), act=act)
    numbers = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for hangup in signal.SIG_IGN, signal.SIG_DFL:  # with nohup and without
            signal.signal(signal.SIGHUP, hangup)
            assert one() == 143
            caught = [signal.getsignal(number) == one.stop for number in numbers]
            assert caught == [hangup == signal.SIG_DFL, True, True, True]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_ended_first_is_told_and_published_first(runner, tmp_path, capsys):
    """The first of two runs goes on until the second has been published."""
    second = tmp_path / "results" / "dqn_atari-test" / "PongNoFrameskip-v4" / "seed2"

    def act(flags):
        if flags[flags.index("--seed") + 1] == "1":
            wait_until((second / "evaluation.txt").exists, 20)

    assert runner(seeds=(1, 2), workers=2, act=act)() == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("seed2: finished") and last.endswith("seed1: finished")


def test_a_model_half_written_is_none_and_the_evaluation_is_the_settings(tmp_path, monkeypatch):
    """The script is a stand-in that notes what it was called with."""
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    import run as runner

    calls = []

    def noted(self, flags, threads, output, errors):
        calls.append(flags)
        output.write_text("games 1\n")
        if "--evaluate" not in flags:
            (directory / "model.pt").write_text("")
        return 0

    monkeypatch.setattr(runner.Runner, "call", noted)
    monkeypatch.setenv("EXTRA_FLAGS", "--precision bf16")
    directory = tmp_path / "dqn_atari-test" / "PongNoFrameskip-v4" / "seed1"
    directory.mkdir(parents=True)
    for name in ("model.part", "checkpoint.pt"):
        (directory / name).write_text("")
    args = runner.Args("test", games=("Pong",), seeds=(1,), runs=tmp_path)
    (run,) = (found := runner.Runner(args, ["--eval-epsilon", "0.001"])).runs
    assert found.attempt(run) == "finished"
    assert calls[0] == ["--resume", str(directory)]
    assert calls[1][4:8] == ["--eval-epsilon", "0.001", "--precision", "bf16"]
    assert calls[1][-4:] == ["--device", "cpu", "--precision", "float32"]
    assert calls[1][8:10] == ["--evaluate", str(directory / "model.pt")]
    assert found.attempt(run) == "skipped" and len(calls) == 2
    later = time.time() + 10
    os.utime(directory / "checkpoint.pt", (later, later))  # resumed with more steps, by hand
    monkeypatch.setattr(runner.Runner, "call", lambda self, flags, *_: calls.append(flags) or 1)
    assert found.attempt(run).startswith("failed with exit code 1")
    assert calls[2:] == [["--resume", str(directory)]]
    os.utime(directory / "model.pt", (later + 1, later + 1))
    monkeypatch.setattr(runner.Runner, "call", noted)
    assert found.attempt(run) == "finished" and "--evaluate" in calls[3]


def test_a_run_without_checkpoint_begins_again(tmp_path):
    """As a kill in its first second leaves it."""
    setting = setting_of(tmp_path / "test.sh", "--num-envs 2 --train-frequency 40")
    run = tmp_path / "runs" / "dqn_atari-test" / "PongNoFrameskip-v4" / "seed1"
    run.mkdir(parents=True)
    (run / "args.json").write_text("{")
    flags = ["--runs", tmp_path / "runs", "--workers", 2, "--seeds", 1, "--games", "Pong"]
    code, output = call(setting, SHORT + OWN["dqn_atari.py"], *flags)
    assert code == 0 and output.endswith("seed1: finished\n"), output


CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
MinJobAge=36000
MailProg=/bin/true
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster of this machine alone: munged, slurmctld and slurmd, ended with the test."""
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, folder=folder, cores=os.cpu_count())
    )
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    munged = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "--force"]
    daemons = [munged + ["--foreground"], ["slurmctld", "-D"], ["slurmd", "-D"]]
    running = []
    try:
        for command in daemons:
            log = open(folder / "daemons.log", "a")
            running.append(subprocess.Popen(command, stdout=log, stderr=log))
            time.sleep(1)
        wait_until(lambda: "idle" in out("sinfo", "--noheader"), 60)
        yield folder
    finally:
        subprocess.run(["scancel", "--user", "root"], capture_output=True)
        time.sleep(1)
        for process in reversed(running):
            process.terminate()
            process.wait(30)


def out(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slurm
def test_a_job_array_with_a_time_limit_a_failure_and_a_cancellation(slurm, tmp_path):
    """5 runs; one is too long for its time limit, is requeued and ends; one fails; one is
    cancelled and keeps a checkpoint."""
    setting = setting_of(tmp_path / "test.sh", "--num-envs 2 --train-frequency 40")
    text = setting.read_text().splitlines()
    longer = "--total-timesteps 40000 --eval-frequency 10000 --checkpoint-frequency 10000"
    longer = f'test "$SLURM_ARRAY_TASK_ID" = 1 && EXTRA_FLAGS+=" {longer}"'
    text.insert(2, longer)
    endless = " --total-timesteps 4000000 --checkpoint-frequency 2000000"
    text.insert(3, f'test "$SLURM_ARRAY_TASK_ID" = 5 && EXTRA_FLAGS+="{endless}"')
    setting.write_text("\n".join(text))
    games = ["--games", "Pong", "Breakout", "Qbert", "NoSuchGame", "Freeway", "--seeds", "1"]
    command = ["sbatch", "--parsable", "--array=1-5", "--signal=B:USR1@50", "--time=2"]
    command += [f"--output={tmp_path}/%a.out", str(ROOT / "benchmark" / "job.slurm"), str(setting)]
    command += [*games, "--workers", "4", "--runs", str(tmp_path / "runs")]
    env = environment(SHORT + OWN["dqn_atari.py"])
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    first = f"{job}_1"
    wait_until(lambda: "RUNNING" in out("scontrol", "show", "job", first), 120)
    out("scontrol", "update", f"JobId={first}", "TimeLimit=1")
    wait_until(lambda: list((tmp_path / "runs").glob("*/Freeway*/seed1/checkpoint.pt")), 300)
    out("scancel", f"{job}_5")
    wait_until(lambda: "Restarts=1" in out("scontrol", "show", "job", first), 300)
    out("scontrol", "update", f"JobId={first}", "StartTime=now", "TimeLimit=20")
    active = re.compile("JobState=(PENDING|RUNNING|COMPLETING|REQUEUED|CONFIGURING)")

    def ended():  # squeue's answer is empty also when it fails
        told = out("scontrol", "show", "job", job)
        return told.count("JobState=") == 5 and not active.search(told)

    wait_until(ended, 900)  # 120 to 240 beside other tests
    outputs = [(tmp_path / f"{task}.out").read_text() for task in range(1, 6)]
    assert "seed1: interrupted" in outputs[0] and outputs[0].endswith("seed1: finished\n")
    assert outputs[1].endswith("seed1: finished\n") and outputs[2].endswith("seed1: finished\n")
    assert "failed with exit code 2" in outputs[3] and "seed1: interrupted" in outputs[4]
    states = out("scontrol", "show", "job", job)
    assert states.count("JobState=COMPLETED") == 3 and states.count("JobState=FAILED") == 1
    assert states.count("JobState=CANCELLED") == 1
    (cancelled,) = (tmp_path / "runs").glob("*/Freeway*/seed1/checkpoint.pt")
    assert torch.load(cancelled, weights_only=True)["progress"]["step"] > 0  # not its first
    models = sorted((tmp_path / "runs").glob("*/*/seed1/model.pt"))
    steps = [torch.load(path, weights_only=True)["step"] for path in models]
    assert steps == [1_280, 40_000, 1_280]
    assert [len(list(path.parent.glob("events.*"))) for path in models] == [1, 2, 1]  # resumed
