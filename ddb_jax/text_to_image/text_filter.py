"""DiffuBias' text filter: captions that name none of the most frequent words are dropped.

What the paper (arXiv 2411.16079) and its released code agree on: stop words are removed, the words
of the captions of all classes are counted together, the F = 2 x classes most frequent are chosen,
and a caption is kept that contains at least one. The paper speaks of containing a word; the code
looks for it as a substring, so that "man" keeps a caption with "woman" (`whole_words=False`).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

# English function words, which say how a sentence hangs together and not what is seen. Paper and
# code take NLTK's list of 179; this one is its kind: articles, pronouns, auxiliaries, prepositions,
# conjunctions, common adverbs, and what is left of contractions when split at the apostrophe. "one"
# is not among them, which is also a digit.
STOP_WORDS = frozenset(
    """
    a an the
    i me my myself we us our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself oneself
    they them their theirs themselves
    this that these those here there who whom whose which what when where why how
    be am is are was were been being do does did done doing have has had having
    can could may might must shall should will would ought need
    about above across after against along among around at before behind below beneath beside
    between beyond by down during for from in inside into near of off on onto out outside over past
    since through throughout to toward towards under until up upon via with within without
    and or nor but yet so if then else than because as while although though unless whether
    no not none never neither either both all any some each every few many more most much less
    least other others another such same own only just very too also even again once further
    now ever always quite rather almost perhaps however
    s t d m ll re ve ain aren couldn didn doesn don hadn hasn haven isn mightn mustn needn shan
    shouldn wasn weren won wouldn
    """.split()
)
TABLE_COLUMNS = ("label", "caption", "kept", "why")

_LETTERS = re.compile(r"[^\W\d_]+")


class FilterResult(NamedTuple):
    """What became of every caption.

    Attributes:
        kept: bool [N].
        reasons: N texts: the chosen words that a kept caption contains, or that it has none.
        words: The chosen words and how often each occurs, the most frequent first.
        classes_without: Classes that have no caption left, or had none.
        table: N rows of `TABLE_COLUMNS`, for a CSV file; kept is 1 or 0.
    """

    kept: np.ndarray
    reasons: tuple[str, ...]
    words: tuple[tuple[str, int], ...]
    classes_without: tuple[int, ...]
    table: tuple[tuple[int, str, int, str], ...]


def words_of(caption: str) -> list[str]:
    """The runs of letters of a caption, lower-cased: "A man's T-shirt" has a, man, s, t, shirt."""
    return _LETTERS.findall(_lower(caption))


def _lower(caption: str) -> str:
    """Lower case, every accented letter one character."""
    return unicodedata.normalize("NFC", caption).lower()


def most_frequent_words(
    captions: Sequence[str], count: int, stop_words: Collection[str] = STOP_WORDS
) -> tuple[tuple[str, int], ...]:
    """The most frequent words of all captions, and how often each occurs.

    Args:
        captions: Any number of texts.
        count: Words to return; fewer where there are not as many.
        stop_words: Lower-case words that do not count.

    Returns:
        The most frequent first; of equally frequent ones, the one that occurs first.
    """
    counts = Counter(word for caption in captions for word in words_of(caption))
    for word in stop_words:
        counts.pop(word, None)
    return tuple(counts.most_common(count))


def filter_captions(
    captions: Sequence[str],
    labels: np.ndarray,
    num_classes: int,
    *,
    words_per_class: int = 2,
    whole_words: bool = True,
    stop_words: Collection[str] = STOP_WORDS,
) -> FilterResult:
    """Keep the captions that contain one of the words_per_class x num_classes most frequent words.

    Args:
        captions: N texts.
        labels: int [N], 0 to num_classes - 1; the words are those of all classes together.
        num_classes: Number of classes, with a caption or without.
        words_per_class: 2 in paper and code. The code takes 6 classes, 12 words, unless told.
        whole_words: True is the paper's wording; False is the code's substring of the lower-cased
            caption.
        stop_words: Lower-case words that are never chosen.

    Raises:
        ValueError: words_per_class is below 1, a label is out of range, or the lengths differ.
    """
    labels = np.asarray(labels, np.int64)
    if words_per_class < 1:
        raise ValueError(f"words_per_class is {words_per_class}, it must be at least 1.")
    if len(captions) != len(labels):
        raise ValueError(f"there are {len(captions)} captions for {len(labels)} labels.")
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise ValueError(
            f"the label of caption {bad[0]} is {labels[bad[0]]}, it must lie in"
            f" 0..{num_classes - 1}."
        )
    words = most_frequent_words(captions, words_per_class * num_classes, stop_words)
    kept = np.zeros(len(captions), bool)
    reasons = []
    for i, caption in enumerate(captions):
        place = set(words_of(caption)) if whole_words else _lower(caption)
        found = [word for word, _ in words if word in place]
        kept[i] = bool(found)
        reasons.append(
            f"contains {', '.join(found)}" if found else "contains none of the frequent words"
        )
    left = np.bincount(labels[kept], minlength=num_classes)
    return FilterResult(
        kept=kept,
        reasons=tuple(reasons),
        words=words,
        classes_without=tuple(np.flatnonzero(left == 0).tolist()),
        table=tuple(
            zip(labels.tolist(), captions, kept.astype(int).tolist(), reasons, strict=True)
        ),
    )
