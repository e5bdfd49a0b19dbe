"""Files of the work directory: process 0 alone writes, and stages write in no other way."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from ddb_jax.runtime import files, work_directory
from ddb_jax.stages.common import contact_sheet
from ddb_jax.text_to_image import model_folder, published_params
from ddb_jax.training import metric_writer

PACKAGE = Path(__file__).parents[2] / "ddb_jax"
# What writes files, or reads them in a way that an object store does not have.
RAW = re.compile(
    r"""\bopen\((?!["']rb["'])   # of paths too; a reader of bytes may
    | np\.(save|savez|savez_compressed|savetxt|load|memmap)\(
    | \.(save|savefig)\((?!buffer)
    | \.(write_text|write_bytes|mkdir|touch|unlink|rename|symlink_to|rglob|glob|walk|stat)\(
    | \b(shutil|tempfile)\b
    | \bos\.(replace|rename|remove|unlink|mkdir|makedirs|rmdir|listdir|walk|path)\b
    | \.(copyfile|copytree|rmtree|save_file)\(
    """,
    re.VERBOSE,
)
# A file of the user, which is local; and what write_through gives a local file to write.
ALLOWED = (
    'with path.open(encoding="utf-8-sig", newline="") as file:',
    "safetensors.numpy.save_file(tensors, local, metadata=",
)
ROOMS = ("stages", "text_to_image", "evaluation", "run/pipeline.py")


def raw_lines(name: str, text: str) -> list[str]:
    lines = enumerate(text.splitlines(), 1)
    return [
        f"{name}:{number}: {line.strip()}"
        for number, line in lines
        if RAW.search(line.split("  #")[0]) and not any(allowed in line for allowed in ALLOWED)
    ]


def test_stages_write_through_files_alone():
    found = []
    for room in ROOMS:
        path = PACKAGE / room
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found += raw_lines(str(module.relative_to(PACKAGE)), module.read_text())
    assert not found, "write by ddb_jax.runtime.files instead:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        'with (folder / "a.txt").open("w") as file:',
        "with path.open() as file:",
        'with open(path, "wb") as file:',
        "np.save(path, x)",
        "x = np.load(path)",
        "shutil.copyfile(a, b)",
        "grid_image(rows, names).save(path)",
        "figure.savefig(path)",
        'path.write_text("x")',
        "folder.mkdir()",
        "os.replace(a, b)",
        "list(folder.glob('*.json'))",
    ],
)
def test_the_test_sees_a_raw_write(line):
    assert raw_lines("m.py", f"x = 1\n{line}\n") == [f"m.py:2: {line}"]
    assert not raw_lines("m.py", 'with path.open("rb") as file:\n    image.save(buffer)\n')


def test_the_other_processes_write_nothing(tmp_path, monkeypatch):
    for name in ("there", "tree/there"):
        (tmp_path / "given" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "given" / name).write_text("x")
    given, folder = tmp_path / "given", tmp_path / "own"
    folder.mkdir()

    def write_all():
        files.write_atomically(folder / "a.txt", "a")
        files.write_json(folder / "a.json", {})
        files.save_array(folder / "a.npy", np.zeros(2))
        files.write_through(folder / "a.bin", lambda local: local.write_text("a"))
        files.make_folder(folder / "new")
        files.copy_file(given / "there", folder / "there")
        files.copy_tree(given, folder / "copied")
        contact_sheet.save_grid(folder / "a.png", [np.zeros((1, 4, 4, 3), np.uint8)], ["a"])
        writer = metric_writer.MetricWriter(folder / "metrics")
        writer.write(1, {"loss": 1.0})
        writer.flush()
        writer.close()
        work_directory.open_stage(folder / "stage", {"fingerprint": "f"})

    with monkeypatch.context() as patch:
        patch.setattr(jax, "process_index", lambda: 1)
        write_all()
        files.remove(given / "there")
        files.remove(given)
        assert list(folder.iterdir()) == [] and (given / "there").exists()
        files.write_json(folder / "cache.json", {}, every_process=True)
        assert [path.name for path in folder.iterdir()] == ["cache.json"]
    write_all()
    assert {path.name for path in folder.iterdir()} == {
        "a.txt", "a.json", "a.npy", "a.bin", "a.png", "new", "there", "copied", "metrics",
        "cache.json", "stage.partial",
    }  # fmt: skip
    assert (folder / "copied/tree/there").read_text() == "x"
    np.testing.assert_array_equal(np.load(folder / "a.npy"), np.zeros(2))
    files.remove(given)
    assert not given.exists()


def test_the_other_processes_write_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    params = {"conv": {"kernel": np.zeros((3, 3, 2, 2), np.float32)}}
    published_params.save_params(tmp_path / "deep/model.safetensors", params)
    model_folder.write_part(tmp_path / "unet", "unet", {}, params)
    assert list(tmp_path.iterdir()) == []


def test_another_process_that_cannot_see_a_stage_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(work_directory, "SEEN_WITHIN", 0)
    with pytest.raises(Exception, match=r"process 1 does not see .*stage/done\.json"):
        work_directory.close_stage(tmp_path / "stage", {"fingerprint": "f"})


def test_rows_keep_line_ends_and_commas(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'a,b\r\n"x\r\ny","1,5"\r\n')
    assert files.read_rows(tmp_path / "a.csv") == [{"a": "x\r\ny", "b": "1,5"}]
