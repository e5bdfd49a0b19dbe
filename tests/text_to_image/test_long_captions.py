"""Captions that are longer than a text may be."""

import logging

import pytest

from ddb_jax.text_to_image.tokenizer import load_tokenizer, train_tokenizer

pytest.importorskip("tokenizers")


def test_captions_that_lose_their_end_are_counted_once(tmp_path, caplog):
    long = " ".join(["quiet", "scene"] * 40)  # 80 tokens, and what tells them apart comes last
    captions = [f"{long} ball", f"{long} box", "a ball", " ".join(["quiet"] * 75)]
    train_tokenizer(captions, tmp_path)
    tokenize = load_tokenizer(tmp_path)
    with caplog.at_level(logging.WARNING, "ddb_jax"):
        tokens = tokenize(captions)
        tokenize(captions[:2])
    assert tokens.shape == (4, 77) and (tokens[0] == tokens[1]).all()
    assert [record.message for record in caplog.records] == [
        "warning: 2 of 4 texts have more than 75 tokens and lose their end, and 4 different texts"
        " become 3; put what matters first, or shorten them. The first is 'quiet scene quiet scene"
        " quiet scene quiet scene' ..."
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ddb_jax"):
        tokenize([f"a {long}"])
        tokenize(captions[2:])
    assert [record.message[:62] for record in caplog.records] == [
        "warning: 1 of 1 texts have more than 75 tokens and lose their "
    ]
