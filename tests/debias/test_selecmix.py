"""SelecMix: partners, mixtures and losses against loops over the batch."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias import selecmix
from ddb_jax.debias.contract import TrainingSet

SETTINGS = SimpleNamespace(temperature=0.2, gce_q=0.7, gce_scaled=False, auxiliary_lr_scale=2.0)
RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 0, 0, 1, 2])  # class 2 has one image
PREDICTED = np.array([0, 1, 1, 0, 1, 0])
LOGITS = RNG.normal(size=(6, 6))  # row i, of image i alone; of a mixture, mixed like it
Z = RNG.normal(size=(6, 4))
Z /= np.sqrt((Z**2).sum(axis=1, keepdims=True))
# Image i is the unit vector i: a mixture shows what it is made of.
IMAGES = np.eye(6).reshape(6, 1, 2, 3)
KEYS = 300


@functools.cache
def program(make, scaled=False):
    """Loss, metrics, mixtures and gradients under many keys; one compilation for a batch size."""
    settings = SimpleNamespace(**{**vars(SETTINGS), "gce_scaled": scaled})
    method = make(settings, TrainingSet(LABELS, 6, bias=PREDICTED))

    def loss(z, weights, batch, key):
        seen = {}

        def network(name, images, method=None):
            if name == "auxiliary":
                assert method == "project"
                assert images is batch["x"]  # unmixed
                return None, z
            assert (name, method) == ("main", None)
            seen["main"] = images.reshape(len(images), -1)
            return seen["main"] @ weights, None

        value, state, metrics = method.loss(network, {}, batch, key)
        assert state == {}
        return value, (metrics, seen["main"][:, : len(z)])

    run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    return jax.jit(jax.vmap(run, in_axes=(None, None, None, 0)))


def run(make, labels, z=Z, scaled=False):
    """Losses, metrics, mixtures [KEYS, B, B], gradients of projections and of classifier."""
    number = len(labels)
    batch = {"x": jnp.asarray(IMAGES[:number], jnp.float32), "label": jnp.asarray(labels)}
    batch["given_bias"] = jnp.asarray(PREDICTED[:number])
    z, weights = (jnp.asarray(v, jnp.float32) for v in (z[:number], LOGITS))
    keys = jax.random.split(jax.random.key(1), KEYS)
    (values, (metrics, mixtures)), gradients = jax.tree.map(
        np.asarray, program(make, scaled)(z, weights, batch, keys)
    )
    return values, metrics, mixtures, gradients


def partners(mixtures):
    """For each key the partner of every image, itself where it is whole, and its own share."""
    every, shares = [], []
    for mixture in mixtures:
        row, share = [], []
        for i, parts in enumerate(mixture):
            others = [j for j in np.flatnonzero(parts) if j != i]
            assert len(others) <= 1
            assert abs(parts.sum() - 1) < 1e-6
            row.append(int(others[0]) if others else i)
            if others:
                share.append(parts[i])
            else:
                assert parts[i] == 1  # exactly as it was
        every.append(tuple(row))
        shares += share
    return every, np.array(shares)


def mean_ce(mixture, row):
    total = 0.0
    for parts, partner in zip(mixture, row, strict=True):
        logits = parts @ LOGITS[: len(parts)]
        total += np.log(np.exp(logits).sum()) - logits[LABELS[partner]]
    return total / len(row)


def contrastive_by_loops(z, labels, q=0.7, temperature=0.2):
    total = 0.0
    for i in range(len(z)):
        picks = {j: np.exp(z[i] @ z[j] / temperature) for j in range(len(z)) if j != i}
        positive = [p / sum(picks.values()) for j, p in picks.items() if labels[i] == labels[j]]
        if positive:
            total += np.mean([(1 - p**q) / q for p in positive])
    return total / len(z)


def extreme(choose, allowed):
    """Partner by the loops' own similarity; `allowed` is (i, j) -> bool."""
    row = []
    for i in range(6):
        candidates = {float(Z[i] @ Z[j]): j for j in range(6) if j != i and allowed(i, j)}
        row.append(candidates[choose(candidates)] if candidates else i)
    return tuple(row)


def test_partners_mixtures_and_loss():
    method = selecmix.make(SETTINGS, TrainingSet(LABELS, 6))
    assert method.networks["auxiliary"] == ("projected", 2.0)
    assert method.networks["main"] == ("classifier", 1.0)
    values, metrics, mixtures, _ = run(selecmix.make, LABELS)
    rows, shares = partners(mixtures)
    positives = extreme(min, lambda i, j: LABELS[i] == LABELS[j])
    negatives = extreme(max, lambda i, j: LABELS[i] != LABELS[j])
    assert positives[5] == 5  # alone in its class
    # One coin for the whole batch, within four standard deviations of a half.
    assert set(rows) == {positives, negatives}
    assert abs(rows.count(positives) - KEYS / 2) < 4 * np.sqrt(KEYS / 4)
    assert len(set(shares.round(6))) > 0.9 * len(shares)  # every image has its own
    assert 0 <= shares.min() < 0.01
    assert 0.49 < shares.max() <= 0.5
    np.testing.assert_allclose(shares.mean(), 0.25, atol=4 * 0.5 / np.sqrt(12 * len(shares)))

    auxiliary = contrastive_by_loops(Z, LABELS)
    np.testing.assert_allclose(metrics["auxiliary_loss"], auxiliary, rtol=1e-5)
    for value, mixture, row, mixed in zip(
        values[:20], mixtures, rows, metrics["mixed_share"], strict=False
    ):
        np.testing.assert_allclose(value, mean_ce(mixture, row) + auxiliary, rtol=1e-4)
        np.testing.assert_allclose(mixed, 1 if row == negatives else 5 / 6, rtol=1e-6)
    right = np.mean(np.argmax(mixtures[0] @ LOGITS, axis=1) == LABELS[list(rows[0])])
    np.testing.assert_allclose(metrics["train_accuracy"][0], right, rtol=1e-6)


