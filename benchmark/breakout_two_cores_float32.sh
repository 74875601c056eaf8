#!/usr/bin/env bash
# breakout_two_cores.sh in float32: does bfloat16 learn as well? A seed took 0.9 to 1.6 hours.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores_float32 --script dqn_atari.py --games Breakout --seeds 1 2 3 "$@" -- \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision float32
