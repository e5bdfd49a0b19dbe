"""The PyTorch side of the benchmark: it does the same work, and is refused where it does not."""

import importlib.util

import numpy as np
import pytest

from ddb_jax.benchmark import peer_tasks
from ddb_jax.benchmark.bench import Bench
from ddb_jax.benchmark.peer import client
from ddb_jax.benchmark.peer.client import Peer, check_same
from ddb_jax.configs import digits
from ddb_jax.data.source import ArraySource
from ddb_jax.runtime.errors import UserError
from ddb_jax.training.mesh import make_mesh


def make_bench(**fields):
    """Tiny networks of every layer that the twins have, on twelve images."""
    config = digits.get_config("smoke")
    for section in (config.amplifier, config.classifier):
        section.network, section.width, section.image_size = "resnet8", 8, 8
        section.max_shift, section.batch_size, section.flip = 0, 12, True
    config.diffusion.image_size, config.diffusion.batch_size = 8, 12
    config.synthesis.batch_size = 12
    config.unet.channels, config.unet.channel_mults = 8, (1, 2)
    config.unet.attention_resolutions, config.unet.num_heads = (4,), 2
    config.unet.downsample = config.unet.upsample = "paper"
    config.unet.trainable_time_table = True
    config.update_from_flattened_dict(fields)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 8, 8, 3), np.uint8)
    source = ArraySource(images, np.arange(12) % 3, np.zeros(12, int))
    return Bench(config, source, 3, make_mesh(1), rounds=1, steps=1)


def task_of(program, bench):
    config, batch = bench.config, bench.images(12, 8)
    batch["index"] = np.arange(12, dtype=np.int32)
    if program == "diffusion_train":
        return peer_tasks.diffusion_train(config, 3, batch)
    if program == "sampling":
        return peer_tasks.sampling(config, 3, 12)
    if program == "scoring":
        return peer_tasks.scoring(config.amplifier, 3, 8, batch)
    return peer_tasks.classifier_train(bench, {"lff_train": "lff"}.get(program, "erm"), batch)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("program", "fields"),
    [
        ("diffusion_train", {"diffusion.prediction": "eps"}),
        ("diffusion_train", {"unet.downsample": "conv", "unet.upsample": "nearest"}),
        ("sampling", {}),
        ("classifier_train", {}),
        ("classifier_train", {"classifier.stem": "imagenet", "classifier.norm": "group"}),
        ("lff_train", {}),
        ("scoring", {}),
    ],
)
def test_twins_do_the_same_work(program, fields):
    torch = pytest.importorskip("torch", reason="compares with PyTorch where it is installed")
    from ddb_jax.benchmark.peer.steps import STEPS

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    task = task_of(program, make_bench(**fields))
    step = STEPS[program](task.task, "eager")
    found = step.checked()
    check_same(found, task.expected, program)
    assert found.keys() == task.expected.keys()
    assert task.expected.get("grad_norm", 1.0) > 1e-3  # no weight is at zero
    before = [p.detach().clone() for p in step.parameters]
    step.step()
    moved = any(not torch.equal(a, b) for a, b in zip(before, step.parameters, strict=True))
    assert moved == program.endswith("train")
    torch.set_num_threads(threads)


@pytest.mark.parity
def test_another_network_is_noticed():
    pytest.importorskip("torch", reason="compares with PyTorch where it is installed")
    peer = Peer(["eager"])
    try:
        task = task_of("scoring", make_bench())
        seconds = peer.load("eager", task.task, task.expected)
        assert 0 < seconds < 60 and peer.run("eager", 2) > 0
        name = "stage_1_block_0.conv_1.kernel"
        moved = {**task.task["weights"]["main"]}
        moved[name] = moved[name] + np.float32(0.01)
        with pytest.raises(UserError, match=r"not do the same work in scoring \(eager\): its loss"):
            peer.load("eager", {**task.task, "weights": {"main": moved}}, task.expected)
        del moved[name]
        with pytest.raises(UserError, match=r"its stage_1_block_0.conv_1.weight has no counter"):
            peer.load("eager", {**task.task, "weights": {"main": moved}}, task.expected)
    finally:
        peer.close()


def test_differences_are_named():
    check_same({"loss": 1.00009}, {"loss": 1.0}, "scoring")
    with pytest.raises(UserError, match=r"scoring: its loss is 1.00011, ours 1; nothing is timed"):
        check_same({"loss": 1.00011}, {"loss": 1.0}, "scoring")
    with pytest.raises(UserError, match="its parameters is 11, ours 10"):
        check_same({"parameters": 11, "loss": 1.0}, {"parameters": 10, "loss": 1.0}, "scoring")


def test_without_pytorch_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--peer needs PyTorch: install it"):
        client.Peer(["eager"])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"amplifier.network": "mlp"}, "no counterpart of config.amplifier.network 'mlp'"),
        ({"amplifier.max_shift": 1}, "set config.amplifier.max_shift and random_resized_crop"),
        ({"amplifier.image_size": 16}, "config.amplifier.image_size is 16, the images have 8 px"),
    ],
)
def test_what_has_no_counterpart_is_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        task_of("scoring", make_bench(**fields))
