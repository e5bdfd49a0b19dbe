"""A run whose work directory is on an object store; the store is `bucket.Bucket`, in memory."""

import sys

import jax
import numpy as np
import pytest
from bucket import Bucket, mounted
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from runs import assert_same_weights, make_tiny_config, run, upstream_of, use_mlp

from ddb_jax.data.images.records import load_records, write_shard
from ddb_jax.runtime import files, work_directory
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.text_to_image import model_folder, published_params, tokenizer
from ddb_jax.training import checkpoint, metric_writer
from ddb_jax.training.checkpoint import Checkpoints, abstract_like


@pytest.fixture
def bucket():
    with mounted() as path:
        yield path


class StopIn(StopFlag):
    """Asks the run to stop when a stage has begun and has asked so many times."""

    def __init__(self, stage, questions) -> None:
        super().__init__()
        self._begun, self._left = stage / "started.json", questions

    def __bool__(self) -> bool:
        if not self.signal and self._begun.exists():
            self._left -= 1
            self.signal = 15 if self._left < 0 else 0
        return self.signal != 0


def names(folder):
    """Of all objects below, relative to the folder."""
    start = Bucket._strip_protocol(folder) + "/"
    return {name.removeprefix(start) for name in Bucket.store if name.startswith(start)}


def test_a_run_is_the_same_there(bucket, finished_run, tmp_path):
    config = make_tiny_config()
    use_mlp(config)
    config.methods = ("ddb_i",)
    upstream_of(finished_run, tmp_path, "train_diffusion", "synthesize")
    run(config, tmp_path)
    workdir, seed = files.work_path("gs://bucket/run"), bucket / "run/seed_0"
    for stage, questions in (("train_diffusion", 5), ("synthesize", 4)):
        with pytest.raises(Interrupted):
            run(config, workdir, StopIn(seed / stage, questions))
        assert (seed / stage / "started.json").exists()
        assert not (seed / stage / "done.json").exists()
    assert "images-00000-of-00003.arrayrecord" in names(seed / "synthesize")
    assert "images-00002-of-00003.arrayrecord" not in names(seed / "synthesize")
    run(config, workdir)

    # What orbax and TensorBoard write has names of the day.
    theirs = {"checkpoints", "weights", "tensorboard"}
    local = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    local = {str(path) for path in local if not theirs & set(path.parts)}
    assert {name for name in names(workdir) if not theirs & set(name.split("/"))} == local - {
        ".lock"
    }
    same = (".arrayrecord", ".csv", ".npy", ".png", "config.json", "selection.json")
    compared = [name for name in local if name.endswith(same)]
    assert {"results.csv", "seed_0/score/synthetic/scores.csv"} < set(compared)
    for name in compared:
        assert (workdir / name).read_bytes() == (tmp_path / name).read_bytes(), name
    for name in (name for name in local if name.endswith("metrics.jsonl")):
        left, right = (metric_writer.read_metrics(d / name) for d in (workdir, tmp_path))
        assert [row["step"] for row in left] == [row["step"] for row in right], name
    for task in ("train_diffusion", "train_classifier/ddb_i"):
        with files.local_copy(seed / task) as copied:
            assert_same_weights(tmp_path / "seed_0" / task, copied)
        assert any(name.startswith("tensorboard/events") for name in names(seed / task))

    before = dict(Bucket.store)
    run(config, workdir)
    written = {name for name, file in Bucket.store.items() if before.get(name) is not file}
    assert not any("seed_0" in name for name in written), "a finished stage was written again"
    config.amplifier.learning_rate *= 2
    with pytest.raises(UserError, match="was made with another config"):
        run(config, workdir)
    run(config, workdir, only="train_amplifier", rerun=True)
    assert files.read_json(seed / "train_amplifier/synthetic/done.json")["config"]


