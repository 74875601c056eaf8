#!/usr/bin/env bash
# breakout_two_cores_float32.sh with one game, as in the papers: do 8 games side by side learn as well?
# Three seeds at a time on two cores took 3.2 hours, half an hour of it halted and the end beside other work.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores_one_game --script dqn_atari.py --games Breakout --seeds 1 2 3 "$@" -- \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision float32 --num-envs 1
