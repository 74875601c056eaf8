#!/usr/bin/env bash
# The Keras example on Breakout, its mistakes put right, 10 M agent steps.
# Source: "Deep Q-Learning for Atari Breakout", J. Chapman and M. Lechner, among the examples of keras.io, 2020.
# Published: mean of 100 lives, rewards clipped, 1.03 after 500,000 agent steps (its notebook's output).
# Differs: it sets every terminal's target to -1, which forgets the reward; it updates from the 33rd
# transition on, here after the 50,000 random ones; its epsilon falls from step 0; it scales gradients
# to a norm of 1 by layer, which is left out; it presses FIRE at resets, copies the first frame four times and begins
# with Glorot's weights; its target starts unequal.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 10 M steps at 136 a second: 20 hours a run.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting keras_breakout --script dqn_atari.py --games Breakout "$@" -- \
    --num-envs 1 --precision float32 --learning-rate 2.5e-4 --loss clipped --buffer-size 100000 \
    --learning-starts 50000 --end-e 0.1 --target-network-frequency 10000 --eval-frequency 1000000
