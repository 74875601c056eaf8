"""What the tests share."""

import importlib
import os
import shutil

os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side; threads that spin crawl on busy cores

import pytest  # noqa: E402
import torch  # noqa: E402
from toy import Graded  # noqa: E402

SCRIPTS = ["dqn_atari", "dqn_atari_2013"]


@pytest.fixture(scope="session", params=SCRIPTS)
def script(request):
    """Each script in turn, as a module; `toy.only` names those that a test is about."""
    return importlib.import_module(request.param)


@pytest.fixture
def graded(monkeypatch):
    """The toy whose seed says its length and reward, with nothing noted yet."""
    monkeypatch.setattr(Graded, "seeds", [])
    monkeypatch.setattr(Graded, "actions", [])
    return Graded


@pytest.fixture(autouse=True)
def denormal_numbers():
    """A run flushes them to zero in its process, for good; the next test has them again."""
    yield
    torch.set_flush_denormal(False)


def pytest_collection_modifyitems(config, items):
    """Tests that need CUDA, SLURM, a browser or a screen are left out where there is none."""
    slurm = shutil.which("slurmctld") and shutil.which("munged") and os.geteuid() == 0
    here = {"gpu": torch.cuda.is_available(), "slurm": slurm}
    here |= {"chromium": shutil.which("chromium"), "xvfb": shutil.which("Xvfb")}
    missing = {mark for mark, there in here.items() if not there}
    left_out = [item for item in items if missing & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    items.sort(key=waits, reverse=True)


def waits(item) -> bool:
    """A test that waits more than it works; it begins first."""
    return item.get_closest_marker("slurm") is not None
