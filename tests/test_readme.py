"""What the READMEs say of the files is so: links, line references, commands, flags."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_resume import resumed
from toy import tensors_in, tiny_args

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "benchmark" / "README.md"]
SCRIPTS = ["dqn_atari.py", "dqn_atari_2013.py", "dqn_atari_jax.py"]
SHORT = """--total-timesteps 400 --buffer-size 400 --learning-starts 200 --batch-size 4 --device cpu
--eval-games 1 --eval-max-frames 40"""


def blocks(language):
    """Of the README, without the fences."""
    found = re.findall(r"^```(\w*)\n(.+?)^```$", READMES[0].read_text(), re.M | re.S)
    return [block for word, block in found if word == language]


def commands():
    """Of the README: whole blocks, and what stands in backticks and begins like a command."""
    lines = [line for block in blocks("") for line in block.replace("\\\n", " ").splitlines()]
    text = re.sub(r"^```.+?^```", "", READMES[0].read_text(), flags=re.M | re.S)
    inline = re.findall(r"`((?:python|tensorboard|bash) [^`]+)`", text.replace("\n", " "))
    return [
        line for line in lines if re.match(r"OMP_NUM_THREADS|python|diff|tensorboard|bash|cp", line)
    ] + inline


@pytest.mark.parametrize("readme", READMES, ids=str)
def test_links_and_named_files_exist(readme):
    """Links, and paths of the repository in backticks or commands."""
    text = readme.read_text()
    words = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)  # code may index and then call
    named = set(re.findall(r"\]\(([^)#]+)\)", words))
    named |= set(re.findall(r"\b(?:benchmark|tests)/[\w/.-]+\.(?:py|sh|slurm|pt|md|png|gif)", text))
    folders = readme.parent, ROOT
    missing = [name for name in named if not any((f / name).exists() for f in folders)]
    assert named and not missing
    results = set(re.findall(r"`(results/[\w/.-]+)`", text))
    assert all((ROOT / "benchmark" / name).exists() for name in results)


def test_each_line_of_algorithm_1_is_where_the_readme_says():
    """The code named stands in the lines named, once."""
    lines = (ROOT / "dqn_atari.py").read_text().splitlines()
    rows = re.findall(r"^\| .+? \| ([\d-]+) \| `(.+)` \|$", READMES[0].read_text(), re.M)
    assert len(rows) == 13
    for where, code in rows:
        first, _, last = where.partition("-")
        block = "\n".join(lines[int(first) - 1 : int(last or first)])
        assert block.count(code) == 1, (where, code, block)


def test_every_flag_of_the_readme_exists():
    """In one of the scripts or of the commands of benchmark/."""
    flags = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", READMES[0].read_text()))
    known = {"output", "steps", "skip", "logdir", "xla"}  # of watch.py and others
    known |= {"seeds", "games", "script", "results"}  # of run.py
    for script in ("dqn_atari", "dqn_atari_2013"):
        tree = ast.parse((ROOT / f"{script}.py").read_text())
        (args,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Args")
        known |= {n.target.id.replace("_", "-") for n in args.body if isinstance(n, ast.AnnAssign)}
    assert flags <= known | {"help"}


def test_every_setting_is_in_the_table_of_settings():
    scripts = {path.name for path in (ROOT / "benchmark").glob("*.sh")}
    named = set(re.findall(r"^\| `bash benchmark/(\w+\.sh)`", READMES[1].read_text(), re.M))
    assert named == scripts


@pytest.fixture
def copies(tmp_path):
    """A folder with the scripts and benchmark/, as a user has it."""
    for script in SCRIPTS:
        shutil.copy(ROOT / script, tmp_path)
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark")
    return tmp_path


def call(folder, *words):
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_every_command_of_the_readme_runs(copies):
    """Shortened; Catch's in the next test, that of the tests themselves by whoever reads this."""
    seen, run = [], "runs/first"
    train = [sys.executable, "dqn_atari.py", *SHORT.split(), "--keep-checkpoint", "--run-dir", run]
    code, output = call(copies, *train)
    assert code == 0, output
    for command in commands():
        *installs, command = command.split(" && ")
        words = shlex.split(command.removeprefix("OMP_NUM_THREADS=1 "))  # conftest.py sets it
        if installs:
            assert installs[0] == "python3 -m venv .venv" and " install -q -e " in installs[1]
        if command.endswith("-m pytest"):
            seen.append("test")
            continue
        if words[0] == "bash":
            assert (ROOT / words[1]).exists()  # run by test_run.py
            continue
        if words[0] == "cp":
            assert call(copies, *words) == (0, "")
            seen.append("cp")
            continue
        if words[0] == "diff":
            assert words[1:] == ["dqn_atari_2013.py", "dqn_atari.py"]
            code, output = call(copies, *words)
            assert code == 1 and "target_network" in output
            seen.append("diff")
            continue
        if words[0] == "tensorboard":
            assert words[1] == "--logdir" and words[2] in ("runs", "benchmark/results")
            continue
        assert words[0].endswith("python"), command
        if "0.9" in words:
            seen.append("Catch")
            continue
        words[0] = sys.executable
        if "--help" in words:
            seen.append("help")
        elif "watch.py" in words[1]:
            words += ["--steps", "3", "--skip", "0", "--output", "a.mp4"]
            words[2] = words[2].replace("runs/...", run)
            seen.append("watch")
        elif "plot.py" in words[1]:
            seen.append("plot")
        elif "screenshot.py" in words[1]:
            continue  # test_screen.py
        elif "--resume" in words:
            words[3:] = [run, "--total-timesteps", "480"]
            seen.append("resume")
        elif "--evaluate" in words:
            words = [word.replace("runs/...", run) for word in words] + SHORT.split()
            seen.append("evaluate")
        else:
            words += [*SHORT.split(), "--keep-checkpoint"]
            seen.append("train")
        code, output = call(copies, *words)
        assert code == 0, (command, output)
    others = {"test", "help", "watch", "plot", "diff", "Catch", "cp"}
    assert set(seen) == {"train", "resume", "evaluate", *others}


