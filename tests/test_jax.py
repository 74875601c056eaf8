"""dqn_atari_jax.py is the algorithm of dqn_atari.py and keeps the same promises."""

import csv
import dataclasses
import functools
import inspect
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from scipy import stats
from toy import Catch, Scripted, only, replace_game, tiny_args

import dqn_atari

pytestmark = [
    only("dqn_atari_jax"),
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),  # the games use no JAX
]


@pytest.fixture(autouse=True)
def strict():
    """No silent broadcasting, no key spent twice."""
    with jax.numpy_rank_promotion("raise"), jax.debug_key_reuse(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory):
    """The same program in another run is read from here; compiling takes half of a toy run."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder  # one for all workers
    jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def test_the_cpu_alone_is_opened_if_asked_for(script):
    """--device cpu leaves a GPU alone, whose memory JAX would take; auto tries it."""
    code = """
import sys
from jax._src import xla_bridge
import dqn_atari_jax
def gpu():
    print("opened")
    raise RuntimeError
xla_bridge.register_backend_factory("gpu_of_the_test", gpu, priority=300)
print(dqn_atari_jax.choose_device(sys.argv[1]).platform)
"""
    for device, printed in ("auto", ["opened", "cpu"]), ("cpu", ["cpu"]):
        command = [sys.executable, "-c", code, device]
        done = subprocess.run(
            command, cwd=Path(script.__file__).parent, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == printed


# --- The same numbers as in torch -----------------------------------------------------------------
def as_jax(network):
    """torch's weights in the layout of the JAX script."""
    layers = [layer for layer in network.network if hasattr(layer, "weight")]
    arrays = [layer.weight.detach().numpy() for layer in layers]
    arrays[:3] = [w.transpose(2, 3, 1, 0) for w in arrays[:3]]
    arrays[3] = arrays[3].reshape(512, 64, 7, 7).transpose(2, 3, 1, 0).reshape(3136, 512)
    arrays[4] = arrays[4].T
    biases = [layer.bias.detach().numpy() for layer in layers]
    return [
        {"weight": jnp.array(w), "bias": jnp.array(b)} for w, b in zip(arrays, biases, strict=True)
    ]


def counts(end):
    return end.step, end.progress["num_updates"], end.progress["num_syncs"]


def assert_close(ours, theirs, relative):
    """Relative to the length of each array."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.linalg.norm(a - b) <= relative * np.linalg.norm(b)


def batches(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        obs, next_obs = rng.integers(256, size=(2, 32, 4, 84, 84), dtype=np.uint8)
        rewards = rng.integers(-1, 2, size=32).astype(np.float32)
        ends = (rng.random(32) < 0.2).astype(np.float32)
        yield obs, rng.integers(4, size=32), rewards, ends, next_obs


def test_values_of_the_same_weights_are_the_same(script):
    torch.manual_seed(0)
    network = dqn_atari.QNetwork(4)
    obs = np.random.default_rng(0).integers(256, size=(8, 4, 84, 84), dtype=np.uint8)
    theirs = network(torch.tensor(obs)).detach().numpy()
    assert_close(np.asarray(script.apply(as_jax(network), jnp.array(obs))), theirs, 1e-5)


def test_the_cores_told_are_those_that_the_process_may_use(script):
    """XLA takes as many threads, and another number of them gives other last digits."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert script.machine(jax.devices()[0])["cores"] == 1
    finally:
        os.sched_setaffinity(0, before)


def test_nproc_is_the_number_of_threads_of_xla(script, monkeypatch):
    """Which benchmark/run.py sets: counted in a process of its own, and told."""
    count = """import jax, os, pathlib
jax.jit(lambda x: x @ x)(jax.numpy.ones((300, 300))).block_until_ready()
names = [x.read_text() for x in pathlib.Path("/proc/self/task").glob("*/comm")]
print(sum("XLAEigen" in name for name in names))"""
    for threads in ("1", "3"):
        monkeypatch.setenv("NPROC", threads)
        command = [sys.executable, "-c", count]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{threads}\n"
        assert script.machine(jax.devices()[0])["cores"] == int(threads)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("loss", ["squared", "clipped"])
