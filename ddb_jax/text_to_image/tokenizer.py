"""CLIP's tokenizer from a published folder, and a small one trained on given captions.

CLIP splits lower-cased text into words, and joins the bytes of a word in a learned order of merges
(Radford et al. 2021; Sennrich et al. 2016). The rules are those of the transformers library's
CLIPTokenizer: unlike OpenAI's code it neither repairs encodings nor resolves HTML entities.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ddb_jax.models.file_content import stand_in
from ddb_jax.runtime.files import make_folder, write_atomically
from ddb_jax.text_to_image.layout import read_model_json

log = logging.getLogger("ddb_jax")

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77  # tokens of a text, START and END included
END_OF_WORD = "</w>"
# Where a folder does not say, the padding token is END, as in Stable Diffusion 1.x; 2.x says "!".
SPECIAL = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
# Options of an added token that matter to the tokens of a text.
OPTIONS = ("single_word", "lstrip", "rstrip", "normalized")
# The words of a text: special tokens, English endings, runs of letters, single digits, and runs of
# anything else but spaces (github.com/openai/CLIP, clip/simple_tokenizer.py).
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def load_tokenizer(
    folder: Path | str, length: int = LENGTH
) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from B texts to int32 [B, length]: START, the text, END and padding.

    A text of more than length - 2 tokens loses its end; a warning of the log counts such texts,
    once for every text.

    Args:
        folder: Has vocab.json and merges.txt, or else tokenizer.json; the files
            tokenizer_config.json, special_tokens_map.json and added_tokens.json are read if there.
        length: Tokens of a text.

    Raises:
        ValueError: If a file is missing or damaged, or a token is not in the vocabulary.
    """
    library, folder = _tokenizers(), Path(folder)
    vocabulary, merges, added = _read_vocabulary(folder)
    config = _read_json(folder / "tokenizer_config.json", {})
    special = SPECIAL | {key: config[key] for key in SPECIAL if config.get(key)}
    if "added_tokens_decoder" in config:
        added = [{**t, "id": int(i)} for i, t in config["added_tokens_decoder"].items()]
    else:
        named = _read_json(folder / "special_tokens_map.json", {})
        special |= {key: named[key] for key in SPECIAL if named.get(key)}
        late = _read_json(folder / "added_tokens.json", {})
        added += [{"content": content, "id": i} for content, i in late.items()]
    special = {k: {"content": v} if isinstance(v, str) else v for k, v in special.items()}
    names = {key: token["content"] for key, token in special.items()}

    absent = sorted(set(names.values()) - vocabulary.keys() - {t["content"] for t in added})
    if absent:
        raise ValueError(f"the vocabulary of {folder} has no {' and no '.join(absent)}")
    try:
        model = library.models.BPE(
            vocabulary, merges, unk_token=names["unk_token"], end_of_word_suffix=END_OF_WORD
        )
    except Exception as error:  # the library raises no narrower class
        raise ValueError(f"the merges of {folder} do not fit its vocabulary: {error}") from None
    tokenizer = library.Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = _normalizer(), _words_of_bytes()

    # As in the transformers library, what a token is as padding goes over what it is as END.
    tokens = {t["content"]: t for t in (*special.values(), *added)}
    for token in sorted(tokens.values(), key=lambda t: t.get("id", -1)):
        content, options = token["content"], {key: token[key] for key in OPTIONS if key in token}
        is_special = token.get("special", False) or content in names.values()
        tokenizer.add_tokens([library.AddedToken(content, special=is_special, **options)])
        given = tokenizer.token_to_id(content)
        if token.get("id", given) != given:
            raise ValueError(f"{folder} numbers {content} {token['id']}, but that is not free")
    ids = {key: tokenizer.token_to_id(content) for key, content in names.items()}

    start, end = ((names[key], ids[key]) for key in ("bos_token", "eos_token"))
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single=[start[0], "$A", end[0]], special_tokens=[start, end]
    )
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=ids["pad_token"], pad_token=names["pad_token"], length=length)

    told: set[str] = set()

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        encodings = tokenizer.encode_batch(list(texts))
        tokens = np.array([e.ids for e in encodings], np.int32).reshape(-1, length)
        cut = {text for text, e in zip(texts, encodings, strict=True) if e.overflowing}
        if cut - told:
            told.update(cut)
            log.warning("warning: %s", _cut_note(texts, cut, tokens))
        return tokens

    return tokenize


def _cut_note(texts: Sequence[str], cut: Collection[str], tokens: np.ndarray) -> str:
    """How many texts lose their end, and how many of them are then no longer told apart."""
    first = next(text for text in texts if text in cut)
    different = len(set(texts))
    left = len({row.tobytes() for row in tokens})
    same = f", and {different:,} different texts become {left:,}" if left < different else ""
    return (
        f"{len(cut):,} of {different:,} texts have more than {tokens.shape[1] - 2} tokens and lose"
        f" their end{same}; put what matters first, or shorten them. The first is"
        f" {' '.join(first.split()[:8])!r} ..."
    )


