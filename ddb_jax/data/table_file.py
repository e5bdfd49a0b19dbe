"""The one reader of tables that users bring: CSV in UTF-8, with a header line.

It is strict where a lenient reader would lose rows without a word: quotation marks must pair, no
two columns have one name, and every row has a field for every column.
"""

import csv
import io
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ddb_jax.data.names import composed, number, plain, trim
from ddb_jax.runtime.errors import first_few

Row = tuple[int, dict[str, str]]  # line number, fields by column

# What the first bytes of files say that are taken for tables, and what to do.
SAVE = "save it as CSV (UTF-8, separated by commas)"
SIGNATURES = (
    (b"PK\x03\x04", "an Excel workbook or another zip file", SAVE),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", SAVE),
    (b"\x1f\x8b", "a gzip file", "unpack it"),
    (b"BZh", "a bzip2 file", "unpack it"),
    (b"\xfd7zXZ", "an xz file", "unpack it"),
    (b"PAR1", "a parquet file", f"{SAVE}, or read its folder with configs/huggingface.py"),
    (b"SQLite format 3", "a database", SAVE),
    (b"%PDF", "a PDF file", SAVE),
    (b"{\\rtf", "a text document", SAVE),
    (b"\x89PNG", "an image", "give the table"),
    (b"\xff\xd8\xff", "an image", "give the table"),
    (b"version https://git-lfs", "a git-lfs pointer and not the file", "run `git lfs pull`"),
    (b"\xff\xfe\x00\x00", "in UTF-32", SAVE),
    (b"\xff\xfe", "in UTF-16", SAVE),
    (b"\xfe\xff", "in UTF-16", SAVE),
)
PATH_COLUMN = re.compile("path|file")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_table(path: Path, columns: Sequence[str], optional: Collection[str] = ()) -> list[Row]:
    """Line number and trimmed fields, by lower-case column, of every row that is not blank.

    Args:
        path: The file.
        columns: Must be there.
        optional: Columns that are read if they are there. In these and in `columns` a field is
            within one line; in all others line breaks between quotation marks are kept.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a table with these columns, or has no rows.
    """
    text = _text(path)
    rows = _records(path, text)
    line, fields = rows[0] if rows else (1, [])
    header = [plain(field).casefold() for field in fields]
    _check_header(path, line, header, columns, ",".join(fields))
    rows = rows[1:]
    if not rows:
        raise ValueError(f"{path} has no rows: add one line per image.")
    for line, fields in rows:
        if len(fields) != len(header):
            raise ValueError(
                f"line {line} of {path} has {len(fields)} fields and the first line {len(header)}:"
                " put quotes around fields with commas."
            )
    _check_line_breaks(path, header, rows, {*columns, *optional})
    return [(line, dict(zip(header, map(trim, fields), strict=True))) for line, fields in rows]


def find_file(root: Path, path: str, listed: dict[str, dict[str, str]]) -> str | None:
    """The path of a file as the disk has it, or None: Unicode has several forms of one name.

    Args:
        root: Folder that the path is relative to.
        path: With forward slashes, as a table names it.
        listed: Keeps what folders hold from call to call; empty at the first.
    """
    if os.path.isfile(root / path):
        return path
    if path.isascii():
        return None
    found = ""
    for part in path.split("/"):
        folder = os.fspath(root / found)
        if not os.path.lexists(os.path.join(folder, part)):
            if folder not in listed:
                names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
                listed[folder] = {composed(name): name for name in reversed(names)}
            part = listed[folder].get(composed(part), "")
            if not part:
                return None
        found = f"{found}/{part}" if found else part
    return found if os.path.isfile(root / found) else None


def image_files(path: Path, rows: Sequence[Row], column: str, fix: str = "") -> list[str]:
    """The image of every row, relative to the table's folder and as the disk has it.

    Args:
        path: The table.
        rows: From `read_table`.
        column: Where the images are named.
        fix: What to do about an image that is missing; how paths are written, if empty.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: A path is empty, or two rows name one file.
    """
    lines: dict[str, tuple[int, str]] = {}
    listed: dict[str, dict[str, str]] = {}
    files = []
    for line, row in rows:
        name = row[column]
        if not name:
            raise ValueError(f"line {line} of {path} has no {column}: fill it in or remove it.")
        file = find_file(path.parent, name, listed)
        key = os.path.normpath(path.parent / (file or name))
        if key in lines:
            before, spelled = lines[key]
            same = name if name == spelled else f"{name}, which is the file {spelled}"
            raise ValueError(f"line {line} of {path} repeats {same} of line {before}: remove one.")
        if file is None:
            raise FileNotFoundError(
                f"line {line} of {path} names {name[:200]}, which is not a file in {path.parent}: "
                + (fix or "paths are relative to the CSV file, with forward slashes.")
            )
        lines[key] = line, name
        files.append(file)
    return files


