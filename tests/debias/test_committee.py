"""BiasEnsemble's committee: its vote, its loss and its stage, worked out by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.debias import committee
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.common.classifier_training import Predictions
from ddb_jax.stages.common.scores_table import read_scores, select_split
from ddb_jax.stages.context import Context
from ddb_jax.stages.first_models import train_committee


def settings(**changes):
    values = {"members": 3, "gce_q": 0.5, "gce_scaled": False, "confidence": 0.9, "agreement": 2}
    return SimpleNamespace(**{**values, **changes})


# What three members give the labels of five images.
PROBABILITIES = np.array(
    [
        [0.95, 0.95, 0.95, 0.90, 0.1],
        [0.99, 0.91, 0.50, 0.90, 0.2],
        [0.92, 0.20, 0.89, 0.95, 0.3],
    ]
)


@pytest.mark.parametrize(
    ("agreement", "flagged"),
    [
        (1, [False, False, False, False, True]),
        (2, [False, False, True, True, True]),
        (3, [False, True, True, True, True]),
    ],
)
def test_vote(agreement, flagged):
    """Members that are surer than 0.9: 3, 2, 1, 1 (0.9 itself is not surer) and 0."""
    found, doubt = committee.flag_conflicting(PROBABILITIES, settings(agreement=agreement))
    assert found.tolist() == flagged
    np.testing.assert_allclose(doubt, [0, 1 / 3, 2 / 3, 2 / 3, 1])


def test_no_member_is_surer_than_one():
    found, doubt = committee.flag_conflicting(np.ones((2, 3)), settings(confidence=1.0))
    assert found.all() and (doubt == 1).all()


def loss_of(outputs, **changes):
    method = committee.make(settings(**changes))
    network = lambda name, x: (outputs[name], None)  # noqa: E731
    batch = {"x": None, "label": jnp.array([0, 1])}
    return method.loss(network, method.init_state(), batch, None)


OUTPUTS = {  # their probabilities of the labels 0 and 1: (0.64, 0.36), (0.25, 0.81), (0.5, 0.5)
    "main": jnp.log(jnp.array([[0.64, 0.36], [0.64, 0.36]])),
    "member_1": jnp.log(jnp.array([[0.25, 0.75], [0.19, 0.81]])),
    "member_2": jnp.zeros((2, 2)),
}


def test_loss_is_the_sum_of_the_members_own():
    """(1 - sqrt(p)) / 0.5 is 0.4 and 0.8, 1 and 0.2, twice 2 - sqrt(2)."""
    loss, state, metrics = loss_of(OUTPUTS)
    np.testing.assert_allclose(loss, 0.6 + 0.6 + 2 - 2**0.5, rtol=1e-5)
    assert state == {} and metrics == {"train_accuracy": 0.5}


def test_no_member_hears_of_another():
    """Each one's gradient is that of its own mean loss, p^q (p - y) / 2, in both forms."""
    others = {**OUTPUTS, "main": jnp.zeros((2, 2)), "member_2": OUTPUTS["main"]}
    for scaled, factor in ((False, 1.0), (True, 0.5)):
        slope = jax.grad(lambda outputs, s=scaled: loss_of(outputs, gce_scaled=s)[0])
        expected = [[0.5 * -0.75, 0.5 * 0.75], [0.9 * 0.19, 0.9 * -0.19]]
        for outputs in (OUTPUTS, others):
            np.testing.assert_allclose(
                slope(outputs)["member_1"], factor * np.array(expected) / 2, atol=1e-6
            )


def test_members_are_whole_classifiers():
    method = committee.make(settings(members=4))
    assert list(method.networks) == ["main", "member_1", "member_2", "member_3"]
    assert {(spec.kind, spec.lr_scale) for spec in method.networks.values()} == {("classifier", 1)}
    assert method.columns == () and method.sampling == "uniform" and method.views == 1


