"""CLIP's tokenizer against a few lines of Python, and against the transformers library's."""

import itertools
import json
import re
import sys

import numpy as np
import pytest

from ddb_jax.text_to_image.tokenizer import load_tokenizer, train_tokenizer

pytest.importorskip("tokenizers")

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = ["t h", "th e</w>", "h e", "l l", "he ll", "hell o</w>", "l o", "o w</w>", "1 2</w>"]
AWKWARD = [
    "",
    " ",
    "hello",
    "Hello, WORLD!",
    "the  low\tlow\r\nhello\n",
    "word " * 90,
    "lower-lowest: hello!!! ...???",
    "12 345 6.78 1st ½ ² ⅷ ٣",
    "it's we're I'll you'd they've I'm don't 'tis ''s",
    "café naïve Ångström cafe\u0301 İstanbul ẞ ǅ",
    "漢字 かな カナ 한국어 \u3000 全角",
    "🙂👩‍👩‍👧 👍🏽 ♥️",
    "&amp; &lt;b&gt; &#39; <br/>",
    "a\u00a0b\u200bc\u2028d\ufeffe \x00 \x85 \x1f",
    "a_b #tag @name $5 100% (x+y)=z",
    "! hello! !! a!b",
    f"before {END} after {START}{END}x",
    "<|ENDOFTEXT|> <|startoftext| > |>",
    "привет Ελλάδα ΣΑΣ שלום مرحبا हिन्दी",
    "x" * 200,
]
CAPTIONS = [
    "a green seven on black",
    "The digit seven, in green!",
    "a photo of a café 🙂 & 12 hello low lower words",
]


def clip_bytes():
    """The printable character of each byte: itself, or the next one from 256 (OpenAI's table)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in own]
    return {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(rest)}


def clip_tokens(merges):
    """CLIP's vocabulary, in its order: bytes, bytes that end a word, merges, START and END."""
    characters = [clip_bytes()[b] for b in sorted(clip_bytes(), key=lambda b: clip_bytes()[b])]
    ends = [c + "</w>" for c in characters]
    return [*characters, *ends, *(merge.replace(" ", "") for merge in merges), START, END]


def write_folder(folder, merges=MERGES, **files):
    folder.mkdir(exist_ok=True, parents=True)
    vocabulary = {token: i for i, token in enumerate(clip_tokens(merges))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def token(content, **options):
    options = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False} | options
    return {"content": content, **options}


# As published: Stable Diffusion 1.5 and 2.1 say the same of all but the padding token.
NAMED = {"bos_token": token(START), "eos_token": token(END), "unk_token": token(END)}
CONFIG = {key: {"__type": "AddedToken", **value} for key, value in NAMED.items()} | {
    "add_prefix_space": False,
    "do_lower_case": True,
    "errors": "replace",
    "model_max_length": 77,
    "pad_token": END,
    "tokenizer_class": "CLIPTokenizer",
}
SD_1 = {"tokenizer_config": CONFIG, "special_tokens_map": NAMED | {"pad_token": END}}
SD_2 = {"tokenizer_config": CONFIG, "special_tokens_map": NAMED | {"pad_token": "!"}}
RESAVED = {
    "tokenizer_config": {
        "added_tokens_decoder": {
            "0": token("!", normalized=False, special=True),
            "521": token(START, normalized=True, special=True),
            "522": token(END, normalized=False, special=True),
        },
        "pad_token": "!",
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    },
}
TEXTUAL_INVERSION = SD_1 | {"added_tokens": {"<low-toy>": 523, "greeting": 524}}
FOLDERS = {"bare": {}, "1": SD_1, "2": SD_2, "resaved": RESAVED, "inverted": TEXTUAL_INVERSION}


def bytes_of(word):
    return "".join(clip_bytes()[b] for b in word.encode())


def plain_tokenizer(text, merges=MERGES):
    """Byte pairs by the book, for ASCII without special tokens: the tokens of a text."""
    words = re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower())
    tokens = []
    for word in map(bytes_of, words):
        parts = [*word[:-1], word[-1] + "</w>"]
        while True:
            pairs = [f"{a} {b}" for a, b in itertools.pairwise(parts)]
            first = min((m for m in merges if m in pairs), key=merges.index, default=None)
            if first is None:
                break
            i = pairs.index(first)
            parts[i : i + 2] = ["".join(parts[i : i + 2])]
        tokens += parts
    return tokens


@pytest.mark.parametrize("text", [t for t in AWKWARD if t.isascii() and "<|" not in t])
def test_ascii_texts_by_the_book(tmp_path, text):
    numbers = {t: i for i, t in enumerate(clip_tokens(MERGES))}
    expected = [numbers[START], *(numbers[t] for t in plain_tokenizer(text)[:75]), numbers[END]]
    expected += [numbers[END]] * (77 - len(expected))

    ids = load_tokenizer(write_folder(tmp_path))([text])
    assert ids.dtype == np.int32 and ids.shape == (1, 77)
    assert ids[0].tolist() == expected


def test_numbers_worked_out_by_hand(tmp_path):
    """Bytes are 0 to 511, the merges 512 to 520, START 521, END 522."""
    the, hello, low_l, ow = 513, 517, clip_tokens(MERGES).index("l"), 519
    texts = ["The HELLO low", ""]
    first = load_tokenizer(write_folder(tmp_path / "1", **SD_1), length=6)(texts)
    # "low": l, o, w</w> -> "l o" comes before "o w</w>" and leaves "lo" and "w</w>".
    lo, w = 518, 256 + "".join(clip_tokens(MERGES)[:256]).index("w")
    assert first.tolist() == [[521, the, hello, lo, w, 522], [521, 522, 522, 522, 522, 522]]
    assert (low_l, ow) == (75, 519)

    second = load_tokenizer(write_folder(tmp_path / "2", **SD_2), length=6)(texts)
    assert second.tolist() == [[521, the, hello, lo, w, 522], [521, 522, 0, 0, 0, 0]]


