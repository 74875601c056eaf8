#!/usr/bin/env bash
# Breakout on two cores in 20 to 40 minutes: the setting of pong_two_cores.sh, 240,000 steps. A look at
# the start of the curve, not a result to compare with papers.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores --script dqn_atari.py --games Breakout --seeds 1 "$@" -- \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision auto
