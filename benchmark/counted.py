"""Runs a PyTorch script as `python SCRIPT ...` would and prints how many optimizer steps it made.
On a GPU ours makes them in a CUDA graph, where nothing here sees them.

    python benchmark/counted.py other/dqn_atari.py --total-timesteps 6000

With TURNS="first,block,out,in" in its environment, which by_turns.py sets, it stops after optimizer
step `first` and every `block` steps after that: it writes a byte to file descriptor `out` and goes
on once it has read one from `in`.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import ale_py  # noqa: F401  registers the games for scripts that rely on gymnasium's old plugin
from torch.optim.optimizer import register_optimizer_step_post_hook

count = [0]
turns = [int(number) for number in os.environ.get("TURNS", "").split(",") if number]


def counted(*_) -> None:
    count[0] += 1
    if turns:
        first, block, out_file, in_file = turns
        if count[0] >= first and (count[0] - first) % block == 0:
            os.write(out_file, b".")
            if not os.read(in_file, 1):  # by_turns.py is gone
                os._exit(1)


register_optimizer_step_post_hook(counted)
sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(json.dumps({"optimizer_steps": count[0]}), flush=True)