def _text(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the path.")
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: give the CSV file.") from None
    except PermissionError:
        raise ValueError(
            f"{path} cannot be read, permission is denied: give the user who runs this the right"
            " to read it."
        ) from None
    for start, what, fix in SIGNATURES:
        if content.startswith(start):
            raise ValueError(f"{path} is not a CSV file, it is {what}: {fix}.")
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", content[:200], re.IGNORECASE):
        raise ValueError(
            f"{path} is not a CSV file, it is a web page or XML: download the file itself, perhaps"
            " after logging in."
        )
    if 0 in content:
        line = content[: content.index(0)].count(b"\n") + 1
        raise ValueError(
            f"line {line} of {path} has a zero byte, so it is not a CSV file in UTF-8, perhaps in"
            f" UTF-16 or cut: {SAVE}."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} of {path} is not a CSV file in UTF-8: {SAVE}.") from None


def _records(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """First line and fields of every record that is not blank."""
    text = re.sub(r'"[ \t]+(?=[,\r\n]|\Z)', '"', text)  # spaces behind a closing mark mean nothing
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    records = []
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return records
        except csv.Error:
            last = reader.line_num
            where = f"line {line}" if last == line else f"lines {line} to {last}"
            raise ValueError(
                f"{where} of {path}: a quotation mark that opens a field of line {line} is not"
                " closed at the end of the field: close it before the comma or the end of the"
                ' line, and write "" for a mark inside a quoted field.'
            ) from None
        if any(map(trim, fields)) or (not records and len(fields) > 1):  # the header, if empty
            records.append((line, fields))


def _check_header(
    path: Path, line: int, header: list[str], columns: Sequence[str], written: str
) -> None:
    first = ",".join(header)
    if re.fullmatch(r"sep=[^a-z0-9]?|sep=,", first):
        raise ValueError(
            f"line {line} of {path} is Excel's {first!r}: remove it, and separate the columns by"
            " commas."
        )
    missing = [column for column in columns if column not in header]
    used = [words for mark, words in SEPARATORS.items() if mark in written]
    if len(header) == 1 and used and (missing or not columns):
        named = f"has no column {' or '.join(missing)}, its" if missing else "has one column, its"
        raise ValueError(
            f"{path} {named} first line is {first!r}: separate the columns by commas instead of"
            f" {used[0]}."
        )
    if missing:
        raise ValueError(
            f"{path} has no column {' or '.join(missing)}, its first line is {first!r}: name the"
            " columns there, separated by commas."
        )
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise ValueError(
            f"line {line} of {path} has more than one column {twice[0]!r} (upper and lower case are"
            " the same): rename or remove all but one."
        )


def _check_line_breaks(
    path: Path, header: list[str], rows: list[tuple[int, list[str]]], single: Collection[str]
) -> None:
    """Refuse quotation marks that two rows have opened and closed, with all rows between them."""
    broken = [
        (line, i, field)
        for line, fields in rows
        for i, field in enumerate(fields)
        if "\n" in field or "\r" in field
    ]
    if not broken:
        return
    # The columns in which a swallowed row shows itself: its path, else all that are read.
    read = [i for i, column in enumerate(header) if column in single]
    keys = [i for i in read if PATH_COLUMN.search(header[i])] or read
    known = {i: {_kind(fields[i]) for _, fields in rows} for i in keys}
    for line, i, field in broken:
        inner = field.splitlines()[1:]
        split = [next(csv.reader([part], skipinitialspace=True), []) for part in inner]
        swallowed = [
            line + 1 + n
            for n, fields in enumerate(split)
            if len(fields) == len(header)
            and keys
            and all(_kind(fields[k]) in known[k] for k in keys)
        ]
        if header[i] in single or swallowed:
            rest = f" and holds what looks like line {first_few(swallowed)}" if swallowed else ""
            raise ValueError(
                f"line {line} of {path} has a quoted {header[i]!r} that goes on to line"
                f" {line + len(inner)}{rest}: close the quotation mark in line {line}, or remove"
                " it and its partner."
            )


def _kind(value: str) -> str:
    """What the values of a column have in common: a path's suffix, that it is a number, or all."""
    value = trim(value)
    if number(value) is not None:
        return "number"
    return os.path.splitext(value)[1].lower() or value