def test_no_text_at_all(tmp_path):
    assert load_tokenizer(write_folder(tmp_path))([]).shape == (0, 77)


def test_one_file_in_place_of_two(tmp_path):
    """tokenizer.json, with merges as pairs or, in older files, as strings."""
    vocabulary = {token: i for i, token in enumerate(clip_tokens(MERGES))}
    expected = load_tokenizer(write_folder(tmp_path, **SD_2))(AWKWARD)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    for merges in (MERGES, [merge.split(" ") for merge in MERGES]):
        content = {"model": {"vocab": vocabulary, "merges": merges}, "added_tokens": []}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        np.testing.assert_array_equal(load_tokenizer(tmp_path)(AWKWARD), expected)


def test_training_makes_a_token_of_every_word(tmp_path):
    size = train_tokenizer(CAPTIONS, tmp_path / "a")
    vocabulary = json.loads((tmp_path / "a" / "vocab.json").read_text())
    assert sorted(vocabulary.values()) == list(range(size))
    assert (vocabulary["!"], vocabulary[START], vocabulary[END]) == (0, size - 2, size - 1)

    tokenize = load_tokenizer(tmp_path / "a", length=9)
    words = ["a", "Green", "seven", "on", "black", "DIGIT", "café", "🙂", "&", "hello", "lower"]
    ids = tokenize(words)
    for word, row in zip(words, ids, strict=True):
        number = vocabulary[bytes_of(word.lower()) + "</w>"]
        assert row.tolist() == [size - 2, number] + [size - 1] * 7
    # Words that were not in the captions are still spelled, in more tokens and none unknown.
    assert size - 1 not in tokenize(["gr"])[0, 1:3]

    assert train_tokenizer(CAPTIONS[::-1], tmp_path / "b") == size
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_training_stops_at_the_size_of_the_vocabulary(tmp_path):
    """The commonest word first, from its left; then "slow" is "s" and "low", "hi" two bytes."""
    captions = ["slow hi", "low, low", "low slow"]
    assert train_tokenizer(captions, tmp_path, vocab_size=517) == 517
    merges = (tmp_path / "merges.txt").read_text().splitlines()
    assert merges == ["#version: 0.2", "l o", "lo w</w>", "s low</w>"]
    tokens = clip_tokens([])
    low, slow, start, end = 513, 514, 515, 516
    expected = [[start, low, slow, end], [start, tokens.index("h"), tokens.index("i</w>"), end]]
    assert load_tokenizer(tmp_path, length=4)(["low slow", "hi"]).tolist() == expected


def test_refusals_of_training(tmp_path):
    with pytest.raises(ValueError, match="trained on captions, and there are none"):
        train_tokenizer([], tmp_path)
    with pytest.raises(ValueError, match="vocab_size = 513 is too small"):
        train_tokenizer(["a"], tmp_path, vocab_size=513)


def test_refusals_of_folders(tmp_path):
    with pytest.raises(ValueError, match=r"no vocab\.json and no merges\.txt, and no tokenizer"):
        load_tokenizer(tmp_path)
    write_folder(tmp_path, special_tokens_map={"pad_token": "<pad>"})
    with pytest.raises(ValueError, match=r"the vocabulary of .* has no <pad>"):
        load_tokenizer(tmp_path)
    write_folder(tmp_path, merges=MERGES, added_tokens={"<toy>": 600}, special_tokens_map={})
    with pytest.raises(ValueError, match="numbers <toy> 600"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("q z\n")
    with pytest.raises(ValueError, match=r"merges of .* do not fit its vocabulary"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match=r"vocab\.json or .*merges\.txt is damaged"):
        load_tokenizer(tmp_path)


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[text_to_image\]'"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def clip_tokenizer():
    """The transformers library's, from a folder: texts to numbers [B, 77]."""
    reason = "compares with the transformers library"
    transformers = pytest.importorskip("transformers", reason=reason, exc_type=ImportError)

    def load(folder):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)

        def tokenize(texts):
            cut = {"padding": "max_length", "max_length": 77, "truncation": True}
            return np.array(tokenizer(texts, **cut).input_ids)

        tokenize.save = tokenizer.save_pretrained
        return tokenize

    return load


@pytest.mark.parity
@pytest.mark.parametrize("name", FOLDERS)
def test_parity_with_transformers(clip_tokenizer, tmp_path, name):
    folder = write_folder(tmp_path / "published", **FOLDERS[name])
    texts = [*AWKWARD, "a <low-toy> greeting Greeting lowgreetings <LOW-TOY>"]
    theirs = clip_tokenizer(folder)
    expected = theirs(texts)
    np.testing.assert_array_equal(load_tokenizer(folder)(texts), expected)

    # What their library saves today, tokenizer.json in place of the two files.
    theirs.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "vocab.json").exists()
    expected = clip_tokenizer(tmp_path / "saved")(texts)
    np.testing.assert_array_equal(load_tokenizer(tmp_path / "saved")(texts), expected)


@pytest.mark.parity
@pytest.mark.parametrize("vocab_size", [530, 49408])
def test_transformers_reads_what_training_writes(clip_tokenizer, tmp_path, vocab_size):
    train_tokenizer(CAPTIONS, tmp_path, vocab_size)
    texts = AWKWARD + CAPTIONS
    np.testing.assert_array_equal(load_tokenizer(tmp_path)(texts), clip_tokenizer(tmp_path)(texts))
