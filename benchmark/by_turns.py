"""Which of some implementations learns faster, on a machine whose speed changes by the minute.

    python benchmark/by_turns.py "python benchmark/counted.py dqn_atari.py --run-dir {dir}
        --learning-starts 200" "other/python benchmark/counted.py other/dqn_atari.py ..."

Each command is a PyTorch script, as it is, behind counted.py, which may run in another environment.
They start one after the other, each alone until it has made `first` updates, and then wait. Then
one after the other makes `block` updates, with all of the agent steps between them, while the rest
wait, as often as `rounds` says, in turns of their order. One line each: updates per second (median
over blocks) and how many times that the first command has in the same round (quartiles). Equal
numbers of updates are equal numbers of agent steps only where scripts make as many per step;
speed.py counts that. Give them steps enough; they are killed in the end. `{dir}` is a new
directory. Games in processes of their own may still be at the step they were given while the next
command begins: a few milliseconds, so let a block take seconds. On a CPU: a CUDA graph's updates
are not seen.
"""

import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Annotated

import tyro
from speed import commit, processor


@dataclass
class Args:
    commands: Annotated[tuple[str, ...], tyro.conf.Positional]  # each with counted.py
    rounds: int = 20  # blocks of each command
    first: int = 1_000  # updates before the first block
    block: int = 200  # updates of a block


class Command:
    """A command that begins and then runs when it is told to; what it prints goes to our error."""

    def __init__(self, command: str, directory: str, args: Args):
        self.said, out_file = os.pipe()
        in_file, self.tell = os.pipe()
        turns = f"{args.first},{args.block},{out_file},{in_file}"
        self.process = subprocess.Popen(
            [word.format(dir=directory) for word in shlex.split(command)],
            env=os.environ | {"TURNS": turns},
            pass_fds=(out_file, in_file),
            stdout=sys.stderr,
            start_new_session=True,  # so that its games can be killed with it
        )
        os.close(out_file)
        os.close(in_file)

    def wait(self) -> None:
        if not os.read(self.said, 1):
            why = f"ended with exit code {self.process.wait()}: if it is 0, give it more steps"
            raise SystemExit(f"{shlex.join(self.process.args)} {why}")

    def run(self) -> float:
        """Seconds of its next block."""
        start = time.perf_counter()
        os.write(self.tell, b".")
        self.wait()
        return time.perf_counter() - start


def main(args: Args) -> None:
    if args.rounds < 2:
        raise SystemExit("quartiles need rounds: type --rounds 2 or more")
    about = {"first": args.first, "block": args.block, "rounds": args.rounds}
    about |= processor() | {"commit": commit()}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    running: list[Command] = []
    with tempfile.TemporaryDirectory() as parent:
        try:
            for i, command in enumerate(args.commands):
                running.append(Command(command, f"{parent}/{i}", args))
                running[-1].wait()
            rates: list[list[float]] = [[] for _ in running]
            for k in range(args.rounds):
                for i in range(len(running))[:: -1 if k % 2 else 1]:
                    rates[i].append(args.block / running[i].run())
        finally:
            for command in running:
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.killpg(command.process.pid, signal.SIGKILL)
                command.process.wait()
    for command, measured in zip(args.commands, rates, strict=True):
        ratios = [a / b for a, b in zip(rates[0], measured, strict=True)]
        line = {"command": command, "updates_per_second": round(statistics.median(measured), 2)}
        line |= {"all": [round(rate, 2) for rate in measured]}
        line |= {"times": [round(q, 3) for q in statistics.quantiles(ratios, n=4)]}
        print(json.dumps(line | about), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
