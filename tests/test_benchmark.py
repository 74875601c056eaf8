"""The measuring commands measure: they count, and say what they ran on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy import Scripted, replace_game, tiny_args

import dqn_atari

ROOT = Path(__file__).parent.parent


def output_of(*command):
    """The lines that a command of benchmark/ prints."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def lines_of(*command):
    """The JSON lines of one that prints nothing else, as its results are kept in a file."""
    return [json.loads(line) for line in output_of(*command)]


def test_speed_of_a_setting_has_rate_split_memory_and_machine():
    """The parts of the split are the time of a step; 0.25 updates a step."""
    flags = "--steps 240 --num-envs 4 --precision float32 --buffer-size 1000 --threads 1"
    (line,) = lines_of("benchmark/speed.py", *flags.split())
    assert (line["num_envs"], line["bf16"], line["torch_threads"]) == (4, False, 1)
    assert line["epsilon"] == 0.01  # at random it would act without the network
    assert line["updates_per_second"] == pytest.approx(line["steps_per_second"] / 4, abs=0.1)
    parts = line["split_ms"]
    assert set(parts) == {"acting", "learning", "sending", "waiting", "storing", "other"}
    assert all(ms >= 0 for ms in parts.values()) and parts["learning"] > parts["storing"]
    assert 0.05 < line["emulating_ms"] < 5 and 0.1 < line["host_memory_gb"] < 5
    assert {"device", "torch", "commit"} <= set(line)


def test_an_update_in_jax_is_timed_written_out_and_in_a_loop():
    """2 calls of 2 updates each, the first of which compiles."""
    lines = lines_of("benchmark/parts_jax.py", "--rounds", 1, "--calls", 1)
    assert [line["updates"] for line in lines] == ["written out", "loop"]
    assert all(line["num_updates"] == 4 and 0.1 < line["ms"] < 60_000 for line in lines)


def test_bfloat16_says_how_often_it_chooses_otherwise():
    """With the last layer in float32 hardly, and no ties; without in a tenth of the states."""
    model = "benchmark/models/dqn_atari_2013-BreakoutNoFrameskip-v4.pt"
    (line,) = lines_of("benchmark/bfloat16.py", model, "--steps", 60)
    assert (line["model"], line["steps"]) == (Path(model).name, 60)
    assert line["last_float32"]["ties"] == 0 and line["last_float32"]["differs"] < 0.05
    assert 0.05 < line["last_bfloat16"]["ties"] < 0.5


def test_counted_says_how_often_the_optimizer_stepped(tmp_path):
    """An update every 4 of 300 steps."""
    flags = "--device cpu --num-envs 4 --learning-starts 100 --buffer-size 1000 --batch-size 4"
    flags += f" --total-timesteps 400 --run-dir {tmp_path}/run"
    *_, line = output_of("benchmark/counted.py", "dqn_atari.py", *flags.split())
    assert json.loads(line) == {"optimizer_steps": 75}


def test_speed_of_commands_is_of_their_difference(monkeypatch, capsys):
    """100 steps in 1 s and in 2 s after a start of 0.5 s: 100 and 50 steps/s, 0.25 updates; a
    command may be named twice; of rounds the median counts."""
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    import speed

    ran = []

    def run_command(command, steps):
        ran.append((command, steps))
        held_up = 7.0 if len(ran) > 12 else 0.0  # in the last round, the short runs too
        return 0.5 + steps * (float(command[1:]) + held_up), steps // 4 + 1.0

    monkeypatch.setattr(speed, "run_command", run_command)
    speed.run_commands(
        speed.Args(commands=("a0.01", "b0.02", "b0.02"), short=100, long=200, rounds=3)
    )
    assert ran[:4] == [("a0.01", 200), ("a0.01", 100), ("b0.02", 200), ("b0.02", 100)]
    *rates, ratio, again = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["steps_per_second"] for line in rates] == [100, 50, 50]
    assert [line["updates_per_step"] for line in rates] == [0.25] * 3
    assert [len(line["all"]) for line in rates] == [3] * 3 and rates[0]["all"][2] == 0.1
    assert ratio == again == {"ratio": 2.0}


def test_a_command_is_timed_and_its_updates_are_read(monkeypatch, tmp_path):
    """From its start to its end, with the steps and a new directory; an error ends all."""
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    import speed

    program = tmp_path / "command.py"
    program.write_text(
        """import json, os, sys, time
time.sleep(0.01 * int(sys.argv[1]))
assert not os.path.exists(sys.argv[2]) and os.path.isdir(os.path.dirname(sys.argv[2])), "error"
print(json.dumps({"optimizer_steps": int(sys.argv[1]) // 4}))
"""
    )
    seconds, updates = speed.run_command(f"{sys.executable} {program} {{steps}} {{dir}}", 100)
    assert 1 < seconds < 20 and updates == 25
    with pytest.raises(SystemExit, match="AssertionError: error"):
        speed.run_command(f"{sys.executable} {program} {{steps}} {tmp_path}", 1)


