"""What is compiled: once in a run, and the same program for every seed."""

import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from runs import run

from ddb_jax.data.source import ArraySource
from ddb_jax.debias.contract import plain
from ddb_jax.stages.amplifier import train_diffusion
from ddb_jax.stages.common import classifier_training as classifier
from ddb_jax.training import compilation
from ddb_jax.training.checkpoint import abstract_like, load_weights, save_weights
from ddb_jax.training.mesh import make_mesh, replicated


def test_each_step_function_compiles_once(tiny_config, tmp_path, monkeypatch):
    made = []

    def recording_jit(function, **options):
        made.append((function.__qualname__, compilation.jit(function, **options)))
        return made[-1][1]

    users = [m for m in sys.modules.values() if getattr(m, "jit", None) is compilation.jit]
    for module in users:
        if module is not compilation:
            monkeypatch.setattr(module, "jit", recording_jit)
    tiny_config.num_devices = 8
    tiny_config.methods = ("ddb_i",)
    tiny_config.amplifier.compare = False
    tiny_config.unet.channel_mults, tiny_config.unet.attention_resolutions = (1, 2), (4,)
    run(tiny_config, tmp_path, whole_networks=True)
    sizes = [(name, jitted._cache_size()) for name, jitted in made]
    # Steps of the diffusion model, amplifier, probe and classifier; samplers of the grid
    # of samples and of the synthetic set, of different batch sizes; predictions of the probe, for
    # scores, for validation and for the test split.
    assert [size for _, size in sizes] == [1] * 10, sizes


def test_cpu_options_are_known_to_this_jaxlib():
    assert compilation.compiler_options() == {
        "xla_cpu_experimental_ynn_fusion_type": ",".join(
            ["LIBRARY_FUSION_TYPE_REDUCE", "LIBRARY_FUSION_TYPE_DOT"]
        ),
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }


def traced(seed, config, folder, monkeypatch, stage):
    """The programs of first weights and of a step, with the arrays that are part of them."""
    found = {}

    def recording_fit(init, train_step, batches, schedule, **options):
        del batches, schedule
        arguments = options.get("init_arguments", ())
        state = jax.eval_shape(init, *arguments)
        batch = {
            "image": jax.ShapeDtypeStruct((4, 16, 16, 3), np.uint8),
            "label": jax.ShapeDtypeStruct((4,), np.int32),
        }
        found["init"] = jax.make_jaxpr(init)(*arguments)
        found["step"] = jax.make_jaxpr(train_step)(state, batch, *options["step_arguments"])
        raise InterruptedError

    source = ArraySource(np.zeros((8, 16, 16, 3), np.uint8), np.arange(8) % 2, np.full(8, -1))
    context = SimpleNamespace(
        config=config, num_classes=2, seed=seed, name="a", folder=folder, mesh=make_mesh(1),
        stop=None, dataset=SimpleNamespace(train=source),
    )  # fmt: skip
    module = train_diffusion if stage == "diffusion" else classifier
    monkeypatch.setattr(module, "fit", recording_fit)
    with pytest.raises(InterruptedError):
        if stage == "diffusion":
            train_diffusion.run(context)
        else:
            settings = config.classifier
            settings.network, settings.image_size, settings.flip = "mlp", 16, True
            classifier.fit_classifier(context, settings, source, num_outputs=2, method=plain())
    return found


@pytest.mark.parametrize("stage", ["diffusion", "classifier"])
def test_the_programs_are_those_of_any_seed(stage, tiny_config, tmp_path, monkeypatch):
    one, other = (traced(seed, tiny_config, tmp_path, monkeypatch, stage) for seed in (0, 1))
    for name in ("init", "step"):
        # No key is a part of the program, and no other array differs.
        assert not any(
            jax.dtypes.issubdtype(getattr(c, "dtype", None), jax.dtypes.prng_key)
            for c in one[name].consts
        )
        jax.tree.map(np.testing.assert_array_equal, one[name].consts, other[name].consts)
        assert str(one[name].jaxpr) == str(other[name].jaxpr)


def test_saving_on_eight_devices_compiles_nothing(tmp_path, caplog):
    """orbax alone compiles a program for every array and device."""
    mesh = make_mesh(8)
    weights = {
        f"layer_{i}": jax.device_put(np.full((8 + i, 16), i, np.float32), replicated(mesh))
        for i in range(3)
    }
    with jax.log_compiles(), caplog.at_level("WARNING"):
        save_weights(tmp_path / "weights", weights)
    assert "Finished XLA compilation" not in caplog.text
    read = load_weights(tmp_path / "weights", abstract_like(weights, replicated(mesh)))
    for name, value in weights.items():
        np.testing.assert_array_equal(read[name], value)
        assert len(read[name].sharding.device_set) == 8
