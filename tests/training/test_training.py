"""The training floor: loop, state, optimiser, checkpoints, files, work directory, streams."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddb_jax.runtime import work_directory
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import write_json
from ddb_jax.runtime.progress import duration
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.training import train_state
from ddb_jax.training.checkpoint import Checkpoints, abstract_like
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.mesh import make_mesh, replicated
from ddb_jax.training.metric_writer import MetricWriter, read_metrics
from ddb_jax.training.optimizer import make_optimizer, make_schedule, scale_learning_rates
from ddb_jax.training.rng import data_seed, stream

SETTINGS = types.SimpleNamespace(
    optimizer="sgd",
    learning_rate=0.1,
    lr_schedule="constant",
    warmup_steps=0,
    weight_decay=0.0,
    momentum=0.0,
    grad_clip=0.0,
    num_steps=6,
)


def settings(**changes):
    return types.SimpleNamespace(**{**vars(SETTINGS), **changes})


def quadratic_problem(tmp_path, num_steps=6, evaluate=None, poison=None, traces=None):
    """Minimises mean((w - batch)^2) / 2: the gradient is w - mean(batch)."""
    optimizer = make_optimizer(SETTINGS)

    def init():
        return train_state.create({"params": {"w": jnp.zeros(())}}, optimizer, num_scores=1)

    @jax.jit
    def step(state, batch):
        if traces is not None:
            traces.append(1)
        loss_fn = lambda params: jnp.mean((params["w"] - batch["x"]) ** 2) / 2  # noqa: E731
        loss, gradients = jax.value_and_grad(loss_fn)(state.params)
        return train_state.apply_gradients(state, gradients, optimizer), {"loss": loss}

    def batches(start):
        for i in range(start, num_steps):
            x = np.full(8, float(i), np.float32)
            yield {"x": x * np.nan if i == poison else x}

    return fit(
        init,
        step,
        batches,
        Schedule(num_steps, log_every=2, checkpoint_every=2, evaluate_every=3),
        title="test",
        folder=tmp_path,
        mesh=make_mesh(),
        stop=StopFlag(),
        evaluate=evaluate,
    )


def test_fit_follows_the_recursion_worked_by_hand(tmp_path):
    state = quadratic_problem(tmp_path)
    w = 0.0
    for i in range(6):
        w -= 0.1 * (w - i)
    assert float(state.params["w"]) == pytest.approx(w, rel=1e-6)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6]
    # Steps 0 and 1: w = 0 against 0 and 1, losses 0 and 1/2.
    assert rows[0]["loss"] == pytest.approx(0.25)


def test_fit_evaluates_at_the_interval_and_at_the_end(tmp_path):
    seen = []

    def evaluate(state):
        seen.append(int(state.step))
        return state, {"score": 1.0}

    quadratic_problem(tmp_path, num_steps=5, evaluate=evaluate)
    assert seen == [3, 5]


def test_fit_names_the_first_bad_step(tmp_path):
    with pytest.raises(UserError, match="the loss of test became nan at step 4;"):
        quadratic_problem(tmp_path, poison=3)


def test_fit_compiles_once(tmp_path):
    traces = []
    quadratic_problem(tmp_path, traces=traces)
    assert len(traces) == 1


def test_ema_is_the_average_worked_by_hand():
    optimizer = optax.sgd(1.0)
    state = train_state.create({"params": {"w": jnp.array(0.0)}}, optimizer, ema=True)
    w, average = 0.0, 0.0
    for step in range(30):
        state = train_state.apply_gradients(state, {"w": -1.0}, optimizer, ema_decay=0.5)
        w += 1.0
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * w
    assert float(state.ema_params["w"]) == pytest.approx(average, rel=1e-5)


def test_learning_rate_schedules():
    cosine = make_schedule(settings(lr_schedule="cosine", warmup_steps=10, num_steps=110))
    assert float(cosine(0)) == 0.0
    assert float(cosine(5)) == pytest.approx(0.05)
    assert float(cosine(10)) == pytest.approx(0.1)
    assert float(cosine(60)) == pytest.approx(0.05)
    assert float(cosine(110)) == pytest.approx(0.0, abs=1e-8)
    assert float(make_schedule(SETTINGS)(0)) == pytest.approx(0.1)


def test_sgd_and_clipping_by_hand():
    params = {"w": jnp.array([3.0, 4.0])}
    optimizer = make_optimizer(settings(weight_decay=0.5, grad_clip=1.0))
    updates, _ = optimizer.update({"w": jnp.array([3.0, 4.0])}, optimizer.init(params), params)
    # Clipped to (0.6, 0.8), then decay adds 0.5 w, then times -0.1.
    np.testing.assert_allclose(updates["w"], [-0.1 * (0.6 + 1.5), -0.1 * (0.8 + 2.0)], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_scaled_learning_rate_is_that_of_an_optimizer_of_its_own(name):
    """Ten steps on two parameters, one at a tenth of the rate, against two optimisers."""
    common = {"optimizer": name, "weight_decay": 0.1}
    factors = {"head": 1.0, "body": 0.1, "frozen": 0.0}
    scales = scale_learning_rates(lambda path: factors[path[0]])
    together = optax.chain(make_optimizer(settings(learning_rate=0.1, **common)), scales)
    start = {part: {"w": jnp.array([1.0, -2.0])} for part in ("head", "body", "frozen")}
    params, state = start, together.init(start)
    alone = {"head": 0.1, "body": 0.01}
    optimizers = {p: make_optimizer(settings(learning_rate=r, **common)) for p, r in alone.items()}
    own = {part: start[part] for part in alone}
    own_state = {part: optimizers[part].init(own[part]) for part in alone}
    for step in range(10):
        gradient = {"w": jnp.array([np.sin(step), np.cos(step)])}
        updates, state = together.update(dict.fromkeys(start, gradient), state, params)
        params = optax.apply_updates(params, updates)
        for part in alone:
            updates, own_state[part] = optimizers[part].update(gradient, own_state[part], own[part])
            own[part] = optax.apply_updates(own[part], updates)
    for part in alone:
        np.testing.assert_allclose(params[part]["w"], own[part]["w"], rtol=1e-5)
    np.testing.assert_array_equal(params["frozen"]["w"], start["frozen"]["w"])


def test_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    mesh = make_mesh(1)
    state = {"w": jnp.arange(50_000, dtype=jnp.float32)}
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (2, 4):
        checkpoints.save(step, jax.tree.map(lambda x, s=step: x * s, state))
    checkpoints.close()
    files = [f for f in (tmp_path / "c/4/default").rglob("*") if f.is_file()]
    biggest = max(files, key=lambda f: f.stat().st_size)
    biggest.write_bytes(biggest.read_bytes()[: biggest.stat().st_size // 2])
    checkpoints = Checkpoints(tmp_path / "c")
    step, restored = checkpoints.restore(abstract_like(state, replicated(mesh)))
    checkpoints.close()
    assert step == 2 and "c/4 cannot be read" in caplog.text
    np.testing.assert_array_equal(restored["w"], 2.0 * np.arange(50_000))
    assert not (tmp_path / "c/4").exists() and (tmp_path / "c/4.damaged").exists()
    for file in [f for f in (tmp_path / "c/2/default").rglob("*") if f.is_file()]:
        file.write_bytes(b"")
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.raises(UserError, match="none of the checkpoints"):
        checkpoints.restore(abstract_like(state, replicated(mesh)))
    checkpoints.close()


def test_checkpoint_without_room_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    state = {"w": jnp.zeros(1_000_000, jnp.float32)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state)
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=4_300_000))
    with pytest.raises(UserError, match=r"takes 4.0 MB and 4.3 MB are free"):
        checkpoints.save(2, state)
    checkpoints.close()
    assert (tmp_path / "1").exists() and not list(tmp_path.glob("2*"))


def test_metric_writer_drops_what_lies_beyond_the_checkpoint(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write(step, {"loss": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed in the middle of a line
    writer = MetricWriter(tmp_path, start_step=2)
    writer.write(3, {"loss": 30.0})
    writer.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path / "metrics.jsonl")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_stage_folder_survives_a_kill_before_the_rename(tmp_path):
    folder, record = tmp_path / "stage", {"fingerprint": "f", "config": {}}
    partial = work_directory.open_stage(folder, record)
    assert work_directory.open_stage(folder, record) == partial  # gone on with, not begun anew
    (partial / "data").write_text("x")
    write_json(partial / "done.json", {**record})
    assert not work_directory.is_done(folder, "f")
    work_directory.finish_rename(folder)
    assert work_directory.is_done(folder, "f") and (folder / "data").exists()
    assert not work_directory.is_done(folder, "g")


def test_stage_folder_of_other_settings_is_removed_and_named(tmp_path, caplog):
    folder = tmp_path / "stage"
    partial = work_directory.open_stage(folder, {"fingerprint": "f"})
    (partial / "data").write_text("x")
    with caplog.at_level("INFO", logger="ddb_jax"):
        work_directory.open_stage(folder, {"fingerprint": "g"})
    assert not (partial / "data").exists() and str(partial) in caplog.text


def test_streams_differ_and_repeat():
    draws = {
        (seed, name): float(jax.random.uniform(stream(seed, name)))
        for seed in (0, 1)
        for name in ("a", "b")
    }
    assert len(set(draws.values())) == 4
    assert float(jax.random.uniform(stream(0, "a"))) == draws[0, "a"]
    assert data_seed(0, "a") != data_seed(0, "b")


def test_durations():
    assert [duration(s) for s in (44.6, 200, 7500)] == ["45s", "3m20s", "2h05m"]
