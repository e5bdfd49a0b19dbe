"""What made the results: config, data, code, libraries, and every stage's time and energy."""

import json
import platform
from typing import Any

from ddb_jax.runtime.energy import co2_grams
from ddb_jax.runtime.files import read_json
from ddb_jax.runtime.manifest import code_version, library_versions
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import page


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
            str(record["watt_hours"]),
            f"{co2_grams(record['watt_hours']):.3f}",
            record["energy_source"],
            record["device"],
        ]
        for name, record in made["stages"].items()
    ]
    header = ["stage", "seconds", "watt-hours", "g CO2", "measured by", "device"]
    total = sum(record["watt_hours"] for record in made["stages"].values())
    return [
        *([page.paragraph(" ".join(context.dataset.notes))] if context.dataset.notes else []),
        page.paragraph(
            f"ddb_jax {code['version']} (source {code['source_sha256']}{commit}); Python"
            f" {made['python']}; {libraries}."
        ),
        page.paragraph(
            f"All stages took {total:.2f} watt-hours, {co2_grams(total):.1f} g of CO2 at 475 g a"
            " kilowatt-hour; the table says where that is an estimate from nominal power."
        ),
        page.details(
            "Time and energy of every stage",
            page.table(header, stages),
        ),
        page.details("Configuration", page.code(json.dumps(made["config"], indent=2))),
    ]


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
