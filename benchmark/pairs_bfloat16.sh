#!/usr/bin/env bash
# pairs_float32.sh in bfloat16 (on a processor that has it): does that learn as well?
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting pairs_bfloat16 --script dqn_atari.py --games Breakout --seeds 1 2 3 "$@" -- \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision auto