def test_all_dissimilar_is_no_reason_to_stay_in_the_class():
    """The most similar image of another class is taken although every similarity is negative."""
    angles = np.radians([0, 10, -30, 180, 150, 225])
    z = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1)
    _, _, mixtures, _ = run(selecmix.make, np.array([0, 0, 0, 1, 1, 1]), z)
    # The widest angle within the class; the narrowest to the other class, all above 90 degrees.
    assert set(partners(mixtures)[0]) == {(2, 2, 1, 5, 5, 4), (5, 4, 5, 2, 1, 2)}


def test_partners_by_the_amplifier():
    method = selecmix.make_on_amplifier(SETTINGS, TrainingSet(LABELS, 6, bias=PREDICTED))
    assert set(method.networks) == {"main"}
    assert method.columns == ("given_bias",)
    values, metrics, mixtures, (of_z, _) = run(selecmix.make_on_amplifier, LABELS)
    np.testing.assert_array_equal(of_z, 0)
    rows, _ = partners(mixtures)
    same_label, same_guess = LABELS[:, None] == LABELS, PREDICTED[:, None] == PREDICTED
    ways = {
        "positives": [set(np.flatnonzero(same_label[i] & ~same_guess[i])) or {i} for i in range(6)],
        "negatives": [set(np.flatnonzero(~same_label[i] & same_guess[i])) or {i} for i in range(6)],
    }
    assert ways["positives"] == [{2}, {1}, {0, 3}, {2}, {4}, {5}]
    assert ways["negatives"] == [{5}, {2}, {1, 4}, {5}, {2}, {0, 3}]
    found = {
        way: [row for row in rows if all(j in w for j, w in zip(row, wanted, strict=True))]
        for way, wanted in ways.items()
    }
    assert sum(map(len, found.values())) == KEYS
    assert abs(len(found["positives"]) - KEYS / 2) < 4 * np.sqrt(KEYS / 4)
    for way, image, one in (("positives", 2, 0), ("negatives", 2, 1), ("negatives", 5, 0)):
        number = len(found[way])
        count = sum(row[image] == one for row in found[way])
        assert abs(count - number / 2) < 4 * np.sqrt(number / 4)  # ties are broken evenly
    # Images 2 and 5 are drawn for apart from each other.
    assert len({(row[2], row[5]) for row in found["negatives"]}) == 4
    for value, mixture, row in zip(values[:20], mixtures, rows, strict=False):
        np.testing.assert_allclose(value, mean_ce(mixture, row), rtol=1e-4)
    np.testing.assert_allclose(
        metrics["mixed_share"],
        [np.mean([j != i for i, j in enumerate(row)]) for row in rows],
        rtol=1e-6,
    )


def test_gradients_do_not_cross():
    """The auxiliary network's is that of the contrastive loss alone, whatever was mixed."""
    of_z, of_weights = run(selecmix.make, LABELS)[-1]
    step = 1e-6
    expected = np.zeros_like(Z)
    for place in np.ndindex(*Z.shape):
        shift = np.zeros_like(Z)
        shift[place] = step
        up, down = (contrastive_by_loops(z, LABELS) for z in (Z + shift, Z - shift))
        expected[place] = (up - down) / (2 * step)
    np.testing.assert_allclose(of_z, np.broadcast_to(expected, of_z.shape), atol=1e-5)

    # The released code's form has q times that gradient, and the classifier's is as it was.
    of_z_scaled, of_weights_scaled = run(selecmix.make, LABELS, scaled=True)[-1]
    np.testing.assert_allclose(of_z_scaled[0], 0.7 * expected, atol=1e-5)
    np.testing.assert_allclose(of_weights_scaled, of_weights, atol=1e-6)
    assert np.abs(of_weights).max() > 0.01


@pytest.mark.parametrize("labels", [np.ones(6, int), np.arange(6), np.array([2])])
def test_batches_without_candidates(labels):
    """One class, a class apiece, one image: what has no candidate stays whole; no NaN."""
    number = len(labels)
    values, metrics, mixtures, gradients = run(selecmix.make, labels)
    whole = metrics["mixed_share"] == 0
    assert whole.all() if number == 1 else set(whole) == {False, True}
    # Own images and own labels then.
    own = np.mean([np.log(np.exp(LOGITS[i]).sum()) - LOGITS[i, y] for i, y in enumerate(labels)])
    expected = own + contrastive_by_loops(Z[:number], labels)
    np.testing.assert_allclose(values[whole], expected, rtol=1e-5)
    np.testing.assert_array_equal(mixtures[whole], np.tile(np.eye(number), (whole.sum(), 1, 1)))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0.0), ("gce_q", 1.5), ("auxiliary_lr_scale", -1.0)]
)
def test_refused_settings(field, value):
    settings = SimpleNamespace(**{**vars(SETTINGS), field: value})
    with pytest.raises(ValueError, match=f"{field} of SelecMix is {value}"):
        selecmix.make(settings, TrainingSet(LABELS, 6))


def test_refused():
    settings = SimpleNamespace(**{**vars(SETTINGS), "gce_q": 0.0, "gce_scaled": True})
    with pytest.raises(ValueError, match="gce_q of SelecMix is 0"):
        selecmix.make(settings, TrainingSet(LABELS, 6))
    with pytest.raises(ValueError, match="prediction"):
        selecmix.make_on_amplifier(SETTINGS, TrainingSet(LABELS, 6))
