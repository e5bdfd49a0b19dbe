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

# GeneratedImages is here for run/plan.py.
from ddb_jax.debias.generated_images import GENERATED
from ddb_jax.debias.requirements import (
    AMPLIFIER_ERRORS,
    AMPLIFIER_SCORES,
    BIAS_FEATURES,
    COMMITTEE_VOTES,
    ENVIRONMENTS,
    MET_BY_GENERATED,
    NOTHING,
    PSEUDO_GROUPS,
    REFERENCE_ERRORS,
    TRUE_GROUPS,
)


class MethodEntry(NamedTuple):
    """One row of the table.

    Attributes:
        title: Name for people.
        requires: What must exist before training, a name of requirements.py.
        make: (settings, training_set) -> the method. `settings` holds the fields that the method's
            own module names; any object with attributes will do.
        settings: Config section that holds those fields; "" for a method without any.
        uses_bias_labels: True for an oracle, which is told the true bias of images.
        pseudo_group_rule: The rule that makes its pseudo-groups, if the method fixes it; None for
            the configured rule.
        flagged: Column of the scores that is its TrainingSet.flagged; "" for none.
        detects_by_loss: Its final errors and losses are its verdict on which training images
            conflict with the bias.
        stage: "train_classifier", or "train_last_layer" for a LastLayer.
        search: Fields that a hyperparameter search draws besides the learning rate, each with its
            range, (low, high, "linear" or "log"), or a list of values.
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
    "erm": MethodEntry("ERM", NOTHING, erm.make),
    "gce": MethodEntry(
        "GCE",
        NOTHING,
        gce.make,
        "gce",
        detects_by_loss=True,
        search=(("gce.q", (0.3, 0.9, "linear")),),
    ),
    "lff": MethodEntry("LfF", NOTHING, lff.make, "lff", search=_LFF_SEARCH),
    "lff+ddb": MethodEntry(
        "LfF on the amplifier", AMPLIFIER_SCORES, lff.make_on_amplifier, "lff", search=_LFF_SEARCH
    ),
    "lff+be": MethodEntry(
        "LfF + BiasEnsemble",
        COMMITTEE_VOTES,
        lff.make_on_committee,
        "lff",
        flagged="pseudo_conflicting",
        search=_LFF_SEARCH,
    ),
    "disent": MethodEntry("DisEnt", NOTHING, disent.make, "disent", search=_DISENT_SEARCH),
    "disent+ddb": MethodEntry(
        "DisEnt on the amplifier",
        AMPLIFIER_SCORES,
        disent.make_on_amplifier,
        "disent",
        search=_DISENT_SEARCH,
    ),
    "disent+be": MethodEntry(
        "DisEnt + BiasEnsemble",
        COMMITTEE_VOTES,
        disent.make_on_committee,
        "disent",
        flagged="pseudo_conflicting",
        search=_DISENT_SEARCH,
    ),
    "selecmix": MethodEntry(
        "SelecMix",
        NOTHING,
        selecmix.make,
        "selecmix",
        search=(("selecmix.auxiliary_lr_scale", (0.1, 10.0, "log")),),
    ),
    "selecmix+ddb": MethodEntry(
        "SelecMix on the amplifier", AMPLIFIER_SCORES, selecmix.make_on_amplifier, "selecmix"
    ),
    "rebias": MethodEntry(
        "ReBias",
        NOTHING,
        rebias.make,
        "rebias",
        search=(("rebias.lambda_main", (0.1, 10.0, "log")),),
    ),
    "debian": MethodEntry("DebiAN", NOTHING, debian.make, "debian"),
    "softcon": MethodEntry(
        "SoftCon",
        BIAS_FEATURES,
        bias_contrastive.make_softcon,
        "bias_contrastive",
        search=(("bias_contrastive.ce_weight", (0.01, 1.0, "log")),),
    ),
    "jtt": MethodEntry(
        "JTT", REFERENCE_ERRORS, jtt.make, "jtt", flagged="error_set", search=_JTT_SEARCH
    ),
    "jtt+ddb": MethodEntry(
        "JTT on the amplifier's errors",
        AMPLIFIER_ERRORS,
        jtt.make,
        "jtt",
        flagged="error_set",
        search=_JTT_SEARCH,
    ),
    "eiil": MethodEntry(
        "EIIL", ENVIRONMENTS, group_dro.make, "group_dro", search=_GROUP_DRO_SEARCH
    ),
    "afr": MethodEntry(
        "AFR", NOTHING, afr.make, "afr", stage="train_last_layer", search=_AFR_SEARCH
    ),
    "afr+ddb": MethodEntry(
        "AFR on the amplifier",
        AMPLIFIER_SCORES,
        afr.make,
        "afr",
        stage="train_last_layer",
        search=_AFR_SEARCH,
    ),
    "dfr+ddb": MethodEntry(
        "DFR on pseudo-groups", PSEUDO_GROUPS, dfr.make, "dfr", stage="train_last_layer"
    ),
    "resampling+ddb": MethodEntry(
        "Resampling of pseudo-groups", PSEUDO_GROUPS, erm.make_resampling
    ),
    "reweighting+ddb": MethodEntry(
        "Reweighting of pseudo-groups", PSEUDO_GROUPS, erm.make_reweighting
    ),
    "ddb_i": MethodEntry(
        "DDB-I", PSEUDO_GROUPS, group_dro.make, "group_dro", search=_GROUP_DRO_SEARCH
    ),
    "ddb_i_error_set": MethodEntry(
        "DDB-I (error set)",
        PSEUDO_GROUPS,
        group_dro.make,
        "group_dro",
        pseudo_group_rule="error_set",
        search=_GROUP_DRO_SEARCH,
    ),
    "ddb_ii": MethodEntry(
        "DDB-II",
        AMPLIFIER_SCORES,
        relative_difficulty.make,
        "relative_difficulty",
        search=(("relative_difficulty.ema", (0.0, 0.9, "linear")),),
    ),
    "bias_bal+ddb": MethodEntry(
        "BiasBal on the amplifier's predictions",
        AMPLIFIER_SCORES,
        bias_balance.make,
        "bias_balance",
        search=_BIAS_BALANCE_SEARCH,
    ),
    "bias_bal": MethodEntry(
        "BiasBal (true bias)",
        TRUE_GROUPS,
        bias_balance.make,
        "bias_balance",
        uses_bias_labels=True,
        search=_BIAS_BALANCE_SEARCH,
    ),
    "bias_con": MethodEntry(
        "BiasCon (true bias)",
        TRUE_GROUPS,
        bias_contrastive.make_biascon,
        "bias_contrastive",
        uses_bias_labels=True,
    ),
    "dfr": MethodEntry(
        "DFR (true groups of validation)",
        TRUE_GROUPS,
        dfr.make,
        "dfr",
        uses_bias_labels=True,
        stage="train_last_layer",
    ),
    "group_dro": MethodEntry(
        "GroupDRO (true groups)",
        TRUE_GROUPS,
        group_dro.make,
        "group_dro",
        uses_bias_labels=True,
        search=_GROUP_DRO_SEARCH,
    ),
    "resampling": MethodEntry(
        "Resampling (true groups)", TRUE_GROUPS, erm.make_resampling, uses_bias_labels=True
    ),
    "reweighting": MethodEntry(
        "Reweighting (true groups)", TRUE_GROUPS, erm.make_reweighting, uses_bias_labels=True
    ),
}


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
            f"{host} cannot be trained on generated images as {name!r} asks: it needs what is known"
            f" of real images alone; {', '.join(able)} can"
        )
    title = title if host == "erm" else f"{entry.title} + {title}"
    return entry._replace(title=title, generated=source)


def _takes_generated(entry: MethodEntry) -> bool:
    return entry.requires in MET_BY_GENERATED and entry.stage == "train_classifier"


def method_title(name: str) -> str:
    """The title of a method; the name itself where it is none."""
    try:
        return method_entry(name).title
    except ValueError:
        return name
