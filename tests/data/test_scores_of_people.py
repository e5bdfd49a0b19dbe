"""Files of scores as pandas, spreadsheets and people write them."""

import numpy as np
import pytest

from ddb_jax.data.scores_file import read_given_scores

PATHS = {"train": ["k\u00fch.png", "b.png"], "validation": [], "test": []}
LABELS = {split: np.arange(len(paths)) for split, paths in PATHS.items()}


def read(tmp_path, text):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return read_given_scores(path, PATHS, LABELS, ("cat", "dog"))[0]["train"]


@pytest.mark.parametrize(
    ("text", "column", "values"),
    [
        ("path,loss\nku\u0308h.png,1\nb.png,2\n", "loss", [1, 2]),
        ("split,index,loss\nTrain\u00a0,1.0,2\ntrain,0.0,1\n", "loss", [1, 2]),
        ("path,loss,predicted\nk\u00fch.png,1,1.0\nb.png,2,cat\u00a0\n", "predicted", [1, 0]),
        ("path,conflicting_guess\nk\u00fch.png,1.0\nb.png,0.0\n", "flagged", [True, False]),
        ("path,conflicting_guess\nk\u00fch.png,TRUE\nb.png,False\n", "flagged", [True, False]),
        ("path,loss,predicted\nk\u00fch.png,1,nan\nb.png,2,N/A\n", "predicted", None),
        ("path,score,loss\nk\u00fch.png,1,-1.0\nb.png,2,-1\n", "loss", None),
    ],
)
def test_spellings(tmp_path, text, column, values):
    found = getattr(read(tmp_path, text), column)
    assert found is None if values is None else found.tolist() == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,loss,Loss\nk\u00fch.png,1,5\nb.png,2,6\n", "more than one column 'loss'"),
        ('path,loss\nk\u00fch.png,"1\nb.png,2"\n', "line 2 .* quoted 'loss' .* like line 3: close"),
        ('path,loss\nk\u00fch.png,1\nb.png,"2\n', "line 3 of .* a quotation mark that opens"),
        ("path,loss\nk\u00fch.png,1_0\nb.png,2\n", "line 2: '1_0'"),
        ("path,loss\nk\u00fch.png,NA\nb.png,2\n", "1 values of loss .*line 2: 'NA'"),
        ("path,conflicting_guess\nk\u00fch.png,-1\nb.png,1\n", "not 0 or 1 .line 2: '-1'"),
        ("path;loss\nk\u00fch.png;1\nb.png;2\n", "by commas instead of semicolons"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=words) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)
