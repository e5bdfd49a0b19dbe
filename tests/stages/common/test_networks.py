"""Networks around a classifier: where its weights go, and what of each network is trained."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias.contract import TrainingSet
from ddb_jax.debias.table import METHODS
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.classifier_step import in_head, make_train_step
from ddb_jax.stages.common.networks import build_network, init_variables, with_classifier
from ddb_jax.stages.first_models import train_base
from ddb_jax.training import train_state


def test_members_of_a_committee_keep_heads_of_their_own():
    """With one head and one file of weights they would be one network, and vote alike for ever."""
    file = {"params": {"stem": 1.0, "head": {"kernel": 2.0}}, "batch_stats": {"stem": 3.0}}
    fresh = {"params": {"stem": 0.0, "head": {"kernel": 9.0}}, "batch_stats": {"stem": 0.0}}
    assert with_classifier("classifier", fresh, file) == file
    assert with_classifier("classifier", fresh, file, keep_head=True) == {
        "params": {"stem": 1.0, "head": {"kernel": 9.0}},
        "batch_stats": {"stem": 3.0},
    }
    assert with_classifier("small_receptive_field", fresh, file, keep_head=True) == fresh


@pytest.mark.parametrize(
    ("method", "moving"),
    [
        ("softcon", {"main.head", "main.projection"}),
        # No file of weights fits a network of a small receptive field: it starts from scratch.
        ("rebias", {"main.head", "biased.head", *(f"biased.conv_{i}" for i in range(4))}),
    ],
)
def test_what_is_trained_where_only_heads_are(method, moving, tiny_config):
    settings = tiny_config.classifier
    settings.network, settings.trainable = "mlp", "head"
    settings.optimizer, settings.weight_decay, settings.warmup_steps = "sgd", 0.0, 0
    entry, labels, features = METHODS[method], np.arange(4) % 2, np.eye(4, dtype=np.float32)
    joint = entry.make(tiny_config[entry.settings], TrainingSet(labels, 2, bias_features=features))
    models = {n: build_network(spec.kind, settings, 2, 4) for n, spec in joint.networks.items()}
    optimizer, step = make_train_step(settings, models, 4, method=joint)
    parts = {n: init_variables(m, jax.random.key(i), 4) for i, (n, m) in enumerate(models.items())}
    variables = {
        kind: {name: part[kind] for name, part in parts.items() if kind in part}
        for kind in ("params", "batch_stats")
    }
    state = train_state.create(variables, optimizer, method_state=joint.init_state())
    images = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)
    batch = {"image": images, "label": labels, "index": np.arange(4), "bias_features": features}
    after, _ = jax.jit(step)(state, jax.tree.map(jnp.asarray, batch), jax.random.key(0))
    found = set()
    for path, before in jax.tree.leaves_with_path(state.params):
        names = [key.key for key in path]
        now = after.params
        for name in names:
            now = now[name]
        if np.any(before != now) and not any("norm" in name for name in names):
            part = next((n for n in names if n in ("head", "projection")), names[1])
            found.add(f"{names[0]}.{part}")
    assert found == moving


def test_heads_are_known_by_their_names():
    assert in_head(("main", "main_head", "kernel")) and in_head(("projection", "hidden", "bias"))
    assert not in_head(("main", "hidden_0", "kernel"))


def test_a_part_too_small_to_be_held_out():
    train = SimpleNamespace(labels=np.arange(3).repeat(4))
    context = SimpleNamespace(
        dataset=SimpleNamespace(train=train), options={"held_out_share": 0.01}, seed=0
    )
    with pytest.raises(UserError, match=r"config.afr.held_out_share: a share of 0.01 of 12 images"):
        train_base.run(context)
