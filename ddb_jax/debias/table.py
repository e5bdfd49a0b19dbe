"""The table of debiasing methods: what each needs beforehand and how it is made."""

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from ddb_jax.debias import (
    afr,
    bias_balance,
    bias_contrastive,
    debian,
    dfr,
    disent,
    erm,
    gce,
    group_dro,
    jtt,
    lff,
    rebias,
    relative_difficulty,
    selecmix,
)
from ddb_jax.debias.contract import JointMethod, LastLayer, Method, TrainingSet

# The stage whose scores.csv a method reads, by what it requires.
SCORES_OF = {
    "amplifier_scores": "score",
    "amplifier_errors": "score",
    "pseudo_groups": "score",
    "reference_errors": "train_reference",
    "committee_votes": "train_committee",
    "environments": "infer_environments",
}


class MethodEntry(NamedTuple):
    """One row of the table.

    Attributes:
        title: Name for people.
        requires: What must exist before training: "nothing"; "amplifier_scores", the frozen
            amplifier's losses; "pseudo_groups", groups of class x pseudo-group made from those
            scores; "amplifier_errors", what it misclassifies; "reference_errors", what a model
            does that was trained shortly; "environments", groups of class x environment inferred
            from such a model; "committee_votes", what a committee of biased networks is not sure
            of; "bias_features", the features of a frozen network of a small receptive field;
            "true_groups", groups of class x bias label.
        make: (settings, training_set) -> the method. `settings` holds the fields that the method's
            own module names; any object with attributes will do.
        settings: Config section that holds those fields; "" for a method without any.
        uses_bias_labels: True for an oracle, which is told the true bias of images.
        pseudo_group_rule: The rule that makes its pseudo-groups, where the method fixes it; None
            where the configured rule holds.
        flagged: Column of the scores that is its TrainingSet.flagged; "" for none.
        detects_by_loss: What it misclassifies in the end, and its loss there, are its opinion of
            which training images conflict.
        stage: "train_classifier", or "train_last_layer" for a LastLayer.
        search: Fields that a hyperparameter search draws beside the learning rate, and what from:
            (low, high, "linear" or "log") or a list of values.
        generated: The row of GENERATED whose images it is trained on beside the real ones; "" for
            none.
    """

    title: str
    requires: str
    make: Callable[[Any, TrainingSet], Method | JointMethod | LastLayer]
    settings: str = ""
    uses_bias_labels: bool = False
    pseudo_group_rule: str | None = None
    flagged: str = ""
    detects_by_loss: bool = False
    stage: str = "train_classifier"
    search: tuple[tuple[str, tuple[float, float, str] | list[Any]], ...] = ()
    generated: str = ""


class GeneratedImages(NamedTuple):
    """Generated images that a method may be trained on beside the real ones.

    Attributes:
        title: Name for people.
        captions: The stage whose captions a text-to-image model draws; "" where none does.
        steered_by: How DDB's class-conditional model is steered away from what the amplifier
            expects, see stages/generated/steer.py; "" where another model draws.
    """

    title: str
    captions: str = ""
    steered_by: str = ""


_LFF_SEARCH = (("lff.gce_q", (0.3, 0.9, "linear")), ("lff.ema", (0.0, 0.9, "linear")))
_JTT_SEARCH = (("jtt.upweight", [5, 20, 50, 100]),)
_GROUP_DRO_SEARCH = (
    ("group_dro.step_size", (1e-3, 1e-1, "log")),
    ("group_dro.adjustment", (0.0, 5.0, "linear")),
)
_DISENT_SEARCH = (
    ("disent.lambda_dis", (1.0, 10.0, "log")),
    ("disent.lambda_swap", (0.1, 1.0, "log")),
)
_BIAS_BALANCE_SEARCH = (("bias_balance.strength", (0.5, 1.5, "linear")),)
_AFR_SEARCH = (("afr.gamma", (1.0, 20.0, "log")), ("afr.regularization", [0.0, 0.001, 0.01, 0.1]))

