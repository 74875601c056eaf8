"""What the network, the loss, the optimizers and the schedules promise, against plain numpy."""

import copy
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn
from scipy import stats
from toy import only

pytestmark = only("dqn_atari")  # what it tests stands in all scripts in the same words


def random_frames(count, seed=0):
    return torch.randint(
        256, (count, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def layers(q_network):
    """The layers that hold weights, from input to output."""
    return [x for x in q_network.modules() if isinstance(x, nn.Conv2d | nn.Linear)]


class Table(nn.Module):
    """Q-values from a table: observation i has row i. Counts its forward passes."""

    def __init__(self, rows):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(rows))
        self.num_actions, self.passes = self.values.shape[1], 0

    def forward(self, obs):
        self.passes += 1
        return self.values[obs]


def table_batch(actions, rewards, terminations):
    """Transitions from state i to state i of the next table."""
    states = torch.arange(len(actions))
    rewards, terminations = torch.tensor(rewards), torch.tensor(terminations)
    return states, torch.tensor(actions), rewards, terminations, states


# --- Network --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("num_actions", "parameters"), [(4, 1_686_180), (6, 1_687_206)])
def test_parameter_count(script, num_actions, parameters):
    """Pitfall 41: by hand 8,224 + 32,832 + 36,928 + 1,606,144 + 513 per action."""
    q_network = script.QNetwork(num_actions)
    assert sum(p.numel() for p in q_network.parameters()) == parameters
    by_hand = [4 * 64 * 32 + 32, 32 * 16 * 64 + 64, 64 * 9 * 64 + 64, 3136 * 512 + 512]
    assert sum(by_hand) + 513 * num_actions == parameters


def test_every_intermediate_shape(script):
    """Pitfall 41: no padding, 84 to 20 to 9 to 7, and 3,136 numbers after the convolutions."""
    q_network, shapes = script.QNetwork(4), []
    for layer in layers(q_network):
        layer.register_forward_hook(lambda _, x, y: shapes.append((*x[0].shape[1:], *y.shape[1:])))
    assert q_network(random_frames(2)).shape == (2, 4)
    assert shapes[:2] == [(4, 84, 84, 32, 20, 20), (32, 20, 20, 64, 9, 9)]
    assert shapes[2:] == [(64, 9, 9, 64, 7, 7), (3136, 512), (512, 4)]


def test_rectifiers_stand_after_every_layer_but_the_last(script):
    """Equality with the network of the paper written out in float64 numpy."""
    torch.manual_seed(0)
    q_network, obs = script.QNetwork(4), random_frames(2)
    x = obs.numpy().astype(np.float64) / 255
    for layer, stride in zip(layers(q_network), (4, 2, 1, None, None), strict=True):
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        if stride:
            size = weight.shape[2]
            patches = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
            x = np.einsum("bchwij,ocij->bohw", patches[:, :, ::stride, ::stride], weight)
            x += bias[:, None, None]
        else:
            x = x.reshape(len(x), -1) @ weight.T + bias
        x = np.maximum(x, 0) if weight.shape[0] != 4 else x
    assert (x < 0).any()
    np.testing.assert_allclose(q_network(obs).detach(), x, rtol=0, atol=1e-6)


def test_a_white_frame_enters_the_first_convolution_as_one(script):
    """Pitfall 8: uint8 in, divided by 255 once."""
    q_network, inputs = script.QNetwork(4), []
    layers(q_network)[0].register_forward_hook(lambda _, x, y: inputs.append(x[0]))
    obs = torch.zeros((1, 4, 84, 84), dtype=torch.uint8)
    obs[0, 1], obs[0, 2] = 255, 51
    q_network(obs)
    assert inputs[0].dtype == torch.float32
    assert [plane.unique().tolist() for plane in inputs[0][0]] == [[0], [1], [np.float32(0.2)], [0]]
    assert obs[0, 1, 0, 0] == 255


def test_in_bf16_a_pixel_enters_as_its_float32_value_rounded_once(script):
    """All 256 of them; and both formats in memory by point, channels side by side."""
    inputs, obs = [], torch.arange(4 * 84 * 84).reshape(1, 4, 84, 84).remainder(256).byte()
    for bf16 in (False, True):
        q_network = script.QNetwork(4, bf16)
        layers(q_network)[0].register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
        q_network(obs)
    expected = torch.from_numpy(obs.numpy() / np.float32(255))
    assert inputs[0].dtype == torch.float32 and torch.equal(inputs[0], expected)
    assert inputs[1].dtype == torch.bfloat16 and torch.equal(inputs[1], expected.bfloat16())
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in inputs)


def test_initial_weights_and_biases_are_uniform_within_one_over_root_fan_in(script):
    """Kolmogorov-Smirnov over 12 networks, for each of the 10 weights and biases."""
    torch.manual_seed(0)
    networks = [layers(script.QNetwork(4)) for _ in range(12)]
    for same_layer, fan_in in zip(
        zip(*networks, strict=True), (256, 512, 576, 3136, 512), strict=True
    ):
        bound = fan_in**-0.5
        for name in ("weight", "bias"):
            values = [getattr(layer, name).detach().flatten() for layer in same_layer]
            values = torch.cat(values)[:200_000].double().numpy()
            assert np.abs(values).max() <= bound * (1 + 1e-6)
            assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "precision, has_it, bf16",
    [(None, True, True), (None, False, False), ("float32", True, False), ("bf16", False, True)],
)
def test_bf16_is_the_default_where_the_processor_has_it(
    script, monkeypatch, precision, has_it, bf16
):
    """Without it bfloat16 is emulated and slow; on CUDA it is asked for. None: the default."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
    args = script.Args(precision=precision) if precision else script.Args()
    assert script.choose_bf16(args, torch.device("cpu")) == bf16
    assert script.choose_bf16(args, torch.device("cuda")) == (precision == "bf16")


@pytest.mark.parametrize("precision, tf32", [("auto", False), ("float32", False), ("tf32", True)])
def test_tf32_is_off_unless_asked_for(script, precision, tf32):
    """cuDNN has it on by default."""
    script.choose_bf16(script.Args(precision=precision), torch.device("cuda"))
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32


def test_float32_is_float32_from_end_to_end(script):
    """Every layer's input and output."""
    q_network, dtypes = script.QNetwork(4), set()
    for layer in layers(q_network):
        layer.register_forward_hook(lambda _, x, y: dtypes.update((x[0].dtype, y.dtype)))
    q_network(random_frames(1))
    assert (q_network.bf16, dtypes) == (False, {torch.float32})


def test_bf16_multiplies_in_bfloat16_and_keeps_the_rest_in_float32(script):
    """The last layer, weights and gradients are float32, and near those of the exact network."""
    torch.manual_seed(0)
    exact = script.QNetwork(4)
    q_network, dtypes, obs = script.QNetwork(4, bf16=True), [], random_frames(8)
    q_network.load_state_dict(exact.state_dict())
    for layer in layers(q_network):
        layer.register_forward_hook(lambda _, x, y: dtypes.append(y.dtype))
    q_values, expected = q_network(obs), exact(obs)
    (q_values**2).sum().backward()
    (expected**2).sum().backward()
    assert set(dtypes[:-1]) == {torch.bfloat16} and dtypes[-1] == torch.float32
    assert (q_values != q_values.bfloat16()).all()  # values that are close stay apart
    assert {x.dtype for p in q_network.parameters() for x in (p, p.grad)} == {torch.float32}
    assert 0 < (q_values - expected).abs().max() < 0.02 * expected.abs().max()
    for p, q in zip(q_network.parameters(), exact.parameters(), strict=True):
        assert (p.grad - q.grad).norm() < 0.1 * q.grad.norm()


