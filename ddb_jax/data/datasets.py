"""The data sets by name: one line in `DATASETS` each."""

from collections.abc import Callable
from typing import Any

from ddb_jax.data.digits import load_coloured_digits
from ddb_jax.data.source import Dataset, check_dataset


def _digits(settings: Any) -> Dataset:
    return load_coloured_digits(
        image_size=settings.image_size,
        aligned_share=settings.aligned_share,
        colour_jitter=settings.colour_jitter,
        validation_share=settings.validation_share,
        test_share=settings.test_share,
        seed=settings.seed,
    )


DATASETS: dict[str, Callable[[Any], Dataset]] = {
    "digits": _digits,
}


def load_dataset(settings: Any) -> Dataset:
    """Load and check the data set that `settings.name` names.

    Args:
        settings: The data section of the config, read by attribute.

    Raises:
        ValueError: There is no such data set, or it fails `check_dataset`.
    """
    if settings.name not in DATASETS:
        raise ValueError(f"there is no data set {settings.name!r}, there is {', '.join(DATASETS)}.")
    dataset = DATASETS[settings.name](settings)
    check_dataset(dataset)
    return dataset
