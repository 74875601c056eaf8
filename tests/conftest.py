"""What the tests share."""

import importlib

import pytest


@pytest.fixture(scope="session", params=["dqn_atari", "dqn_atari_2013"])
def script(request):
    """Each script in turn, as a module; `toy.only` names those that a test is about."""
    return importlib.import_module(request.param)
