"""The public face of the package, and the example of a training loop that uses it."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import ddb_jax
from ddb_jax.data.sets.digits import load_coloured_digits

ROOT = Path(__file__).parent.parent


def test_every_public_name_is_there_and_documented():
    for name in ddb_jax.__all__:
        value = getattr(ddb_jax, name)
        assert value.__doc__ and f"`{name}`" in ddb_jax.__doc__, name
        assert value.__name__ == name
    assert set(ddb_jax.__all__) <= set(dir(ddb_jax))
    with pytest.raises(AttributeError, match="no attribute 'no_such_loss'"):
        _ = ddb_jax.no_such_loss


def test_importing_the_package_imports_no_library():
    code = "import sys, ddb_jax; print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert out.stdout == "[]\n", out.stderr


def test_group_dro_loss_by_hand():
    """Two groups of three in the batch: means 1 and 4; weights move by exp(0.5 x loss)."""
    losses, group = jnp.array([0.5, 4.0, 1.5]), jnp.array([0, 2, 0])
    loss, log_q, group_loss = ddb_jax.group_dro_loss(
        losses, group, jnp.log(jnp.full(3, 1 / 3)), 0.5
    )
    q = np.exp([0.5, 0.0, 2.0]) / np.sum(np.exp([0.5, 0.0, 2.0]))
    np.testing.assert_allclose(group_loss, [1.0, 0.0, 4.0])
    np.testing.assert_allclose(np.exp(log_q), q, rtol=1e-6)
    assert float(loss) == pytest.approx(q[0] * 1.0 + q[2] * 4.0)


def test_own_loop_gains_by_the_scores(tmp_path):
    """Scores as a good amplifier gives them: its loss is large where the colour misleads it."""
    dataset = load_coloured_digits()
    path = tmp_path / "scores.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "loss"])
        for split in ("train", "validation"):
            source = getattr(dataset, split)
            losses = np.where(source.bias == source.labels, 0.03, 4.0)
            writer.writerows(zip(source.paths, [split] * len(source), losses, strict=True))
    script = ROOT / "docs" / "own_loop.py"
    assert len(script.read_text().splitlines()) < 80
    # In a process of its own: here convolutions are compiled without optimisation.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(script), str(path)]
    out = subprocess.run(command, capture_output=True, text=True, env=environment)
    plain, recipe_ii = (float(x) for x in re.findall(r": ([\d.]+)% of the conf", out.stdout))
    assert recipe_ii > plain + 10, out
