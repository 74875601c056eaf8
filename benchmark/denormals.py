"""What numbers below 1.2e-38 cost: milliseconds of an update with and without them, by turns.

    python dqn_atari.py --env-id PongNoFrameskip-v4 --keep-checkpoint --run-dir runs/some ...
    python benchmark/denormals.py runs/some/checkpoint.pt

Goes on with the learner of a checkpoint of dqn_atari.py, on its own replay, one thread, in two
copies: in one such numbers are flushed to zero, as `train` does, in the other they are not. Each
has a block of updates in turn, and then of Adam's steps alone. One JSON line: the share of Adam's
first and second moments that are such numbers and that are zero, medians over the blocks. Of
a run with flushing the share is 0 from the start: take the line with set_flush_denormal out of a
copy of the script to see it grow.
"""

import copy
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import tyro

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmark")]
from speed import commit, processor  # noqa: E402

import dqn_atari as script  # noqa: E402


def learner_of(state: dict, args: script.Args) -> tuple:
    """(q_network, target_network, optimizer, rb) as the checkpoint has them."""
    device, weights = torch.device("cpu"), state["learner"][0]
    bf16 = script.choose_bf16(args, device)
    q_network = script.QNetwork(len(weights["network.9.bias"]), bf16)
    rb = script.ReplayBuffer(args, torch.zeros((args.num_envs, 4, 84, 84), dtype=torch.uint8))
    target_network = copy.deepcopy(q_network)
    target_network.network[:-1].to(dtype=torch.bfloat16 if bf16 else None)  # as in train
    learner = q_network, target_network, script.make_optimizer(q_network, args), rb
    for part, saved in zip(learner, state["learner"], strict=True):
        part.load_state_dict(copy.deepcopy(saved))
    return learner


def shares(optimizer, moment: str) -> tuple[float, float]:
    """Of subnormal numbers and of zeros among all of a moment."""
    x = torch.cat([averages[moment].ravel() for averages in optimizer.state.values()])
    small = (x != 0) & (x.abs() < torch.finfo(torch.float32).tiny)
    return round(small.float().mean().item(), 4), round((x == 0).float().mean().item(), 4)


def milliseconds(call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count * 1e3


def main(checkpoint: tyro.conf.Positional[Path], rounds: int = 8, block: int = 10) -> None:
    """Updates of a checkpoint's learner with and without subnormal numbers."""
    torch.set_num_threads(1)
    about = processor() | {"torch": torch.__version__, "commit": commit()}
    state = script.load(checkpoint, "progress")
    args = script.Args(**state["args"] | {"resume": None})
    learners = {flush: learner_of(state, args) for flush in (False, True)}
    line = {"step": state["progress"]["step"], "num_updates": state["progress"]["num_updates"]}
    for moment in ("exp_avg", "exp_avg_sq"):
        line[moment] = dict(
            zip(("subnormal", "zero"), shares(learners[True][2], moment), strict=True)
        )
    seen = {(name, flush): [] for name in ("update", "adam") for flush in learners}
    for number in range(rounds + 1):
        for flush, learner in learners.items():
            torch.set_flush_denormal(flush)
            calls = {"update": lambda x=learner: script.update(*x, args), "adam": learner[2].step}
            for name, call in calls.items():
                took = milliseconds(call, block)
                if number:  # the first is a warm-up
                    seen[name, flush].append(took)
    torch.set_flush_denormal(False)
    for (name, flush), took in seen.items():
        median = round(statistics.median(took), 2)
        line[f"{name}_ms_{'flushed' if flush else 'as_they_are'}"] = median
    line |= {"bfloat16": learners[True][0].bf16, "threads": 1, "rounds": rounds, "block": block}
    print(json.dumps(line | about), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