def test_a_killed_stage_is_gone_on_with_or_made_anew(bucket, caplog):
    folder, record = bucket / "run/stage", {"fingerprint": "f", "config": {}}
    assert work_directory.open_stage(folder, record) == folder
    (folder / "data").write_bytes(b"x")
    assert work_directory.is_begun(folder, "f") and not work_directory.is_done(folder, "f")
    work_directory.finish_rename(folder)
    work_directory.open_stage(folder, record)
    assert names(folder) == {"started.json", "data"}
    work_directory.close_stage(folder, record)
    assert work_directory.is_done(folder, "f") and names(folder) == {"done.json", "data"}
    sizes = {name: file.size for name, file in Bucket.store.items()}
    with_started = sizes["/bucket/run/stage/data"] + len(
        b'{\n  "fingerprint": "f",\n  "config": {}\n}\n'
    )
    assert files.read_json(folder / "done.json")["bytes"] == with_started
    with caplog.at_level("INFO", logger="ddb_jax"):
        work_directory.open_stage(folder, {"fingerprint": "g"})
    assert names(folder) == {"started.json"} and str(folder) in caplog.text


def test_what_says_that_a_stage_is_whole_goes_first(bucket, monkeypatch):
    folder = bucket / "run/stage"
    work_directory.open_stage(folder, {"fingerprint": "f"})
    (folder / "a").write_bytes(b"x")
    work_directory.close_stage(folder, {"fingerprint": "f"})
    rm = Bucket.rm

    def die(self, path, recursive=False, **kwargs):
        if recursive:
            raise KeyboardInterrupt
        rm(self, path, recursive=recursive, **kwargs)

    monkeypatch.setattr(Bucket, "rm", die)
    with pytest.raises(KeyboardInterrupt):
        work_directory.open_stage(folder, {"fingerprint": "g"})
    assert not work_directory.is_done(folder, "f")


def test_two_runs_there_are_warned_of(bucket, caplog):
    with work_directory.locked(bucket / "run"):
        assert names(bucket / "run") == {".lock"} and not caplog.text
        with work_directory.locked(bucket / "run"):
            assert "gs://bucket/run is in use by process" in caplog.text
    assert not names(bucket / "run")


def test_a_store_that_fails_leaves_no_half_object(bucket, monkeypatch):
    path = bucket / "run/a.json"
    files.write_json(path, {"a": 1})
    monkeypatch.setattr(Bucket, "fail_after", 10)
    with pytest.raises(OSError, match=r"gs://bucket/run/b.json could not .*out of order"):
        files.write_json(bucket / "run/b.json", {"b": "long" * 10})
    assert names(bucket / "run") == {"a.json"}
    with pytest.raises(UserError, match=r"weights could not be written to gs://bucket/run/weights"):
        checkpoint.save_weights(bucket / "run/weights", {"w": np.ones(3)})
    with pytest.raises(UserError, match="cannot be written to"):
        with work_directory.locked(bucket / "run"):
            pass
    checkpoints = Checkpoints(bucket / "run/checkpoints")
    checkpoints.save(1, {"w": np.ones(3)})
    with pytest.raises(UserError, match="checkpoint could not be written"):
        checkpoints.close()
    monkeypatch.setattr(Bucket, "fail_after", None)
    assert Checkpoints(bucket / "run/checkpoints").restore({"w": np.ones(3)}) is None