METHODS: dict[str, MethodEntry] = {
    "erm": MethodEntry("ERM", "nothing", erm.make),
    "gce": MethodEntry(
        "GCE",
        "nothing",
        gce.make,
        "gce",
        detects_by_loss=True,
        search=(("gce.q", (0.3, 0.9, "linear")),),
    ),
    "lff": MethodEntry("LfF", "nothing", lff.make, "lff", search=_LFF_SEARCH),
    "lff+ddb": MethodEntry(
        "LfF on the amplifier", "amplifier_scores", lff.make_on_amplifier, "lff", search=_LFF_SEARCH
    ),
    "lff+be": MethodEntry(
        "LfF + BiasEnsemble",
        "committee_votes",
        lff.make_on_committee,
        "lff",
        flagged="pseudo_conflicting",
        search=_LFF_SEARCH,
    ),
    "disent": MethodEntry("DisEnt", "nothing", disent.make, "disent", search=_DISENT_SEARCH),
    "disent+ddb": MethodEntry(
        "DisEnt on the amplifier",
        "amplifier_scores",
        disent.make_on_amplifier,
        "disent",
        search=_DISENT_SEARCH,
    ),
    "disent+be": MethodEntry(
        "DisEnt + BiasEnsemble",
        "committee_votes",
        disent.make_on_committee,
        "disent",
        flagged="pseudo_conflicting",
        search=_DISENT_SEARCH,
    ),
    "selecmix": MethodEntry(
        "SelecMix",
        "nothing",
        selecmix.make,
        "selecmix",
        search=(("selecmix.auxiliary_lr_scale", (0.1, 10.0, "log")),),
    ),
    "selecmix+ddb": MethodEntry(
        "SelecMix on the amplifier", "amplifier_scores", selecmix.make_on_amplifier, "selecmix"
    ),
    "rebias": MethodEntry(
        "ReBias",
        "nothing",
        rebias.make,
        "rebias",
        search=(("rebias.lambda_main", (0.1, 10.0, "log")),),
    ),
    "debian": MethodEntry("DebiAN", "nothing", debian.make, "debian"),
    "softcon": MethodEntry(
        "SoftCon",
        "bias_features",
        bias_contrastive.make_softcon,
        "bias_contrastive",
        search=(("bias_contrastive.ce_weight", (0.01, 1.0, "log")),),
    ),
    "jtt": MethodEntry(
        "JTT", "reference_errors", jtt.make, "jtt", flagged="error_set", search=_JTT_SEARCH
    ),
    "jtt+ddb": MethodEntry(
        "JTT on the amplifier's errors",
        "amplifier_errors",
        jtt.make,
        "jtt",
        flagged="error_set",
        search=_JTT_SEARCH,
    ),
    "eiil": MethodEntry(
        "EIIL", "environments", group_dro.make, "group_dro", search=_GROUP_DRO_SEARCH
    ),
    "afr": MethodEntry(
        "AFR", "nothing", afr.make, "afr", stage="train_last_layer", search=_AFR_SEARCH
    ),
    "afr+ddb": MethodEntry(
        "AFR on the amplifier",
        "amplifier_scores",
        afr.make,
        "afr",
        stage="train_last_layer",
        search=_AFR_SEARCH,
    ),
    "dfr+ddb": MethodEntry(
        "DFR on pseudo-groups", "pseudo_groups", dfr.make, "dfr", stage="train_last_layer"
    ),
    "resampling+ddb": MethodEntry(
        "Resampling of pseudo-groups", "pseudo_groups", erm.make_resampling
    ),
    "reweighting+ddb": MethodEntry(
        "Reweighting of pseudo-groups", "pseudo_groups", erm.make_reweighting
    ),
    "ddb_i": MethodEntry(
        "DDB-I", "pseudo_groups", group_dro.make, "group_dro", search=_GROUP_DRO_SEARCH
    ),
    "ddb_i_error_set": MethodEntry(
        "DDB-I (error set)",
        "pseudo_groups",
        group_dro.make,
        "group_dro",
        pseudo_group_rule="error_set",
        search=_GROUP_DRO_SEARCH,
    ),
    "ddb_ii": MethodEntry(
        "DDB-II",
        "amplifier_scores",
        relative_difficulty.make,
        "relative_difficulty",
        search=(("relative_difficulty.ema", (0.0, 0.9, "linear")),),
    ),
    "bias_bal+ddb": MethodEntry(
        "BiasBal on the amplifier's predictions",
        "amplifier_scores",
        bias_balance.make,
        "bias_balance",
        search=_BIAS_BALANCE_SEARCH,
    ),
    "bias_bal": MethodEntry(
        "BiasBal (true bias)",
        "true_groups",
        bias_balance.make,
        "bias_balance",
        uses_bias_labels=True,
        search=_BIAS_BALANCE_SEARCH,
    ),
    "bias_con": MethodEntry(
        "BiasCon (true bias)",
        "true_groups",
        bias_contrastive.make_biascon,
        "bias_contrastive",
        uses_bias_labels=True,
    ),
    "dfr": MethodEntry(
        "DFR (true groups of validation)",
        "true_groups",
        dfr.make,
        "dfr",
        uses_bias_labels=True,
        stage="train_last_layer",
    ),
    "group_dro": MethodEntry(
        "GroupDRO (true groups)",
        "true_groups",
        group_dro.make,
        "group_dro",
        uses_bias_labels=True,
        search=_GROUP_DRO_SEARCH,
    ),
    "resampling": MethodEntry(
        "Resampling (true groups)", "true_groups", erm.make_resampling, uses_bias_labels=True
    ),
    "reweighting": MethodEntry(
        "Reweighting (true groups)", "true_groups", erm.make_reweighting, uses_bias_labels=True
    ),
}

