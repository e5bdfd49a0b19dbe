"""The example of a new method in docs/extending.md is run as it stands there."""

import re
import types
from pathlib import Path

import numpy as np
from runs import run, weights

from ddb_jax.debias.table import METHODS, MethodEntry

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def test_the_example_of_a_method_trains(tiny_config, tmp_path, monkeypatch):
    text = PAGE.read_text()
    code = re.search(r"focal loss.*?```python\n(.*?)```", text, re.DOTALL).group(1)
    focal = types.ModuleType("focal")
    exec(code, focal.__dict__)
    row = re.search(r'`("focal": MethodEntry\(.*?\))`', text).group(1)
    entry = eval("{" + row + "}", {"MethodEntry": MethodEntry, "focal": focal})
    monkeypatch.setitem(METHODS, "focal", entry["focal"])

    logits = np.log(np.array([[0.75, 0.25]], np.float32))
    # (1 - p)^2 times -log p, at p = 1/4.
    loss = entry["focal"].make(None, None).per_example_loss(logits, np.array([1]))
    np.testing.assert_allclose(loss, 0.75**2 * np.log(4), rtol=1e-6)

    tiny_config.methods = ("focal", "erm")
    tiny_config.classifier.network = "mlp"
    tiny_config.classifier.plain_selection = "last"
    run(tiny_config, tmp_path)
    first, second = (weights(tmp_path / "seed_0/train_classifier" / m) for m in ("focal", "erm"))
    assert any(not np.array_equal(first[name], second[name]) for name in first)
    assert "focal" in (tmp_path / "results.csv").read_text()
