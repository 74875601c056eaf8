"""Memory of all processes of a run with its full replay of 1 M transitions, while it goes on.

    python benchmark/memory.py

Fills the buffer for real (default flags, but few updates, because memory does not depend on them)
and reads, every 50,000 agent steps, the proportional set size of the learner and its games: shared
pages count once. One JSON line each, then the checkpoints' lines of the run itself. Linux only.
"""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro

ROOT = Path(__file__).parent.parent


@dataclass
class Args:
    script: str = "dqn_atari.py"
    total_timesteps: int = 1_250_000  # agent steps, 250,000 of them with a full buffer
    train_frequency: int = 400  # agent steps per update
    num_envs: int = 8


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    (ROOT / "runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "runs") as parent:
        command = [sys.executable, str(ROOT / args.script), "--run-dir", f"{parent}/run"]
        for name in ("total_timesteps", "train_frequency", "num_envs"):
            command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        learner = psutil.Process(run.pid)
        for line in run.stdout:
            if found := re.match(r"step (\d+): return", line):
                step = int(found[1])
                if step % 50_000 == 0 and step < args.total_timesteps:
                    family = [learner, *learner.children()]
                    pss = [process.memory_full_info().pss / 1e9 for process in family]
                    figures = {"pss_gb": round(sum(pss), 3), "learner_gb": round(pss[0], 3)}
                    print(json.dumps({"step": step, **figures, "processes": len(pss)}), flush=True)
            elif "checkpoint" in line:
                print(line.strip(), flush=True)
        if run.wait():
            sys.exit(f"the run ended with exit code {run.returncode}")
