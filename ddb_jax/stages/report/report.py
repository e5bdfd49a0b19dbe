"""Stage: one self-contained page, `report.html`, with the tables it shows beside it as files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddb_jax.data.data_check_file import data_check_csv
from ddb_jax.debias.table import method_entry, method_title
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.runtime.files import copy_file, read_json, write_atomically, write_json
from ddb_jax.stages.common.contact_sheet import grid_image
from ddb_jax.stages.common.picture_names import legend, picture_names
from ddb_jax.stages.common.sampled_set import load_finite
from ddb_jax.stages.common.scores_table import read_scores, select_split
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import figures, page
from ddb_jax.stages.report.detection import detection_rows, detection_section
from ddb_jax.stages.report.findings import findings, folders_of
from ddb_jax.stages.report.generated import generated_section
from ddb_jax.stages.report.images import images_section
from ddb_jax.stages.report.looks import looks_section
from ddb_jax.stages.report.provenance import manifest, provenance
from ddb_jax.stages.report.results import (
    ResultRow,
    glossary,
    percent,
    results_csv,
    summary,
    table_metrics,
    text_table,
)
from ddb_jax.stages.report.search import search_section
from ddb_jax.training.metric_writer import read_metrics

IMAGES_PER_ROW = 10


def run(context: Context) -> dict[str, Any]:
    """Write the report and, as text, the results table."""
    # inputs are {task name: folder}; the first of each kind stands for the shared upstream.
    evaluations = [read_json(f / "metrics.json") for f in folders_of(context, "evaluate").values()]
    scores, compared = _score_folders(context)
    rows = _metric_rows(evaluations) + detection_rows(context) + _synthesis_rows(context)
    metrics = table_metrics(rows)
    entries = summary(rows, metrics)
    for entry in entries:
        entry["title"] = method_title(entry["method"])
    methods = [entry for entry in entries if entry["method"] in context.config.methods]

    sections = [
        ("What was found", findings(context, scores, methods)),
        (
            "Results on the test split",
            _results(context, methods, metrics) + search_section(context),
        ),
        ("What your images are", images_section(context)),
        ("What the bias looks like", _sheets(context, scores)),
        ("Images generated against the bias", generated_section(context)),
        ("What the classifiers look at", looks_section(context)),
        ("How the training images score", _histograms(scores, compared)),
        ("Who finds the conflicting images", detection_section(context)),
        ("Group by group", _groups(evaluations)),
        ("Training", _curves(context)),
        ("What the figures mean", _glossary(rows)),
        ("How this was made", provenance(context)),
    ]
    title = f"{context.dataset.name}: bias report"
    write_atomically(context.folder / "report.html", page.page(title, sections))
    write_atomically(context.folder / "results.csv", results_csv(rows))
    write_json(context.folder / "manifest.json", manifest(context))
    if context.dataset.images:
        write_atomically(context.folder / "data_check.csv", data_check_csv(context.dataset))
    if scores:
        copy_file(scores / "scores.csv", context.folder / "scores.csv")
    note = "(percent of the test split; mean +- deviation over seeds)\n"
    write_atomically(context.folder / "table.txt", f"{text_table(methods, metrics)}\n{note}")
    return {"rows": len(rows)}


def _score_folders(context: Context) -> tuple[Path | None, Path | None]:
    """The scores in use and those of the compared amplifier, both of the first seed."""
    for stage in ("given_scores", "score_lda"):
        if folders := folders_of(context, stage):
            return next(iter(folders.values())), None
    train_on = context.config.amplifier.train_on
    folders = list(folders_of(context, "score").items())
    used = [path for name, path in folders if name.endswith(train_on)]
    others = [path for name, path in folders if not name.endswith(train_on)]
    return (used[0] if used else None), (others[0] if others else None)


def _metric_rows(evaluations: list[dict[str, Any]]) -> list[ResultRow]:
    return [
        ResultRow(
            e["dataset"],
            e["method"],
            e["seed"],
            e["selection"],
            metric,
            value,
            *e["intervals"].get(metric, (None, None)),
            e["tries"],
        )
        for e in evaluations
        for metric, value in e["metrics"].items()
        if isinstance(value, float)
    ]


def _synthesis_rows(context: Context) -> list[ResultRow]:
    rows, dataset = [], context.dataset.name
    for name, folder in folders_of(context, "measure_synthesis").items():
        seed = int(name.split("/")[0].removeprefix("seed_"))
        share = read_json(folder / "aligned_share.json")["aligned_share"]
        rows.append(ResultRow(dataset, "synthesis", seed, "last", "aligned_share", share))
    return rows


def _results(
    context: Context, methods: list[dict[str, Any]], metrics: tuple[str, ...]
) -> list[str]:
    columns = (m.replace("_", " ") for m in metrics)
    header = ["method", *columns, "step chosen by", "tries", "seeds"]
    rows = []
    for entry in methods:
        rule = SELECTION_RULES[entry["selection"]]
        oracle = method_entry(entry["method"]).uses_bias_labels
        rows.append(
            [
                entry["title"] + (" [oracle]" if oracle else ""),
                *(percent(entry.get(metric)) for metric in metrics),
                rule.title + (" (uses bias labels)" if rule.uses_bias_labels else ""),
                str(entry["tries"]),
                str(entry["seeds"]),
            ]
        )
    several = len(context.config.seeds) > 1
    note = "In percent" + (", mean and standard deviation over the seeds." if several else ".")
    if any(method_entry(entry["method"]).uses_bias_labels for entry in methods):
        note += (
            " An oracle is told the bias of every training and validation image; the others are"
            " not."
        )
    on_test = any(SELECTION_RULES[entry["selection"]].reads_test for entry in methods)
    note += (
        " A step WAS CHOSEN ON THE TEST SPLIT where the table says so: such a figure is too good."
        if on_test
        else " The weights were chosen on validation; nothing was chosen on the test split."
    )
    if any(entry["tries"] > 1 for entry in methods):
        note += (
            " Tries are the runs of the first seed among which the same rule chose the settings."
        )
    note += (
        " results.csv has 95% bootstrap intervals over the test images, resampled within their"
        " groups, for every accuracy."
        if several
        else " Brackets are 95% bootstrap intervals over the test images, resampled within their"
        " groups; results.csv has them for every accuracy."
    )
    if several and context.config.share_upstream and folders_of(context, "score"):
        note += " All seeds share one diffusion model and one amplifier, those of the first seed."
    if context.config.given_scores.csv:
        note += " Given scores replace the amplifier."
    return [page.table(header, rows), page.paragraph(note)]


def _sheets(context: Context, scores: Path | None) -> list[str]:
    parts, dataset = [], context.generator_dataset
    for folder in list(folders_of(context, "synthesize").values())[:1]:
        source = load_finite(folder)
        rows = [
            source.images[source.labels == i][:IMAGES_PER_ROW]
            for i in range(len(dataset.class_names))
        ]
        caption = "Synthetic images by class: the generator's idea of each class."
        parts.append(_sheet(rows, dataset.class_names, caption))
    if scores:
        table = select_split(read_scores(scores / "scores.csv"), "train")
        rows = []
        for i in range(len(dataset.class_names)):
            own = np.flatnonzero((table["label"] == i) & (table["pseudo_conflicting"] == 1))
            chosen = own[np.argsort(table["rank_in_class"][own])][:IMAGES_PER_ROW]
            indices = table["index"][chosen]
            empty = np.zeros((0, *dataset.train.image_shape), np.uint8)
            rows.append(dataset.train.gather(indices)["image"] if len(indices) else empty)
        caption = (
            "Real training images that are flagged as bias-conflicting, the most suspicious"
            " first. Mislabelled images also show up here."
        )
        parts.append(_sheet(rows, dataset.class_names, caption))
    return [page.side_by_side(parts)] if parts else []


def _sheet(rows: list[np.ndarray], names: tuple[str, ...], caption: str) -> str:
    buffer = io.BytesIO()
    grid_image(rows, picture_names(names)).save(buffer, format="png")
    return page.picture(buffer.getvalue(), caption + legend(names))


def _histograms(scores: Path | None, compared: Path | None) -> list[str]:
    panels, thresholds = {}, {}
    for folder in (scores, compared):
        if folder is None:
            continue
        own = folder.name != "given_scores"
        titles = {"given_scores": "given scores", "score_lda": "LDA of frozen features"}
        title = titles.get(folder.name, f"trained on {folder.name} images")
        table = select_split(read_scores(folder / "scores.csv"), "train")
        if np.all(table["loss"] < 0):  # given scores without losses
            continue
        known = bool(np.all(table["conflicting"] >= 0))
        if known:
            kinds = {"aligned": table["conflicting"] == 0, "conflicting": table["conflicting"] == 1}
        else:
            kinds = {
                "not flagged": table["pseudo_conflicting"] == 0,
                "flagged": table["pseudo_conflicting"] == 1,
            }
        panels[title] = {kind: table["loss"][rows] for kind, rows in kinds.items()}
        thresholds[title] = read_json(folder / "detection.json")["threshold"]
    if not panels:
        return []
    caption = "Cross-entropy of the real training images under the amplifier. "
    if not own:
        caption = "Losses of the real training images, as the file gives them. "
    caption += (
        "The further apart the two kinds are, the better it finds the conflicting images."
        if known
        else "Flagged images are those that the rule takes for bias-conflicting."
    )
    png = figures.loss_histograms(panels, thresholds, "amplifier's loss" if own else "loss")
    return [page.picture(png, caption)]


def _groups(evaluations: list[dict[str, Any]]) -> list[str]:
    """Accuracy of every test group under every method, averaged over the seeds."""
    if not evaluations or not evaluations[0]["metrics"]["groups"]:
        return []
    names = [group["name"] for group in evaluations[0]["metrics"]["groups"]]
    counts = [group["count"] for group in evaluations[0]["metrics"]["groups"]]
    methods = list(dict.fromkeys(e["method"] for e in evaluations))
    rows = []
    for i, (name, count) in enumerate(zip(names, counts, strict=True)):
        cells = []
        for method in methods:
            own = [e["metrics"]["groups"][i] for e in evaluations if e["method"] == method]
            cells.append(f"{100 * np.mean([group['accuracy'] for group in own]):.1f}")
        rows.append([name, str(count), *cells])
    return [page.details("Accuracy in percent", page.table(["group", "images", *methods], rows))]


def _curves(context: Context) -> list[str]:
    panels: dict[str, Mapping[str, Any]] = {}
    for stage, metric, title in (
        ("train_diffusion", "loss", "diffusion loss"),
        ("train_amplifier", "loss", "amplifier loss"),
        ("train_classifier", "loss", "classifier loss"),
        ("train_classifier", "validation_accuracy", "validation accuracy"),
    ):
        lines = {}
        first_seed = f"seed_{context.config.seeds[0]}/"
        for name, folder in folders_of(context, stage).items():
            rows = [r for r in read_metrics(folder / "metrics.jsonl") if metric in r]
            if rows and name.startswith(first_seed):
                label = name.split("/")[-1]
                lines[label] = ([r["step"] for r in rows], [r[metric] for r in rows])
        if lines:
            panels[title] = lines
    if not panels:
        return []
    png = figures.curves(panels, ("diffusion loss", "amplifier loss", "classifier loss"))
    caption = (
        f"Training curves of seed {context.config.seeds[0]}. Losses of different methods"
        " cannot be compared."
    )
    return [page.picture(png, caption)]


def _glossary(rows: list[ResultRow]) -> list[str]:
    return [page.table(["figure", "meaning"], glossary(rows))]
