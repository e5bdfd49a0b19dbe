"""What a file is, told by its first bytes: one of the formats that are decoded, or what else.

A file with a usual suffix of an image is taken for one unopened, so that listing a large set stays
fast; what it really holds is found when it is decoded.
"""

import os
import re
from collections.abc import Collection

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)
# Not opened: tables and labels, of which there may be one beside each image.
TEXT_SUFFIXES = frozenset(
    (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".py",
     ".ipynb", ".log", ".ini", ".cfg", ".toml", ".xlsx", ".xls", ".docx")
)  # fmt: skip
# Not opened: most are TIFF inside, but the picture that decoders find there is a thumbnail.
RAW_SUFFIXES = frozenset(
    (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw",
     ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f")
)  # fmt: skip

IMAGE = "image"
SYSTEM = "system"
BACKUP = "backup copies"
THUMBNAIL = "thumbnails of cameras"
RAW = "camera raw"
EMPTY = "empty files"
POINTER = "git-lfs pointers"
WEB_PAGE = "web pages"
UNREADABLE = "unreadable files"
DEAD_LINK = "links to nothing"
TEXT = "text"
VIDEO = "video"

# Kind -> what a user can do about it. These are pictures, or were: each one that is left out costs
# a class an image.
LOST = {
    "HEIC": "convert them to JPEG or PNG, for example with `magick mogrify -format png *.heic`",
    "AVIF": "convert them to JPEG or PNG, for example with `magick mogrify -format png *.avif`",
    "JPEG XL": "convert them to PNG, for example with `djxl FILE.jxl FILE.png`",
    "JPEG 2000": "convert them to PNG, for example with `magick mogrify -format png *.jp2`",
    RAW: "develop them to JPEG or PNG, for example with darktable or RawTherapee",
    "SVG": "convert them to PNG, for example with `rsvg-convert FILE.svg -o FILE.png`",
    "Photoshop": "export them as PNG",
    "DICOM": "convert them to PNG, for example with `dcm2pnm` of DCMTK",
    "PDF": "convert their pages to PNG, for example with `pdftoppm -png`",
    "icons": "convert them to PNG",
    "OpenEXR": "convert them to PNG",
    "Radiance HDR": "convert them to PNG",
    "DirectDraw": "convert them to PNG",
    EMPTY: "copy or download them again",
    POINTER: "run `git lfs pull` in the folder",
    WEB_PAGE: "download the images again",
    UNREADABLE: "give the user who runs this the right to read them",
    DEAD_LINK: "fix or remove the links",
}

# Formats that are not decoded, in files called .jpg or the like, as phones and programs name them.
MISNAMED = {
    "HEIC": "convert it to JPEG or PNG, for example with `magick heic:FILE FILE.png`",
    "AVIF": "convert it to JPEG or PNG, for example with `magick avif:FILE FILE.png`",
    "JPEG XL": "convert it to PNG, for example with `djxl FILE FILE.png`",
    "JPEG 2000": "convert it to PNG, for example with `magick jp2:FILE FILE.png`",
}

# One file of a kind, where the kind is a plural.
ONE = {
    EMPTY: "an empty file",
    POINTER: "a git-lfs pointer",
    WEB_PAGE: "a web page",
    RAW: "a camera's raw file",
    "icons": "an icon",
    "archives": "an archive",
}

HEAD = 132  # bytes that are looked at; DICOM has its mark at the end of them
_MARKS = (
    (0, b"\xff\xd8\xff", IMAGE),
    (0, b"\x89PNG\r\n\x1a\n", IMAGE),
    (0, b"GIF87a", IMAGE),
    (0, b"GIF89a", IMAGE),
    (8, b"CR\x02\x00", RAW),
    (0, b"IIRO", RAW),
    (0, b"FUJIFILM", RAW),
    (0, b"IIU\x00", RAW),
    (0, b"II*\x00", IMAGE),
    (0, b"MM\x00*", IMAGE),
    (0, b"II+\x00", IMAGE),
    (0, b"MM\x00+", IMAGE),
    (8, b"WEBP", IMAGE),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypcrx ", RAW),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (4, b"ftyp", VIDEO),
    (4, b"moov", VIDEO),
    (8, b"AVI ", VIDEO),
    (0, b"\x1aE\xdf\xa3", VIDEO),
    (0, b"FLV\x01", VIDEO),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (128, b"DICM", "DICOM"),
    (0, b"\x00\x00\x01\x00", "icons"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DirectDraw"),
    (0, b"version https://git-lfs", POINTER),
    (0, b"PK\x03\x04", "archives"),
    (0, b"\x1f\x8b", "archives"),
    (0, b"Rar!", "archives"),
    (0, b"7z\xbc\xaf", "archives"),
)
_DIB_SIZES = (12, 40, 52, 56, 64, 108, 124)
_NETPBM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s")
_BACKUP = re.compile(r"(~|_original|\.bak|\.old|\.orig|\.backup)$", re.IGNORECASE)
_WEB = re.compile(rb"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)
_SVG = re.compile(rb"\s*(<\?xml.*)?(<!--.*|<!doctype svg.*)?<svg", re.IGNORECASE | re.DOTALL)


def kind_of_file(path: str, beside: Collection[str] = ()) -> str:
    """IMAGE, or what a file is instead, in words.

    Args:
        path: A regular file; opened where its suffix does not say what it is.
        beside: Names in its folder; a backup copy is known by the original.
    """
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return IMAGE
    if _BACKUP.search(name) and _BACKUP.sub("", name) in beside:
        return BACKUP
    if suffix in TEXT_SUFFIXES:
        return suffix[1:].upper()
    if suffix in RAW_SUFFIXES:
        return RAW
    try:
        with open(path, "rb", buffering=0) as file:
            kind = kind_of_content(file.read(HEAD))
    except OSError:
        return UNREADABLE
    if kind == IMAGE and suffix == ".thm":
        return THUMBNAIL
    return kind or suffix[1:].upper() or "unknown"


def kind_of_content(head: bytes) -> str:
    """IMAGE, or what else begins with these bytes, HEAD of them; "" where that is not known."""
    if not head:
        return EMPTY
    for start, mark, kind in _MARKS:
        if head.startswith(mark, start):
            return kind
    # BMP and Netpbm have marks of two letters, with which a text may begin.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _DIB_SIZES:
        return IMAGE
    if _NETPBM.match(head):
        return IMAGE
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _WEB.match(text):
        return WEB_PAGE
    if _SVG.match(text):
        return "SVG"
    if text.lstrip().startswith(b"<?xml"):
        return "XML"
    is_text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    return TEXT if is_text and not text.isspace() else ""


def why_unreadable(head: bytes) -> str:
    """What a file that cannot be decoded is instead of its suffix, and what to do about it.

    Args:
        head: Its first bytes, HEAD of them.

    Returns:
        To be put after "is"; "" where nothing can be done about it, and for images.
    """
    kind = kind_of_content(head)
    fix = MISNAMED.get(kind) or LOST.get(kind)
    return f"{ONE.get(kind, kind)}, which is not read ({fix})" if fix else ""


def is_side_file(path: str, kind: str) -> bool:
    """Whether a file that is no image is such as lie beside images: labels, tables, copies."""
    return kind in (SYSTEM, BACKUP, THUMBNAIL) or os.path.splitext(path)[1].lower() in TEXT_SUFFIXES