def test_ten_updates_are_the_same(script, optimizer, loss):
    """Loss, weights and target: to 1e-4 after one update, to 1e-3 after ten; a copy after five."""
    settings = dict(optimizer=optimizer, loss=loss, learning_rate=1e-4)
    args, torch_args = script.Args(**settings), dqn_atari.Args(**settings)
    torch.manual_seed(0)
    q_network, target_network = dqn_atari.QNetwork(4), dqn_atari.QNetwork(4)
    torch_optimizer = dqn_atari.make_optimizer(q_network, torch_args)
    weights, our_target = as_jax(q_network), as_jax(target_network)
    moments = script.make_optimizer(args).init(weights)
    for i, batch in enumerate(batches(10)):
        ours, theirs = (
            SimpleNamespace(sample=lambda *_, to=to, b=batch: tuple(map(to, b)))
            for to in (jnp.array, torch.tensor)
        )
        weights, moments, losses = script.update(weights, our_target, moments, ours, i, args)
        learners = q_network, target_network, torch_optimizer, theirs
        torch_loss, torch_q = dqn_atari.update(*learners, torch_args)
        relative = 1e-4 if i == 0 else 1e-3
        assert float(losses["loss"]) == pytest.approx(torch_loss.item(), rel=relative)
        assert float(losses["q_values"]) == pytest.approx(torch_q.item(), rel=relative, abs=1e-5)
        assert_close(weights, as_jax(q_network), relative)
        if i == 4:
            target_network.load_state_dict(q_network.state_dict())
            our_target = weights
    assert_close(our_target, as_jax(target_network), 1e-3)


@pytest.mark.parametrize("loss", ["squared", "clipped"])
def test_gradients_are_the_same(script, loss):
    torch.manual_seed(0)
    networks = dqn_atari.QNetwork(4), dqn_atari.QNetwork(4)
    (batch,) = batches(1)
    batch[2][:] *= 5  # errors beyond 1
    torch_loss, _ = dqn_atari.td_loss(
        *networks, tuple(map(torch.tensor, batch)), dqn_atari.Args(loss=loss, gamma=0.5)
    )
    torch_loss.backward()
    for p in networks[0].parameters():
        p.data = p.grad
    slope = jax.grad(script.td_loss, has_aux=True)
    before = [as_jax(network) for network in (dqn_atari.QNetwork(4), networks[1])]
    torch.manual_seed(0)
    before[0] = as_jax(dqn_atari.QNetwork(4))
    grads, _ = slope(*before, tuple(map(jnp.array, batch)), script.Args(loss=loss, gamma=0.5))
    assert_close(grads, as_jax(networks[0]), 1e-4)


def test_weights_start_with_the_same_distribution(script):
    """Layer by layer, weights and biases: the same bounds and quantiles."""
    torch.manual_seed(0)
    theirs, ours = as_jax(dqn_atari.QNetwork(6)), script.make_network(1, 6)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        a, b = np.ravel(a), np.ravel(b)
        assert a.shape == b.shape and stats.ks_2samp(a, b).pvalue > 1e-3
        if len(a) > 500:
            assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.02)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True))
    others = map(jax.tree.leaves, (ours, script.make_network(2, 6)))
    assert all((a != b).any() for a, b in zip(*others, strict=True))  # another seed


SAME = """BadInput require AtariGame make_env make_envs close_envs linear_schedule crossings
Log""".split()


@pytest.mark.parametrize("name", SAME)
def test_what_is_tested_once_stands_in_both_scripts_in_the_same_words(script, name):
    assert inspect.getsource(getattr(script, name)) == inspect.getsource(getattr(dqn_atari, name))


def test_the_refusals_are_the_same_but_for_the_device(script):
    """Which JAX itself knows: `choose_device`."""
    ours, theirs = (inspect.getsource(x.check_args).splitlines() for x in (script, dqn_atari))
    (line,) = (line for line in theirs if "choose_device" in line)
    theirs.remove(line)
    assert ours == theirs


