"""Agent steps per second of whole commands, measured in turn on one machine: A B A B ...

    python benchmark/speed.py \\
        "python dqn_atari.py --total-timesteps {steps} --run-dir {dir} --learning-starts 200" \\
        "python other.py --total-timesteps {steps} --learning-starts 200"

Each command is run with `short` and with `long` steps; start-up cancels in the difference. `{dir}`
is a new directory each time. One JSON line per command, then the ratio of the first to each other.
"""

import json
import os
import platform
import shlex
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass

import tyro


@dataclass
class Args:
    commands: tyro.conf.Positional[list[str]]  # each with {steps}, and {dir} if it needs one
    short: int = 2_000  # agent steps, learning for most of them
    long: int = 6_000  # agent steps
    rounds: int = 3  # how often each command is measured


def seconds(command: str, steps: int) -> float:
    """Wall-clock time of one run of `command`; its output is dropped, its failure is ours."""
    with tempfile.TemporaryDirectory() as parent:
        words = shlex.split(command.format(steps=steps, dir=f"{parent}/run"))
        start = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    rates: dict[str, list[float]] = {command: [] for command in args.commands}
    for _ in range(args.rounds):
        for command, measured in rates.items():
            took = seconds(command, args.long) - seconds(command, args.short)
            measured.append((args.long - args.short) / took)
    about = {"cores": os.cpu_count(), "machine": platform.machine(), "rounds": args.rounds}
    medians = [statistics.median(measured) for measured in rates.values()]
    for command, measured in rates.items():
        rounded = [round(rate, 1) for rate in measured]
        median = round(statistics.median(measured), 1)
        line = {"command": command, "steps_per_second": median, "all": rounded, **about}
        print(json.dumps(line), flush=True)
    for other in medians[1:]:
        print(json.dumps({"ratio": round(medians[0] / other, 2)}))


if __name__ == "__main__":
    main()
