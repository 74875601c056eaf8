"""What bfloat16 does to the choice of actions.

    python benchmark/bfloat16.py benchmark/models/PongNoFrameskip-v4.pt benchmark/models/...

A model plays in float32 with epsilon 0.05. Of each observation its values are computed in float32,
by the script's --precision bf16, whose last layer is in float32, and with the last layer in
bfloat16 too. One JSON line per model: of the two the share of observations whose best action is
another than in float32, and whose highest value several actions have.
"""

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))


@dataclass
class Args:
    models: tyro.conf.Positional[tuple[Path, ...]]  # model.pt of a PyTorch script
    steps: int = 2_000  # agent steps each
    seed: int = 1


def values_of(network, obs: torch.Tensor, last: torch.dtype) -> torch.Tensor:
    """In bfloat16 but for the last layer, which is computed in `last`; float32."""
    x = obs.contiguous(memory_format=torch.channels_last) / 255.0
    with torch.autocast("cpu", torch.bfloat16):
        x = network.network[:-1](x)
        with torch.autocast("cpu", torch.bfloat16, enabled=last == torch.bfloat16):
            return network.network[-1](x.to(last)).float()


@torch.no_grad()
def compare(path: Path, args: Args) -> dict:
    model = torch.load(path, weights_only=True)
    script = importlib.import_module(model["script"])
    settings = script.Args(env_id=model["env_id"], device="cpu")
    networks = [script.QNetwork(model["num_actions"], bf16) for bf16 in (False, True)]
    for network in networks:
        network.load_state_dict(model["weights"])
    env, rng = script.make_env(settings, training=False), np.random.default_rng(args.seed)
    (obs, _), found = env.reset(seed=args.seed), []
    for _ in range(args.steps):
        x = torch.tensor(obs[None])
        values, ours = networks[0](x)[0], networks[1](x)[0]
        assert torch.equal(ours, values_of(networks[1], x, torch.float32)[0])
        whole = values_of(networks[1], x, torch.bfloat16)[0]
        row = [values.max().item()]
        for other in (ours, whole):
            row += [other.argmax() != values.argmax(), (other == other.max()).sum() > 1]
        found.append(row)
        action = script.act(networks[0], x, settings.eval_epsilon, rng)
        obs, _, terminated, truncated, _ = env.step(action[0])
        if terminated or truncated:
            obs, _ = env.reset()
    env.close()
    mean, differs, ties, whole_differs, whole_ties = np.mean(np.array(found, float), axis=0)
    line = {"model": path.name, "steps": args.steps, "mean_max_q": round(mean, 3)}
    line |= {"last_float32": {"differs": round(differs, 4), "ties": round(ties, 4)}}
    return line | {
        "last_bfloat16": {"differs": round(whole_differs, 4), "ties": round(whole_ties, 4)}
    }


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    for path in args.models:
        print(json.dumps(compare(path, args)), flush=True)
