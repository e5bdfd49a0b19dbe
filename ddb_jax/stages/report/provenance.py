"""What made the results: config, data, code, libraries, and every stage's time and energy."""

import json
import platform
from typing import Any

from ddb_jax.runtime.energy import co2_grams
from ddb_jax.runtime.files import read_json
from ddb_jax.runtime.manifest import code_version, library_versions
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import page

NOT_MEASURED = "not measured"


def provenance(context: Context) -> list[str]:
    """The report's last section, as HTML."""
    made = manifest(context)
    code = made["code"]
    commit = f", commit {code['commit']}" if code["commit"] else ""
    commit += " with changes" if code["dirty"] else ""
    libraries = ", ".join(f"{name} {version}" for name, version in made["libraries"].items())
    stages = [
        [
            name,
            str(record["seconds"]),
            *energy_cells(record["watt_hours"], record["energy_source"]),
            record["device"],
        ]
        for name, record in made["stages"].items()
    ]
    header = ["stage", "seconds", "watt-hours", "g CO2", "measured by", "device"]
    said = " ".join((*context.dataset.warnings, *context.dataset.notes))
    return [
        *([page.paragraph(said)] if said else []),
        page.paragraph(
            f"ddb_jax {code['version']} (source {code['source_sha256']}{commit}); Python"
            f" {made['python']}; {libraries}."
        ),
        page.paragraph(total_energy([record["watt_hours"] for record in made["stages"].values()])),
        page.details(
            "Time and energy of every stage",
            page.table(header, stages),
        ),
        page.details("Configuration", page.code(json.dumps(made["config"], indent=2))),
    ]


def energy_cells(watt_hours: float | None, source: str | None) -> list[str]:
    """Watt-hours, grams of CO2 and what measured them, of one stage."""
    if watt_hours is None or source is None:
        return [NOT_MEASURED] * 3
    return [str(watt_hours), f"{co2_grams(watt_hours):.3f}", source]


def total_energy(watt_hours: list[float | None]) -> str:
    """A sentence over the stages' watt-hours, of which some may not be measured."""
    measured = [value for value in watt_hours if value is not None]
    if not measured:
        return "Electricity was not measured: pip install codecarbon before the run."
    which = "All stages" if len(measured) == len(watt_hours) else f"{len(measured)} stages"
    rest = len(watt_hours) - len(measured)
    return (
        f"{which} took {sum(measured):.2f} watt-hours, {co2_grams(sum(measured)):.1f} g of CO2 at"
        f" 475 g a kilowatt-hour{f'; {rest} others were not measured' if rest else ''}."
    )


def manifest(context: Context) -> dict[str, Any]:
    """What made the results: config, data, code, libraries, and every stage's time and energy."""
    done = {name: read_json(folder / "done.json") for name, folder in context.inputs.items()}
    keys = ("seconds", "watt_hours", "energy_source", "device", "data", "fingerprint")
    return {
        "config": json.loads(json.dumps(context.config.to_dict(), default=list)),
        "code": code_version(),
        "libraries": library_versions(),
        "python": platform.python_version(),
        "stages": {
            name: {**{key: record[key] for key in keys}, "source": record["code"]["source_sha256"]}
            for name, record in done.items()
        },
    }
