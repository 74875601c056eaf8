"""Runs a PyTorch script as `python SCRIPT ...` would and prints how many optimizer steps it made.
On a GPU ours makes them in a CUDA graph, where nothing here sees them.

python benchmark/counted.py other/dqn_atari.py --total-timesteps 6000
"""

import json
import runpy
import sys
from pathlib import Path

import ale_py  # noqa: F401  registers the games for scripts that rely on gymnasium's old plugin
from torch.optim.optimizer import register_optimizer_step_post_hook

count = [0]


def counted(*_) -> None:
    count[0] += 1


register_optimizer_step_post_hook(counted)
sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(json.dumps({"optimizer_steps": count[0]}), flush=True)
