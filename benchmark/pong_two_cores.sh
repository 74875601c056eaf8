#!/usr/bin/env bash
# Pong on two cores in under 2 hours: the defaults with a faster fall of epsilon, a shorter random
# start, a smaller replay and bfloat16 products, because 10 M steps do not fit. One seed per call.
# Made benchmark/results/dqn_atari/PongNoFrameskip-v4/seed1 (benchmark/README.md says with which commit).
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-1}
run_dir=runs/pong_two_cores_seed$seed
OMP_NUM_THREADS=1 python dqn_atari.py --env-id PongNoFrameskip-v4 --seed "$seed" --precision bf16 \
    --total-timesteps 1200000 --learning-starts 10000 --exploration-steps 100000 \
    --buffer-size 200000 --run-dir "$run_dir"
python dqn_atari.py --env-id PongNoFrameskip-v4 --evaluate "$run_dir/model.pt" --precision float32 --seed "$seed" |
    tee "$run_dir/evaluation.txt"
