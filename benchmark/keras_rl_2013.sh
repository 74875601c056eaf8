#!/usr/bin/env bash
# The keras-rl walk-through of the 2013 paper on Breakout, whose network is Nature's: 500,000 agent steps.
# Source: the notebook "Playing Atari with Deep Reinforcement Learning", after becominghuman.ai's "Let's build an Atari AI".
# Published: returns of 13 and 14 near step 110,000 (its log), of 16 emulator frames each.
# Differs: it repeats each action 16 frames, because its game repeats 4 already, here 4; two of its
# convolutions run over the wrong axes; its target follows by 0.01 an update, here a copy every 100;
# RMSProp as in Keras, here as in Nature; it starts after 50 steps, here after 1,000; 105x80 points, no
# maximum, mean of the colours, here Nature's screens; it does not clip rewards, has no evaluation and begins with Glorot's weights.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 500,000 steps at 40 a second,
# which is with 8 games: 3.5 hours a run or more.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting keras_rl_2013 --script dqn_atari.py --games Breakout "$@" -- \
    --num-envs 1 --precision float32 --optimizer rmsprop --learning-rate 2.5e-4 --train-frequency 1 \
    --buffer-size 500000 --learning-starts 1000 --exploration-steps 100000 --end-e 0.1 --noop-max 0 \
    --no-life-loss-terminal --target-network-frequency 100 --total-timesteps 500000 --eval-frequency 100000