def test_both_loops_play_and_store_the_same(script, monkeypatch, tmp_path):
    """Of random play: the same games at the same steps, the same rows of the replay."""
    ends = []
    for module in (script, dqn_atari):
        replace_game(monkeypatch, module, Scripted, thin=False, **TOY)
        changes = TOY_ARGS | dict(learning_starts=600, eval_frequency=0)
        ends.append(module.train(tiny_args(module, tmp_path / module.__name__, **changes)))
    ours, theirs = ends
    assert ours.returns == theirs.returns and len(ours.returns) > 60
    assert rows(ours.run_dir, "episodes.csv") == rows(theirs.run_dir, "episodes.csv")
    state, newest = theirs.rb.state_dict(), int(ours.rb.newest)
    assert newest == state["t"] == 300 > len(theirs.rb.ages)
    for name, array in state["rows"].items():
        if name in ("frames", "ages"):
            assert np.array_equal(getattr(ours.rb, name), array), name
        else:  # the newest row has nothing else yet
            complete = np.arange(len(theirs.rb.ages)) != newest % len(theirs.rb.ages)
            assert np.array_equal(getattr(ours.rb, name)[complete], array[complete]), name


def test_arguments_are_the_same_but_for_those_listed(script):
    """At most 6 lines; precision and device have other choices, determinism is XLA's own."""
    ours, theirs = (
        {field.name: field.default for field in dataclasses.fields(module.Args)}
        for module in (script, dqn_atari)
    )
    assert set(theirs) - set(ours) == {"torch_deterministic"} and set(ours) <= set(theirs)
    assert {k for k in ours if ours[k] != theirs[k]} == {"exp_name", "precision"}
    lines = [inspect.getsource(module.Args).splitlines() for module in (script, dqn_atari)]
    assert len(set(lines[1]) - set(lines[0])) <= 6


def test_it_runs_without_torch(script):
    """The import is refused, the script does not ask for it."""
    code = f"import sys; sys.path.insert(0, {str(Path(script.__file__).parent)!r})\n"
    code += "sys.modules['torch'] = None\nimport dqn_atari_jax\nprint('ok')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr


# --- Replay ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("adds", [20, 150])
def test_samples_are_those_of_the_torch_buffer(script, adds):
    """Filled alike, also beyond the ring's end: every draw is one of the other's, whole."""
    args = dict(buffer_size=120, num_envs=2, batch_size=32)
    rng = np.random.default_rng(0)
    obs = rng.integers(256, size=(2, 4, 84, 84), dtype=np.uint8)
    ours = script.ReplayBuffer(script.Args(**args), jnp.array(obs))
    theirs = dqn_atari.ReplayBuffer(dqn_atari.Args(**args), torch.tensor(obs))
    for _ in range(adds):
        frames = rng.integers(256, size=(2, 4, 84, 84), dtype=np.uint8)
        ends, cuts = rng.random((2, 2)) < 0.1
        followed = rng.integers(4, size=2), rng.integers(-1, 2, size=2) * 1.0, ends, cuts
        ours.add(*followed, jnp.array(frames))
        theirs.add(*followed, torch.tensor(frames))
    for name in ("frames", "ages", "actions", "rewards", "terminations", "truncations"):
        used = slice(adds + 1 if name in ("frames", "ages") else adds)  # torch's rest is anything
        assert np.array_equal(getattr(ours, name)[used], getattr(theirs, name)[used].numpy()), name

    def drawn(buffer_sample, calls):
        found = {}
        for call in range(calls):
            batch = [np.asarray(part) for part in buffer_sample(call)]
            for row in zip(*batch, strict=True):
                whole = [row[i] for i in range(5)] if not row[3] else row[:4]
                key = b"".join(np.asarray(part, np.float32).tobytes() for part in whole)
                found[key] = found.get(key, 0) + 1
        return found

    sample = jax.jit(script.ReplayBuffer.sample, static_argnums=2)
    key = jax.random.key(0)
    our_draws = drawn(lambda i: sample(ours, jax.random.fold_in(key, i), 32), 200)
    their_draws = drawn(lambda i: theirs.sample(), 200)
    assert set(our_draws) == set(their_draws) and len(our_draws) > min(90, adds)
    assert stats.chisquare(list(our_draws.values())).pvalue > 1e-4


def test_rows_are_stored_in_place_unless_a_checkpoint_looks_on(script):
    """A replay of 7 GB must not be copied, which it is while a view of it lives."""
    obs = jnp.zeros((2, 4, 84, 84), jnp.uint8)
    rb = script.ReplayBuffer(script.Args(buffer_size=200, num_envs=2), obs)
    followed = np.zeros(2, int), np.ones(2), np.zeros(2, bool), np.zeros(2, bool)

    def place():
        rb.add(*followed, obs)
        return rb.frames.unsafe_buffer_pointer()

    first = place()
    assert place() == first
    views = rb.state_dict()
    assert place() != first
    del views
    assert place() == place()


