"""Test set-up: eight emulated CPU devices, so that sharding is exercised everywhere."""

import logging

import jax
import pytest
from ml_collections import ConfigDict

from configs import digits

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Runs that a test repeats compile once."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(autouse=True)
def fresh_log():
    """A test that calls main() leaves no handler on a stream that is closed after it."""
    yield
    log = logging.getLogger("ddb_jax")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


@pytest.fixture
def tiny_config() -> ConfigDict:
    """Every stage of the digits run at its smallest, on one device."""
    c = digits.get_config("smoke")
    c.num_devices = 1
    c.methods = ("erm", "ddb_i", "ddb_ii", "bias_bal+ddb", "group_dro")
    c.diffusion.image_size = c.classifier.image_size = 8
    c.unet.channel_mults = (1, 2)
    c.diffusion.num_steps = 8
    c.diffusion.checkpoint_every = 3
    c.diffusion.batch_size = 16
    c.synthesis.images_per_class = 4
    c.synthesis.num_steps = 2
    c.synthesis.batch_size = 8
    c.synthesis.shard_size = 16
    c.measure_synthesis.probe_steps = 2
    for section in (c.amplifier, c.classifier):
        section.network = "resnet8"
        section.width = 4
        section.num_steps = 8
        section.batch_size = 16
        section.checkpoint_every = 3
    c.classifier.evaluate_every = 4
    return c
