"""What the tests share."""

import importlib
import os

os.environ["OMP_NUM_THREADS"] = "1"  # two tests at once; threads that spin crawl on busy cores

import pytest  # noqa: E402
import torch  # noqa: E402

SCRIPTS = ["dqn_atari", "dqn_atari_2013"]


@pytest.fixture(scope="session", params=SCRIPTS)
def script(request):
    """Each script in turn, as a module; `toy.only` names those that a test is about."""
    return importlib.import_module(request.param)


def pytest_collection_modifyitems(config, items):
    """Tests of CUDA are left out of the count where there is none."""
    if not torch.cuda.is_available():
        config.hook.pytest_deselected(
            items=[item for item in items if item.get_closest_marker("gpu")]
        )
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]
