#!/usr/bin/env bash
# Breakout by dqn_atari_2013.py on two cores, its defaults but for the length, the warm-up and the
# fall of epsilon. README.md says which commit made the results that lie here.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores --script dqn_atari_2013.py --games Breakout --seeds 1 "$@" -- \
    --total-timesteps 1000000 --learning-starts 10000 --exploration-steps 150000 --checkpoint-frequency 100000 \
    --keep-checkpoint --precision auto
