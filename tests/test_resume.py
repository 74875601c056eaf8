"""A run that was stopped goes on as if nothing had happened: checkpoints, faults, bad files."""

import csv
import json
import multiprocessing
import multiprocessing.pool
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_train import counts
from toy import Scripted, only, replace_game, tensors_in, tiny_args

WALL_CLOCK = ("charts/SPS",)


# --- What two runs must have in common ------------------------------------------------------------
def rows(run_dir, name):
    """Of a CSV file, without its wall-clock column."""
    path = Path(run_dir, name)
    if not path.exists():
        return None
    with open(path) as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def curves(run_dir):
    """Every scalar point of every event file by tag, in the order of steps: two files of one second
    and one process, which only a test makes, are read in the order of their names."""
    events = EventAccumulator(str(run_dir), size_guidance={"tensors": 0}).Reload()
    return {
        tag: sorted((e.step, e.tensor_proto.float_val[0]) for e in events.Tensors(tag))
        for tag in events.Tags()["tensors"]
        if tag not in WALL_CLOCK and "hparams" not in tag
    }


def model_of(run_dir):
    if (run_dir / "model.npz").exists():  # JAX
        with np.load(run_dir / "model.npz") as arrays:
            weights = dict(arrays)
        return json.loads(str(weights.pop("state"))) | {"weights": weights}
    return torch.load(run_dir / "model.pt", weights_only=True)


def assert_equal_runs(one, other):
    """Weights, files and curves, bit for bit, apart from wall-clock columns."""
    models = [model_of(Path(run)) for run in (one, other)]
    weights = [model.pop("weights") for model in models]
    assert models[0] == models[1]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    for name in ("episodes.csv", "eval.csv"):
        assert rows(one, name) == rows(other, name), name
    assert curves(one) == curves(other)


def stopped_at(script, monkeypatch, step):
    """The run gets SIGTERM while the games play the steps after `step`."""
    original = script.linear_schedule

    def schedule(args, now):
        if now == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(args, now)

    monkeypatch.setattr(script, "linear_schedule", schedule)


def resumed(script, run_dir, **changes):
    """As the entry does it."""
    args = script.load(Path(run_dir, "checkpoint.pt"), "progress")["args"]
    return script.train(script.Args(**args | {"resume": str(run_dir)} | changes))


def without_a_model(script, monkeypatch):
    """The run ends by an error after its last step."""
    original = script.save

    def save(path, state):
        if path.name == "model.pt":
            raise MemoryError
        original(path, state)

    monkeypatch.setattr(script, "save", save)


TOY = dict(lengths=(11, 6), rewards=(0.0, 3.0, -2.0), lives_lost=(4,), action_bonus=1)
TOY_ARGS = dict(num_envs=2, buffer_size=200, eval_frequency=150, eval_games=2, eval_steps=12)


def toy_run(script, folder, stopped_after=None):
    with pytest.MonkeyPatch.context() as patch:
        replace_game(patch, script, Scripted, **TOY)
        if stopped_after:
            stopped_at(script, patch, stopped_after)
        return script.train(tiny_args(script, folder / "run", **TOY_ARGS))


