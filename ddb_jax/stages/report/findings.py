"""The report's first section: what was found, in sentences."""

from pathlib import Path
from typing import Any

import numpy as np

from ddb_jax.data.counts import describe
from ddb_jax.debias.table import method_entry
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import page
from ddb_jax.stages.report.results import percent

MANY = 8  # methods in one sentence

# The pseudo-group rules in words.
RULES = {
    "error_set": "those that it misclassifies",
    "loss_threshold": "those that it misclassifies with a loss above a threshold",
    "given": "as the file says",
    "top_share": "the highest scores of every class",
}


def findings(context: Context, scores: Path | None, methods: list[dict[str, Any]]) -> list[str]:
    """Paragraphs on what the amplifier found and what debiasing gained, as HTML.

    Args:
        context: What the report is given.
        scores: Folder of the scores in use; None without an amplifier.
        methods: Entries of the results table, with their "title".
    """
    parts = [page.paragraph(" ".join(describe(context.dataset)))]
    if scores:
        detection = read_json(scores / "detection.json")
        train = detection["train"]
        found = train["rule"]
        sizes = train["group_sizes"]
        flagged = sum(n for name, n in sizes.items() if name.endswith("/conflicting"))
        source = _source(context, train["accuracy"], sum(sizes.values()))
        text = (
            f"{source} By the rule {detection['rule']!r} ({RULES[detection['rule']]})"
            f" {flagged} of them are flagged as bias-conflicting."
        )
        own = context.config.amplifier.kind == "network" and not context.config.given_scores.csv
        if 2 * flagged > sum(sizes.values()) and own:
            text += (
                " That is more than half: a model that is wrong so often has not learnt what"
                " the classes look like, and its verdicts say little. Look at the synthetic images"
                " below, and train the diffusion model or the amplifier longer."
            )
        if found["bias_auroc"] is not None:
            text += (
                f" Against the true bias labels: AUROC {found['bias_auroc']:.4f},"
                f" average precision {found['bias_average_precision']:.3f} where chance gives"
                f" {found['bias_prevalence']:.3f},"
                f" precision {figure(found['bias_precision'])},"
                f" recall {figure(found['bias_recall'])}."
            )
        parts.append(page.paragraph(text))
        if train["dropped_groups"]:
            parts.append(
                page.paragraph(
                    "Pseudo-groups without a training image, which were left out: "
                    + ", ".join(train["dropped_groups"])
                    + "."
                )
            )
    if not any(np.any(source.bias >= 0) for source in context.dataset.splits.values()):
        parts.append(
            page.paragraph(
                "No image has a bias label. Look at the flagged images to judge whether they"
                " contradict a bias. The accuracy on conflicting images is unknown: a test split as"
                " biased as the training images rewards the bias."
            )
        )
    for folder in list(folders_of(context, "measure_synthesis").values())[:1]:
        m = read_json(folder / "aligned_share.json")
        low, high = m["interval"]
        parts.append(
            page.paragraph(
                f"Of the synthetic images {100 * m['aligned_share']:.1f}% show their class's bias"
                f" attribute (95% interval {100 * low:.1f} to {100 * high:.1f}), of the training"
                f" images {100 * m['aligned_share_of_train']:.1f}%. The probe that reads it is"
                f" right on {100 * m['probe_accuracy_on_test']:.1f}% of the test images."
            )
        )
    by_name = {entry["method"]: entry for entry in methods}
    plain = by_name.get("erm", {}).get("conflicting_accuracy")
    if plain:
        others = [e for e in methods if e["method"] != "erm" and "conflicting_accuracy" in e]
        gains = [f"{e['title']} {percent(e['conflicting_accuracy'])}" for e in _foremost(others)]
        text = "On test images that conflict with the bias, plain training is right on"
        text = "; ".join([f"{text} {percent(plain)}%", *gains]) + "."
        if len(gains) < len(others):
            text += f" These are the best of {len(others)} methods; the table has them all."
        parts.append(page.paragraph(text))
    return parts


def _source(context: Context, accuracy: float | None, images: int) -> str:
    """Where the scores come from, and how often their model is right on the training images."""
    config = context.config
    if config.given_scores.csv:
        return f"The scores were read from {config.given_scores.csv}."
    right = f"classifies {100 * accuracy:.1f}% of the {images} training images correctly."
    if config.amplifier.kind == "lda":
        network = config.classifier.network
        return f"Linear discriminant analysis of what {network}, frozen, sees {right}"
    return f"The bias amplifier, trained on {config.amplifier.train_on} images alone, {right}"


def _foremost(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of a few methods; of many the best four, and the best oracle."""
    if len(entries) <= MANY:
        return entries
    ranked = sorted(entries, key=lambda e: -e["conflicting_accuracy"].mean)
    oracles = [e for e in ranked if method_entry(e["method"]).uses_bias_labels]
    return [e for e in ranked if e not in oracles][:4] + oracles[:1]


def folders_of(context: Context, stage: str) -> dict[str, Path]:
    """Folders of the tasks of one stage that the report reads, by task name."""
    return {name: path for name, path in context.inputs.items() if name.split("/")[1] == stage}


def figure(value: float | None) -> str:
    """A share with three decimals, "-" where there is none."""
    return "-" if value is None else f"{value:.3f}"
