"""The report's section on what a biased and a debiased classifier look at: Grad-CAM, t-SNE."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddb_jax.data.preprocessing import to_input
from ddb_jax.data.source import Source, conflicting
from ddb_jax.debias.table import method_entry, method_title
from ddb_jax.evaluation.embedding import MIN_POINTS, embed
from ddb_jax.evaluation.saliency import grad_cam
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.common.classifier_training import load_network, make_outputs
from ddb_jax.stages.common.networks import build_network, input_size
from ddb_jax.stages.common.picture_names import legend, picture_names
from ddb_jax.stages.common.scores_table import rank_in_class
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import figures, page
from ddb_jax.stages.report.findings import folders_of
from ddb_jax.training.compilation import jit
from ddb_jax.training.rng import data_seed

IMAGES = 8  # in the figure of Grad-CAM
OVER_IMAGE = 14  # characters of a name that have room there
POINTS = 1_000  # at most, in that of t-SNE


class Trained(NamedTuple):
    """A trained classifier and its answers over the test split.

    Attributes:
        title: For people.
        model: The network.
        weights: Its variables.
        predicted: int [N].
        features: float32 [N, F].
    """

    title: str
    model: Any
    weights: dict[str, Any]
    predicted: np.ndarray
    features: np.ndarray


def looks_section(context: Context) -> list[str]:
    """The figures, of the first seed; nothing where there is no biased and debiased classifier.

    The biased one is DiffuBias', or plain training. The debiased one is that of the first method on
    generated images, or DDB's Recipe II or I.
    """
    biased, debiased = _biased(context), _debiased(context)
    if not biased or not debiased:
        return []
    pair = [_load(context, *found) for found in (biased, debiased)]
    return [*_saliency(context, *pair), *_embedding(context, *pair)]


def _of_first_seed(context: Context, stage: str) -> dict[str, Path]:
    """Folder of each variant of a stage, the one of no variant under ""."""
    seed = f"seed_{context.config.seeds[0]}/{stage}"
    folders = folders_of(context, stage)
    return {n.removeprefix(seed).lstrip("/"): f for n, f in folders.items() if n.startswith(seed)}


def _biased(context: Context) -> tuple[str, Path] | None:
    own = _of_first_seed(context, "train_biased")
    if own:
        return "biased classifier (GCE)", own[""]
    plain = _of_first_seed(context, "train_classifier").get("erm")
    return (method_title("erm"), plain) if plain else None


def _debiased(context: Context) -> tuple[str, Path] | None:
    trained = _of_first_seed(context, "train_classifier")
    generated = [m for m in context.config.methods if method_entry(m).generated]
    for method in (*generated, "ddb_ii", "ddb_i"):
        if method in trained:
            return method_title(method), trained[method]
    return None


def _load(context: Context, title: str, folder: Path) -> Trained:
    settings, test = context.config.classifier, context.dataset.test
    size, selection = input_size(settings, test), folder / "selection.json"
    kind = read_json(selection)["network"] if selection.is_file() else "classifier"
    model = build_network(kind, settings, context.num_classes, size)
    weights = load_network(context, model, folder, size)
    logits, features = make_outputs(model, settings, size, context.mesh)(weights, test)
    return Trained(title, model, weights, logits.argmax(axis=1), features)


def _saliency(context: Context, biased: Trained, debiased: Trained) -> list[str]:
    """Grad-CAM of the test images that only the debiased classifier gets right."""
    test, names = context.dataset.test, context.dataset.class_names
    won = (biased.predicted != test.labels) & (debiased.predicted == test.labels)
    chosen = _choose(np.flatnonzero(won), test)
    if not len(chosen):
        return [
            page.paragraph(
                f"There is no test image that {biased.title} gets wrong and {debiased.title} right,"
                " so there is nothing to compare."
            )
        ]
    images, pair = test.gather(chosen)["image"], (biased, debiased)
    maps = [_maps(context, one, images, one.predicted[chosen]) for one in pair]
    if any(heat is None for heat in maps):
        return [
            page.paragraph(
                "Grad-CAM is not shown: it needs networks that end in a mean over places and one"
                " linear layer, and one of the two"
                f" ({context.config.classifier.network}) does not."
            )
        ]
    drawn = picture_names(names, longest=OVER_IMAGE)
    rows = {
        one.title: (heat, [f"says {drawn[k]}" for k in one.predicted[chosen]])
        for one, heat in zip(pair, maps, strict=True)
    }
    size = input_size(context.config.classifier, test)
    seen = np.asarray(jit(lambda images: to_input(images, size, "unit"))(images))
    png = figures.saliency_maps(seen, [drawn[k] for k in test.labels[chosen]], rows)
    caption = (
        "Grad-CAM (arXiv 1610.02391): bright is what speaks for the class that each predicts."
        f" Test images that {biased.title} gets wrong and {debiased.title} right, {len(chosen)} of"
        f" {int(won.sum()):,}; they are chosen for that and are not typical. Where the bias"
        " lies in the object itself, as a colour does, both may look at the same place."
        f"{legend(names, longest=OVER_IMAGE)}"
    )
    return [page.picture(png, caption)]


def _choose(candidates: np.ndarray, test: Source) -> np.ndarray:
    """A few of these positions, the conflicting ones first and the classes in turn."""
    kinds = conflicting(test)[candidates]
    labels = test.labels[candidates]
    groups = labels * 3 + kinds  # kinds are -1, 0 or 1
    order = np.lexsort((labels, rank_in_class(groups), -kinds))
    return candidates[order][:IMAGES]


def _maps(
    context: Context, one: Trained, images: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """Grad-CAM [B, h, w]; None for a network whose head does not follow a pooled map."""
    settings = context.config.classifier
    size = input_size(settings, context.dataset.test)

    def apply(weights: Any, images: jax.Array) -> Any:
        x = to_input(images, size, settings.normalization)
        _, state = one.model.apply(weights, x, train=False, mutable=["intermediates"])
        return state.get("intermediates", {}).get("feature_map")

    found = jit(apply)(one.weights, images)
    if found is None:
        return None
    return grad_cam(np.asarray(found[0]), one.weights["params"]["head"]["kernel"], classes)


def _embedding(context: Context, biased: Trained, debiased: Trained) -> list[str]:
    """t-SNE of the features of both, coloured by class and, where it is known, by bias."""
    dataset, test = context.dataset, context.dataset.test
    finite = all(np.isfinite(one.features).all() for one in (biased, debiased))
    if not finite or len(test) < MIN_POINTS:
        return []
    rng = np.random.default_rng(data_seed(context.seed, "report/embedding"))
    chosen = np.sort(rng.permutation(len(test))[:POINTS])
    seed = int(rng.integers(2**31))
    columns = {one.title: embed(one.features[chosen], seed) for one in (biased, debiased)}
    rows = {"class": (test.labels[chosen], picture_names(dataset.class_names))}
    meant = legend(dataset.class_names)
    if np.any(test.bias >= 0) and dataset.bias_is_marker:
        rows["aligned or not"] = (conflicting(test)[chosen], ("aligned", "conflicting"))
    elif np.any(test.bias >= 0):
        rows["bias"] = (test.bias[chosen], picture_names(dataset.bias_names, "bias"))
        meant += legend(dataset.bias_names, "bias")
    png = figures.scatter_grid(columns, rows)
    caption = (
        f"t-SNE of the features before the last layer, of {len(chosen):,}"
        f"{' of the' if len(chosen) < len(test) else ''} test images: neighbours stay neighbours,"
        " while distances, sizes and axes mean nothing. A classifier that follows the bias puts"
        f" images of one bias together; a debiased one those of one class.{meant}"
    )
    return [page.picture(png, caption)]
