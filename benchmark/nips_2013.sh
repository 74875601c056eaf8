#!/usr/bin/env bash
# Mnih et al. 2013: 10 M agent steps, an evaluation of 10,000 steps every 50,000.
# Published: Table 1, average and best game: Breakout 168 and 225, Pong 20 and 21. Space Invaders, 581 and
# 1075, needs EXTRA_FLAGS="--frame-skip 3" and --games SpaceInvaders.
# Differs: gamma, learning rate, RMSProp's constants and the warm-up are not printed; ours are in the
# script's docstring.
# Cost on two cores, by arithmetic from rates of an EPYC (Zen 4) in benchmark/: 10 M steps at 66 a second, which is
# in bfloat16 with 8 games: 42 hours a run or more.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmark/run.py --setting nips_2013 --script dqn_atari_2013.py  "$@" -- \
    --num-envs 1 --precision float32
