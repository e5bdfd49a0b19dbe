"""The stages that draw images against the bias with DDB's own model; networks of random weights."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from runs import StopAfter, assert_same_weights, weights

from ddb_jax.configs import digits
from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.files import read_json, write_json
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.common.classifier_training import load_classifier
from ddb_jax.stages.common.generator import build_unet, init_unet_params
from ddb_jax.stages.common.networks import build_classifier, init_variables
from ddb_jax.stages.common.sampled_set import load_sampled
from ddb_jax.stages.common.scores_table import COLUMNS, write_scores
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated import steer, train_balanced_diffusion
from ddb_jax.training.checkpoint import save_weights
from ddb_jax.training.mesh import make_mesh

SIDE = 4
CLASSES = ("cat", "dog")
LABELS = np.arange(24, dtype=np.int32) % 2
CONFLICTING = np.isin(np.arange(24), (0, 1, 2))  # two cats and a dog
# train_biased is right on 5 cats and 4 dogs.
RIGHT = np.isin(np.arange(24), (0, 2, 4, 6, 8, 1, 3, 5, 7))


@pytest.fixture
def config() -> ConfigDict:
    c = digits.get_config("smoke")
    c.diffusion.image_size = SIDE
    c.diffusion.batch_size = 8
    c.diffusion.num_steps = 20
    c.diffusion.warmup_steps = 10
    c.diffusion.learning_rate = 1e-2
    c.diffusion.checkpoint_every = 2
    c.unet.channels = 8
    c.unet.channel_mults = (1,)
    c.unet.attention_resolutions = ()
    c.synthesis.num_steps = 2
    c.synthesis.batch_size = 3
    c.synthesis.shard_size = 4
    c.amplifier.network, c.amplifier.width, c.amplifier.image_size = "mlp", 8, 0
    c.steering.guidance_scale = c.steering.rejection_guidance_scale = 2.0
    c.steering.fine_tune_steps = 6
    return c


@pytest.fixture
def upstream(tmp_path, config) -> dict:
    """The folders of the stages before, by what they are called."""
    unet = build_unet(config, len(CLASSES))
    fresh = jax.eval_shape(lambda: init_unet_params(unet, jax.random.key(0), (SIDE, SIDE, 3)))
    for seed, name in enumerate(("train_diffusion", "train_balanced_diffusion")):
        save(tmp_path / name, {"params": random_like(fresh, seed, 0.1)})
    amplifier = build_classifier(config.amplifier, len(CLASSES))
    fresh = jax.eval_shape(lambda: init_variables(amplifier, jax.random.key(0), SIDE))
    save(tmp_path / "train_amplifier", random_like(fresh, 2, 0.5))
    rows = dict.fromkeys(COLUMNS, np.full(24, -1))
    rows |= {
        "split": np.full(24, "train", object),
        "label": LABELS,
        "predicted": np.where(RIGHT, LABELS, 1 - LABELS),
        "pseudo_conflicting": CONFLICTING.astype(np.int32),
    }
    for name in ("train_biased", "score"):
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name / "scores.csv", rows)
    return {path.name: path for path in tmp_path.iterdir()}


def random_like(tree, seed, deviation):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(0, deviation, x.shape).astype(x.dtype), tree)


def save(folder, variables):
    folder.mkdir()
    save_weights(folder / "weights", variables)
    write_json(folder / "done.json", {"fingerprint": folder.name})


def make_context(config, upstream, folder, **fields) -> Context:
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), np.uint8)
    source = ArraySource(images, LABELS, np.full(24, -1))
    dataset = Dataset("pets", source, source, source, CLASSES)
    return Context(
        config=config, dataset=dataset, mesh=make_mesh(1),
        stop=StopFlag(), name=f"seed_0/{folder.name}", seed=0, folder=folder, inputs=upstream,
        **fields,
    )  # fmt: skip


def drawn(config, upstream, folder, by) -> np.ndarray:
    steer.run(make_context(config, upstream, folder, options={"by": by}))
    source, finite = load_sampled(folder)
    assert finite.all()
    # 5 cats and 4 dogs in turn.
    np.testing.assert_array_equal(source.labels, [0, 1, 0, 1, 0, 1, 0, 1, 0])
    return source.images.astype(int)


def test_images_depend_on_neither_batch_nor_interruption(config, upstream, tmp_path):
    whole = drawn(config, upstream, tmp_path / "whole", "gradient")
    context = make_context(config, upstream, tmp_path / "again", options={"by": "gradient"})
    with pytest.raises(Interrupted):
        steer.run(replace(context, stop=StopAfter(3)))
    assert len(list((tmp_path / "again").glob("*.arrayrecord"))) == 1
    np.testing.assert_array_equal(drawn(config, upstream, tmp_path / "again", "gradient"), whole)
    config.synthesis.batch_size = config.synthesis.shard_size = 9
    other = drawn(config, upstream, tmp_path / "other", "gradient")
    assert np.abs(other - whole).max() <= 1


def test_a_scale_of_zero_is_plain_sampling(config, upstream, tmp_path):
    plain = drawn(config, upstream, tmp_path / "plain", "none")
    config.steering.gradient_scale = config.steering.difference_scale = 0.0
    for by in ("gradient", "difference"):
        np.testing.assert_array_equal(drawn(config, upstream, tmp_path / by, by), plain)


def test_the_amplifier_believes_less_in_the_class(config, upstream, tmp_path):
    config.steering.gradient_scale = 3.0
    probability = {}
    for by in ("none", "gradient"):
        drawn(config, upstream, tmp_path / by, by)
        source = load_sampled(tmp_path / by)[0]
        context = make_context(config, upstream, tmp_path / by)
        folder = upstream["train_amplifier"]
        probability[by] = load_classifier(context, config.amplifier, 2, folder, source)(
            source
        ).probability
    assert np.mean(probability["gradient"]) < np.mean(probability["none"]) - 0.1
    manifest = read_json(tmp_path / "gradient" / "manifest.json")
    assert (manifest["steered_by"], manifest["scale"]) == ("gradient", 3.0)
    assert manifest["amplifier"] == "train_amplifier"
    assert manifest["counts"] == {"cat": 5, "dog": 4}


def test_a_difference_of_one_is_the_balanced_model(config, upstream, tmp_path):
    config.steering.difference_scale = 1.0
    balanced = drawn(config, upstream, tmp_path / "difference", "difference")
    swapped = {**upstream, "train_diffusion": upstream["train_balanced_diffusion"]}
    np.testing.assert_array_equal(drawn(config, swapped, tmp_path / "plain", "none"), balanced)
    assert np.abs(drawn(config, upstream, tmp_path / "none", "none") - balanced).max() > 1


def test_balanced_training_resumes_to_the_same_weights(config, upstream, tmp_path):
    contexts = [make_context(config, upstream, tmp_path / name) for name in ("whole", "again")]
    train_balanced_diffusion.run(contexts[0])
    with pytest.raises(Interrupted):
        train_balanced_diffusion.run(replace(contexts[1], stop=StopAfter(3)))
    train_balanced_diffusion.run(contexts[1])
    assert_same_weights(tmp_path / "whole", tmp_path / "again")


def test_balanced_training_goes_on_from_the_diffusion_model_with_groups_in_turn(
    config, upstream, tmp_path, monkeypatch
):
    seen = []
    train_batches = train_balanced_diffusion.train_batches

    def recording(*args, **options):
        for batch in train_batches(*args, **options):
            seen.append(batch["index"])
            yield batch

    monkeypatch.setattr(train_balanced_diffusion, "train_batches", recording)
    monkeypatch.setattr(train_balanced_diffusion, "save_samples", lambda *args: None)
    config.diffusion.learning_rate = 0.0
    train_balanced_diffusion.run(make_context(config, upstream, tmp_path / "kept"))
    start, end = (weights(tmp_path / name) for name in ("train_diffusion", "kept"))
    for name, values in start.items():
        np.testing.assert_allclose(end[name], values, rtol=1e-5, atol=1e-7)
    assert len(seen) == 6
    for indices in seen:
        # Two of each of the four pairs of class and verdict.
        pairs = 2 * LABELS[indices] + CONFLICTING[indices]
        np.testing.assert_array_equal(np.bincount(pairs, minlength=4), [2, 2, 2, 2])


def test_fine_tuning_keeps_the_share_of_the_warm_up(config):
    settings = train_balanced_diffusion._fine_tuning(config).diffusion
    assert (settings.num_steps, settings.warmup_steps) == (6, 3)
    assert (config.diffusion.num_steps, config.diffusion.warmup_steps) == (20, 10)


def test_nothing_to_balance_is_refused(config, upstream, tmp_path):
    path = upstream["score"] / "scores.csv"
    rows = dict.fromkeys(COLUMNS, np.full(24, -1))
    rows |= {
        "split": np.full(24, "train", object),
        "label": LABELS,
        "pseudo_conflicting": np.zeros(24, np.int32),
    }
    write_scores(path, rows)
    with pytest.raises(UserError, match=r"nothing to balance: loosen config\.pseudo_groups"):
        train_balanced_diffusion.run(make_context(config, upstream, tmp_path / "none"))
