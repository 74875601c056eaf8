"""The whole program learns: from pixels of a toy game, through `train`, to nearly every ball."""

import numpy as np
import pytest
from toy import Catch, only, replace_game, tiny_args

pytestmark = only("dqn_atari")  # what it tests stands in all scripts in the same words


@pytest.mark.parametrize(
    "learning_rate, total, updates, least, most",
    [(5e-4, 7_000, 750, 0.8, 1.0), (1e-12, 2_400, 175, -1.0, 0.2)],
)
def test_catch_is_learned_and_only_by_learning(
    script, monkeypatch, tmp_path, learning_rate, total, updates, least, most
):
    """Pitfalls 16, 36: 750 updates; a network that cannot move stays near chance, -0.5."""
    replace_game(monkeypatch, script, Catch)
    changes = dict(num_envs=8, total_timesteps=total, buffer_size=total, batch_size=32)
    changes |= dict(learning_starts=1_000, exploration_steps=2_000, end_e=0.01)
    changes |= dict(train_frequency=8, target_network_frequency=200, gamma=0.9)
    changes |= dict(learning_rate=learning_rate, log_frequency=1_000)
    end = script.train(tiny_args(script, tmp_path / "run", **changes))
    assert end.progress["num_updates"] == updates
    assert len(end.returns) == 8 * (total // 8 // 11)  # 11 a game
    assert least <= np.mean(end.returns[-100:]) <= most
