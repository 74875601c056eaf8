#!/usr/bin/env bash
# Breakout, 240,000 steps, 3 seeds: what pairs_bfloat16.sh and pairs_one_game.sh are compared with. The defaults but
# float32, with a faster fall of epsilon, a shorter random start and a smaller replay; 40 to 60 minutes each on one core.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting pairs_float32 --script dqn_atari.py --games Breakout --seeds 1 2 3 "$@" -- \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision float32