def train_tokenizer(captions: Iterable[str], folder: Path, vocab_size: int = 49408) -> int:
    """Write a tokenizer with a token for each word of `captions`, commonest first.

    The folder gets vocab.json, merges.txt, special_tokens_map.json and tokenizer_config.json, which
    CLIPTokenizer of the transformers library reads too; texts are padded with END. Other words are
    spelled in parts of these. The same captions, in any order, give the same files.

    Args:
        captions: At least one text.
        folder: Made if missing.
        vocab_size: At most so many tokens; words that find no place are spelled in parts.

    Returns:
        The number of tokens: 512 for bytes, those of the words and their parts, START and END.

    Raises:
        ValueError: If there is no caption, or vocab_size is below 514.
    """
    library = _tokenizers()
    # In CLIP's order, which puts "!" first.
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    alphabet += [byte + END_OF_WORD for byte in alphabet]
    least = len(alphabet) + 2
    if vocab_size < least:
        raise ValueError(f"vocab_size = {vocab_size} is too small: the bytes alone take {least}")
    normalize, split = _normalizer().normalize_str, _words_of_bytes().pre_tokenize_str
    captions = list(captions)
    if not captions:
        raise ValueError("a tokenizer is trained on captions, and there are none")
    words = Counter(word for caption in captions for word, _ in split(normalize(caption)))

    # Not the trainer of the library, which counts pairs: here a common word is always one token. A
    # merge that comes after others leaves the words that those have made whole as they are.
    merges: dict[tuple[str, str], int] = {}
    for word in sorted(words, key=lambda word: (-words[word], word)):
        while len(merges) < vocab_size - least and len(parts := _merge(word, merges)) > 1:
            merges[parts[0], parts[1]] = len(merges)
    tokens = [*dict.fromkeys((*alphabet, *map("".join, merges))), START, END]

    make_folder(folder)
    config = SPECIAL | {"model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}
    for name, value in (
        ("vocab.json", {token: i for i, token in enumerate(tokens)}),
        ("special_tokens_map.json", SPECIAL),
        ("tokenizer_config.json", config),
    ):
        text = json.dumps(value, indent=2, ensure_ascii=False)
        write_atomically(folder / name, text + "\n")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    write_atomically(folder / "merges.txt", "\n".join(lines) + "\n")
    return len(tokens)


def _merge(word: str, merges: Mapping[tuple[str, str], int]) -> list[str]:
    """The tokens of a word: of the pairs side by side, the earliest merge is made, then again."""
    parts = [*word[:-1], word[-1] + END_OF_WORD]
    while True:
        known = [i for i, pair in enumerate(pairwise(parts)) if pair in merges]
        if not known:
            return parts
        i = min(known, key=lambda i: merges[parts[i], parts[i + 1]])
        parts[i : i + 2] = ["".join(parts[i : i + 2])]


def _normalizer() -> Any:
    """Composed characters, single spaces, lower case."""
    library = _tokenizers()
    spaces = library.normalizers.Replace(library.Regex(r"\s+"), " ")
    return library.normalizers.Sequence(
        [library.normalizers.NFC(), spaces, library.normalizers.Lowercase()]
    )


def _words_of_bytes() -> Any:
    """Words, each of its UTF-8 bytes as printable characters."""
    library = _tokenizers()
    words = library.pre_tokenizers.Split(library.Regex(WORDS), behavior="removed", invert=True)
    return library.pre_tokenizers.Sequence(
        [words, library.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _read_vocabulary(
    folder: Path,
) -> tuple[dict[str, int], list[tuple[str, str]], list[dict[str, Any]]]:
    """Token -> number, the merges in their order, and tokens that tokenizer.json adds."""
    vocab, merges, whole = (
        folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json")
    )
    if vocab.is_file() and merges.is_file():
        for path in (vocab, merges):
            if other := stand_in(path):
                raise ValueError(f"{path} {other}")
        try:
            return *_tokenizers().models.BPE.read_file(str(vocab), str(merges)), []
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"{vocab} or {merges} is damaged: {error}") from None
    # Not Tokenizer.from_file: which tokens start, end and pad a text, and to what length, is in the
    # other files of the folder, so all that follows would still be needed.
    if not whole.is_file():
        absent = [path.name for path in (vocab, merges) if not path.is_file()]
        raise ValueError(f"{folder} has no {' and no '.join(absent)}, and no tokenizer.json")
    content = _read_json(whole, {})
    model = content.get("model", {})
    if not {"vocab", "merges"} <= model.keys():
        raise ValueError(f"{whole} holds no byte pairs")
    pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    return model["vocab"], pairs, content.get("added_tokens", [])


def _read_json(path: Path, default: dict[str, Any]) -> dict[str, Any]:
    """The object in a JSON file, or `default` if there is no such file."""
    return read_model_json(path) if path.is_file() else default


def _tokenizers() -> ModuleType:
    """The library, which only those who use texts need."""
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ValueError(
            "texts need the tokenizers library: pip install -e '.[text_to_image]'"
        ) from None
    return tokenizers
