"""Test set-up: eight emulated CPU devices, cheap compilation, a run that many tests read."""

import logging
import os
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict
from runs import make_tiny_config, run

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Most of the tests' time is compilation, of programs that run for a moment.
jax.config.update("jax_disable_most_optimizations", True)
if jax.__version_info__[:2] == (0, 10):
    # The older emitters' code compiles twice as fast; other versions may not know the flag.
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
    )


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
    return make_tiny_config()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """The work directory of a whole run of tiny_config; to be read, not written to."""
    workdir = tmp_path_factory.mktemp("finished")
    run(make_tiny_config(), workdir)
    return workdir
