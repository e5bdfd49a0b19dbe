"""Checks of the settings of generated images, before anything is trained."""

import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from ddb_jax.debias.generated_images import GENERATED
from ddb_jax.debias.requirements import OF_AMPLIFIER
from ddb_jax.debias.table import METHODS, method_entry
from ddb_jax.models.file_content import stand_in
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image.captioned_set import check_table
from ddb_jax.text_to_image.captioners import folder_fault
from ddb_jax.text_to_image.captions import check_captions
from ddb_jax.text_to_image.latent_diffusion import check_model
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
    problems += _unusable_tables(config)
    # Without its library no tokenizer can be looked at; that it is missing is said already.
    check = read_layout if _absent(TEXT_LIBRARIES) else check_model
    for field in ("text_to_image.folder", "train_text_to_image.start_from"):
        section, name = field.split(".")
        if config[section][name]:
            try:
                check(config[section][name])
            except (OSError, ValueError, UserError) as error:
                problems.append(f"config.{field}: {str(error).rstrip('.')}")
    return problems


def _unusable_tables(config: ConfigDict) -> list[str]:
    """Sentences for captions and captioners that can be looked at before the images are."""
    problems = []
    of_classes = functools.partial(check_captions, of_images=False)
    checks = (("captions.csv", of_classes), ("captioned.csv", check_table))
    for field, check in checks:
        section, name = field.split(".")
        path = Path(config[section][name]).expanduser()
        read = field == "captioned.csv" or config.captions.source == "csv"
        if read and config[section][name] and path.is_file() and not stand_in(path):
            try:
                check(path)
            except (OSError, ValueError) as error:
                problems.append(f"config.{field}: {str(error).rstrip('.')}")
    if config.captions.source == "hugging_face":
        fault = folder_fault(config.captions.model)
        problems += [f"config.captions.model: {fault}"] if fault else []
    return problems


def _absent(libraries: Iterable[str]) -> list[str]:
    return [name for name in libraries if importlib.util.find_spec(name) is None]


def _missing(libraries: Iterable[str], words: str, command: str) -> list[str]:
    absent = _absent(libraries)
    if not absent:
        return []
    return [
        f"{words} {' and '.join(libraries)}, and {', '.join(absent)} cannot be found: {command}"
    ]