def test_a_replay_is_kept_and_put_back_in_blocks(script):
    """Of 1 + 80,000 / num_envs rows; 12 rows of 20,000 games are three, the last not full."""
    names = ("frames", "ages", "actions", "rewards", "terminations", "truncations", "newest")
    rng, shapes = np.random.default_rng(0), [(12, 1, 84, 84), *[(12, 20_000)] * 5]
    arrays = [rng.integers(1, 256, shape, np.uint8) for shape in shapes]
    kept = script.ReplayBuffer.tree_unflatten(names, [*map(jnp.array, arrays), jnp.array(11)])
    state = {name: np.array(x) for name, x in kept.state_dict().items()}
    assert sum("frames" in name for name in state) == 3 and state["newest"] == 11
    empty = [*(jnp.zeros(shape, jnp.uint8) for shape in shapes), jnp.array(0)]
    twin = script.ReplayBuffer.tree_unflatten(names, empty)
    twin.load_state_dict(state)
    for name, array in zip(names, [*arrays, 11], strict=True):
        assert np.array_equal(getattr(twin, name), array), name


def test_rows_are_put_in_place(script):
    """At a start and a resume too there is no second replay."""
    array = jnp.zeros((50, 2, 84, 84), jnp.uint8)
    place = array.unsafe_buffer_pointer()
    array = script.put(array, jnp.ones((3, 2, 84, 84), jnp.uint8), 40)
    assert array.unsafe_buffer_pointer() == place
    assert np.flatnonzero(np.asarray(array).any(axis=(1, 2, 3))).tolist() == [40, 41, 42]


def test_a_buffer_that_does_not_fit_is_refused_with_its_size(script, monkeypatch):
    """By hand: 90 % of 409,600 bytes hold 52.2 frames, 51 of 3 games; less is told to be safe."""
    there, read = script.Path.exists, script.Path.read_text

    def exists(path):
        return path.name == "meminfo" or there(path)

    def read_text(path, *rest):
        told = "MemTotal: 99 kB\nMemAvailable:  400 kB\n"
        return told if path.name == "meminfo" else read(path, *rest)

    monkeypatch.setattr(script.Path, "exists", exists)
    monkeypatch.setattr(script.Path, "read_text", read_text)
    obs = jnp.zeros((3, 4, 84, 84), jnp.uint8).at[:, -1].set(7)
    rb = script.ReplayBuffer(script.Args(num_envs=3, buffer_size=51), obs)
    assert len(rb.ages) == 17 and (rb.frames[0] == 7).all() and not rb.frames[1:].any()
    with pytest.raises(script.BadInput, match="needs 0.00 GB.* type --buffer-size 48 or less"):
        script.ReplayBuffer(script.Args(num_envs=3, buffer_size=54), obs)


# --- Runs -----------------------------------------------------------------------------------------
def rows(run_dir, name):
    with open(Path(run_dir, name)) as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_equal_runs(one, other):
    for name in ("episodes.csv", "eval.csv"):
        assert rows(one, name) == rows(other, name)
    with np.load(one / "model.npz") as a, np.load(other / "model.npz") as b:
        assert a.files == b.files
        assert all(np.array_equal(a[name], b[name]) for name in a.files)


TOY = dict(lengths=(11, 6), rewards=(0.0, 3.0, -2.0), lives_lost=(4,), action_bonus=1)
TOY_ARGS = dict(num_envs=2, buffer_size=200, eval_frequency=150, eval_games=2)


@pytest.mark.parametrize("num_envs, updates, syncs", [(1, 125, 5), (8, 125, 5)])
def test_updates_and_syncs_happen_exactly_when_promised(
    script, monkeypatch, tmp_path, num_envs, updates, syncs
):
    """And compiled once for every count of updates in a vector step: 1, or 0 and 1 and 2."""
    replace_game(monkeypatch, script, Scripted)
    end = script.train(tiny_args(script, tmp_path / "run", num_envs=num_envs))
    assert counts(end) == (600, updates, syncs)
    assert int(end.optimizer[0].count) == updates  # by Adam itself
    assert end.learn._cache_size() <= 2
    target = end.target_network, end.q_network
    assert [a.unsafe_buffer_pointer() for a in jax.tree.leaves(target[0])] != [
        a.unsafe_buffer_pointer() for a in jax.tree.leaves(target[1])
    ]


