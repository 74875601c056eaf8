"""Agent steps per second while learning: of a script by number of games, or of whole commands.

    python benchmark/speed.py --num-envs 1 4 8 16 32 64 --precision float32 bf16
    python benchmark/speed.py --commands "python benchmark/counted.py dqn_atari.py --run-dir {dir}
        --total-timesteps {steps} --learning-starts 200" "python benchmark/counted.py other.py ..."

The first runs the own train() of a PyTorch script on a real game, each setting in a process of its
own, and prints one JSON line per setting. Of `steps` agent steps those of the first third warm up
(random play, first updates, capture, fall of epsilon to its end) and do not count; the device is
waited for on both sides of the rest.
The split is the learner's wall-clock time per agent step: acting (one forward pass), learning
(updates), sending (actions to the games), waiting (for games that are not done), storing (copy to
the device, replay), other.
`emulating_ms` is the processor time of all games per agent step. On CUDA the parts are measured in
a second run that waits for the device after each of them; the rate is of a run that does not.

The second runs each command with `short` and with `long` steps in turn, A B A B; start-up cancels
in the difference. Let epsilon fall early in all of them: an action at random needs no network.
`{dir}` is a new directory each time. benchmark/counted.py, put before a script, counts its
optimizer steps. One JSON line per command, then the ratio of the first to each other.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro

ROOT = Path(__file__).parent.parent


@dataclass
class Args:
    script: str = "dqn_atari"  # its name without .py
    env_id: str = "PongNoFrameskip-v4"  # the game
    num_envs: tuple[int, ...] = (8,)  # games side by side
    precision: tuple[str, ...] = ("auto",)  # values of --precision
    device: str = "auto"  # as the script's flag
    threads: int = 0  # of torch; 0: as many as it takes by itself
    steps: int = 9_000  # agent steps of a setting
    buffer_size: int = 20_000  # transitions
    rounds: int = 1  # how often all settings or commands are gone through

    commands: tuple[str, ...] = ()  # instead: commands with {steps}, and {dir} if one needs it
    short: int = 2_000  # agent steps of a command, learning for most of them
    long: int = 6_000  # agent steps of a command


class Clock:
    """Sums the seconds spent in functions of a module or class, put in their place by `time`."""

    def __init__(self, wait):
        self.wait, self.spent, self.inside = wait, {}, False

    def time(self, owner, name: str, part: str) -> None:
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            if self.inside:  # counted by its caller
                return function(*args, **kwargs)
            self.inside = True
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.wait()
            self.inside = False
            self.spent[part] = self.spent.get(part, 0.0) + time.perf_counter() - start
            return result

        setattr(owner, name, timed)


def measure(args: Args, num_envs: int, precision: str, split: bool) -> dict:
    """Figures of one run of the script's train(), in this process."""
    sys.path.insert(0, str(ROOT))
    script = importlib.import_module(args.script)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    cuda = script.choose_device(args.device).type == "cuda"
    clock = Clock(torch.cuda.synchronize if cuda and split else int)
    if split:
        clock.time(script, "act", "acting")
        clock.time(script.CapturedUpdate, "__call__", "learning") if cuda else None
        clock.time(script, "update", "learning") if not cuda else None
        clock.time(script.gym.vector.AsyncVectorEnv, "step_async", "sending")
        clock.time(script.gym.vector.AsyncVectorEnv, "step_wait", "waiting")
        clock.time(script.ReplayBuffer, "add", "storing")
        clock.time(script, "to_device", "storing")
    warm_up = args.steps // 3 // num_envs * num_envs
    total = args.steps // num_envs * num_envs
    marks, original, me = [], script.linear_schedule, psutil.Process()

    def mark() -> None:
        if cuda:
            torch.cuda.synchronize()
        games = sum(sum(p.cpu_times()[:2]) for p in me.children())
        marks.append((time.perf_counter(), games, dict(clock.spent)))

    def schedule(script_args, step: int) -> float:
        if step == warm_up or step == total - num_envs:
            mark()
        if step == total - num_envs:
            family = [me, *me.children()]
            marks.append(sum(p.memory_full_info().pss for p in family))
        return original(script_args, step)

    script.linear_schedule = schedule
    say = contextlib.redirect_stdout(sys.stderr)  # standard output has our lines alone
    with tempfile.TemporaryDirectory() as parent, say:
        learning_starts = max(32 + 4 * num_envs, warm_up // 2)
        end = script.train(
            script.Args(
                env_id=args.env_id,
                device=args.device,
                precision=precision,
                num_envs=num_envs,
                total_timesteps=total,
                buffer_size=args.buffer_size // num_envs * num_envs,
                learning_starts=learning_starts,
                exploration_steps=max(1, warm_up - learning_starts),
                checkpoint_frequency=0,
                eval_frequency=0,
                run_dir=f"{parent}/run",
            )
        )
    (start, games_before, before), (stop, games_after, after), memory = marks
    steps, seconds = total - num_envs - warm_up, stop - start
    figures = {"num_envs": num_envs, "precision": precision, "bf16": end.q_network.bf16}
    figures |= {"epsilon": round(original(end.args, warm_up), 4)}
    figures |= {"steps_per_second": round(steps / seconds, 1)}
    per_step = end.progress["num_updates"] / (total - learning_starts)
    figures |= {"updates_per_second": round(per_step * steps / seconds, 1)}
    parts = {part: after[part] - before[part] for part in after}
    parts["other"] = seconds - sum(parts.values())
    figures["split_ms"] = {part: round(s / steps * 1e3, 4) for part, s in parts.items()}
    figures["emulating_ms"] = round((games_after - games_before) / steps * 1e3, 4)
    figures["host_memory_gb"] = round(memory / 1e9, 2)
    if cuda:
        figures["device_memory_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 2)
    about = script.machine(end.device)
    del about["script_sha256"]
    return figures | about


def commit() -> str:
    """What is measured, so to be asked before; "" without git."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    if not shutil.which("git"):
        return ""
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def processor() -> dict[str, str | int | None]:
    """Its name, which Linux tells, and its cores."""
    info = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    return {"cpu": info.partition("model name\t: ")[2].partition("\n")[0], "cores": os.cpu_count()}


def run_settings(args: Args) -> None:
    about = {"commit": commit()}
    for num_envs in args.num_envs * args.rounds:
        for precision in args.precision:
            runs = []
            for split in (False, True):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    runs.append(process.submit(measure, args, num_envs, precision, split).result())
            rates = ("steps_per_second", "updates_per_second", "device_memory_gb")
            figures = runs[1] | {name: runs[0][name] for name in rates if name in runs[0]}
            print(json.dumps(figures | about), flush=True)


def run_command(command: str, steps: int) -> tuple[float, float]:
    """Seconds of one run of `command`, and the optimizer steps it says it made, if it does."""
    with tempfile.TemporaryDirectory() as parent:
        named = dict(steps=steps, dir=f"{parent}/run")
        words = [word.format(**named) for word in shlex.split(command)]
        start = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stderr[-2000:]}")
    counted = re.findall(r'"optimizer_steps": (\d+)', done.stdout)
    return seconds, float(counted[-1]) if counted else float("nan")


def run_commands(args: Args) -> None:
    about = processor() | {"rounds": args.rounds, "commit": commit()}
    rates: list[list[float]] = [[] for _ in args.commands]
    updates = [float("nan")] * len(args.commands)
    for _ in range(args.rounds):
        for i, command in enumerate(args.commands):
            (slow, many), (quick, few) = (run_command(command, n) for n in (args.long, args.short))
            rates[i].append((args.long - args.short) / (slow - quick))
            updates[i] = (many - few) / (args.long - args.short)
    medians = [statistics.median(measured) for measured in rates]
    for command, measured, median, of_step in zip(
        args.commands, rates, medians, updates, strict=True
    ):
        line = {"command": command, "steps_per_second": round(median, 1)}
        line |= {"all": [round(rate, 1) for rate in measured]}
        line |= {"updates_per_step": round(of_step, 4)}
        print(json.dumps(line | about), flush=True)
    for other in medians[1:]:
        print(json.dumps({"ratio": round(medians[0] / other, 2)}))


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    run_commands(args) if args.commands else run_settings(args)