def changed(copies, name):
    """The module that the README's diff with this word makes of dqn_atari.py."""
    (diff,) = [block for block in blocks("diff") if name in block]
    (copies / "one.diff").write_text(diff)
    code, output = call(copies, "git", "apply", "one.diff")
    assert code == 0, output
    spec = importlib.util.spec_from_file_location("changed", copies / "dqn_atari.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_three_diffs():
    assert len(blocks("diff")) == 3


def test_the_dueling_network_is_a_value_and_advantages(copies):
    """Q = V + A - mean A, by the weights themselves; all of it is trained."""
    script = changed(copies, "self.advantage")
    end = script.train(tiny_args(script, copies / "run", total_timesteps=200))
    network, start = end.q_network, script.QNetwork(end.num_actions)
    assert sum(p.numel() for p in start.parameters()) == 3_292_837  # for Breakout's 4 actions
    obs = torch.randint(256, (5, 4, 84, 84), dtype=torch.uint8)
    with torch.no_grad():
        features = network.network(obs / 255.0)
        value, advantage = network.value(features), network.advantage(features)
        expected = value + advantage - advantage.mean(dim=1, keepdim=True)
        torch.testing.assert_close(network(obs), expected)
    moved = [k for k, x in tensors_in(end.optimizer).items() if "exp_avg_sq" in k and x.any()]
    assert len(moved) == len(list(network.parameters()))


def test_double_dqn_values_the_choice_of_the_other_network(copies):
    """The target by hand for a batch, where both networks choose differently."""
    script = changed(copies, "argmax(dim=1, keepdim=True)")
    torch.manual_seed(1)
    ours, other = script.QNetwork(4), script.QNetwork(4)
    obs, next_obs = torch.randint(256, (2, 16, 4, 84, 84), dtype=torch.uint8)
    actions, rewards, ends = torch.arange(16) % 4, torch.randn(16), torch.arange(16) % 5 == 0
    args = script.Args(gamma=0.9)
    loss, q_values = script.td_loss(
        ours, other, (obs, actions, rewards, ends * 1.0, next_obs), args
    )
    with torch.no_grad():
        chosen, valued = ours(next_obs).numpy(), other(next_obs).numpy()
    assert (chosen.argmax(axis=1) != valued.argmax(axis=1)).any()
    target = [
        float(rewards[i]) + (0.0 if ends[i] else 0.9 * valued[i, chosen[i].argmax()])
        for i in range(16)
    ]
    errors = torch.tensor(target) - ours(obs)[torch.arange(16), actions]
    torch.testing.assert_close(loss, 0.5 * (errors**2).mean())


def test_catch_is_played_and_resumed_exactly(copies):
    """Games of 11 steps that end with +1 or -1; a run in two parts is the run in one."""
    script = changed(copies, "class Catch")
    whole = script.train(tiny_args(script, copies / "whole", num_envs=2, env_id="Catch"))
    assert len(whole.returns) == 2 * (300 // 11) and set(whole.returns) == {-1.0, 1.0}
    half = dict(num_envs=2, env_id="Catch", total_timesteps=304, keep_checkpoint=True)
    script.train(tiny_args(script, copies / "half", **half))
    again = resumed(script, copies / "half", total_timesteps=600)
    ours, theirs = again.q_network.state_dict(), whole.q_network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.returns == whole.returns