@pytest.fixture(scope="session")
def whole(script, tmp_path_factory):
    """The end of a toy run that nothing stopped; tests only read it."""
    return toy_run(script, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def run_stopped_at_302(script, tmp_path_factory):
    """The directory of a toy run; tests change copies of it."""
    return toy_run(script, tmp_path_factory.mktemp("stopped"), 300).run_dir


# --- Exactness ------------------------------------------------------------------------------------
@only("dqn_atari", "dqn_atari_2013")
def test_a_resumed_run_does_not_hold_on_to_its_checkpoint(script, monkeypatch, tmp_path):
    """It was read as a memory map, whose blocks on the disk stay used as long as it is there."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    args = tiny_args(script, tmp_path / "run", keep_checkpoint=True, **TOY_ARGS)
    script.train(args)
    end = resumed(script, tmp_path / "run")
    assert end.step == args.total_timesteps and len(end.rb.frames) > 0
    assert "checkpoint.pt" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    "step, optimizer",
    [(0, "adam"), (60, "adam"), (150, "adam"), (298, "adam"), (450, "adam"), (298, "rmsprop")],
)
def test_a_stopped_run_goes_on_bit_for_bit(script, monkeypatch, tmp_path, whole, step, optimizer):
    """Before and after learning starts, at an evaluation, before and after the ring is full; the
    last in bfloat16 too."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    settings = dict(TOY_ARGS, optimizer=optimizer)
    if optimizer != "adam":
        settings["precision"] = "bf16"
        whole = script.train(tiny_args(script, tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        stopped_at(script, patch, step)
        half = script.train(tiny_args(script, tmp_path / "half", **settings))
    assert (half.step, set(half.stop)) == (step + 2, {signal.SIGTERM})
    assert not (half.run_dir / "model.pt").exists()
    end = resumed(script, half.run_dir)
    assert counts(end) == (600, 125, 5)[: len(counts(end))]
    assert end.returns == whole.returns and len(whole.returns) > 60
    assert_equal_runs(whole.run_dir, half.run_dir)
    for name, tensor in tensors_in(whole.learner).items():
        assert torch.equal(tensor, tensors_in(end.learner)[name]), name
    assert not (half.run_dir / "checkpoint.pt").exists()


@only("dqn_atari")
def test_what_a_checkpoint_lacks_changes_the_run(script, monkeypatch, tmp_path, whole):
    """The comparison above can fail: without each part in turn the end is another one."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    with monkeypatch.context() as patch:
        stopped_at(script, patch, 298)
        half = script.train(tiny_args(script, tmp_path / "half", **TOY_ARGS))
    kept = (half.run_dir / "checkpoint.pt").read_bytes()
    replay, moments = ".3.rows.", ".2.state.0."
    lacking = [replay + name for name in ("frames", "ages", "actions", "rewards", "terminations")]
    lacking += [moments + "exp_avg_sq", moments + "step", ".1.network.0.bias", ".3.draws"]
    for name in [*lacking, "t", "rng", "games"]:
        state = torch.load(half.run_dir / "checkpoint.pt", weights_only=True)
        if name in lacking:
            fresh = torch.Generator().manual_seed(9).get_state() if "draws" in name else 0
            tensors_in(state["learner"])[name].copy_(torch.as_tensor(fresh))
        elif name == "t":
            state["learner"][3]["t"] -= 1
        elif name == "rng":
            state["rng"] = np.random.default_rng(9).bit_generator.state
        else:
            state["games"][1]["rng"] = np.random.default_rng(9).bit_generator.state
        run_dir = tmp_path / name
        shutil.copytree(half.run_dir, run_dir)
        torch.save(state, run_dir / "checkpoint.pt")
        end = resumed(script, run_dir)
        same = all(
            torch.equal(a, b)
            for a, b in zip(end.q_network.parameters(), whole.q_network.parameters(), strict=True)
        )
        assert not same, name
    assert (half.run_dir / "checkpoint.pt").read_bytes() == kept


def test_checkpoints_come_at_their_period_and_the_first_at_once(script, monkeypatch, tmp_path):
    """Steps 0, 250 and 500; none at the end, and none is left."""
    replace_game(monkeypatch, script, Scripted)
    steps, original = [], script.save_checkpoint

    def save(run_dir, about, progress, *rest):
        original(run_dir, about, progress, *rest)
        steps.append((progress["step"], progress["num_updates"]))
        assert (run_dir / "checkpoint.pt").exists()

    monkeypatch.setattr(script, "save_checkpoint", save)
    end = script.train(tiny_args(script, tmp_path / "run", checkpoint_frequency=250))
    assert steps == [(0, 0), (250, 37), (500, 100)]  # multiples of 4 in (100, step]
    assert not (end.run_dir / "checkpoint.pt").exists()


def test_without_a_period_only_a_signal_writes_a_checkpoint(script, monkeypatch, tmp_path):
    """--checkpoint-frequency 0, for a full disk."""
    replace_game(monkeypatch, script, Scripted)
    stopped_at(script, monkeypatch, 300)
    args = tiny_args(script, tmp_path / "run", checkpoint_frequency=0)
    end = script.train(args)
    assert (end.step, (end.run_dir / "checkpoint.pt").exists()) == (301, True)


def test_what_may_change_when_a_run_goes_on(script, stopped):
    """Periods and keeping of checkpoints, besides the length; half a checkpoint of a kill goes."""
    (stopped / "checkpoint.part").write_bytes(b"half")
    changes = dict(checkpoint_frequency=0, keep_checkpoint=True, total_timesteps=500)
    assert resumed(script, stopped, **changes).step == 500
    assert (stopped / "checkpoint.pt").exists()
    (stopped / "checkpoint.part").write_bytes(b"half")
    assert resumed(script, stopped, keep_checkpoint=False, total_timesteps=600).step == 600
    assert not list(stopped.glob("checkpoint*"))


def test_seconds_go_on_from_those_of_the_checkpoint(script, stopped):
    """So that hours of a curve are those of all its parts."""
    path = stopped / "checkpoint.pt"
    state = script.load(path, "progress")
    state["progress"]["log"]["seconds"] = 5_000.0
    script.save(path, state)
    with open(resumed(script, stopped).run_dir / "episodes.csv") as file:
        seconds = {int(row["step"]): float(row["seconds"]) for row in csv.DictReader(file)}
    assert all((5_000 <= x < 6_000) if step > 302 else x < 1_000 for step, x in seconds.items())
    assert min(seconds) < 302 < max(seconds)


def test_a_run_that_began_with_a_model_goes_on_without_it(script, monkeypatch, tmp_path):
    """Its weights are in the checkpoint."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    first = script.train(tiny_args(script, tmp_path / "first", total_timesteps=20))
    model = first.run_dir / "model.pt"
    with monkeypatch.context() as patch:
        stopped_at(script, patch, 50)
        args = tiny_args(script, tmp_path / "run", init_from=str(model), **TOY_ARGS)
        assert script.train(args).step == 52
    model.unlink()
    assert resumed(script, tmp_path / "run").step == 600


def test_a_kept_checkpoint_continues_a_finished_run(script, monkeypatch, tmp_path, whole):
    """400 steps, then 200 more, are 600."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    args = tiny_args(script, tmp_path / "run", keep_checkpoint=True, **TOY_ARGS)
    args.total_timesteps = 400
    assert script.train(args).step == 400
    end = resumed(script, tmp_path / "run", total_timesteps=600)
    assert end.step == 600
    assert_equal_runs(whole.run_dir, end.run_dir)


def test_an_evaluation_under_way_is_given_up_and_repeated(script, monkeypatch, tmp_path, whole):
    """The signal comes in the first evaluation; eval.csv has each of them once."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    original = script.evaluate
    with monkeypatch.context() as patch:

        def evaluate(*args):
            os.kill(os.getpid(), signal.SIGUSR1)
            return original(*args)

        patch.setattr(script, "evaluate", evaluate)
        half = script.train(tiny_args(script, tmp_path / "half", **TOY_ARGS))
    assert (half.step, half.figures) == (150, None)
    end = resumed(script, half.run_dir)
    assert [row["step"] for row in rows(end.run_dir, "eval.csv")] == ["150", "300", "450", "600"]
    assert_equal_runs(whole.run_dir, half.run_dir)


def test_a_signal_while_a_checkpoint_is_written_needs_no_other(
    script, monkeypatch, tmp_path, whole
):
    """The run ends with that one; the evaluation of its step is repeated when it goes on."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    steps, original = [], script.save_checkpoint

    def save(run_dir, about, progress, *rest):
        steps.append(progress["step"])
        if steps == [0, 300]:
            os.kill(os.getpid(), signal.SIGTERM)
        original(run_dir, about, progress, *rest)

    monkeypatch.setattr(script, "save_checkpoint", save)
    args = tiny_args(script, tmp_path / "run", checkpoint_frequency=300, **TOY_ARGS)
    assert script.train(args).step == 300 and steps == [0, 300]
    assert [row["step"] for row in rows(tmp_path / "run", "eval.csv")] == ["150"]
    assert_equal_runs(whole.run_dir, resumed(script, tmp_path / "run").run_dir)
    assert steps == [0, 300]  # nor does it write it again when it goes on


@pytest.mark.parametrize("period", [250, 1_000])
def test_what_was_written_after_the_checkpoint_is_written_again_once(
    script, monkeypatch, tmp_path, whole, period
):
    """As kill -9 leaves it: rows and points beyond the checkpoint, the last ones cut in half; or
    whole files, where the checkpoint is of step 0."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    args = tiny_args(script, tmp_path / "half", checkpoint_frequency=period, **TOY_ARGS)
    with monkeypatch.context() as patch:
        without_a_model(script, patch)
        with pytest.raises(MemoryError):
            script.train(args)
    assert len(rows(tmp_path / "half", "episodes.csv")) == len(whole.returns)
    with open(tmp_path / "half" / "episodes.csv", "a") as file:
        file.write("60")
    for path in (tmp_path / "half").glob("events.*"):
        path.write_bytes(path.read_bytes()[:-7])
    end = resumed(script, tmp_path / "half")
    assert_equal_runs(whole.run_dir, end.run_dir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_caught_only_while_a_run_lasts(script, monkeypatch, tmp_path, number):
    """A notebook has its own handlers back afterwards; in a thread none are set."""
    replace_game(monkeypatch, script, Scripted)
    before = signal.getsignal(number)
    handlers = []
    original = script.linear_schedule

    def schedule(args, step):
        handlers.append(signal.getsignal(number))
        return original(args, step)

    monkeypatch.setattr(script, "linear_schedule", schedule)
    script.train(tiny_args(script, tmp_path / "run", total_timesteps=10))
    assert before not in handlers and len(handlers) == 10
    assert signal.getsignal(number) == before
    with multiprocessing.pool.ThreadPool(1) as thread:
        handlers.clear()
        thread.apply(script.train, [tiny_args(script, tmp_path / "2", total_timesteps=10)])
    assert set(handlers) == {before}


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(script, monkeypatch, tmp_path):
    """Then its name too; a file that cannot be written whole leaves none."""
    calls, originals = [], {"fsync": os.fsync, "replace": os.replace}
    for name in originals:

        def noted(*args, name=name):
            calls.append(name)
            return originals[name](*args)

        monkeypatch.setattr(os, name, noted)
    script.save(tmp_path / "a.pt", {})
    assert calls == ["fsync", "replace", "fsync"]

    def broken(state, file):
        file.write(b"half")
        raise OSError("no room")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="no room"):
        script.save(tmp_path / "b.pt", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@only("dqn_atari", "dqn_atari_2013")
def test_a_checkpoint_is_read_where_it_lies(script, stopped):
    """As a memory map: 7 GB are not in memory twice."""
    state = script.load(stopped / "checkpoint.pt", "progress")
    assert "checkpoint.pt" in Path("/proc/self/maps").read_text() and state


def test_room_for_two_checkpoints_is_asked_of_a_new_run_alone(script, monkeypatch, stopped):
    """Twice 5.6 MB of frames; one that goes on has had it."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: SimpleNamespace(free=9_000_000))
    with pytest.raises(script.BadInput, match="type --checkpoint-frequency 0"):
        script.train(tiny_args(script, stopped.parent / "new"))
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    assert resumed(script, stopped).step == 600


# --- Bad files ------------------------------------------------------------------------------------
@pytest.fixture
def stopped(script, monkeypatch, tmp_path, run_stopped_at_302):
    """A directory with a good checkpoint at step 302 of a toy run."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    return Path(shutil.copytree(run_stopped_at_302, tmp_path / "run"))


def assert_refused_and_untouched(script, run_dir, match):
    before = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}
    with pytest.raises(script.BadInput, match=match) as refusal:
        resumed(script, run_dir)
    assert "\n" not in str(refusal.value)
    after = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}
    assert after == before and multiprocessing.active_children() == []


@pytest.mark.parametrize("tenths", range(10))
def test_a_checkpoint_cut_short_is_refused(script, stopped, tenths):
    """At every 10 % of its length."""
    path = stopped / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenths // 10])
    assert_refused_and_untouched(script, stopped, "checkpoint.pt is missing, damaged .*: type")


def test_a_flipped_byte_in_any_part_is_refused(script, stopped):
    """In the contents of each part of the zip; torch.load alone would take most of them."""
    path = stopped / "checkpoint.pt"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    assert len(parts) > 30
    for part in parts:
        lengths = whole[part.header_offset + 26 : part.header_offset + 30]  # of name and extra
        start = part.header_offset + 30 + int(np.frombuffer(lengths, "<u2").sum())
        middle = start + part.file_size // 2
        flipped = bytearray(whole)
        flipped[middle] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(script.BadInput, match="checkpoint.pt is missing, damaged or"):
            script.load(path, "progress")
    path.write_bytes(whole)
    assert resumed(script, stopped).step == 600


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(script, stopped):
    """A pickled object among the values, and a pickle in place of the zip."""

    class Harm:
        def __reduce__(self):
            return Path.touch, (stopped / "harm",)

    path = stopped / "checkpoint.pt"
    torch.save({"step": Harm()}, path)
    assert_refused_and_untouched(script, stopped, "checkpoint.pt .* damaged .*UnpicklingError")
    path.write_bytes(pickle.dumps(Harm()))
    assert_refused_and_untouched(script, stopped, "checkpoint.pt .* damaged .*BadZipFile")
    assert not (stopped / "harm").exists()


@pytest.mark.parametrize(
    "change, match",
    [
        ({"script": "dqn_atari_0"}, "of another script"),
        ({"games": []}, "cannot resume"),
        ({"learner": []}, "cannot resume"),
        ({"learner": [{}, {}, {}, {}]}, "cannot resume"),
        ({"rng": {"bit_generator": "MT19937"}}, "cannot resume"),
        ({"args": None}, "cannot resume"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(script, stopped, change, match):
    """Of another version, or tampered with and given a right checksum."""
    path = stopped / "checkpoint.pt"
    args = script.Args(**script.load(path, "progress")["args"] | {"resume": str(stopped)})
    script.save(path, script.load(path, "progress") | change)
    with pytest.raises(script.BadInput, match=match):
        script.train(args)
    assert multiprocessing.active_children() == []


def test_another_flag_or_a_shorter_run_is_refused(script, stopped):
    """The message names the flag."""
    with pytest.raises(script.BadInput, match="has --batch-size 4: leave --batch-size out"):
        resumed(script, stopped, batch_size=8)
    with pytest.raises(script.BadInput, match="type --total-timesteps 302 or more"):
        resumed(script, stopped, total_timesteps=300)
    assert resumed(script, stopped).step == 600
    with pytest.raises(script.BadInput, match="checkpoint.pt is missing, .*File"):
        resumed(script, stopped)


@only("dqn_atari", "dqn_atari_2013")
def test_a_checkpoint_with_a_flag_that_is_unknown_here_is_refused(script, stopped):
    """By the command line, in one line that names the script to run instead."""
    path = stopped / "checkpoint.pt"
    state = script.load(path, "progress")
    script.save(path, state | {"args": state["args"] | {"flag_of_tomorrow": 1}})
    command = [sys.executable, script.__file__, "--resume", str(stopped)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1), answer.stderr
    assert f"another version: run the copy in {stopped}" in answer.stderr


def test_another_version_goes_on_and_says_so(script, stopped, monkeypatch, capfd):
    """Then equality bit for bit is not promised."""
    original = script.machine
    monkeypatch.setattr(script, "machine", lambda device: original(device) | {"torch": "9.9"})
    assert resumed(script, stopped).step == 600
    line = f"it goes on, but not bit for bit: torch {torch.__version__} is now 9.9\n"
    assert line in capfd.readouterr().out


# --- Faults ---------------------------------------------------------------------------------------
def test_weights_that_are_not_finite_keep_the_last_good_checkpoint(script, monkeypatch, tmp_path):
    """The loss of the update before was still finite."""
    replace_game(monkeypatch, script, Scripted)
    original = script.td_loss

    def broken(*args):
        loss, q_values = original(*args)
        if loss.isfinite() and broken.updates == 90:  # of 100 until step 500
            loss = loss + 0 * (q_values - q_values.detach()).sum().sqrt()  # no slope, no number
        broken.updates += 1
        return loss, q_values

    broken.updates = 0
    monkeypatch.setattr(script, "td_loss", broken)
    args = tiny_args(script, tmp_path / "run", checkpoint_frequency=250, log_frequency=10_000)
    with pytest.raises(RuntimeError, match="not finite at step 500"):
        script.train(args)
    monkeypatch.setattr(script, "td_loss", original)
    assert script.load(tmp_path / "run" / "checkpoint.pt", "progress")["progress"]["step"] == 250
    assert resumed(script, tmp_path / "run").step == 600


@pytest.mark.parametrize("while_it_steps", [False, True])
def test_a_dead_process_ends_the_run_with_its_game_and_the_run_goes_on(
    script, monkeypatch, tmp_path, whole, while_it_steps
):
    """The message has the game and the exit code; the checkpoint is intact."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    with monkeypatch.context() as patch:
        original = script.linear_schedule

        def schedule(args, step):
            if step == 400:
                victim = multiprocessing.active_children()[0]
                os.kill(victim.pid, signal.SIGKILL)
                if not while_it_steps:
                    victim.join()
            return original(args, step)

        patch.setattr(script, "linear_schedule", schedule)
        args = tiny_args(script, tmp_path / "run", checkpoint_frequency=250, **TOY_ARGS)
        with pytest.raises(RuntimeError, match=r"died: game [01] \(exit code -9\);.*--resume"):
            script.train(args)
    assert multiprocessing.active_children() == []
    assert_equal_runs(whole.run_dir, resumed(script, tmp_path / "run").run_dir)


def test_a_run_that_is_under_way_cannot_be_resumed(script, stopped):
    """The lock is the system's: it ends with its process, however that ends."""
    with script.filelock.FileLock(stopped / ".lock"):
        assert_refused_and_untouched(
            script, stopped, "does another process train there.*could not be acquired"
        )
    assert resumed(script, stopped).step == 600


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_too_small_a_disk_is_found_before_training(script, monkeypatch, small_disk):
    """Two checkpoints of 5.6 MB do not fit; nothing is left behind."""
    replace_game(monkeypatch, script, Scripted)
    args = tiny_args(script, small_disk / "run")
    with pytest.raises(script.BadInput, match=r"0.01 GB.*type --checkpoint-frequency 0"):
        script.train(args)
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_keeps_the_last_checkpoint_and_the_run(
    script, monkeypatch, whole, small_disk, capfd
):
    """What is left is less than the frames of the replay, so one checkpoint fits and no second."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    settings = dict(TOY_ARGS, checkpoint_frequency=200)
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    original = script.save_checkpoint

    def save(run_dir, about, progress, *rest):
        if progress["step"] == 400:
            free = shutil.disk_usage(small_disk).free
            (small_disk / "filler").write_bytes(bytes(free - 500_000))
        original(run_dir, about, progress, *rest)

    monkeypatch.setattr(script, "save_checkpoint", save)
    without_a_model(script, monkeypatch)
    args = tiny_args(script, small_disk / "run", **settings)
    with pytest.raises(MemoryError):
        script.train(args)
    out = capfd.readouterr().out
    assert "step 400: NO checkpoint, the one before stays: 0.00 GB free, " in out
    assert not (small_disk / "run" / "checkpoint.part").exists()
    assert script.load(small_disk / "run" / "checkpoint.pt", "progress")["progress"]["step"] == 200
    (small_disk / "filler").unlink()
    monkeypatch.undo()
    replace_game(monkeypatch, script, Scripted, **TOY)
    assert_equal_runs(whole.run_dir, resumed(script, small_disk / "run").run_dir)


def test_a_signal_without_room_for_its_checkpoint_says_so(script, monkeypatch, tmp_path, capfd):
    """Not the code of a run that may be resumed, or a cluster would begin it again for ever."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    original = script.save

    def save(path, state):
        if state["progress"]["step"]:
            os.kill(os.getpid(), signal.SIGUSR1) if state["progress"]["step"] == 400 else None
            raise OSError("no room")
        original(path, state)

    monkeypatch.setattr(script, "save", save)
    run = tmp_path / "run"
    args = tiny_args(script, run, **dict(TOY_ARGS, checkpoint_frequency=200))
    with pytest.raises(script.BadInput, match=f"step 400 is not kept: type --resume {run} for"):
        script.train(args)
    assert capfd.readouterr().out.count("NO checkpoint, the one before stays") == 2
    assert script.load(run / "checkpoint.pt", "progress")["progress"]["step"] == 0


def test_a_read_only_place_is_refused_in_one_line(script, small_disk):
    """By the program, with exit code 2."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    command = [sys.executable, script.__file__, "--run-dir", str(small_disk / "run")]
    command += ["--checkpoint-frequency", "0"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1
    assert "Read-only file system" in answer.stderr and "disk/run" in answer.stderr
