#!/usr/bin/env bash
# Dopamine's dqn_icml.gin on Pong, of the guide that trains it for 22 hours on a GTX 1070.
# Source: "Deep Reinforcement Learning for Atari Games using Dopamine", a blog post.
# Published: no score in the guide. Dopamine's own curves are of other settings.
# Differs: its network pads its convolutions (7,744 instead of 3,136 values before the hidden layer); its
# maximum is of grey screens; its constant inside RMSProp's root is 1e-5, ours 0.01 / 32^2 = 0.98e-5;
# it never evaluates (continuous_train), ours 30 games every million steps; its weights begin as Glorot's.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 50 M steps at 136 a second: 102 hours a run.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting dopamine_icml --script dqn_atari.py --games Pong "$@" -- \
    --num-envs 1 --precision float32 --optimizer rmsprop --learning-rate 2.5e-4 --loss clipped \
    --learning-starts 50000 --target-network-frequency 10000 --noop-max 0 --total-timesteps 50000000 \
    --eval-frequency 1000000 --eval-epsilon 0.001 --eval-max-frames 108000
