#!/usr/bin/env bash
# Breakout on two cores in about 20 minutes: the setting of pong_two_cores.sh, 240,000 steps. A look at
# the start of the curve, not a result to compare with papers. One seed per call.
# Made benchmark/results/dqn_atari/BreakoutNoFrameskip-v4/seed1 (benchmark/README.md says with which commit).
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-1}
run_dir=runs/breakout_two_cores_seed$seed
OMP_NUM_THREADS=1 python dqn_atari.py --env-id BreakoutNoFrameskip-v4 --seed "$seed" --precision bf16 \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 \
    --buffer-size 200000 --run-dir "$run_dir"
python dqn_atari.py --env-id BreakoutNoFrameskip-v4 --evaluate "$run_dir/model.pt" --precision float32 --seed "$seed" |
    tee "$run_dir/evaluation.txt"
