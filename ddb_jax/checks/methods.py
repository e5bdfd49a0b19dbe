"""Checks of the settings of methods, and of the search over them."""

import math

from ml_collections import ConfigDict

from ddb_jax.debias.rebias import MIN_BATCH
from ddb_jax.debias.table import method_entry
from ddb_jax.models.classifiers import LAST_BLOCK
from ddb_jax.stages.common.example_method import example_method


def unusable_settings(config: ConfigDict) -> list[str]:
    """Error messages for settings that a method refuses, or that a search cannot use.

    Args:
        config: A config whose methods and selection rules exist.
    """
    problems, whole = [], []
    for name in config.methods:
        try:
            if example_method(config, name).needs_whole_batch:
                whole.append(name)
        except ValueError as error:
            problems.append(f"config.{method_entry(name).settings}: {str(error).rstrip('.')}")
    if "rebias" in config.methods and config.classifier.batch_size < MIN_BATCH:
        problems.append(
            f"config.classifier.batch_size is {config.classifier.batch_size}, and rebias needs"
            f" batches of at least {MIN_BATCH}: take as many, or leave it out"
        )
    if config.classifier.accumulate > 1 and whole:
        problems.append(
            f"config.classifier.accumulate is {config.classifier.accumulate}, and"
            f" {', '.join(whole)} {'need' if len(whole) > 1 else 'needs'} the whole batch at once,"
            " whose images or networks it compares: take 1, or leave"
            f" {'them' if len(whole) > 1 else 'it'} out"
        )
    if config.classifier.trainable == "last_block":
        problems += _last_block(config)
    c_grid = config.dfr.c_grid
    if not c_grid or not all(c > 0 and math.isfinite(c) for c in c_grid):
        problems.append(f"config.dfr.c_grid is {c_grid}, it must hold numbers greater than 0")
    if config.committee.agreement > config.committee.members:
        problems.append(
            f"config.committee.agreement is {config.committee.agreement}, more than its"
            f" {config.committee.members} members: take no more than config.committee.members"
        )
    rules = [name for name in config.classifier if name.endswith("selection")]
    blind = [f"config.classifier.{name}" for name in rules if config.classifier[name] == "last"]
    if config.search.tries > 1 and blind:
        problems.append(
            f"config.search.tries is {config.search.tries}, and {' and '.join(blind)} 'last' looks"
            " at nothing that tries could be chosen by: take another rule"
        )
    return list(dict.fromkeys(problems))


def _last_block(config: ConfigDict) -> list[str]:
    """Only maps of the real images are kept, and only a plain classifier begins in the middle."""
    field = "config.classifier.trainable is 'last_block'"
    if config.classifier.network not in LAST_BLOCK:
        return [
            f"{field}, and config.classifier.network is {config.classifier.network!r}, which has no"
            f" blocks: take one of {', '.join(LAST_BLOCK)}, or trainable 'all'"
        ]
    pixels = []
    for name in config.methods:
        entry = method_entry(name)
        plain = entry.stage == "train_last_layer" or all(
            spec.kind == "classifier" for spec in example_method(config, name).networks.values()
        )
        mixes = name.split("+")[0] == "selecmix"  # mixing maps is another method
        pixels += [name] if entry.generated or mixes or not plain else []
    if not pixels:
        return []
    return [
        f"{field}, and {', '.join(pixels)} {'need' if len(pixels) > 1 else 'needs'} the images"
        f" themselves: take 'all', or leave {'them' if len(pixels) > 1 else 'it'} out"
    ]