# --- Loss -----------------------------------------------------------------------------------------
def test_td_target_by_hand(script):
    """Pitfalls 16, 32, 36, 37: 3 transitions; the target network's maximum, or the reward."""
    q_network = Table([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    target_network = Table([[10.0, -20.0], [-2.0, -1.0], [70.0, 80.0]])
    batch = table_batch([1, 0, 0], [1.0, 0.0, -1.0], [0.0, 0.0, 1.0])
    loss, q_values = script.td_loss(q_network, target_network, batch, script.Args(gamma=0.5))
    assert q_values.tolist() == [2, 3, 5]
    errors = np.array([2 - (1 + 0.5 * 10), 3 - 0.5 * -1, 5 - -1])
    assert loss.item() == pytest.approx((errors**2).mean() / 2, rel=1e-6)
    loss.backward()
    expected = np.array([[0, errors[0]], [errors[1], 0], [errors[2], 0]]) / 3
    np.testing.assert_allclose(q_network.values.grad, expected, rtol=1e-6)


def test_a_terminal_with_reward_one_has_the_target_one(script):
    """Pitfalls 17, 18: whatever the target network says, and gamma is not applied to the reward."""
    target_network = Table([[50.0, 60.0]])
    for reward in (1.0, -1.0, 0.0):
        q_network = Table([[0.0, reward]])
        batch = table_batch([1], [reward], [1.0])
        assert script.td_loss(q_network, target_network, batch, script.Args())[0].item() == 0


@pytest.mark.parametrize(
    ("loss", "errors", "slopes"),
    [
        ("clipped", [3.0, -3.0, 0.5, -0.25], [1.0, -1.0, 0.5, -0.25]),
        ("squared", [3.0, -3.0, 0.5, -0.25], [3.0, -3.0, 0.5, -0.25]),
    ],
)
def test_the_slope_at_a_chosen_action_is_its_error_over_the_batch_size(
    script, loss, errors, slopes
):
    """Pitfalls 33, 34: clipped to +-1 or as it is; targets stand `error` above Q(s, a)."""
    q_network = Table([[7.0, 0.0]] * 4)
    batch = table_batch([1] * 4, errors, [1.0] * 4)
    script.td_loss(q_network, Table([[0.0, 0.0]] * 4), batch, script.Args(loss=loss))[0].backward()
    assert q_network.values.grad.tolist() == [[0, -slope / 4] for slope in slopes]


@pytest.mark.parametrize("size", [1, 32])
def test_the_loss_is_a_mean_over_the_batch(script, size):
    """Pitfall 34: errors of 0.5 have slopes of 0.5 / 32 in a batch of 32, in both losses."""
    for loss in ("clipped", "squared"):
        q_network = Table([[0.0, 0.0]] * size)
        batch = table_batch([0] * size, [0.5] * size, [1.0] * size)
        args = script.Args(loss=loss)
        mean, _ = script.td_loss(q_network, Table([[0.0, 0.0]] * size), batch, args)
        mean.backward()
        assert mean.item() == 0.125
        assert q_network.values.grad[:, 0].tolist() == [-0.5 / size] * size


def test_the_chosen_values_have_the_shape_of_the_batch(script):
    """Pitfall 37: (B,), not (B, 1) that a target (B,) would spread to (B, B)."""
    q_network = Table([[1.0, 2.0], [3.0, 4.0]])
    batch = table_batch([0, 1], [1.0, 4.0], [1.0, 1.0])
    loss, q_values = script.td_loss(q_network, q_network, batch, script.Args())
    assert q_values.shape == (2,)
    assert loss.item() == 0  # spread to (B, B) it would be 2.25


def test_the_target_network_gets_no_gradient(script):
    """Pitfalls 32, 36: its gradients stay None, also when it is the learned network itself."""
    q_network, target_network = Table([[1.0, 2.0]]), Table([[3.0, 4.0]])
    batch = table_batch([0], [1.0], [0.0])
    script.td_loss(q_network, target_network, batch, script.Args())[0].backward()
    assert target_network.values.grad is None
    assert (q_network.passes, target_network.passes) == (1, 1)

    shared = Table([[1.0, 2.0]])
    script.td_loss(shared, shared, batch, script.Args(gamma=0.5))[0].backward()
    assert shared.values.grad.tolist() == [[1 - (1 + 0.5 * 2), 0]]


@pytest.mark.parametrize("loss", ["clipped", "squared"])
def test_the_gradient_of_a_linear_network_agrees_with_finite_differences(script, loss):
    """Pitfall 36: in float64, with the target held still as in Q-learning."""
    torch.manual_seed(0)
    q_network = nn.Linear(3, 2).double()
    obs, next_obs = torch.randn(2, 16, 3, dtype=torch.float64)
    rewards, terminations = torch.randn(16).double() * 2, (torch.arange(16) % 4 == 0).double()
    batch = obs, torch.arange(16) % 2, rewards, terminations, next_obs
    still, args = copy.deepcopy(q_network), script.Args(loss=loss)
    script.td_loss(q_network, q_network, batch, args)[0].backward()
    for p in q_network.parameters():
        values, differences = p.data.view(-1), []
        for i in range(len(values)):
            both = []
            for step in (1e-6, -2e-6):
                values[i] += step
                both.append(script.td_loss(q_network, still, batch, args)[0].item())
            values[i] += 1e-6
            differences.append((both[0] - both[1]) / 2e-6)
        np.testing.assert_allclose(p.grad.view(-1), differences, rtol=1e-6, atol=1e-8)


# --- Update ---------------------------------------------------------------------------------------
def filled_replay(script, args, steps=60):
    """Random frames, actions, rewards and some ends."""
    rng, obs = np.random.default_rng(0), random_frames(1)
    rb = script.ReplayBuffer(args, obs)
    for step in range(steps):
        ends, never = np.array([step % 9 == 8]), np.array([False])
        reward = rng.integers(-1, 2, 1).astype(np.float32)
        rb.add(rng.integers(4, size=1), reward, ends, never, random_frames(1, step + 1))
    return rb


@pytest.fixture
def learner(script):
    """Both networks, a filled replay and an optimizer of steps that are easy to compute."""
    torch.manual_seed(0)
    args = script.Args(buffer_size=100, num_envs=1, batch_size=8)
    q_network, target_network = script.QNetwork(4), script.QNetwork(4)
    optimizer = torch.optim.SGD(q_network.parameters(), lr=0.5)
    rb = filled_replay(script, args)
    return SimpleNamespace(**locals())


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


def test_an_update_is_one_gradient_step_on_one_sampled_batch(script, learner):
    """Pitfalls 32, 34: by gradient descent, twice, so that old gradients do not add up."""
    target_before = weights(learner.target_network)
    for _ in range(2):
        twin, state = copy.deepcopy(learner.q_network), learner.rb.generator.get_state()
        loss, q_mean = script.update(
            learner.q_network, learner.target_network, learner.optimizer, learner.rb, learner.args
        )
        after = learner.rb.generator.get_state()
        learner.rb.generator.set_state(state)
        batch = learner.rb.sample()
        assert torch.equal(learner.rb.generator.get_state(), after)
        expected, q_values = script.td_loss(twin, learner.target_network, batch, learner.args)
        assert (loss.item(), q_mean.item()) == (expected.item(), q_values.mean().item())
        assert not loss.requires_grad and not q_mean.requires_grad
        gradients = torch.autograd.grad(expected, list(twin.parameters()))
        new = learner.q_network.parameters()
        for p, old, gradient in zip(new, twin.parameters(), gradients, strict=True):
            torch.testing.assert_close(p, old - 0.5 * gradient, rtol=0, atol=1e-6)
            assert not torch.equal(p, old)
    target_after = weights(learner.target_network)
    assert all(map(torch.equal, target_before, target_after))
    assert all(p.grad is None for p in learner.target_network.parameters())


def test_an_update_makes_one_optimizer_step(script, learner):
    """Pitfall 31: counted by Adam itself."""
    optimizer = torch.optim.Adam(learner.q_network.parameters())
    for updates in (1, 2, 3):
        script.update(
            learner.q_network, learner.target_network, optimizer, learner.rb, learner.args
        )
        assert {int(state["step"]) for state in optimizer.state.values()} == {updates}


def test_a_target_copy_is_bitwise_equal_and_shares_no_storage(script, learner):
    """Pitfall 32: equal after the copy, different after one update."""
    learner.target_network.load_state_dict(learner.q_network.state_dict())
    pairs = list(
        zip(learner.q_network.parameters(), learner.target_network.parameters(), strict=True)
    )
    assert all(torch.equal(p, q) and p.data_ptr() != q.data_ptr() for p, q in pairs)
    copied = weights(learner.target_network)
    script.update(
        learner.q_network, learner.target_network, learner.optimizer, learner.rb, learner.args
    )
    assert not any(torch.equal(p, q) for p, q in pairs)
    assert all(map(torch.equal, copied, weights(learner.target_network)))


# --- Optimizers -----------------------------------------------------------------------------------
class LuaRMSProp:
    """DeepMind's rule in float64 numpy, for ascent along a summed `delta`."""

    def __init__(self, w, lr):
        self.w, self.lr, self.g, self.n = w, lr, 0.0, 0.0

    def step(self, delta):
        self.g = 0.95 * self.g + 0.05 * delta
        self.n = 0.95 * self.n + 0.05 * delta**2
        self.w = self.w + self.lr * delta / np.sqrt(self.n - self.g**2 + 0.01)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_rmsprop_of_a_mean_loss_is_the_released_rule_on_summed_gradients(
    script, dtype, rtol, scale
):
    """Pitfalls 34, 35: a regression on 10 batches of 32; gradients far above and below 0.01."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(10, 32, 5)), scale * rng.normal(size=(10, 32))
    w = nn.Parameter(torch.zeros(5, dtype=dtype))
    lr = 0.01 * scale
    optimizer, lua = script.RMSProp([w], lr, 0.01 / 32**2), LuaRMSProp(np.zeros(5), lr)
    for x, y in zip(inputs, targets, strict=True):
        error = torch.tensor(y, dtype=dtype) - torch.tensor(x, dtype=dtype) @ w
        optimizer.zero_grad()
        (0.5 * error**2).mean().backward()
        optimizer.step()
        lua.step((y - x @ lua.w) @ x)
    largest = np.abs(lua.w).max()
    np.testing.assert_allclose(w.detach(), lua.w, rtol=rtol, atol=rtol * largest)
    assert largest > lr


def test_rmsprop_traces_three_steps_as_by_hand(script):
    """Pitfall 35: gradients 1, 2, -1; g is 0.05, 0.1475, 0.090125; g2 is 0.05, 0.2475, 0.285125."""
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer, trace = script.RMSProp([w], lr=0.1, eps=0.01), []
    for gradient in (1.0, 2.0, -1.0):
        before = w.item()
        w.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        trace.append(w.item() - before)
    # variances 0.0475, 0.22574375, 0.277002484375, each plus 0.01 under the root
    by_hand = [-0.1 / 0.0575**0.5, -0.2 / 0.23574375**0.5, 0.1 / 0.287002484375**0.5]
    assert trace == pytest.approx(by_hand, rel=1e-12)
    assert trace == pytest.approx([-0.41702883, -0.41191718, 0.18666254], rel=1e-6)


def test_torch_rmsprop_is_another_rule(script):
    """Pitfall 35: at a vanishing variance a tenth of torch's step, 0.1 instead of 0.01 below it."""
    steps = []
    for rule in ("ours", "torch"):
        w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = script.RMSProp([w], 1.0, 0.01)
        if rule == "torch":
            optimizer = torch.optim.RMSprop([w], 1.0, alpha=0.95, eps=0.01, centered=True)
        w.grad = torch.full_like(w, 1e-6)
        optimizer.step()
        steps.append(w.item())
    assert steps[0] == pytest.approx(-1e-5, rel=1e-3)
    assert steps[1] / steps[0] == pytest.approx(10, rel=1e-3)


def test_rmsprop_continues_from_its_state_dict_bit_for_bit(script):
    """5 steps, a copy through a file, 5 more: the copy stays equal; a fresh one does not."""
    rng = np.random.default_rng(0)
    gradients = torch.tensor(rng.normal(size=(10, 2, 3)), dtype=torch.float32)

    def run(optimizer, w, gradients):
        for gradient in gradients:
            w.grad = gradient.clone()
            optimizer.step()

    w = nn.Parameter(torch.ones(2, 3))
    optimizer, file = script.RMSProp([w], 0.01, 0.01 / 32**2), io.BytesIO()
    run(optimizer, w, gradients[:5])
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copied, fresh = (nn.Parameter(w.detach().clone()) for _ in range(2))
    other = script.RMSProp([copied], 99.0, 0.01)
    other.load_state_dict(torch.load(file, weights_only=True))
    run(optimizer, w, gradients[5:])
    run(other, copied, gradients[5:])
    run(script.RMSProp([fresh], 0.01, 0.01 / 32**2), fresh, gradients[5:])
    assert torch.equal(w, copied) and not torch.equal(w, fresh)


@pytest.fixture(params=["adam", "rmsprop"])
def start_of_training(script, request, tmp_path):
    """The state of a training run before its first update."""
    small = {"total_timesteps": 2, "buffer_size": 10, "learning_starts": 10, "batch_size": 2}
    where = {"run_dir": str(tmp_path / "run"), "device": "cpu", "precision": "float32"}
    return script.train(script.Args(**small, **where, num_envs=1, optimizer=request.param))


def test_training_moves_its_weights_by_the_promised_rule(script, start_of_training):
    """Pitfall 35: 5 updates with Adam as in its paper, or RMSProp on sums, in float64 numpy."""
    run, rb = start_of_training, filled_replay(script, start_of_training.args, 20)
    adam, parameters = run.args.optimizer == "adam", list(run.q_network.parameters())
    assert isinstance(run.optimizer, script.RMSProp) is not adam
    moments = [x for of_one in run.optimizer.state.values() for x in of_one.values()]
    assert len(moments) == (30 if adam else 20) and not any(x.any() for x in moments)
    before = [p.detach().double().numpy() for p in parameters]
    moved, first, second = [0.0] * 10, [0.0] * 10, [0.0] * 10
    for step in range(1, 6):
        script.update(run.q_network, run.target_network, run.optimizer, rb, run.args)
        for i, p in enumerate(parameters):
            d = p.grad.double().numpy()
            if adam:
                first[i] = 0.9 * first[i] + 0.1 * d
                second[i] = 0.999 * second[i] + 0.001 * d**2
                root = np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8
                moved[i] = moved[i] - 1e-4 * first[i] / (1 - 0.9**step) / root
            else:
                d = run.args.batch_size * d
                first[i] = 0.95 * first[i] + 0.05 * d
                second[i] = 0.95 * second[i] + 0.05 * d**2
                moved[i] = moved[i] - 1e-4 * d / np.sqrt(second[i] - first[i] ** 2 + 0.01)
    for p, old, expected in zip(parameters, before, moved, strict=True):
        error = np.linalg.norm(p.detach().double().numpy() - old - expected)
        assert error < 1e-3 * np.linalg.norm(expected)


def test_training_starts_with_an_equal_target_network(start_of_training):
    """Pitfall 32: bitwise equal at step 0, no shared storage."""
    networks = start_of_training.q_network, start_of_training.target_network
    pairs = list(zip(*(network.parameters() for network in networks), strict=True))
    assert all(torch.equal(p, q) and p.data_ptr() != q.data_ptr() for p, q in pairs)
    assert len(pairs) == 10


# --- Schedules ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("step", "epsilon"),
    [(0, 1), (50_000, 1), (550_000, 0.55), (1_050_000, 0.1), (5_000_000, 0.1)],
)
def test_epsilon_of_the_nature_setting(script, step, epsilon):
    """Pitfall 29: agent steps; it stays until learning starts, then falls for a million."""
    args = script.Args(learning_starts=50_000, end_e=0.1)
    assert script.linear_schedule(args, step) == pytest.approx(epsilon, rel=1e-12)


def test_epsilon_falls_strictly_and_only_between_its_ends(script):
    """Pitfalls 29, 45: floats, each below the last, for 1,000,000 steps from learning_starts on."""
    args = script.Args(learning_starts=50_000, end_e=0.1)
    falling = [script.linear_schedule(args, step) for step in range(50_000, 1_050_001, 50)]
    assert all(isinstance(epsilon, float) for epsilon in falling)
    assert (np.diff(falling) < 0).all() and len(falling) == 20_001
    assert {script.linear_schedule(args, step) for step in range(0, 50_001, 100)} == {1.0}
    steps = range(1_050_000, 3_000_000, 997)
    assert {script.linear_schedule(args, step) for step in steps} == {falling[-1]}


def test_epsilon_is_constant_between_equal_ends(script):
    """Pitfall 29."""
    args = script.Args(start_e=0.05, end_e=0.05)
    assert {script.linear_schedule(args, step) for step in range(0, 3_000_000, 10_007)} == {0.05}


def test_epsilon_does_not_depend_on_the_length_of_the_run(script):
    """Pitfall 29: a short run explores as the start of a long one."""
    short, long = script.Args(total_timesteps=80), script.Args(total_timesteps=50_000_000)
    for step in range(0, 2_000_000, 9_973):
        assert script.linear_schedule(short, step) == script.linear_schedule(long, step)


@pytest.mark.parametrize("period", [1, 3, 4, 7, 32, 100, 1_000])
def test_crossings_counts_multiples_for_any_number_of_games(script, period):
    """Pitfall 31: brute force for 1 to 64 games; over a run the sum is exact."""
    for n in range(1, 65):
        steps = range(0, 20 * n, n)
        counts = [script.crossings(step, n, period) for step in steps]
        multiples = [sum(x % period == 0 for x in range(s + 1, s + n + 1)) for s in steps]
        assert counts == multiples
        assert sum(counts) == 20 * n // period
        for step in (period - 1, period, 80_000, 999_999):
            brute_force = sum(x % period == 0 for x in range(step + 1, step + n + 1))
            assert script.crossings(step, n, period) == brute_force
        assert script.crossings(steps[-1], 0, period) == 0


def test_a_period_of_zero_never_comes(script):
    """Pitfall 31: 0 switches off what would be done periodically."""
    assert [script.crossings(step, n, 0) for step in (0, 7) for n in (1, 8)] == [0] * 4


# --- Acting ---------------------------------------------------------------------------------------
def choose(script, q_network, epsilon, games=10_000, seed=0):
    rng = np.random.default_rng(seed)
    return script.act(q_network, torch.zeros(games, dtype=torch.int64), epsilon, rng)


def test_random_actions_are_uniform_and_include_the_greedy_one(script):
    """Pitfall 38: chi-square over 10,000 draws at epsilon 1."""
    actions = choose(script, Table([[0.0, 9.0, 0.0, 0.0]]), 1.0)
    assert (actions.dtype, actions.shape) == (np.int64, (10_000,))
    assert stats.chisquare(np.bincount(actions, minlength=4)).pvalue > 1e-3


def test_greedy_actions_are_all_greedy(script):
    """Pitfall 38: 10,000 draws at epsilon 0."""
    actions = choose(script, Table([[0.0, 9.0, 0.0, 0.0]]), 0.0)
    assert (actions.dtype, set(actions.tolist())) == (np.int64, {1})


def test_a_quarter_of_exploration_has_its_frequencies(script):
    """Pitfall 38: the greedy action comes with 3/4 + 1/16, each other with 1/16, game by game."""
    frequencies = np.bincount(choose(script, Table([[0.0, 9.0, 0.0, 0.0]]), 0.25), minlength=4)
    expected = np.array([1, 13, 1, 1]) / 16 * 10_000
    assert stats.chisquare(frequencies, expected).pvalue > 1e-3


def test_a_tie_takes_the_first_of_the_best_actions(script):
    """Pitfall 38: the documented choice; the released code draws among them."""
    for values, first in (([1.0, 1.0, 1.0], 0), ([0.0, 2.0, 2.0], 1), ([2.0, 0.0, 2.0], 0)):
        assert set(choose(script, Table([values]), 0.0, games=50).tolist()) == {first}


def test_one_forward_pass_serves_all_games_and_none_if_all_explore(script):
    """[Nature A1]: passes counted for 1 and 64 games."""
    for games in (1, 64):
        for epsilon, passes in ((0.0, 1), (1.0, 0)):
            q_network = Table([[0.0, 1.0]])
            choose(script, q_network, epsilon, games)
            assert q_network.passes == passes
    q_network = Table([[0.0, 1.0]])
    explored = [choose(script, q_network, 0.9, games=1, seed=seed)[0] for seed in range(200)]
    assert 5 <= q_network.passes <= 40 and set(explored) == {0, 1}


def test_batched_actions_equal_single_ones(script):
    """At epsilon 0, game by game, over networks that prefer different actions."""
    torch.manual_seed(0)
    q_network, obs = script.QNetwork(6), random_frames(32)
    with torch.no_grad():
        layers(q_network)[-1].weight *= 30
        layers(q_network)[-1].bias -= q_network(obs).mean(dim=0)
    rng = np.random.default_rng(0)
    batched = script.act(q_network, obs, 0.0, rng)
    single = [script.act(q_network, obs[i : i + 1], 0.0, rng)[0] for i in range(32)]
    assert batched.tolist() == single
    assert len(set(single)) > 2


def test_acting_leaves_no_gradient_graph(script):
    """Actions are plain numpy; the network's parameters get no gradient."""
    q_network = Table([[0.0, 1.0]])
    assert isinstance(choose(script, q_network, 0.5), np.ndarray)
    assert q_network.values.grad is None


def test_seeds_decide_the_random_actions(script):
    """Pitfall 44: equal seeds choose alike, others do not."""
    q_network = Table([[0.0, 1.0, 0.0]])
    first, again, other = (choose(script, q_network, 0.5, 100, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other
