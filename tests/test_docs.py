"""docs/methods.md and the README name every method where it belongs, and links lead somewhere."""

import re
from collections import Counter
from pathlib import Path

from ddb_jax.debias.table import GENERATED, METHODS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "methods.md").read_text()
COLUMNS = ("Without bias labels", "On DDB's amplifier", "Oracles, with bias labels")
ON_THE_AMPLIFIER = {"amplifier_scores", "amplifier_errors", "pseudo_groups"}


def _names(text):
    return re.findall(r"^### `(.+)`$", text, re.MULTILINE)


def _section(title):
    pattern = rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)"
    return re.search(pattern, PAGE, re.MULTILINE | re.DOTALL).group(1)


def _column(name):
    if METHODS[name].uses_bias_labels:
        return COLUMNS[2]
    return COLUMNS[METHODS[name].requires in ON_THE_AMPLIFIER]


def test_every_method_has_one_entry_under_its_heading():
    for title in COLUMNS:
        expected = Counter(name for name in METHODS if _column(name) == title)
        assert Counter(_names(_section(title))) == expected, title
    assert Counter(_names(_section("Generated images"))) == Counter([*GENERATED])
    assert len(_names(PAGE)) == len(METHODS) + len(GENERATED)


def test_every_entry_says_assumption_paper_command_and_figures():
    entries = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    for entry in entries:
        name = re.match(r"`(.+)`", entry).group(1)
        assert re.search(r"^- Assumes: \S", entry, re.MULTILINE), name
        assert re.search(r"^- Paper: \S", entry, re.MULTILINE), name
        config = "digits_diffubias" if name in GENERATED else "digits"
        command = f"python -m ddb_jax.main --config=configs/{config}.py --config.methods={name}"
        assert f"- `{command}`\n  Digits: " in entry, name
        assert re.search(r"CMNIST: (\d|not run)", entry), name


def test_the_readme_lists_every_method_in_its_column():
    rows = re.search(r"^## Methods\n.*?\n\n(\|.*?)\n\n", README, re.MULTILINE | re.DOTALL)
    cells = [row.strip("|").split("|") for row in rows.group(1).splitlines()]
    for place, title in enumerate(COLUMNS, start=1):
        listed = [name for row in cells[2:] for name in re.findall(r"[a-z_+]+(?=[,`])", row[place])]
        assert Counter(listed) == Counter(n for n in METHODS if _column(n) == title), title


def test_links_to_files_and_headings_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target, heading in re.findall(r"\]\(([^)#:\s]+)(?:#([^)]+))?\)", page.read_text()):
            file = page.parent / target
            assert file.exists(), (page.name, target)
            if heading:
                titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
                assert heading in anchors, (page.name, target, heading)
