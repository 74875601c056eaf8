"""What the tests share."""

import pytest

import dqn_atari


@pytest.fixture(scope="session")
def script():
    """The script under test, as a module."""
    return dqn_atari
