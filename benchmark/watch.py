"""Video of a trained agent beside what it sees and what it expects.

    python benchmark/watch.py benchmark/models/PongNoFrameskip-v4.pt --output pong.mp4
    python benchmark/watch.py runs/.../model.npz --steps 450 --output agent.gif

Left the game; right the four frames that the network sees, the values of all actions (the chosen
one dark, "random" where it is not the best), and the value of the best action over the last 10
seconds with a mark above for every reward and below for every loss. The games are those of
--evaluate --device cpu --precision float32 with the same seed and other flags by default. An agent
step is 4 emulator frames, so 15 of them are a second. The script that made the model is imported, a
renamed one from the model's folder if it is a .pt. A model of dqn_atari_jax.py needs no torch.
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio.v2 as imageio
import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))
WIDTH, HEIGHT, SECOND = 800, 480, 15
INK, GRAY, LIGHT, BLUE = (20, 20, 20), (120, 120, 120), (205, 205, 205), (30, 80, 180)


@dataclass
class Args:
    model: tyro.conf.Positional[Path]  # model.pt or model.npz
    output: Path = Path("watch.mp4")  # .mp4 or .gif
    steps: int = 900  # agent steps, 15 a second
    seed: int = 1  # of the first game and of epsilon's choices
    epsilon: float = 0.05  # share of random actions [Nature M]
    skip: int = 0  # agent steps to play before the video begins


class Agent:
    """A model with the script that made it: `act` as in an evaluation, and a state's values."""

    def __init__(self, path: Path):
        self.jax = path.suffix == ".npz"
        sys.path.append(str(path.absolute().parent))  # a changed script lies beside its model
        if self.jax:
            self.script = importlib.import_module("dqn_atari_jax")
            self.about = self.script.load(path, "num_actions")
        else:
            import torch

            self.about = torch.load(path, weights_only=True, map_location="cpu")
            self.script = importlib.import_module(self.about.get("script", "dqn_atari"))
        self.args = self.script.Args(env_id=self.about["env_id"], device="cpu")
        if self.jax:
            self.network = self.script.make_network(0, self.about["num_actions"])
            self.script.load_model(str(path), self.network, self.args)
            self.to_device = self.script.to_device
        else:
            weights = self.about["weights"]
            self.network = self.script.QNetwork(list(weights.values())[-1].numel())
            self.network.load_state_dict(weights)
            self.to_device = torch.from_numpy

    def act(self, obs: np.ndarray, epsilon: float, rng) -> int:
        return int(self.script.act(self.network, self.to_device(obs[None]), epsilon, rng)[0])

    def values(self, obs: np.ndarray) -> np.ndarray:
        """Of all actions, float32."""
        x = self.to_device(obs[None])
        if self.jax:
            return np.asarray(self.script.apply(self.network, x))[0]
        return self.network(x).detach().numpy()[0]


