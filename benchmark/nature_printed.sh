#!/usr/bin/env bash
# Mnih et al. 2015 as printed: target copy every 10,000 updates, 40,000 agent steps (Extended Data
# Table 1). All else and the published scores as in nature_released.sh.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 50 M steps at 136 a second: 102 hours a run.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting nature_printed --script dqn_atari.py  "$@" -- \
    --num-envs 1 --precision float32 --optimizer rmsprop --learning-rate 2.5e-4 --loss clipped \
    --learning-starts 50000 --end-e 0.1 --total-timesteps 50000000 --eval-frequency 1000000 --target-network-frequency 40000
