"""The memory of a step against bytes counted by hand, and what is said of it."""

import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from ddb_jax.configs import digits
from ddb_jax.data.datasets import load_dataset
from ddb_jax.run.memory import memory_table
from ddb_jax.training import step_memory
from ddb_jax.training.mesh import make_mesh
from ddb_jax.training.step_memory import StepMemory, describe_memory, device_memory, jit_step


def device(platform="gpu", **stats):
    return SimpleNamespace(platform=platform, memory_stats=lambda: stats or None)


def test_a_donated_state_is_counted_once():
    def step(state, batch):
        return state + jnp.sum(batch @ batch), {"loss": jnp.sum(batch)}

    state = jax.ShapeDtypeStruct((1000, 250), jnp.float32)
    batch = jax.ShapeDtypeStruct((100, 100), jnp.float32)
    compiled = jit_step(step, make_mesh(1), state).lower(state, batch).compile()
    memory = step_memory.memory_of(compiled)
    assert memory.kept == 4 * 1000 * 250 + 4 * 100 * 100
    assert memory.inner < 300_000  # a second state would be a million more


def test_a_backend_that_does_not_say():
    compiled = SimpleNamespace(memory_analysis=lambda: None)
    assert step_memory.memory_of(compiled) is None
    assert describe_memory(None, device()) == ("", "")


def test_what_is_said_of_a_step_that_fits_and_of_one_that_does_not():
    memory = StepMemory(kept=1_500_000_000, inner=2_500_000_000)
    text = (
        "a training step takes 4.00 GB of memory on each device, 1.50 GB of it for the train"
        " state and the batch"
    )
    assert describe_memory(memory, device()) == (text, "")
    assert describe_memory(memory, device(bytes_limit=4_000_000_000)) == (
        f"{text}; a device has 4.00 GB",
        "",
    )
    assert describe_memory(memory, device(bytes_limit=3_990_000_000))[1] == (
        "a training step takes 4.00 GB of memory on each device, which has 3.99 GB: lower its"
        " batch_size, raise its accumulate, or set the network's remat"
    )


def test_cpu_devices_share_the_machine_s_memory(tmp_path, monkeypatch):
    container = tmp_path / "memory.max"
    monkeypatch.setattr(step_memory, "CONTAINER_LIMITS", (str(container),))
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert jax.local_device_count() == 8
    assert device_memory(jax.devices()[0]) == whole // 8
    container.write_text("max\n")
    assert device_memory(jax.devices()[0]) == whole // 8
    container.write_text("800000\n")
    assert device_memory(jax.devices()[0]) == 100_000


def test_table_of_a_config_s_steps(monkeypatch):
    c = digits.get_config("smoke")
    c.unet.channels, c.unet.channel_mults, c.unet.attention_resolutions = 4, (1,), ()
    for section in (c.amplifier, c.classifier):
        section.network, section.width, section.optimizer = "mlp", 1000, "sgd"
        section.batch_size = 8
    dataset = load_dataset(c.data, 16)
    tasks = [("train_diffusion", ""), ("train_amplifier", ""), ("evaluate", "")]
    tasks += [("train_classifier", "erm"), ("train_classifier", "lff")]
    monkeypatch.setattr(step_memory, "device_memory", lambda device: 50_000_000)
    head, diffusion, amplifier, classifier, warning = memory_table(
        c, tasks, dataset, dataset, make_mesh(1)
    ).splitlines()
    assert head == "memory, by the compiled programs:"
    assert diffusion.split()[0] == "diffusion" and amplifier.split()[0] == "amplifier"
    # Parameters and momentum of three hidden layers and a head, and a batch; LfF has two networks,
    # and one of them once more where validation preferred it.
    network = 4 * (768 * 1000 + 2 * 1000 * 1000 + 3 * 1000 + 1000 * 10 + 10)
    kept = [float(line.split(", ")[1].split(" MB")[0]) for line in (amplifier, classifier)]
    assert kept[0] == pytest.approx(2 * network / 1e6, abs=0.1)
    assert kept[1] == pytest.approx(5 * network / 1e6, abs=0.1)
    assert warning.startswith("warning: classifier: a training step takes ")


def test_nothing_is_compiled_where_nothing_is_trained():
    dataset = SimpleNamespace(class_names=("a",), train=SimpleNamespace(image_shape=(4, 4, 3)))
    assert memory_table(None, [("report", "")], dataset, dataset, make_mesh(1)) == ""