def write(picture, text: str, x: int, y: int, color=INK, size: float = 0.42) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def draw_values(picture, names, values, chosen: int, random: bool, low: float, high: float):
    """A bar for each action, from the least to the greatest value of the last seconds."""
    top, height = 190, min(26, 162 // len(names))
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y, size = top + i * height, 0.42 if height > 14 else 0.3
        length = int(210 * (value - low) / max(high - low, 1e-6))
        color = BLUE if i == chosen else LIGHT
        cv2.rectangle(picture, (462, y), (464 + length, y + height - 4), color, -1)
        write(picture, name, 345, y + height - 7, INK if i == chosen else GRAY, size)
        label = f"{value:.2f}" + (" random" if i == chosen and random else "")
        write(picture, label, 690, y + height - 7, INK if i == chosen else GRAY, size)


def draw_curve(picture, best: list[float], rewards: list[float], low: float, high: float) -> None:
    """The best value over the last 10 seconds; rewards as marks above, losses below."""
    left, right, top, bottom = 390, 785, 385, 450
    cv2.rectangle(picture, (left, top - 12), (right, bottom + 12), LIGHT, 1)
    write(picture, f"{high:.2f}", 345, top + 4, GRAY, 0.35)
    write(picture, f"{low:.2f}", 345, bottom + 4, GRAY, 0.35)
    x = right - 1 - (len(best) - 1 - np.arange(len(best))) * (right - left - 2) / (10 * SECOND - 1)
    y = bottom - (np.array(best) - low) / max(high - low, 1e-6) * (bottom - top)
    points = np.stack([x, y], axis=1).round().astype(np.int32)
    for i in np.flatnonzero(rewards):
        up = rewards[i] > 0
        tip, base = (top - 11, top - 3) if up else (bottom + 11, bottom + 3)
        corners = [[points[i, 0], tip], [points[i, 0] - 5, base], [points[i, 0] + 5, base]]
        cv2.fillPoly(picture, [np.array(corners, np.int32)], INK)
    cv2.polylines(picture, [points], False, BLUE, 1, cv2.LINE_AA)


def draw(screen, obs, names, values, chosen, random, best, rewards, spread, title: str):
    """One picture, (HEIGHT, WIDTH, 3) uint8."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    write(picture, title, 12, 24)
    picture[40:460, 12:332] = cv2.resize(screen, (320, 420), interpolation=cv2.INTER_NEAREST)
    for i, frame in enumerate(obs):
        x = 345 + 112 * i
        frame = cv2.resize(frame, (105, 105), interpolation=cv2.INTER_NEAREST)
        picture[56:161, x : x + 105] = frame[:, :, None]
    write(picture, "seen by the network: 4 screens, oldest first", 345, 50, GRAY, 0.38)
    write(picture, "value of each action", 345, 183, GRAY, 0.38)
    write(picture, "value of the best action, last 10 seconds", 345, 368, GRAY, 0.38)
    draw_values(picture, names, values, chosen, random, *spread)
    draw_curve(picture, best, rewards, *spread)
    return picture


def main(args: Args) -> dict[str, float]:
    """Plays and films; returns what it also prints."""
    agent = Agent(args.model)
    env, rng = agent.script.make_env(agent.args, training=False), np.random.default_rng(args.seed)
    names = [name.lower() for name in env.unwrapped.get_action_meanings()]
    gif = {"duration": 1000 / SECOND, "loop": 0, "subrectangles": True}
    options = gif if args.output.suffix == ".gif" else {"fps": SECOND}
    returns, score, window = [], 0.0, 10 * SECOND
    best, rewards, lows, everything = [], [], [], []
    obs, _ = env.reset(seed=args.seed)
    with imageio.get_writer(args.output, **options) as video:
        for step in range(args.skip + args.steps):
            values, action = agent.values(obs), agent.act(obs, args.epsilon, rng)
            everything.append(values.max())
            best, lows = everything[-window:], [*lows, values.min()][-window:]
            rewards = [*rewards, 0.0][-window:]
            if step >= args.skip:
                spread, random = (min(lows), max(best)), action != values.argmax()
                about = f"score {score:g}   lives {env.ale.lives()}   epsilon {args.epsilon:g}"
                title = f"{agent.args.env_id}   {about}   step {step}"
                curve = best, rewards, spread, title
                video.append_data(draw(env.render(), obs, names, values, action, random, *curve))
            obs, reward, over, truncated, _ = env.step(action)
            rewards[-1], score = reward, score + reward
            if over or truncated:
                returns, score = [*returns, score], 0.0
                obs, _ = env.reset(seed=args.seed + len(returns))
    env.close()
    figures = {"steps": args.steps, "games_ended": len(returns), "score_of_the_last": score}
    figures |= {"least_value": float(min(everything)), "greatest_value": float(max(everything))}
    print(f"{args.output}: {', '.join(f'{k} {v:.4g}' for k, v in figures.items())}")
    return figures


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
