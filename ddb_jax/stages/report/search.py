"""What a search over settings tried and chose, for the report."""

from ddb_jax.debias.table import method_entry
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import page
from ddb_jax.stages.report.findings import folders_of


def search_section(context: Context) -> list[str]:
    """The table of all tries; nothing where there was no search."""
    rows = []
    for name, folder in folders_of(context, "search").items():
        *_, method, number = name.split("/")
        tried = read_json(folder / "selection.json")
        stage = method_entry(method).stage
        final = folders_of(context, stage)[f"seed_{context.config.seeds[0]}/{stage}/{method}"]
        chosen = read_json(final / "selection.json")["values"] == tried["values"]
        fields = ", ".join(f"{field} {value:.3g}" for field, value in tried["values"].items())
        score = f"{tried['score'][0]:.4f}" + (" (chosen)" if chosen else "")
        rows.append([method_entry(method).title, number, fields or "the config's", score])
    if not rows:
        return []
    header = ["method", "try", "settings", "score by the method's selection rule"]
    note = (
        "Tries of the first seed. The settings with the best score (the first of equals) are used"
        " for all seeds."
    )
    return [
        page.details("Settings that were tried", page.table(header, rows) + page.paragraph(note))
    ]
