#!/usr/bin/env bash
# The defaults: Nature's DQN with CleanRL's hyper-parameters, 10 M agent steps, and an evaluation under
# Nature's protocol every million.
# Published: CleanRL's dqn_atari.py, mean training return of 3 seeds after 10 M: Breakout 366.9 +- 39.9, Pong
# 20.25 +- 0.41 (its docs, docs/rl-algorithms/dqn.md). It presses FIRE at a reset and copies the first
# frame four times; we do neither. Its epsilon falls from step 0 on, ours from 80,000.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 10 M steps at 188 a second: 15 hours a run;
# the 3 M of results/dqn_atari took 2.9 hours on a newer one (Zen 5).
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting defaults --script dqn_atari.py  "$@" -- \
    --eval-frequency 1000000
