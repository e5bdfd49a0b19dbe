"""The captioned reference set: outside all splits, every colour, sentences that are true."""

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddb_jax.data.sets.captioned_digits import (
    NUMBER_WORDS,
    SENTENCES,
    VAGUE_SENTENCES,
    captioned_digits,
    sentence,
)
from ddb_jax.data.sets.digits import PALETTE, load_coloured_digits, split_off_reference


@pytest.fixture(scope="module")
def reference():
    return captioned_digits(image_size=8, reference_share=0.2, colour_jitter=0.0, seed=3)


def numbers(paths):
    return {int(path.split("/")[1]) for path in paths}


def test_reference_digits_are_in_no_split(reference):
    dataset = load_coloured_digits(image_size=8, seed=3, reference_share=0.2)
    parts = [numbers(source.paths) for source in dataset.splits.values()]
    parts.append(numbers(reference.paths))
    assert sum(map(len, parts)) == 1797 and set.union(*parts) == set(range(1797))
    # Aside ceil(0.2 * 1797) = 360, test ceil(0.25 * 1437) = 360, validation ceil(0.2 * 1077) = 216.
    assert [len(part) for part in parts] == [861, 216, 360, 360]
    assert "360 images of digits are in no split" in dataset.notes[0]
    # Chosen alike in every class.
    sizes, all_sizes = np.bincount(reference.digits), np.bincount(load_digits().target)
    np.testing.assert_allclose(sizes / 10 / all_sizes, 0.2, atol=0.01)


def test_without_a_reference_part_the_splits_are_what_they_were():
    plain = load_coloured_digits(image_size=8)
    zero = load_coloured_digits(image_size=8, reference_share=0.0)
    # Read off before there was a reference part.
    assert plain.test.paths[:3] == ("digits/001364", "digits/001579", "digits/001023")
    assert plain.notes == zero.notes and len(plain.notes) == 2
    for name, source in plain.splits.items():
        np.testing.assert_array_equal(source.images, zero.splits[name].images)
        assert source.paths == zero.splits[name].paths


def test_every_digit_in_every_colour(reference):
    assert len(set(reference.paths)) == len(reference.paths) == len(reference.images) == 3600
    colours, targets = list(PALETTE), load_digits().target
    for path, digit, colour in zip(
        reference.paths, reference.digits.tolist(), reference.colours.tolist(), strict=True
    ):
        _, number, name = path.split("/")
        assert name == colours[colour]
        assert digit == targets[int(number)]
    assert set(Counter(reference.colours.tolist()).values()) == {360}


def test_pixels_are_the_digit_times_its_colour(reference):
    digits = load_digits().images
    for i in (0, 17, 3599):
        _, number, name = reference.paths[i].split("/")
        expected = digits[int(number)][..., None] * np.array(PALETTE[name]) * 255 / 16
        assert np.max(np.abs(reference.images[i] - expected)) <= 0.501
    assert reference.images.dtype == np.uint8 and reference.images.shape[1:] == (8, 8, 3)


def test_jitter_differs_between_the_images_of_a_digit():
    jittered = captioned_digits(image_size=8, colour_jitter=0.03)
    orange = jittered.colours == list(PALETTE).index("orange")
    brightest = jittered.images[orange].reshape(360, -1, 3).max(1)[:, 1] / 255
    assert abs(brightest.mean() - 0.5) < 0.02
    assert 0.02 < brightest.std() < 0.04


def test_sentences_name_digit_and_colour_and_no_other(reference):
    for caption, digit, colour in zip(
        reference.captions, reference.digits.tolist(), reference.colours.tolist(), strict=True
    ):
        words = caption.split()
        assert [word for word in words if word in NUMBER_WORDS] == [NUMBER_WORDS[digit]]
        assert [word for word in words if word in PALETTE] == [list(PALETTE)[colour]]
    assert sentence(7, "green", 0) == "a green seven on black"
    assert sentence(8, "orange", len(SENTENCES)) == "an orange eight on black"
    assert sentence(0, "azure", 2) == "the digit zero in azure"
    assert not {"black", *NUMBER_WORDS} & set(PALETTE)


def test_every_form_is_as_frequent_for_every_digit_and_colour(reference):
    uses = Counter(reference.captions)
    assert len(uses) == 10 * 10 * len(SENTENCES)
    assert min(uses.values()) >= 5 and max(uses.values()) <= 7  # 35 to 37 digits, 6 forms


def test_vague_sentences_replace_the_share_asked_for_and_share_no_telling_word(reference):
    vague = captioned_digits(8, colour_jitter=0.0, vague_share=0.25, seed=3)
    np.testing.assert_array_equal(vague.images, reference.images)
    pairs = list(zip(vague.captions, reference.captions, strict=True))
    changed = Counter(now for now, before in pairs if now != before)
    assert sum(changed.values()) == 900  # a quarter of 3,600
    assert set(changed) == set(VAGUE_SENTENCES)
    assert min(changed.values()) > 70  # 112.5 expected, deviation 9.9
    telling = {word for caption in reference.captions for word in caption.split()}
    telling -= {"a", "an", "in", "the", "on"}
    assert not telling & {word for text in VAGUE_SENTENCES for word in text.split()}
    with pytest.raises(ValueError, match=r"vague_share is 1\.5"):
        captioned_digits(vague_share=1.5)


def test_seed_decides_everything():
    first, again, other = (captioned_digits(8, vague_share=0.3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert first.paths == again.paths != other.paths
    assert first.captions == again.captions


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(ValueError, match="reference_share is"):
        load_coloured_digits(reference_share=share)
    with pytest.raises(ValueError, match="reference_share is"):
        captioned_digits(reference_share=share)
    with pytest.raises(ValueError, match="reference_share is 0"):
        captioned_digits(reference_share=0)


def test_split_off_reference_of_nothing():
    kept, reference = split_off_reference(np.array([0, 0, 1, 1]), 0.0, 0)
    assert kept.tolist() == [0, 1, 2, 3] and reference.tolist() == []
