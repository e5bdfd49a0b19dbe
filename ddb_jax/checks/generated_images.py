"""Checks of the settings of generated images, before anything is trained."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from ddb_jax.debias.generated_images import GENERATED
from ddb_jax.debias.requirements import OF_AMPLIFIER
from ddb_jax.debias.table import METHODS, method_entry
from ddb_jax.text_to_image.captions import check_captions
from ddb_jax.text_to_image.layout import read_layout

CAPTIONS = ("retrieval", "csv", "hugging_face")
# Libraries beyond requirements.txt, and the command that installs them.
TEXT_LIBRARIES = ("tokenizers",)
INSTALL_TEXT = "pip install -e '.[text_to_image]'"
CAPTION_LIBRARIES = ("torch", "transformers")
INSTALL_CAPTIONS = "pip install -e '.[captions]'"


def batch_sections(config: ConfigDict) -> tuple[str, ...]:
    """Sections whose batches are split over the devices, if a method draws images."""
    images = _images(config)
    if not any(row.captions for row in images):
        return ()
    own = ("train_text_to_image.autoencoder", "train_text_to_image.diffusion")
    return ("text_to_image", *(() if config.text_to_image.folder else own))


def unusable_generated(config: ConfigDict) -> list[str]:
    """Error messages for settings of generated images that cannot work.

    Args:
        config: A config whose methods exist.
    """
    images = _images(config)
    if not images:
        return []
    problems = []
    judge = METHODS.get(config.gate.debiased_method)
    if config.gate.labels and (judge is None or judge.uses_bias_labels):
        able = [name for name, entry in METHODS.items() if not entry.uses_bias_labels]
        problems.append(
            f"config.gate.debiased_method is {config.gate.debiased_method!r}, it must be a method"
            f" without bias labels on real images: {', '.join(able)}"
        )
    if config.given_scores.csv:
        bound = [
            name
            for name in config.methods
            if (entry := method_entry(name)).generated
            and (entry.requires in OF_AMPLIFIER or GENERATED[entry.generated].steered_by)
        ]
        if bound:
            problems.append(
                f"config.given_scores.csv says nothing of generated images, and {', '.join(bound)}"
                " would need its scores of them: leave one of the two out"
            )
    if any(row.captions for row in images):
        problems += _unusable_text_to_image(config)
    return problems


def _images(config: ConfigDict) -> list:
    rows = [method_entry(name).generated for name in config.methods]
    return [GENERATED[name] for name in rows if name]


def _unusable_text_to_image(config: ConfigDict) -> list[str]:
    problems = _missing(TEXT_LIBRARIES, "text-to-image models need", INSTALL_TEXT)
    captions, models = config.captions, config.text_to_image
    if captions.source == "csv" and not Path(captions.csv).is_file():
        problems.append(
            f"config.captions.csv is {captions.csv!r}, and there is no such file: give a CSV file"
            " with the columns label,generated_text or path,caption"
        )
    elif captions.source == "csv":
        problems += _unusable_table("captions.csv", Path(captions.csv), of_images=False)
    if captions.source == "hugging_face":
        problems += _missing(CAPTION_LIBRARIES, "a captioner needs", INSTALL_CAPTIONS)
    if captions.features == "pretrained" and not config.classifier.weights:
        problems.append(
            "config.captions.features is 'pretrained', and config.classifier.weights names no file"
            " of weights: give one, or take 'pixels'"
        )
    table = Path(config.captioned.csv).expanduser()
    if config.captioned.csv and not table.is_file():
        problems.append(
            f"config.captioned.csv is {config.captioned.csv}, and there is no such file: give a CSV"
            " file with the columns path,caption"
        )
    elif config.captioned.csv:
        problems += _unusable_table("captioned.csv", table, of_images=True)
    digits = config.data.name == "digits" and config.data.reference_share > 0
    asking = []
    if captions.source == "retrieval":
        asking.append("config.captions.source 'retrieval'")
    if not models.folder:
        asking.append("an empty config.text_to_image.folder")
    if asking and not config.captioned.csv and not digits:
        hint = "config.data.reference_share above 0" if config.data.name == "digits" else ""
        problems.append(
            f"{' and '.join(asking)} need{'' if len(asking) > 1 else 's'} captioned images: give"
            f" config.captioned.csv{', or ' + hint if hint else ''}, or captions of another source"
            " and the folder of a model"
        )
    for field in ("text_to_image.folder", "train_text_to_image.start_from"):
        section, name = field.split(".")
        if config[section][name]:
            try:
                read_layout(config[section][name])
            except ValueError as error:
                problems.append(f"config.{field}: {error}")
    return problems


def _unusable_table(field: str, path: Path, *, of_images: bool) -> list[str]:
    try:
        check_captions(path, of_images=of_images)
    except (OSError, ValueError) as error:
        return [f"config.{field}: {str(error).rstrip('.')}"]
    return []


def _missing(libraries: Iterable[str], words: str, command: str) -> list[str]:
    absent = [name for name in libraries if importlib.util.find_spec(name) is None]
    if not absent:
        return []
    return [
        f"{words} {' and '.join(libraries)}, and {', '.join(absent)} cannot be found: {command}"
    ]
