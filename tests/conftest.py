"""Test set-up: eight emulated CPU devices, cheap compilation, a run that many tests read.

The tests run in several processes side by side. They share what they compile, and the one run.
"""

import fcntl
import gc
import logging
import os
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict
from runs import make_tiny_config, run

# The files that take longest start first, so that no process is left alone with one at the end.
# The first makes the run that others read, while another process is busy with the second.
LONGEST_FIRST = (
    "run/test_pipeline.py",
    "stages/generated/test_train_text_to_image.py",
    "runtime/test_processes.py",
    "runs/test_generated_run.py",
    "training/test_sharding.py",
    "debias/test_methods.py",
    "training/test_compilation.py",
    "stages/generated/test_steer.py",
    "benchmark/test_benchmark.py",
    "runs/test_folder_run.py",
    "runtime/test_remote_workdir.py",
    "training/test_resume.py",
    "test_library.py",
    "text_to_image/test_unet_condition.py",
    "text_to_image/test_latent_diffusion.py",
    "text_to_image/test_autoencoder.py",
    "training/test_rematerialization.py",
    "stages/generated/test_draw.py",
)
MEMORY_BYTES = 0.9e9  # of a process, above which it forgets what it has compiled

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Most of the tests' time is compilation, of programs that run for a moment.
jax.config.update("jax_disable_most_optimizations", True)
if jax.__version_info__[:2] == (0, 10):
    # The older emitters' code compiles twice as fast; other versions may not know the flag.
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
    )


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: some tests wait for processes that they start."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items):
    """The order in which files are handed to the processes; within a file it stays."""
    rank = {name: i for i, name in enumerate(LONGEST_FIRST)}
    tests = Path(__file__).parent
    items.sort(key=lambda item: rank.get(str(item.path.relative_to(tests)), len(rank)))


def common_folder(tmp_path_factory) -> Path:
    """The folder for temporary files that all processes of this test run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory):
    """A program compiled by one process is read by the others, for the length of this test run."""
    folder = common_folder(tmp_path_factory) / "programs"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    with pytest.MonkeyPatch.context() as patch:
        # Neither main() nor a process that a test starts writes to the user's own.
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def same_settings(compiled_programs):
    """A test that calls main() leaves no handler on a stream that is closed after it, no cache."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    log = logging.getLogger("ddb_jax")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """What is compiled stays in memory, and is little use to the next file of tests."""
    yield
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > MEMORY_BYTES:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def tiny_config() -> ConfigDict:
    """Every stage of the digits run at its smallest, on one device."""
    return make_tiny_config()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """The work directory of a whole run of tiny_config; to be read, not written to."""
    root = common_folder(tmp_path_factory)
    workdir, done = root / "finished", root / "finished.done"
    with (root / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait for the process that makes it
        if not done.exists():
            run(make_tiny_config(), workdir)
            done.touch()
    return workdir
