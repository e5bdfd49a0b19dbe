"""Who finds the bias-conflicting training images, and how well, for the report."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ddb_jax.debias.table import method_title
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import page
from ddb_jax.stages.report.results import ResultRow, percent, summary

METRICS = (
    "bias_auroc",
    "bias_average_precision",
    "bias_prevalence",
    "bias_precision",
    "bias_recall",
)


class Finder(NamedTuple):
    """Something that flags training images as bias-conflicting.

    Attributes:
        name: In results.csv; {} is the last part of the task's name.
        title: For people; {} is that part, or the title of the method that it names.
        keys: Where its figures lie in the `detection.json` of its task.
    """

    name: str
    title: str
    keys: tuple[str, ...]


# By stage.
FINDERS = {
    "score": Finder("amplifier_{}", "amplifier trained on {} images", ("train", "rule")),
    "score_lda": Finder("amplifier_lda", "LDA of frozen features", ("train", "rule")),
    "given_scores": Finder("given_scores", "given scores", ("train", "rule")),
    "train_reference": Finder(
        "jtt_reference", "errors of the first model (JTT)", ("train", "error_set")
    ),
    "infer_environments": Finder("eiil_environments", "environments (EIIL)", ("train", "rule")),
    "train_committee": Finder(
        "committee", "votes of the committee (BiasEnsemble)", ("train", "rule")
    ),
    "train_classifier": Finder("{}", "{} in the end", ()),
}


def _found(context: Context) -> Iterator[tuple[str, str, int, str, dict[str, Any]]]:
    """(name, title, seed, selection, figures) of every finder of every seed."""
    for task, folder in context.inputs.items():
        seed, stage, *variant = task.split("/")
        path = folder / "detection.json"
        if stage not in FINDERS or not path.is_file():
            continue
        figures, last = read_json(path), variant[0] if variant else ""
        for key in FINDERS[stage].keys:
            figures = figures[key] if figures else None
        if figures:
            words = method_title(last)
            yield (
                FINDERS[stage].name.format(last),
                FINDERS[stage].title.format(words),
                int(seed.removeprefix("seed_")),
                "last",
                figures,
            )


def detection_rows(context: Context) -> list[ResultRow]:
    """Rows of results.csv; every finder is taken at its last step."""
    dataset = context.dataset.name
    return [
        ResultRow(dataset, name, seed, selection, metric, value)
        for name, _, seed, selection, figures in _found(context)
        for metric, value in figures.items()
        if isinstance(value, float)
    ]


def detection_section(context: Context) -> list[str]:
    """The table for people, mean and deviation over the seeds; nothing where no bias is known."""
    titles = {name: title for name, title, *_ in _found(context)}
    entries = summary(detection_rows(context), METRICS)
    if not entries:
        return []
    header = ["found by", *(m.removeprefix("bias_").replace("_", " ") for m in METRICS), "seeds"]
    rows = [
        [titles[e["method"]], *(percent(e.get(m)) for m in METRICS), str(e["seeds"])]
        for e in entries
    ]
    note = (
        "In percent of the training images. Conflicting is the positive class. Precision and"
        " recall are those of each finder's own verdict: the pseudo-group rule, a model's"
        " errors, or a weight or membership above one half."
    )
    return [page.table(header, rows), page.paragraph(note)]