def test_by_turns_lets_one_command_learn_at_a_time(tmp_path):
    """4 updates each, then blocks of 3 in turns of their order; 20 ms beside 300 ms an update."""
    program, made = tmp_path / "program.py", tmp_path / "made"
    program.write_text(
        f"""import sys, time, torch
p = torch.nn.Parameter(torch.zeros(2))
optimizer = torch.optim.SGD([p])
p.grad = torch.ones(2)
while True:
    time.sleep(float(sys.argv[1]))
    with open({str(made)!r}, "a") as file:
        file.write("a" if sys.argv[1] == "0.02" else "b")
    optimizer.step()
"""
    )
    commands = [f"{sys.executable} benchmark/counted.py {program} {s}" for s in ("0.02", "0.3")]
    flags = "--first 4 --block 3 --rounds 3".split()
    quick, slow = lines_of("benchmark/by_turns.py", *commands, *flags)
    assert made.read_text()[:26] == "aaaabbbb" + "aaabbb" + "bbbaaa" + "aaabbb"
    assert (quick["command"], quick["times"]) == (commands[0], [1, 1, 1])
    assert [len(line["all"]) for line in (quick, slow)] == [3, 3]
    assert 0.5 < slow["updates_per_second"] < 3.4 and quick["updates_per_second"] < 50
    assert slow["times"][1] > 2
    by_turns = [sys.executable, "benchmark/by_turns.py"]
    with subprocess.Popen([*by_turns, *commands, *flags, "--rounds", "9999"], cwd=ROOT) as process:
        while process.poll() is None and len(made.read_text()) < 60:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    size = len(made.read_text())
    time.sleep(0.5)
    assert len(made.read_text()) == size  # nothing goes on
    program.write_text("import torch\nraise SystemExit(3)\n")
    done = subprocess.run([*by_turns, commands[0]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "program.py 0.02 ended with exit code 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_denormals_counts_them_and_times_both(monkeypatch, tmp_path):
    """1,605,632 of 1,685,667 first moments are made such numbers in a checkpoint of 50 updates."""
    replace_game(monkeypatch, dqn_atari, Scripted, thin=False)
    args = tiny_args(dqn_atari, tmp_path / "run", total_timesteps=300, keep_checkpoint=True)
    path = dqn_atari.train(args).run_dir / "checkpoint.pt"
    torch.set_flush_denormal(False)
    state = torch.load(path, weights_only=True)
    state["learner"][2]["state"][6]["exp_avg"].fill_(1e-40)
    torch.save(state, path)
    (line,) = lines_of("benchmark/denormals.py", path, "--rounds", 2, "--block", 2)
    assert (line["step"], line["num_updates"]) == (300, 50)
    assert line["exp_avg"]["subnormal"] == pytest.approx(1_605_632 / 1_685_667, abs=0.01)
    assert line["exp_avg_sq"]["subnormal"] < 0.5 and line["exp_avg_sq"]["zero"] < 0.5
    for name in ("update", "adam"):
        assert line[f"{name}_ms_as_they_are"] > 0 and line[f"{name}_ms_flushed"] > 0


def test_alternate_compares_variants_of_a_script(tmp_path):
    """A copy that waits 250 ms a game if told so; its flags and its environment reach it."""
    slow = tmp_path / "slow_copy.py"
    text = (ROOT / "dqn_atari.py").read_text()
    wait = '    time.sleep(float(os.environ["WAIT"]) * len(obs))\n'
    before = "    explore = rng.random(len(obs)) < epsilon\n"
    assert text.count(before) == 1
    slow.write_text(text.replace(before, wait + before))
    variants = [f"WAIT=0 {slow}", f"WAIT=0.25 {slow} --num-envs 2"]
    flags = ["--flags=--num-envs 1 --batch-size 1 --learning-starts 16"]
    flags += ["--warm-up", 16, "--rounds", 3, "--block", 8]
    fast, held = lines_of("benchmark/alternate.py", *variants, *flags)
    assert fast["ratio"] == [1, 1, 1] and held["ratio"][1] < 0.7
    assert 0 < held["steps_per_second"] <= 4 and fast["steps_per_second"] > 4
    assert (held["variant"], held["flags"]) == (variants[1], flags[0].removeprefix("--flags="))
    assert (held["rounds"], held["block"]) == (3, 8)


@pytest.mark.long
def test_alternate_ends_with_the_first_variant_that_dies(tmp_path):
    """In its second block; the other then waits for nothing more."""
    dying = tmp_path / "dying_copy.py"
    text = (ROOT / "dqn_atari.py").read_text()
    before = "    explore = rng.random(len(obs)) < epsilon\n"
    dies = "    act.calls = getattr(act, 'calls', 0) + 1\n"
    dies += "    act.calls < 14 or len(obs) == 1 or exit(7)\n"
    dying.write_text(text.replace(before, dies + before))
    flags = "--warm-up 16 --rounds 9999 --block 8".split()
    flags += ["--flags=--num-envs 1 --batch-size 1 --learning-starts 16"]
    command = [sys.executable, "benchmark/alternate.py", dying, f"{dying} --num-envs 2", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 1 and "EOFError" in done.stderr
