#!/usr/bin/env bash
# Breakout on two cores, the setting of pong_two_cores.sh, 240,000 steps: the start of a curve, not a result to compare
# with papers. A seed took 0.3 to 1.2 hours in bfloat16, with one thread of torch beside other runs.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores --script dqn_atari.py --games Breakout --seeds 1 2 3 "$@" -- \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision auto
