"""Which of some variants of a script is faster, on a machine whose speed changes by the minute.

    python benchmark/alternate.py "dqn_atari.py" "OMP_WAIT_POLICY=passive dqn_atari.py"
    python benchmark/alternate.py "dqn_atari.py" "other/dqn_atari.py" --flags="--precision auto"

A variant is a path of dqn_atari.py or of a changed copy, with variables of the environment before
it and flags of its own after it. All are started and learn, each by the own train() of its script
in a process of its own, with its games; then one after the other goes on for `block` agent steps
while the rest wait, as often as `rounds` says, in turns of their order. The first block of each is
left out. The figures of a variant are its steps per second (median over blocks) and their ratio to
those of the first variant in the same round (quartiles). Name one twice to see what chance does.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from unittest import mock

import tyro
from speed import commit, processor

RUN = "--total-timesteps 10000000 --buffer-size 20000 --learning-starts 800 --exploration-steps 1"
RUN += " --env-id PongNoFrameskip-v4 --checkpoint-frequency 0"


@dataclass
class Args:
    variants: Annotated[tuple[str, ...], tyro.conf.Positional]  # "[NAME=VALUE ...] SCRIPT [FLAGS]"
    flags: str = ""  # of all variants
    rounds: int = 30  # blocks of each variant that count
    warm_up: int = 1_600  # agent steps before the first block
    block: int = 160  # agent steps of a block, a multiple of --num-envs


class Turns:
    """Stands in for linear_schedule, which train() calls once a vector step."""

    def __init__(self, original, pipe, args: Args):
        self.original, self.pipe, self.args = original, pipe, args

    def __call__(self, args, step: int) -> float:
        if step >= self.args.warm_up and step % self.args.block == 0:
            self.pipe.send(step)
            if not self.pipe.recv():
                raise KeyboardInterrupt
        return self.original(args, step)


def learn(pipe, path: str, flags: list[str], args: Args) -> None:
    sys.path.insert(0, str(Path(path).resolve().parent))
    script = importlib.import_module(Path(path).stem)
    script.linear_schedule = Turns(script.linear_schedule, pipe, args)
    say = contextlib.redirect_stdout(sys.stderr)  # standard output has our lines alone
    with tempfile.TemporaryDirectory() as parent, say:
        run_dir = ["--run-dir", f"{parent}/run"]
        try:
            script.train(tyro.cli(script.Args, args=[*shlex.split(RUN), *flags, *run_dir]))
        except (KeyboardInterrupt, EOFError):  # the end, or the end of the others
            pass


def start(variant: str, args: Args):
    """A variant at the start of its first block: the pipe to its process."""
    words = shlex.split(variant)
    first = next(i for i, word in enumerate(words) if "=" not in word)
    settings, (path, *flags) = dict(word.split("=", 1) for word in words[:first]), words[first:]
    context = multiprocessing.get_context("spawn")
    pipe, end = context.Pipe()
    given = (end, path, [*shlex.split(args.flags), *flags], args)
    with mock.patch.dict(os.environ, settings):  # a process reads some of them as it starts
        context.Process(target=learn, args=given).start()
    end.close()
    pipe.recv()
    return pipe


def main(args: Args) -> None:
    measured = commit()
    with contextlib.ExitStack() as stack:  # a closed pipe ends the learner at its other end
        pipes = [stack.enter_context(start(variant, args)) for variant in args.variants]
        rates: list[list[float]] = [[] for _ in pipes]
        for k in range(args.rounds + 1):
            for i in range(len(pipes))[:: 1 if k % 2 else -1]:
                begin = time.perf_counter()
                pipes[i].send(True)
                pipes[i].recv()
                rates[i].append(args.block / (time.perf_counter() - begin))
        for pipe in pipes:
            pipe.send(False)
    for variant, seen in zip(args.variants, rates, strict=True):
        ratios = [a / b for a, b in zip(seen[1:], rates[0][1:], strict=True)]
        line = {"variant": variant, "flags": args.flags}
        line |= {"steps_per_second": round(statistics.median(seen[1:]), 1)}
        line |= {"ratio": [round(q, 3) for q in statistics.quantiles(ratios, n=4)]}
        about = {"rounds": args.rounds, "block": args.block} | processor()
        print(json.dumps(line | about | {"commit": measured}), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
