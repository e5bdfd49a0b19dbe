"""An object store in memory behind gs://, as strict as they are: no folders, append or rename."""

import contextlib
import sys
from typing import ClassVar

import fsspec
import pytest
from etils import epath
from etils.epath import backend, gpath
from fsspec.implementations.memory import MemoryFileSystem


class Bucket(MemoryFileSystem):
    """What `fsspec.filesystem("gcs")` is within `mounted`.

    Attributes:
        fail_after: Bytes of an object after which writing it fails; None for never.
    """

    protocol = ("gs", "gcs")
    cachable = False
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    fail_after = None

    def __init__(self, finalize_on_close: bool = True) -> None:
        super().__init__()

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").removeprefix("gcs://").strip("/")

    def _open(self, path, mode="rb", **kwargs):
        assert mode in ("rb", "wb"), f"{path} is opened to {mode}"
        file = super()._open(path, mode, **kwargs)
        limit = type(self).fail_after
        if mode == "wb" and limit is not None:
            written = file.write

            def write(data):
                if file.tell() + len(data) > limit:
                    raise RuntimeError("the store is out of order")
                return written(data)

            file.write = write
        return file

    def mkdir(self, path, create_parents=True, **kwargs):
        raise AssertionError(f"{path}: an object store has no folders")

    makedirs = mkdir

    def mv(self, path1, path2, **kwargs):
        raise AssertionError(f"{path1}: an object store cannot rename")

    rename = move = mv


@contextlib.contextmanager
def mounted():
    """Let gs:// be an empty bucket for the length of the block."""
    registry = sys.modules["fsspec.registry"]._registry
    before = registry.pop("gcs", None)
    fsspec.register_implementation("gcs", Bucket)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPATH_USE_TF", "false")
        patch.setattr(Bucket, "store", {})
        patch.setattr(Bucket, "pseudo_dirs", [""])
        _forget()
        yield epath.Path("gs://bucket")
    registry.pop("gcs")
    if before:
        registry["gcs"] = before
    _forget()


def _forget() -> None:
    backend.fsspec_backend._get_filesystem.cache_clear()
    gpath._is_tf_installed.cache_clear()
