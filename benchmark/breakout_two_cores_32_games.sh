#!/usr/bin/env bash
# breakout_two_cores.sh with 32 games side by side: do they learn as well as 8? One update is then made for 4 agent
# steps as ever, 8 in a row after each step of all games. A seed took 0.3 to 0.4 hours on Zen 5, two at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores_32_games --script dqn_atari.py --games Breakout --seeds 1 2 3 "$@" -- \
    --total-timesteps 240000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision auto --num-envs 32
