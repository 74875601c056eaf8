"""Seconds to write and to read the learner's part of a checkpoint, by size of the replay.

    python benchmark/checkpoint.py --buffer-sizes 100000 1000000

One JSON line per size: networks, Adam's moments and a full replay by the script's own save (to the
disk, fsync included) and load (checksums, then every byte of the replay copied into a buffer). The
games, a few kB each, are left out. `disk_s` is the time of as many plain bytes, fsync included, in
the same round: with a full replay training stops for little longer than the disk needs.
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))
from speed import commit  # noqa: E402

import dqn_atari  # noqa: E402


@dataclass
class Args:
    buffer_sizes: tuple[int, ...] = (100_000, 1_000_000)  # transitions
    rounds: int = 2  # the best is printed
    directory: Path | None = None  # on the disk to be measured; None: the system's for such files


def measure(args: Args, buffer_size: int, path: Path) -> dict:
    script_args = dqn_atari.Args(buffer_size=buffer_size)
    rb = dqn_atari.ReplayBuffer(script_args, torch.zeros(8, 4, 84, 84, dtype=torch.uint8))
    rb.frames.random_(256)
    rb.t = len(rb.ages)
    networks = dqn_atari.QNetwork(4), dqn_atari.QNetwork(4)
    learner = *networks, dqn_atari.make_optimizer(networks[0], script_args), rb
    writing, checking, restoring, disk = [], [], [], []
    for _ in range(args.rounds):
        marks = [time.perf_counter()]
        dqn_atari.save(path, {"learner": [part.state_dict() for part in learner]})
        marks.append(time.perf_counter())
        state = dqn_atari.load(path, "learner")
        marks.append(time.perf_counter())
        rb.load_state_dict(state["learner"][-1])
        marks.append(time.perf_counter())
        with open(path.with_name("plain"), "wb") as file:
            file.write(rb.frames.numpy().data)
            file.flush()
            os.fsync(file)
        marks.append(time.perf_counter())
        for times, i in (writing, 0), (checking, 1), (restoring, 2), (disk, 3):
            times.append(marks[i + 1] - marks[i])
    size = path.stat().st_size / 1e9
    line = {"buffer_size": buffer_size, "gb": round(size, 3), "write_s": round(min(writing), 2)}
    line |= {"write_s_per_gb": round(min(writing) / size, 2), "check_s": round(min(checking), 2)}
    line |= {"restore_s": round(min(restoring), 2), "disk_s": round(min(disk), 2)}
    return line | {"rounds": args.rounds}


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    about = dqn_atari.machine(torch.device("cpu")) | {"commit": commit()}
    for size in args.buffer_sizes:
        with tempfile.TemporaryDirectory(dir=args.directory) as folder:
            line = measure(args, size, Path(folder) / "checkpoint.pt")
            print(json.dumps(line | about), flush=True)
