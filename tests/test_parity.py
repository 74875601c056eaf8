"""The fast way equals the plain way: captured and eager, batched and single, processes and none."""

import contextlib

import numpy as np
import pytest
import torch
from toy import Scripted, only, replace_game, tensors_in, tiny_args

pytestmark = only("dqn_atari")  # what it tests stands in all scripts in the same words

gpu = pytest.mark.gpu


def learner(script, device, transitions, **changes):
    """Networks, optimizer and a replay that holds noise, ends and cuts of as many transitions."""
    args = script.Args(buffer_size=2_000, num_envs=2, **changes)
    torch.manual_seed(0)
    bf16 = script.choose_bf16(args, device)
    q_network, target_network = (script.QNetwork(4, bf16).to(device) for _ in range(2))
    optimizer = script.make_optimizer(q_network, args)
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(2, 4, 84, 84), dtype=np.uint8)
    rb = script.ReplayBuffer(args, script.to_device(frames, device))
    fill(script, rb, rng, transitions, device)
    return q_network, target_network, optimizer, rb, args


def fill(script, rb, rng, transitions, device):
    for _ in range(transitions // 2):
        frames = rng.integers(256, size=(2, 4, 84, 84), dtype=np.uint8)
        ends, cuts = rng.random((2, 2)) < 0.05
        actions, rewards = rng.integers(4, size=2), rng.integers(-1, 2, size=2).astype(float)
        rb.add(actions, rewards, ends, cuts, script.to_device(frames, device))


def tensors(script, learner):
    return {name: x.clone() for name, x in tensors_in(learner[:3]).items()}


# --- One forward pass for all games ---------------------------------------------------------------
@pytest.mark.parametrize("bf16, tolerance", [(False, 1e-6), (True, 0.01)])
def test_a_batch_of_8_is_8_batches_of_1(script, bf16, tolerance):
    """Up to the last bits, because sums are taken in another order."""
    torch.manual_seed(0)
    q_network = script.QNetwork(6, bf16)
    obs = torch.randint(256, (8, 4, 84, 84), dtype=torch.uint8)
    with torch.no_grad():
        together = q_network(obs)
        alone = torch.cat([q_network(one[None]) for one in obs])
    assert (together - alone).abs().max() <= tolerance * together.abs().max()


def test_games_in_processes_are_the_games_in_this_process_bit_for_bit(script):
    """3 games of Breakout, 400 steps, with lost lives, ends and the starts that follow."""
    args = script.Args(env_id="BreakoutNoFrameskip-v4", num_envs=3)
    rng, ends = np.random.default_rng(0), 0
    envs = script.make_envs(args)
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.push(lambda *_: script.close_envs(envs))
        here = [script.make_env(args) for _ in range(3)]
        there, _ = envs.reset(seed=5)
        for i, env in enumerate(here):
            assert (env.reset(seed=5 + i)[0] == there[i]).all()
        for _ in range(400):
            actions = rng.integers(4, size=3)
            there, rewards, terminations, truncations, infos = envs.step(actions)
            for i, env in enumerate(here):
                obs, reward, terminated, truncated, info = env.step(actions[i])
                assert (reward, terminated, truncated) == (
                    rewards[i],
                    terminations[i],
                    truncations[i],
                )
                if terminated:
                    ends += 1
                    assert info["episode"]["r"] == infos["final_info"]["episode"]["r"][i]
                    obs, info = env.reset()
                assert (obs == there[i]).all() and info["life_lost"] == infos["life_lost"][i]
    assert ends >= 3


# --- What a CUDA graph demands, as far as a CPU can tell ------------------------------------------
def test_a_sample_reads_the_size_of_the_replay_from_the_device(script):
    """Pitfall of capture: a Python number would be frozen. `newest` alone decides, `t` does not."""
    *_, rb, _ = learner(script, torch.device("cpu"), 1_000)
    before = rb.generator.get_state()
    first = rb.sample()
    rb.generator.set_state(before)
    rb.t = 3
    assert all(torch.equal(a, b) for a, b in zip(first, rb.sample(), strict=True))
    rb.generator.set_state(before)
    rb.newest.fill_(3)
    assert not torch.equal(first[0], rb.sample()[0])


def test_every_valid_transition_can_be_drawn_and_no_other(script):
    """Of a ring that is full: the rows beside the write head are left out."""
    *_, rb, _ = learner(script, torch.device("cpu"), 2_100)
    rb.batch_size = 5_000
    rb.rewards.copy_(torch.arange(2_000.0).reshape(1_000, 2))  # each tells its place
    drawn = set()
    for _ in range(8):
        drawn |= set(rb.sample()[2].int().tolist())
    head = rb.t % len(rb.ages)
    lost = {2 * ((head + k) % len(rb.ages)) + game for k in range(4) for game in (0, 1)}
    cut = set(torch.nonzero(rb.truncations.flatten()).flatten().tolist())
    assert drawn == set(range(2_000)) - lost - cut


@pytest.mark.parametrize("num_envs", [1, 800])
def test_indices_are_uniform_over_a_million(script, num_envs):
    """Even and odd places, and 64 equal parts; a float32 draw of 2**24 values would fail with one
    game and 30 bits with 800, where the draws are of 0.75 times as many as those can tell."""
    rb = script.ReplayBuffer.__new__(script.ReplayBuffer)
    rb.batch_size, rb.newest = 4_096, torch.tensor(999_999)
    rb.generator = torch.Generator().manual_seed(1)
    places = torch.arange(1_000_000)[:, None].expand(1_000_000, num_envs)
    rb.frames = torch.zeros(1, 1, 1, 4, dtype=torch.uint8).expand(1_000_000, num_envs, 1, 4)
    rb.ages, rb.actions, rb.rewards = places, places, places
    rb.terminations, rb.truncations = places, torch.zeros(1).expand(1_000_000, num_envs)
    drawn = torch.cat([rb.sample()[1] for _ in range(100 if num_envs == 1 else 25)])
    for parts in (2, 64):
        for counts in (drawn % parts, drawn * parts // 1_000_000):
            counts = torch.bincount(counts, minlength=parts).double()
            expected = len(drawn) / parts
            assert ((counts - expected) ** 2 / expected).sum() < parts + 6 * (2 * parts) ** 0.5


def test_the_optimizer_has_its_state_before_its_first_step(script):
    """A capture would record its making and make it anew at every replay."""
    for optimizer in ("adam", "rmsprop"):
        q_network = script.QNetwork(4)
        before = [p.clone() for p in q_network.parameters()]
        made = script.make_optimizer(q_network, script.Args(optimizer=optimizer))
        assert len(made.state) == 10
        assert not any(x.any() for moments in made.state.values() for x in moments.values())
        assert all(torch.equal(a, b) for a, b in zip(before, q_network.parameters(), strict=True))


class NoGraph:
    """Stands for what torch.cuda has, on a CPU."""

    def __init__(self, *args, **kwargs):
        pass

    __enter__ = __exit__ = register_generator_state = wait_stream = __init__


@pytest.mark.parametrize("changes", [{}, dict(optimizer="rmsprop")])
def test_rehearsals_of_a_capture_move_doubles(script, monkeypatch, changes):
    """Three on doubles that learn, then the learner's own; before it nothing of the learner has
    changed, after it the draws are those of the start."""
    for name in ("CUDAGraph", "Stream", "stream", "graph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, NoGraph)
    these = learner(script, torch.device("cpu"), 200, **changes)
    start, draws = tensors(script, these), these[3].generator.get_state()
    calls, update = [], script.update

    def note(*given):
        unchanged = all(torch.equal(x, start[name]) for name, x in tensors(script, these).items())
        group = given[2].param_groups[0]["params"]
        its_own = all(a is b for a, b in zip(group, given[0].parameters(), strict=True))
        calls.append((given[0] is these[0], unchanged, its_own))
        before = [x.detach().clone() for x in given[0].parameters()]
        loss = update(*given)
        moved = [not torch.equal(a, b) for a, b in zip(given[0].parameters(), before, strict=True)]
        assert any(moved)
        return loss

    monkeypatch.setattr(script, "update", note)
    script.CapturedUpdate(these[:4], these[4])
    assert calls == [(False, True, True)] * 3 + [(True, True, True)]
    assert torch.equal(these[3].generator.get_state(), draws)


# --- On CUDA --------------------------------------------------------------------------------------
@gpu
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "float32"},
        {"precision": "float32", "optimizer": "rmsprop", "loss": "clipped"},
        {"precision": "tf32"},
        {"precision": "bf16"},
    ],
)
def test_captured_updates_equal_eager_ones(script, monkeypatch, changes):
    """Captured at 1,000 transitions, filled past the wrap on the way, 50 updates each."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    device, ends = torch.device("cuda"), []
    for captured in (False, True):
        these = learner(script, device, 1_000, **changes)
        start, draws = tensors(script, these), these[3].generator.get_state()
        run = script.CapturedUpdate(these[:4], these[4]) if captured else None
        for name, x in tensors(script, these).items():
            assert torch.equal(x, start[name]), name  # the rehearsals left nothing
        assert torch.equal(these[3].generator.get_state(), draws)
        rng, losses = np.random.default_rng(1), []
        for i in range(50):
            loss, q_values = run() if captured else script.update(*these)
            losses.append((loss.item(), q_values.item()))
            if i == 25:
                fill(script, these[3], rng, 1_500, device)
        ends.append((tensors(script, these), losses, these[3].generator.get_state()))
    assert ends[0][1] == ends[1][1] and torch.equal(ends[0][2], ends[1][2])
    for name, x in ends[0][0].items():
        assert torch.equal(x, ends[1][0][name]), name


@gpu
def test_every_valid_index_is_reachable_after_a_capture(script):
    """The graph was recorded when the ring held 1,000 transitions of 2,000."""
    device = torch.device("cuda")
    these = learner(script, device, 1_000)
    rb = these[3]
    graph, outputs = torch.cuda.CUDAGraph(), None
    graph.register_generator_state(rb.generator)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        rb.sample()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        outputs = rb.sample()
    fill(script, rb, np.random.default_rng(1), 1_100, device)
    rb.rewards.copy_(torch.arange(2_000.0, device=device).reshape(1_000, 2))
    drawn = set()
    for _ in range(2_000):
        graph.replay()
        drawn |= set(outputs[2].int().tolist())
    head = rb.t % len(rb.ages)
    lost = {2 * ((head + k) % len(rb.ages)) + game for k in range(4) for game in (0, 1)}
    cut = set(torch.nonzero(rb.truncations.flatten()).flatten().tolist())
    assert drawn == set(range(2_000)) - lost - cut


@gpu
def test_updates_and_storing_do_not_wait_for_the_device(script):
    """Nor does the target copy; a synchronisation that torch knows of raises."""
    device = torch.device("cuda")
    these = learner(script, device, 1_000)
    run = script.CapturedUpdate(these[:4], these[4])
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(20):
            run()
        these[1].load_state_dict(these[0].state_dict())
        fill(script, these[3], np.random.default_rng(1), 100, device)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
def test_a_vector_step_waits_for_the_device_once(script, monkeypatch, tmp_path):
    """For the actions; counted by the profiler over a run without log lines."""
    replace_game(monkeypatch, script, Scripted, lengths=(10_000,))
    changes = dict(device="cuda", num_envs=2, log_frequency=10_000, checkpoint_frequency=0)
    args = tiny_args(script, tmp_path / "run", **changes, end_e=0.0, start_e=0.0)
    counts, original = [], script.linear_schedule
    from torch.profiler import ProfilerActivity, profile

    profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

    def schedule(args, step):
        if step == 400:
            profiler.start()
        if step == 500:
            profiler.stop()
            found = {e.key: e.count for e in profiler.key_averages()}
            waits = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMalloc", "cudaHostAlloc")
            counts.append([found.get(name, 0) for name in waits])
        return original(args, step)

    monkeypatch.setattr(script, "linear_schedule", schedule)
    script.train(args)
    assert counts == [[50, 0, 0, 0]]  # 100 agent steps of 2 games


@gpu
def test_one_seed_is_one_run_on_cuda_too_and_resume_is_exact(script, monkeypatch, tmp_path):
    """With cuDNN's deterministic kernels, the default."""
    from test_resume import TOY, TOY_ARGS, assert_equal_runs, resumed, stopped_at

    replace_game(monkeypatch, script, Scripted, **TOY)
    settings = dict(TOY_ARGS, device="cuda")
    whole = script.train(tiny_args(script, tmp_path / "whole", **settings))
    again = script.train(tiny_args(script, tmp_path / "again", **settings))
    assert_equal_runs(whole.run_dir, again.run_dir)
    with monkeypatch.context() as patch:
        stopped_at(script, patch, 298)
        half = script.train(tiny_args(script, tmp_path / "half", **settings))
    assert half.step == 300
    assert_equal_runs(whole.run_dir, resumed(script, half.run_dir).run_dir)
