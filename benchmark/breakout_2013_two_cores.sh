#!/usr/bin/env bash
# Breakout by dqn_atari_2013.py on two cores, its defaults but for the length, the warm-up and the fall of
# epsilon. The paper's own setting is the defaults: 10,000,000 steps, which do not fit on two cores.
# Makes benchmark/results/dqn_atari_2013/BreakoutNoFrameskip-v4/seed1 (benchmark/README.md says with which commit).
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-1}
OMP_NUM_THREADS=1 python dqn_atari_2013.py --env-id BreakoutNoFrameskip-v4 --seed "$seed" \
    --total-timesteps 200000 --learning-starts 10000 --exploration-steps 150000 --keep-checkpoint \
    --checkpoint-frequency 100000 --run-dir "runs/breakout_2013_two_cores_seed$seed"
