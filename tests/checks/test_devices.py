"""Settings that do not fit the devices: parts, remat and bfloat16, on stand-in devices."""

import logging
from types import SimpleNamespace

import pytest

from ddb_jax.checks.devices import indivisible_parts, unusable_bfloat16, unusable_remat
from ddb_jax.checks.methods import unusable_settings
from ddb_jax.configs import base
from ddb_jax.training.precision import bfloat16_problem, bfloat16_warning


def device(platform, kind="", **attributes):
    return SimpleNamespace(platform=platform, device_kind=kind, **attributes)


def test_parts_that_do_not_divide():
    c = base.get_config()
    c.diffusion.batch_size, c.diffusion.accumulate = 32, 4
    c.classifier.batch_size, c.classifier.accumulate = 100, 3
    c.amplifier.batch_size, c.amplifier.accumulate = 30, 2
    assert indivisible_parts(c, 1) == [
        "config.classifier.batch_size is 100, which config.classifier.accumulate, 3, on 1 device"
        " does not divide; the next that they do is 102"
    ]
    # 30 on 4 devices is refused as any batch is.
    assert indivisible_parts(c, 4) == [
        "config.classifier.batch_size is 100, which config.classifier.accumulate, 3, on 4 devices"
        " do not divide; the next that they do is 108"
    ]


def test_remat_of_a_network_without_blocks():
    c = base.get_config()
    c.classifier.remat = c.amplifier.remat = True
    assert unusable_remat(c) == []
    c.classifier.network = "mlp"
    (problem,) = unusable_remat(c)
    assert problem.startswith("config.classifier.remat is True, and the network mlp has no blocks")


def test_parts_and_methods_that_need_the_whole_batch():
    c = base.get_config()
    c.classifier.accumulate, c.methods = 2, ("erm", "ddb_i", "ddb_ii", "lff+ddb", "dfr")
    assert unusable_settings(c) == []
    c.methods = ("erm", "lff", "softcon")
    (problem,) = unusable_settings(c)
    assert problem.startswith("config.classifier.accumulate is 2, and lff, softcon need the whole")


@pytest.mark.parametrize(
    ("found", "problem", "warning"),
    [
        (device("gpu", "Tesla T4", compute_capability="7.5"), True, False),
        (device("gpu", "NVIDIA A100", compute_capability="8.0"), False, False),
        (device("gpu", "NVIDIA B200", compute_capability="10.0"), False, False),
        (device("gpu", "AMD MI300X", compute_capability="gfx942"), False, False),
        (device("tpu", "TPU v5e"), False, False),
        (device("cpu", "cpu"), False, True),
    ],
)
def test_devices_without_bfloat16(found, problem, warning):
    fields = ["unet.dtype", "classifier.dtype"]
    assert bool(bfloat16_problem(fields, found)) == problem
    assert bool(bfloat16_warning(fields, found)) == warning
    assert bfloat16_problem([], found) == bfloat16_warning([], found) == ""


def test_sentences_about_bfloat16(caplog):
    c = base.get_config()
    turing = device("gpu", "Tesla T4", compute_capability="7.5")
    assert unusable_bfloat16(c, [], turing) == []
    assert unusable_bfloat16(c, ["text_to_image"], turing) == [
        "config.text_to_image.dtype is 'bfloat16', and Tesla T4 has no bfloat16 arithmetic (its"
        " compute capability is 7.5, and 8.0 is the first with it): take 'float32'"
    ]
    c.unet.dtype = c.amplifier.dtype = "bfloat16"
    logging.getLogger("ddb_jax").propagate = True
    with caplog.at_level(logging.WARNING, logger="ddb_jax"):
        assert unusable_bfloat16(c, [], device("cpu", "cpu")) == []
    assert "config.unet.dtype and config.amplifier.dtype are 'bfloat16', which is emulated" in (
        caplog.text
    )