def test_checkpoints(bucket, caplog):
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    split = NamedSharding(mesh, P("data"))
    state = {"w": jax.device_put(np.arange(8, dtype=np.float32), split), "n": np.int32(1)}
    directory = bucket / "run/checkpoints"
    checkpoints = Checkpoints(directory)
    for step in (1, 2, 3):
        checkpoints.save(step, {**state, "w": state["w"] + step})
    checkpoints.close()
    assert {name.split("/")[0] for name in names(directory)} == {"2", "3"}

    abstract = abstract_like(state, {"w": split, "n": NamedSharding(mesh, P())})
    step, restored = Checkpoints(directory).restore(abstract)
    assert step == 3 and restored["w"].sharding == split
    np.testing.assert_array_equal(restored["w"], np.arange(8) + 3)

    (directory / "3/_METADATA").write_bytes(b"")
    checkpoints = Checkpoints(directory)
    assert checkpoints.restore(abstract)[0] == 2 and "gs://bucket/run/checkpoints/3" in caplog.text
    checkpoints.save(3, state)  # as the run does when it comes there again
    checkpoints.close()
    step, restored = Checkpoints(directory).restore(abstract)
    assert step == 3
    np.testing.assert_array_equal(restored["w"], np.arange(8))
    (directory / "3/commit_success.txt").unlink()  # killed while it was written
    assert Checkpoints(directory).restore(abstract)[0] == 2


def test_metrics_are_there_at_checkpoints_and_not_twice(bucket):
    writer = metric_writer.MetricWriter(bucket / "run")
    for step in (1, 2, 3):
        writer.write(step, {"loss": 1.0 / step})
    assert not names(bucket / "run")  # a bucket takes no object at every step
    writer.flush()
    writer.write(4, {"loss": 0.1})
    writer.close()
    second = metric_writer.MetricWriter(bucket / "run", start_step=3)
    second.write(4, {"loss": 0.2})
    second.close()
    rows = metric_writer.read_metrics(bucket / "run/metrics.jsonl")
    assert rows == [
        {"step": s, "loss": loss} for s, loss in ((1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.2))
    ]


def test_shards(bucket):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    path = bucket / "run/a.arrayrecord"
    files.write_through(path, lambda p: write_shard(p, images, np.arange(5), np.arange(5)))
    assert names(bucket / "run") == {"a.arrayrecord"}
    np.testing.assert_array_equal(load_records([path], (4, 4, 3)).images, images)
    Bucket.store["/bucket/run/a.arrayrecord"].truncate(100)
    with pytest.raises(ValueError, match=r"gs://bucket/run/a\.arrayrecord is not a whole"):
        load_records([path], (4, 4, 3))
    with pytest.raises(FileNotFoundError, match="there is no shard gs://bucket/run/b"):
        load_records([bucket / "run/b"], (4, 4, 3))


def test_text_to_image_folders(bucket, tmp_path):
    pytest.importorskip("tokenizers")
    size = tokenizer.train_tokenizer(["a red digit"], bucket / "run/tokenizer")
    assert size == tokenizer.train_tokenizer(["a red digit"], tmp_path / "tokenizer")
    params = {"conv": {"kernel": np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2)}}
    parts = ("model_index", "text_encoder", "unet", "vae", "scheduler")
    model_folder.write_model(
        bucket / "run/model",
        {name: {"of": name} for name in parts},
        dict.fromkeys(("text_encoder", "unet", "vae"), params),
        tmp_path / "tokenizer",
    )
    with files.local_copy(bucket / "run") as folder:
        for name in ("tokenizer", "model/tokenizer"):
            ours = tokenizer.load_tokenizer(folder / name)(["a red digit"])
            theirs = tokenizer.load_tokenizer(tmp_path / "tokenizer")(["a red digit"])
            np.testing.assert_array_equal(ours, theirs)
        read = published_params.load_published_params(folder / "model/unet", params)
    np.testing.assert_array_equal(read["conv"]["kernel"], params["conv"]["kernel"])
    assert files.read_json(bucket / "run/model/vae/config.json") == {"of": "vae"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "memory://a/b",
            "cannot be used: give a local folder, or BUCKET/FOLDER after one of gs://",
        ),
        ("gs://", "cannot be used"),
        ("s3://bucket/run", "needs the library s3fs: pip install s3fs"),
    ],
)
def test_other_paths_are_refused(text, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("EPATH_USE_TF", "false")
    with pytest.raises(UserError, match=f"--workdir={text} {message}"):
        files.work_path(text)
