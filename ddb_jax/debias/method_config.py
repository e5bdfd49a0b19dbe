"""What of a config concerns one method: its section, and the rule that chooses its step."""

from typing import Any

from ddb_jax.debias.requirements import OF_AMPLIFIER
from ddb_jax.debias.table import MethodEntry, method_entry


def method_settings(config: Any, entry: MethodEntry) -> Any:
    """The config section of a method; None for one without settings."""
    return config[entry.settings] if entry.settings else None


def selection_rule(config: Any, method: str) -> str:
    """Name of the rule that chooses the step of this method's weights.

    It is a row of evaluation/selection.py.

    Raises:
        ValueError: There is no such method.
    """
    classifier, entry = config.classifier, method_entry(method)
    if entry.uses_bias_labels:
        return classifier.oracle_selection
    of_amplifier = entry.requires in OF_AMPLIFIER
    return classifier.selection if of_amplifier else classifier.plain_selection
