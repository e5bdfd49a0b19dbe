"""Arrow and parquet files of labelled images, as the library datasets writes them.

Needs `pip install -e '.[huggingface]'`, which is pyarrow; the library itself is not needed.
"""

import functools
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ddb_jax.runtime.errors import first_line

GROUPS_KEPT = 2  # row groups of a parquet file whose images are held in memory


class ArrowFile:
    """One file: an arrow stream, mapped into memory, or a parquet file.

    Args:
        path: Ends in .arrow or .parquet.
        folder: Relative paths of images that are not in the file itself start here.

    Raises:
        ValueError: pyarrow is not installed, or the file cannot be read.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        pyarrow, parquet = _pyarrow()
        self.path, self._folder, self._lock = path, folder, threading.Lock()
        try:
            with path.open("rb") as file:
                start = file.read(23)
            if start == b"version https://git-lfs":
                raise ValueError("it is a git-lfs pointer; run `git lfs pull` there")
            if path.suffix == ".arrow":
                table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
                self._source, self._schema, self.num_rows = table, table.schema, table.num_rows
            else:
                file = parquet.ParquetFile(path)
                self._source, self._schema = file, file.schema_arrow
                self.num_rows = file.metadata.num_rows
                self._starts = _starts(file)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise ValueError(
                f"{path} cannot be read ({first_line(error)}): download or save it again."
            ) from None
        self._group = functools.lru_cache(GROUPS_KEPT)(self._read_group)

    def check(self, column: str, *, images: bool) -> None:
        """Stop where the file lacks a column, or the column holds something else.

        Raises:
            ValueError: It does.
        """
        if column not in self._schema.names:
            there = ", ".join(f"{field.name} ({field.type})" for field in self._schema)
            raise ValueError(
                f"{self.path} has no column {column!r}, it has {there}: name the columns with"
                " config.data.image_column, label_column and bias_column."
            )
        kind = self._schema.field(column).type
        types = _pyarrow()[0].types
        if images:
            fits = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            fits |= types.is_binary(kind) or types.is_large_binary(kind) or _is_text(types, kind)
        else:
            kind = kind.value_type if types.is_dictionary(kind) else kind
            fits = _is_text(types, kind) or types.is_integer(kind) or types.is_boolean(kind)
            fits |= types.is_floating(kind) or types.is_null(kind)
        if not fits:
            what = "encoded images or their paths" if images else "texts or numbers"
            cast = ", or cast it to datasets.Image() and save the set again" if images else ""
            raise ValueError(
                f"column {column!r} of {self.path} holds {kind} and not {what}: name another with"
                f" config.data.{'image' if images else 'label'}_column{cast}."
            )

    def names(self, column: str) -> tuple[str, ...]:
        """The class names of a ClassLabel; empty for other columns."""
        features = (self._schema.metadata or {}).get(b"huggingface", b"{}")
        feature = json.loads(features).get("info", {}).get("features", {}).get(column)
        declared = isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel"
        return tuple(feature.get("names") or ()) if declared else ()

    def texts(self, column: str) -> list[str]:
        """The values of a column of labels as texts; "" where there is none.

        Raises:
            ValueError: A ClassLabel has a number without a name, or the file is damaged.
        """
        names = self.names(column)
        values = self._column(column)
        if not names:
            return ["" if value is None else str(value) for value in values]
        for row, value in enumerate(values):
            if value is not None and not -1 <= value < len(names):
                raise ValueError(
                    f"row {row} of {self.path} has {column} {value}, and {len(names)} names are"
                    " given: save the set again."
                )
        return ["" if value is None or value == -1 else names[value] for value in values]

    def image(self, column: str, row: int) -> bytes:
        """The image file of a row; from any number of threads.

        Raises:
            ValueError: The row has none, or the file is damaged.
            OSError: The row names a file that cannot be read.
        """
        value = self._cell(column, row)
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if not value:
            raise ValueError("the row has no image")
        return (self._folder / value).read_bytes() if isinstance(value, str) else value

    def _column(self, column: str) -> Sequence[Any]:
        pyarrow, _ = _pyarrow()
        try:
            if self.path.suffix == ".arrow":
                return self._source.column(column).to_pylist()
            return self._source.read([column]).column(column).to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            raise ValueError(
                f"{column!r} of {self.path} cannot be read ({first_line(error)}): download or save"
                " it again."
            ) from None

    def _cell(self, column: str, row: int) -> Any:
        if self.path.suffix == ".arrow":
            return self._source.column(column)[row].as_py()
        group = max(i for i, start in enumerate(self._starts) if start <= row)
        with self._lock:  # one thread reads a group, and the others find it read
            images = self._group(column, group)
        return images[row - self._starts[group]].as_py()

    def _read_group(self, column: str, group: int) -> Any:
        pyarrow, _ = _pyarrow()
        try:
            return self._source.read_row_group(group, columns=[column]).column(column)
        except pyarrow.ArrowException as error:
            raise ValueError(f"its part of {self.path} is damaged ({first_line(error)})") from None


def _starts(file: Any) -> list[int]:
    """First row of every row group."""
    starts, first = [], 0
    for i in range(file.metadata.num_row_groups):
        starts.append(first)
        first += file.metadata.row_group(i).num_rows
    return starts


def _is_text(types: ModuleType, kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"Hugging Face sets need pyarrow ({error}); pip install -e '.[huggingface]'."
        ) from error
    return pyarrow, pyarrow.parquet
