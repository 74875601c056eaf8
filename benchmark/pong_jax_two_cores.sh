#!/usr/bin/env bash
# Pong by dqn_atari_jax.py on two cores: the setting of pong_two_cores.sh in float32, 500,000 steps.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting two_cores --script dqn_atari_jax.py --games Pong --seeds 1 "$@" -- \
    --total-timesteps 500000 --learning-starts 10000 --exploration-steps 100000 --buffer-size 200000