GENERATED: dict[str, GeneratedImages] = {
    "diffubias": GeneratedImages("DiffuBias", captions="filter_captions"),
    "diffubias_unfiltered": GeneratedImages("DiffuBias without text filter", captions="caption"),
    "steered": GeneratedImages("steered synthesis", steered_by="gradient"),
    "rebalanced": GeneratedImages("rebalanced synthesis", steered_by="difference"),
    "rejection": GeneratedImages("rejection sampling", steered_by="none"),
}
# Requirements that generated images can meet as real ones do: the amplifier scores them, too.
_MET_BY_GENERATED = ("nothing", "amplifier_scores", "amplifier_errors", "pseudo_groups")


def method_entry(name: str) -> MethodEntry:
    """The row of a method, by itself or on generated images.

    A name of GENERATED is plain training on the real images and those; "lff+steered" is LfF on
    them.

    Raises:
        ValueError: There is no such method, or it cannot be trained on generated images.
    """
    if name in METHODS:
        return METHODS[name]
    host, _, source = name.rpartition("+") if name not in GENERATED else ("erm", "", name)
    if source not in GENERATED or host not in METHODS:
        known = (*METHODS, *GENERATED)
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise ValueError(
            f"{name!r} is no method, the nearest of {', '.join(known)} is {near!r}; a method M on"
            " generated images is 'M+diffubias', 'M+steered' and so on"
        )
    entry, title = METHODS[host], GENERATED[source].title
    if not _takes_generated(entry):
        able = [n for n, e in METHODS.items() if _takes_generated(e)]
        raise ValueError(
            f"{host} cannot be trained on generated images as {name!r} asks, it needs what is known"
            f" of real images alone; {', '.join(able)} can"
        )
    title = title if host == "erm" else f"{entry.title} + {title}"
    return entry._replace(title=title, generated=source)


def _takes_generated(entry: MethodEntry) -> bool:
    return entry.requires in _MET_BY_GENERATED and entry.stage == "train_classifier"


def method_title(name: str) -> str:
    """The title of a method; the name itself where it is none."""
    try:
        return method_entry(name).title
    except ValueError:
        return name
