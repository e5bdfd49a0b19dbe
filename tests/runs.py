"""What the tests of whole runs share: running a config, stopping it midway, reading its weights."""

import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

from ddb_jax.configs import digits
from ddb_jax.models import resnet
from ddb_jax.run import pipeline
from ddb_jax.runtime.stop import StopFlag

# Stem, norms, and one block with a stride and a shortcut: every kind of layer of a ResNet, a third
# of the compilation of resnet8, under whose name it runs.
SHORT_RESNET = ((0, 1), "basic")


class StopAfter(StopFlag):
    """Asks the run to stop once it has been asked `questions` times whether it should."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def __bool__(self) -> bool:
        self._left -= 1
        if self._left < 0:
            self.signal = 15
        return self.signal != 0


def make_tiny_config() -> ConfigDict:
    """Every stage of the digits run at its smallest, on one device.

    The UNet has one level; test_compilation.py runs one that goes down and up again.
    """
    c = digits.get_config("smoke")
    c.num_devices = 1
    c.methods = ("erm", "ddb_i", "ddb_ii", "bias_bal+ddb", "group_dro")
    c.diffusion.image_size = c.classifier.image_size = 8
    c.unet.channel_mults, c.unet.attention_resolutions = (1,), ()
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
    c.relative_difficulty.ema = 0.7  # a memory of one number an image
    return c


def use_mlp(config: ConfigDict) -> None:
    """The network that compiles fastest, where networks are not what is tested."""
    for section in (config.amplifier, config.classifier):
        section.network, section.width = "mlp", 8


def make_perceptron_config() -> ConfigDict:
    """A tiny run of two methods, which differs from make_tiny_config after the synthetic images."""
    config = make_tiny_config()
    use_mlp(config)
    config.methods = ("erm", "ddb_ii")
    config.amplifier.compare = False
    return config


def upstream_of(finished: Path, workdir: Path, *stages: str) -> None:
    """A work directory that begins with these stages of a finished run."""
    for stage in stages:
        shutil.copytree(finished / "seed_0" / stage, workdir / "seed_0" / stage)


def run(
    config,
    workdir: Path,
    stop: StopFlag | None = None,
    *,
    whole_networks: bool = False,
    **options,
) -> None:
    """A run on short ResNets, without the estimate of its cost, which takes longer than a stage."""
    with pytest.MonkeyPatch.context() as patch:
        if not options.get("dry_run"):
            patch.setattr(pipeline, "estimate_costs", lambda *a: [])
        if not whole_networks:
            patch.setitem(resnet.RESNETS, "resnet8", SHORT_RESNET)
        # Not "or": a flag that is not set is false.
        pipeline.run(config, workdir, stop=StopFlag() if stop is None else stop, **options)


def weights(folder: Path) -> dict[str, np.ndarray]:
    """All arrays under `weights/` of a stage's folder, by name."""
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((folder / "weights").absolute())
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(tree)}


def assert_same_weights(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys() and left
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
