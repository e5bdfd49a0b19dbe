"""Every compiled function of a run is compiled once: nothing changes shape, dtype or sharding."""

from runs import run

from ddb_jax.stages import classifier, generator, train_diffusion
from ddb_jax.training import compilation


def test_each_step_function_compiles_once(tiny_config, tmp_path, monkeypatch):
    made = []

    def recording_jit(function, **options):
        made.append((function.__qualname__, compilation.jit(function, **options)))
        return made[-1][1]

    for module in (classifier, generator, train_diffusion):
        monkeypatch.setattr(module, "jit", recording_jit)
    tiny_config.num_devices = 8
    tiny_config.methods = ("ddb_i",)
    tiny_config.amplifier.compare = False
    run(tiny_config, tmp_path)
    sizes = [(name, jitted._cache_size()) for name, jitted in made]
    # The grid of samples and the synthetic set are of different batch sizes, each with its own jit.
    assert len(sizes) >= 12
    assert all(size <= 1 for _, size in sizes), sizes
    assert sum(size for _, size in sizes) > len(sizes) / 2


def test_cpu_options_are_known_to_this_jaxlib():
    assert compilation.compiler_options() == {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
    }