@pytest.mark.parametrize(("members", "agreement"), [(3, 4), (3, 0), (0, 0)])
def test_refused(members, agreement):
    with pytest.raises(ValueError, match=f"agreement of the committee is {agreement}"):
        committee.make(settings(members=members, agreement=agreement))


# The stage, with members that were not trained.

LABELS = {"train": [0, 0, 1, 2, 2], "validation": [0, 1], "test": [0]}
BIAS = {"train": [0, 1, 1, 2, 0], "validation": [0, 1], "test": [0]}
CLASSES = ("cat", "dog", "owl")
# Classes that the members give the images.
PREDICTED = {
    "main": {"train": [0, 1, 1, 2, 0], "validation": [0, 1]},
    "member_1": {"train": [0, 1, 1, 2, 1], "validation": [2, 1]},
    "member_2": {"train": [1, 2, 1, 2, 0], "validation": [1, 0]},
}
VALIDATION_PROBABILITIES = np.array([[0.95, 0.3], [0.2, 0.99], [0.1, 0.91]])


@pytest.fixture
def context(tmp_path):
    sources = {
        split: ArraySource(
            np.zeros((len(labels), 2, 2, 3), np.uint8), np.array(labels), np.array(BIAS[split])
        )
        for split, labels in LABELS.items()
    }
    config = ConfigDict()
    config.classifier = {
        "network": "mlp", "width": 4, "stem": "cifar", "norm": "batch", "dtype": "float32",
        "remat": False,
        "image_size": 2, "num_steps": 100,
    }  # fmt: skip
    config.reference = {"num_steps": 7}
    config.committee = vars(settings())
    dataset = Dataset("set", **sources, class_names=CLASSES, bias_names=CLASSES)
    return Context(config, dataset, None, None, "committee", 0, tmp_path, {})


def test_stage(context, monkeypatch):
    def fit_classifier(context, settings, source, *, num_outputs, method):
        assert settings.num_steps == 7 and context.config.classifier.num_steps == 100
        assert len(source) == 5 and num_outputs == 3
        return SimpleNamespace(params={name: name for name in method.networks}, batch_stats={})

    def predict(weights, source):
        name = weights["params"]
        split = "train" if len(source) == 5 else "validation"
        rows = PROBABILITIES if split == "train" else VALIDATION_PROBABILITIES
        probability = rows[list(PREDICTED).index(name)]
        return Predictions(np.array(PREDICTED[name][split]), probability, -np.log(probability))

    monkeypatch.setattr(train_committee, "fit_classifier", fit_classifier)
    monkeypatch.setattr(train_committee, "make_predict", lambda *arguments: predict)
    result = train_committee.run(context)

    scores = read_scores(context.folder / "scores.csv")
    train, validation = (select_split(scores, split) for split in ("train", "validation"))
    assert train["pseudo_conflicting"].tolist() == [0, 0, 1, 1, 1]
    assert validation["pseudo_conflicting"].tolist() == [1, 0]
    assert train["predicted"].tolist() == [0, 1, 1, 2, 0]
    assert validation["predicted"].tolist() == [0, 1], "of three that differ, the lowest class"
    np.testing.assert_allclose(train["probability"], PROBABILITIES.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        train["loss"], [-np.log(np.prod(p)) / 3 for p in PROBABILITIES.T], rtol=1e-5
    )
    # By doubt: image 1 of class 0 before image 0, class 1 has one, image 4 of class 2 before 3.
    assert train["rank_in_class"].tolist() == [2, 1, 1, 2, 1]
    # Images 1 and 4 conflict; 2, 3 and 4 are flagged.
    assert result["bias_precision"] == pytest.approx(1 / 3)
    assert result["bias_recall"] == pytest.approx(1 / 2)
    # Doubts 1/3 and 1 against 0, 2/3, 2/3: four of six pairs are in the right order.
    assert result["bias_auroc"] == pytest.approx(4 / 6)
    assert read_json(context.folder / "detection.json")["rule"] == "committee"
