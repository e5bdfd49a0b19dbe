"""Self-contained HTML: sections, tables and embedded pictures."""

import base64
import html
from collections.abc import Sequence

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: .9rem; margin: .6rem 0; display: block;
        overflow-x: auto; }
th, td { text-align: left; padding: .2rem .7rem; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
img { max-width: 100%; image-rendering: auto; }
figure { margin: .8rem 0; } figcaption { color: #555; font-size: .9rem; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .8rem; }
.sheets { display: flex; flex-wrap: wrap; gap: 1.5rem; } .sheets figure { flex: 1 1 24rem; }
"""


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def picture(png: bytes, caption: str) -> str:
    """A picture with its caption, embedded."""
    data = base64.b64encode(png).decode()
    caption = html.escape(caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def side_by_side(parts: Sequence[str]) -> str:
    """Pictures beside each other where the page is wide enough."""
    return f'<div class="sheets">{"".join(parts)}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def details(summary: str, content: str) -> str:
    """A part that unfolds; `content` is HTML."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def code(text: str) -> str:
    """Preformatted text."""
    return f"<pre>{html.escape(text)}</pre>"


def page(title: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A whole page from (heading, HTML parts) sections; sections without parts are left out."""
    body = "".join(
        f"<h2>{html.escape(heading)}</h2>{''.join(parts)}" for heading, parts in sections if parts
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )
