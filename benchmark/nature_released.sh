#!/usr/bin/env bash
# Mnih et al. 2015 as DeepMind's released code does it: target copy every 10,000 agent steps.
# Published: Nature, Extended Data Table 2, 50 M agent steps: Breakout 401.2 +- 26.9, Pong 18.9 +- 1.3
# (30 games of at most 5 minutes, epsilon 0.05; the released code keeps a run's best network, the paper does not say
# which was played; ours is the last).
# Differs: dqn_atari.py's docstring lists what the released code does and the paper does not say.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 50 M steps at 136 a second: 102 hours a run.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting nature_released --script dqn_atari.py  "$@" -- \
    --num-envs 1 --precision float32 --optimizer rmsprop --learning-rate 2.5e-4 --loss clipped \
    --learning-starts 50000 --end-e 0.1 --total-timesteps 50000000 --eval-frequency 1000000 --target-network-frequency 10000
