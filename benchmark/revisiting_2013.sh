#!/usr/bin/env bash
# "Revisiting Playing Atari with Deep Reinforcement Learning", a blog post of 2024-01-27, on Breakout with
# sticky actions, 10 M agent steps, an evaluation every 50,000. It stopped after about 6 M in 6 hours on an A4000.
# Published: 16, of first lives with clipped rewards, not comparable with the paper's 168; its evaluation in training
# has epsilon 0.1 and at least 4,500 steps, ours 0.05 and 10,000.
# Differs: it resets the game when a life is lost, so it never trains on the others; here the game
# goes on. Adam, a Huber loss and gradients cut at 10 there, RMSProp and the squared error here. It keeps
# rows 17 to 100 of the small screen, here 18 to 101; it shrinks without averaging; it copies the first frame four times.
# Not tried at length: without a target network values with its gamma and learning rate reach 3 within 1,000 updates,
# where a few tenths are due (benchmark/README.md).
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 10 M steps at 66 a second, which is
# in bfloat16 with 8 games: 42 hours a run or more.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting revisiting_2013 --script dqn_atari_2013.py --games ALE/Breakout-v5 "$@" -- \
    --precision float32 --num-envs 1 --gamma 0.99 --learning-rate 6.25e-5 --buffer-size 400000 \
    --life-loss-terminal
