#!/usr/bin/env bash
# Pong on two cores, 1.5 hours by arithmetic at an EPYC (Zen 4)'s 188 steps a second; the seeds that lie here took 4.2
# to 5.9, most with one thread of torch, beside other runs and with pauses. The defaults, with a faster fall of
# epsilon, a shorter random start and a smaller replay, because 10 M steps do not fit. README.md says which commit made
# the results that lie here.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores --script dqn_atari.py --games Pong --seeds 1 "$@" -- \
    --total-timesteps 1000000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000 \
    --precision auto
