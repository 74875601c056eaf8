#!/usr/bin/env bash
# The PyTorch post on Pong, its mistakes put right, 1 M agent steps.
# Source: "Playing Atari using Deep Q-Learning", a blog post of 2019-12-04.
# Published: no score. It continues from weights it does not give, 50,000 steps at a time.
# Differs: it clamps the loss to 1, which then has no slope; it sees one frame, here four; it has no
# target network, which here is a copy after every update (--target-network-frequency 1 with one
# game); its epsilon is 0.01 from the start, here it falls over 100,000 steps; bytes are not scaled.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 1 M steps at 40 a second, which is
# with 8 games: 6.9 hours a run or more.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting pong_post --script dqn_atari.py --games Pong "$@" -- \
    --num-envs 1 --precision float32 --learning-rate 1e-5 --train-frequency 1 --buffer-size 100000 \
    --learning-starts 10000 --exploration-steps 100000 --target-network-frequency 1 --total-timesteps 1000000 \
    --eval-frequency 250000
