"""Tables, folders and weights that cannot be used, as the rows of `bad_inputs.py` name them."""

from pathlib import Path

import numpy as np
from PIL import Image

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 99\n"
PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200)

# Two classes of eight images, below which most tables lie.
TABLES: dict[str, bytes | str] = {
    "columns.csv": "file,class\ncat/0.png,cat\n",
    "semicolons.csv": "path;label\ncat/0.png;cat\n",
    "tabs.csv": "path\tlabel\ncat/0.png\tcat\n",
    "excel.csv": b"PK\x03\x04" + bytes(40),
    "utf16.csv": "path,label\ncat/0.png,cat\n".encode("utf-16"),
    "latin.csv": "path,label\ncat/0.png,k\u00fche\n".encode("latin-1"),
    "pointer.csv": POINTER,
    "page.csv": PAGE,
    "empty.csv": b"",
    "header.csv": "path,label\n",
    "gone.csv": "path,label\ncat/0.png,cat\ndog/99.png,dog\n",
    "one.csv": "path,label\ncat/0.png,cat\ncat/1.png,cat\n",
    "gaps.csv": "path,label\ncat/0.png,1\ndog/0.png,3\n",
    "fox.csv": "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,train\ndog/1.png,fox,test\n",
    "split.csv": "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,holdout\n",
    "nan.csv": "path,label\ncat/0.png,cat\ndog/0.png,nan\n",
    "quote.csv": 'path,label\ncat/0.png,cat\ndog/0.png,"dog\n',
    "case.csv": "path,label\ncat/0.png,Cat\ncat/1.png,cat\ndog/0.png,dog\n",
    "twice.csv": "path,label\ncat/0.png,cat\n./cat/0.png,cat\ndog/0.png,dog\n",
    "equal.csv": "path,label,Label\ncat/0.png,cat,x\n",
    "short.csv": "path,label\ncat/0.png,cat\ndog/0.png\n",
    "pairs.csv": "path,label,bias\ncat/0.png,cat,sea\ndog/0.png,dog,sea\n",
    "scores_nobody.csv": "path,loss\nelsewhere/1,0.5\n",
    "scores_none.csv": "path,note\n0,x\n",
    "scores_word.csv": "split,index,loss\ntrain,0,high\n",
    "captions.csv": "label,text\ncat,a cat\n",
    "captioned.csv": "file,caption\na.png,x\n",
}
FOLDERS = {
    "nothing": [],
    "empty_class": ["cat/", "dog/0.png"],
    "texts": ["cat/a.txt", "dog/0.png"],
    "one_class": ["cat/0.png"],
    "flat": ["0.png", "1.png"],
    "no_train": ["test/a/0.png", "test/b/0.png"],
    "new_class": ["train/a/0.png", "train/b/0.png", "test/c/0.png"],
    "two_tests": [f"{s}/{c}/0.png" for s in ("train", "test", "testing") for c in "ab"],
    "look_alike": ["Cat/0.png", "cat/0.png", "dog/0.png"],
    "above": [f"{site}/{c}/0.png" for site in ("north", "south") for c in "ab"],
    "line_break": ["cat/0.png", "do\ng/0.png"],
}


def write_inputs(root: Path) -> None:
    """Everything that the rows of BAD name."""
    rng = np.random.default_rng(0)
    for name in ("pets/cat", "pets/dog", "heic/cat", "heic/dog", "cut/cat", "cut/dog"):
        (root / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / "heic/cat/9.jpg").write_bytes(HEIC)
    (root / "cut/cat/9.png").write_bytes((root / "cut/cat/0.png").read_bytes()[:99])
    for name, content in TABLES.items():
        data = content.encode() if isinstance(content, str) else content
        (root / "pets" / name).write_bytes(data)
    for name, paths in FOLDERS.items():
        (root / name).mkdir()
        for path in paths:
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            if path.endswith("/"):
                (root / name / path).mkdir(exist_ok=True)
            else:
                (root / name / path).touch()
    (root / "weights.pth").write_bytes(POINTER)
    (root / "weights.safetensors").write_bytes((99).to_bytes(8, "little") + b'{"a":')
    (root / "weights.bin").write_bytes(b"")
    (root / "sd").mkdir()
    (root / "a_file").write_text("text")
    (root / "broken.py").write_text("def get_config(preset=''):\n    return 1 / 0\n")