def test_every_update_draws_with_a_key_of_its_own(script, monkeypatch, tmp_path):
    """That of its number, from the second half of the seed's: 2 updates a vector step, one seed."""
    replace_game(monkeypatch, script, Scripted)
    keys, sizes, original = [], set(), script.ReplayBuffer.sample

    def sample(rb, key, batch_size):
        sizes.add(batch_size)
        jax.debug.callback(lambda data: keys.append(tuple(data.tolist())), jax.random.key_data(key))
        return original(rb, key, batch_size)

    monkeypatch.setattr(script.ReplayBuffer, "sample", sample)
    with jax.debug_key_reuse(False):  # the test looks at keys that are used
        script.train(tiny_args(script, tmp_path / "run", num_envs=8, seed=2))
        jax.effects_barrier()
        key = jax.random.split(jax.random.key(2))[1]
        fold_in = jax.vmap(jax.random.fold_in, (None, 0))
        expected = jax.random.key_data(fold_in(key, jnp.arange(125))).tolist()
    assert sizes == {4} and sorted(keys) == sorted(map(tuple, expected))


def test_one_seed_is_one_run_and_a_stopped_one_goes_on_bit_for_bit(script, monkeypatch, tmp_path):
    """Before and after learning starts and the ring is full; another seed is another run."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    whole, again, other = (
        script.train(tiny_args(script, tmp_path / name, seed=seed, **TOY_ARGS)).run_dir
        for name, seed in dict(whole=1, again=1, other=2).items()
    )
    assert_equal_runs(whole, again)
    assert rows(whole, "episodes.csv") != rows(other, "episodes.csv")
    original = script.linear_schedule
    for step in (60, 298, 450):
        with monkeypatch.context() as patch:

            def schedule(args, now, step=step):
                if now == step:
                    os.kill(os.getpid(), signal.SIGTERM)
                return original(args, now)

            patch.setattr(script, "linear_schedule", schedule)
            half = script.train(tiny_args(script, tmp_path / f"half{step}", **TOY_ARGS))
        assert half.step == step + 2 and not (half.run_dir / "model.npz").exists()
        args = dataclasses.replace(half.args, resume=str(half.run_dir))
        end = script.train(args)
        assert counts(end) == (600, 125, 5)
        assert_equal_runs(whole, end.run_dir)
        assert not list(end.run_dir.glob("checkpoint*"))  # its 7 GB are no longer needed


class Harm:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_damaged_checkpoint_is_refused_in_one_line(script, monkeypatch, tmp_path):
    """One flipped byte in each part, cut at every tenth, one that would run code, another kind."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    end = script.train(tiny_args(script, tmp_path / "run", keep_checkpoint=True, **TOY_ARGS))
    path = end.run_dir / "checkpoint.npz"
    whole, refused = path.read_bytes(), 0
    with zipfile.ZipFile(path) as archive:
        starts = [part.header_offset + 200 for part in archive.infolist() if part.file_size > 600]
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in starts]
    for damaged in flipped + [whole[: len(whole) * tenths // 10] for tenths in range(10)]:
        path.write_bytes(damaged)
        with pytest.raises(script.BadInput, match="checkpoint.npz is missing, damaged") as refusal:
            script.load(path, "progress")
        refused += "\n" not in str(refusal.value)
    assert refused == len(starts) + 10 > 20
    np.savez(path, state=np.array(Harm(tmp_path / "harm"), dtype=object))
    with pytest.raises(script.BadInput, match="checkpoint.npz is missing, damaged"):
        script.load(path, "progress")
    assert not (tmp_path / "harm").exists()
    path.write_bytes(whole)
    with pytest.raises(script.BadInput, match="of another kind"):
        script.load_model(str(path), end.q_network, end.args)
    with pytest.raises(script.BadInput, match="leave --gamma out"):
        script.train(dataclasses.replace(end.args, resume=str(end.run_dir), gamma=0.5))


def test_a_game_that_dies_while_a_run_is_resumed_is_no_damaged_checkpoint(
    script, monkeypatch, tmp_path
):
    """It is told as at any other time."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    changes = TOY_ARGS | dict(total_timesteps=40, keep_checkpoint=True, eval_frequency=0)
    end = script.train(tiny_args(script, tmp_path / "run", **changes))

    def killed(envs, *_):
        envs.processes[1].kill()
        raise EOFError  # of its pipe, once it has been sent what to do

    monkeypatch.setattr(script.gym.vector.AsyncVectorEnv, "set_attr", killed)
    with pytest.raises(RuntimeError, match=r"a process died: game 1 \(exit code -9\)"):
        script.train(dataclasses.replace(end.args, resume=str(end.run_dir), total_timesteps=80))


def test_a_model_plays_and_starts_another_run(script, monkeypatch, tmp_path):
    """Its weights are those of the last step; another game's are refused."""
    replace_game(monkeypatch, script, Scripted, thin=False)
    end = script.train(tiny_args(script, tmp_path / "run", target_network_frequency=90))
    model = str(end.run_dir / "model.npz")
    with np.load(model, allow_pickle=False) as file:
        about = json.loads(str(file["state"]))
        assert about["script"] == "dqn_atari_jax" and about["step"] == 600
        assert sum(file[name].size for name in file.files if name != "state") == 1_685_667
    second = tiny_args(script, tmp_path / "second", total_timesteps=40, init_from=model)
    begun = script.train(second)
    started = begun.q_network
    expected = [*jax.tree.leaves(end.q_network)] * 2
    for a, b in zip(jax.tree.leaves([started, begun.target_network]), expected, strict=True):
        assert np.array_equal(a, b)
    both = zip(*map(jax.tree.leaves, (end.q_network, end.target_network)), strict=True)
    assert any((a != b).any() for a, b in both)  # the copy before the end is of step 540
    with pytest.raises(script.BadInput, match="type --env-id BreakoutNoFrameskip-v4"):
        script.load_model(model, started, script.Args(env_id="PongNoFrameskip-v4"))
    with pytest.raises(script.BadInput, match="is of another network"):
        script.load_model(model, script.make_network(1, 6), end.args)
    original = script.evaluate

    def evaluate(q_network, *rest):
        for a, b in zip(*map(jax.tree.leaves, (q_network, end.q_network)), strict=True):
            assert np.array_equal(a, b)
        return original(q_network, *rest)

    monkeypatch.setattr(script, "evaluate", evaluate)
    figures = script.play(script.Args(evaluate=model, eval_games=3, device="cpu"))
    assert figures["games"] == 3 and figures["mean"] == 7.0


def test_evaluation_plays_its_games_each_from_its_seed_with_its_epsilon(
    script, graded, monkeypatch
):
    """As in torch; and stops once a signal came."""
    epsilons, original = [], script.act

    def act(*given):
        epsilons.append(given[2])
        return original(*given)

    monkeypatch.setattr(script, "act", act)
    network = script.make_network(1, 3)
    figures = script.evaluate(network, graded(), script.Args(eval_games=5), 20)
    assert graded.seeds == [20, 21, 22, 23, 24] and set(epsilons) == {0.05}
    assert len(graded.actions) == len(epsilons) == 3 + 4 + 5 + 6 + 3
    assert figures == dict(games=5, mean=22.0, std=pytest.approx(2**0.5), min=20.0, max=24.0)
    assert script.evaluate(network, graded(), script.Args(), 20, {15: None}) is None
    assert len(graded.actions) == 21


def test_evaluation_does_not_change_training(script, graded, monkeypatch, tmp_path):
    """The same weights with and without; its games have other seeds than training's."""
    replace_game(monkeypatch, script, Scripted, **TOY)
    plain = script.train(tiny_args(script, tmp_path / "plain"))
    training_game = script.make_env

    def make_env(args, training=True, videos=None):
        return training_game(args) if training else graded()

    monkeypatch.setattr(script, "make_env", make_env)
    evaluated = script.train(tiny_args(script, tmp_path / "both", eval_frequency=200, eval_games=3))
    for a, b in zip(*map(jax.tree.leaves, (plain.q_network, evaluated.q_network)), strict=True):
        assert np.array_equal(a, b)
    assert graded.seeds == [10_001, 10_002, 10_003] * 3


@pytest.mark.parametrize("other", [np.zeros((2, 3)), np.zeros((3, 2), np.float32)])
def test_arrays_of_another_type_or_shape_are_refused(script, other):
    """A file's names alone do not make it the same tree."""
    tree, right = [{"weight": jnp.zeros((2, 3))}], np.ones((2, 3), np.float32)
    (name,) = script.named(tree)
    assert (script.filled(tree, {name: right})[0]["weight"] == right).all()
    with pytest.raises(script.BadInput, match="other shapes or types"):
        script.filled(tree, {name: other})


def test_a_signal_without_room_for_its_checkpoint_says_so(script, monkeypatch, tmp_path):
    """As in the torch scripts: not the code of a run that may be resumed."""
    replace_game(monkeypatch, script, Scripted)
    original = script.save

    def save(path, state):
        if state["progress"]["step"]:
            os.kill(os.getpid(), signal.SIGUSR1)
            raise OSError("no room")
        original(path, state)

    monkeypatch.setattr(script, "save", save)
    args = tiny_args(script, tmp_path / "run", checkpoint_frequency=200)
    with pytest.raises(script.BadInput, match="step 200 is not kept: type --resume"):
        script.train(args)


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(script, monkeypatch, tmp_path):
    """At the first logged step after it or, where none is logged, before a checkpoint of it."""
    replace_game(monkeypatch, script, Scripted)
    original = script.td_loss

    def broken(*args):
        loss, q_values = original(*args)
        return loss * jnp.nan, q_values

    monkeypatch.setattr(script, "td_loss", broken)
    with pytest.raises(RuntimeError, match="nan at step 200"):
        script.train(tiny_args(script, tmp_path / "one", num_envs=2))
    changes = dict(checkpoint_frequency=60, log_frequency=10_000)
    with pytest.raises(RuntimeError, match="not finite at step 120"):
        script.train(tiny_args(script, tmp_path / "two", **changes))
    progress = script.load(tmp_path / "two" / "checkpoint.npz", "progress")["progress"]
    assert progress["step"] == 60
    assert not list(tmp_path.glob("*/model.npz"))


def test_catch_is_learned(script, monkeypatch, tmp_path):
    """The whole program learns, as the torch script does in as many updates."""
    replace_game(monkeypatch, script, Catch)
    changes = dict(num_envs=8, total_timesteps=7_000, buffer_size=7_000, batch_size=32)
    changes |= dict(learning_starts=1_000, exploration_steps=2_000, end_e=0.01)
    changes |= dict(train_frequency=8, target_network_frequency=200, gamma=0.9)
    changes |= dict(learning_rate=5e-4, log_frequency=1_000)
    end = script.train(tiny_args(script, tmp_path / "run", **changes))
    assert end.progress["num_updates"] == 750 and np.mean(end.returns[-100:]) > 0.8


def test_the_command_line_refuses_as_the_other_does(script, tmp_path):
    """One line, exit code 2, nothing left."""
    for flags, instead in {
        "--env-id pong": "type --env-id PongNoFrameskip-v4",
        "--device cuda": "type --device cpu",
        "--total-timesteps 1001": "type --total-timesteps 1008",
        "--resume nothing": "type the path of",
        "--device auto": "type --device cpu",  # where JAX_PLATFORMS wants what is not there
    }.items():
        command = [sys.executable, script.__file__, *flags.split()]
        if "--device" in flags and jax.default_backend() == "gpu":
            continue
        wanted = {"JAX_PLATFORMS": "cuda"} if flags == "--device auto" else {}
        answer = subprocess.run(
            command, env=os.environ | wanted, capture_output=True, text=True, cwd=tmp_path
        )
        assert answer.returncode == 2 and instead in answer.stderr, answer.stderr
        assert answer.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_optax_rmsprop_is_the_released_rule(script):
    """Three steps by hand: 0.95, centred, the constant inside the root."""
    args = script.Args(optimizer="rmsprop", learning_rate=0.1, batch_size=8)
    optimizer = script.make_optimizer(args)
    w, g, g2 = 1.0, 0.0, 0.0
    ours, state = jnp.array(1.0), optimizer.init(jnp.array(1.0))
    step = functools.partial(optimizer.update)
    for slope in (0.01, -0.02, 0.005):
        g, g2 = 0.95 * g + 0.05 * slope, 0.95 * g2 + 0.05 * slope**2
        w -= 0.1 * slope / np.sqrt(g2 - g**2 + 0.01 / 8**2)
        change, state = step(jnp.array(slope), state)
        ours = optax.apply_updates(ours, change)
        assert float(ours) == pytest.approx(w, rel=1e-5)
