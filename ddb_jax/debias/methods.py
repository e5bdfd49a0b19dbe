"""The table of debiasing methods: what each needs beforehand and how it is made."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ddb_jax.debias import bias_balance, erm, gce, group_dro, jtt, lff, relative_difficulty
from ddb_jax.debias.method import Method, PairedMethod, TrainingSet


class MethodEntry(NamedTuple):
    """One row of the table.

    Attributes:
        title: Name for people.
        requires: What must exist before training: "nothing"; "amplifier_scores", the frozen
            amplifier's losses; "pseudo_groups", groups of class x pseudo-group made from those
            scores; "amplifier_errors", what it misclassifies; "reference_errors", what a model
            does that was trained shortly; "true_groups", groups of class x bias label.
        make: (settings, training_set) -> Method. `settings` holds the fields that the method's own
            module names; any object with attributes will do.
        settings: Config section that holds those fields; "" for a method without any.
        uses_bias_labels: True for an oracle, which is told the bias of every training image.
        pseudo_group_rule: The rule that makes its pseudo-groups, where the method fixes it; None
            where the configured rule holds.
    """

    title: str
    requires: str
    make: Callable[[Any, TrainingSet], Method | PairedMethod]
    settings: str = ""
    uses_bias_labels: bool = False
    pseudo_group_rule: str | None = None


METHODS: dict[str, MethodEntry] = {
    "erm": MethodEntry("ERM", "nothing", erm.make),
    "gce": MethodEntry("GCE", "nothing", gce.make, "gce"),
    "lff": MethodEntry("LfF", "nothing", lff.make, "lff"),
    "jtt": MethodEntry("JTT", "reference_errors", jtt.make, "jtt"),
    "jtt+ddb": MethodEntry("JTT on the amplifier's errors", "amplifier_errors", jtt.make, "jtt"),
    "resampling+ddb": MethodEntry(
        "Resampling of pseudo-groups", "pseudo_groups", erm.make_resampling
    ),
    "ddb_i": MethodEntry("DDB-I", "pseudo_groups", group_dro.make, "group_dro"),
    "ddb_i_error_set": MethodEntry(
        "DDB-I (error set)",
        "pseudo_groups",
        group_dro.make,
        "group_dro",
        pseudo_group_rule="error_set",
    ),
    "ddb_ii": MethodEntry(
        "DDB-II", "amplifier_scores", relative_difficulty.make, "relative_difficulty"
    ),
    "bias_bal+ddb": MethodEntry(
        "BiasBal on the amplifier's predictions",
        "amplifier_scores",
        bias_balance.make,
        "bias_balance",
    ),
    "bias_bal": MethodEntry(
        "BiasBal (true bias)",
        "true_groups",
        bias_balance.make,
        "bias_balance",
        uses_bias_labels=True,
    ),
    "group_dro": MethodEntry(
        "GroupDRO (true groups)",
        "true_groups",
        group_dro.make,
        "group_dro",
        uses_bias_labels=True,
    ),
    "resampling": MethodEntry(
        "Resampling (true groups)", "true_groups", erm.make_resampling, uses_bias_labels=True
    ),
}
