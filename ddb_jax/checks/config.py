"""Everything that can be wrong with a config, found before anything is allocated."""

import difflib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from ddb_jax.checks.combinations import contradictions, doubts
from ddb_jax.checks.devices import indivisible_parts, unusable_bfloat16, unusable_remat
from ddb_jax.checks.field_values import FIELDS, Field
from ddb_jax.checks.generated_images import batch_sections, unusable_generated
from ddb_jax.checks.given_files import stand_ins
from ddb_jax.checks.methods import unusable_settings
from ddb_jax.checks.networks import unusable_network
from ddb_jax.configs import base
from ddb_jax.data.datasets import ARRAYS, DATASETS, missing_settings
from ddb_jax.debias.losses import check_gce
from ddb_jax.debias.table import method_entry
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.generator import build_sampler_table
from ddb_jax.training.mesh import indivisible_batches

log = logging.getLogger("ddb_jax")


def load_config(argument: str, overrides: list[str]) -> ConfigDict:
    """The config that --config=file.py:preset and --config.field=value flags name.

    Args:
        argument: Path of the config file, with ":preset" or without. Where there is no such file,
            configs/NAME.py is the package's own.
        overrides: The flags as given.

    Raises:
        UserError: The file or preset cannot be loaded, or fields or values are wrong; names all of
            them at once.
    """
    argument = _find_file(argument)
    try:
        config = _parse([f"--config={argument}"])
    except Exception as error:  # a config file is a program, and may fail in any way
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__
        first_line = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        fix = "" if "nearest" in first_line else "; give a Python file that defines get_config"
        raise UserError(f"--config={argument} cannot be loaded: {first_line}{fix}.") from None
    problems = []
    fields = field_names(config)
    overrides = [_tuple_literal(config, override) for override in overrides]
    for override in overrides:
        name = override.removeprefix("--config.").split("=")[0]
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1, 0.0)[0]
            problems.append(f"there is no field config.{name}, the nearest is config.{near}")
            continue
        try:
            _parse([f"--config={argument}", override])
        except (flags.Error, TypeError, ValueError, SyntaxError):
            kind = type(_get(config, name)).__name__
            problems.append(
                f"{override} does not give the {kind} that the field holds: write it as its"
                f" default, --config.{name}={_get(config, name)}"
            )
    if problems:
        raise UserError("; ".join(problems) + ".")
    return _parse([f"--config={argument}", *overrides])


def _find_file(argument: str) -> str:
    """The argument, its path that of the package's own file where the user has none."""
    path, colon, preset = argument.partition(":")
    if Path(path).is_file():
        return argument
    folder, hint = Path(base.__file__).parent, ""
    if Path(path).parent == Path("configs"):
        if (folder / Path(path).name).is_file():
            return f"{folder / Path(path).name}{colon}{preset}"
        own = [file.name for file in folder.glob("*.py") if file.name != "__init__.py"]
        near = difflib.get_close_matches(Path(path).name, own, 1, 0.0)[0]
        hint = f"; the nearest of the package's own is configs/{near}"
    raise UserError(f"there is no config file {path}{hint or ': check the path'}.")


def _tuple_literal(config: ConfigDict, override: str) -> str:
    """--config.methods=erm,ddb_i as --config.methods=('erm', 'ddb_i'), which the parser reads."""
    flag, _, value = override.partition("=")
    name = flag.removeprefix("--config.")
    if name not in field_names(config) or not isinstance(_get(config, name), tuple):
        return override
    if value.startswith(("(", "[")):
        return override
    words = [word.strip() for word in value.split(",") if word.strip()]
    return f"{flag}={tuple(map(_literal, words))!r}"


def _literal(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _parse(arguments: list[str]) -> ConfigDict:
    values = flags.FlagValues()
    arguments = ["", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    return values["config"].value


def field_names(config: ConfigDict) -> list[str]:
    """Dotted names of all fields."""
    names = []
    for name, value in config.items():
        names += [f"{name}.{n}" for n in field_names(value)] if hasattr(value, "items") else [name]
    return names


def _get(config: ConfigDict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def check_config(config: ConfigDict) -> None:
    """Refuse a config with bad values.

    Raises:
        UserError: Names every bad value at once.
    """
    names = field_names(config)
    problems = _mistyped(config, names)
    if problems:
        raise UserError("; ".join(problems) + ".")  # the checks below take the types for granted
    for name in names:
        problems += _out_of_range(name, _get(config, name))
    for method in config.methods:
        try:
            method_entry(method)
        except ValueError as error:
            problems.append(f"config.methods: {error}")
    if not config.methods:
        problems.append("config.methods is empty: name one or more, such as erm,ddb_ii")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        problems.append(
            f"config.seeds is {config.seeds}, it must hold different numbers, at least one"
        )
    if any(not 0 <= seed < 2**32 for seed in config.seeds):
        problems.append(
            f"config.seeds is {config.seeds}, they must be at least 0 and less than 2^32"
        )
    for name in ("amplifier", "biased", "committee"):
        problems += _unusable_gce(name, config[name])
    if config.unet.num_heads > 0 and config.unet.channels % (2 * config.unet.num_heads):
        problems.append(
            f"config.unet.channels is {config.unet.channels}, it must be a multiple of twice"
            f" config.unet.num_heads, {config.unet.num_heads}"
        )
    if config.diffusion.image_size < 1 or config.classifier.image_size < 1:
        problems.append(
            "config.diffusion.image_size and config.classifier.image_size must be above 0"
        )
    factor = 2 ** (len(config.unet.channel_mults) - 1)
    if config.diffusion.image_size % factor:
        problems.append(
            f"config.diffusion.image_size is {config.diffusion.image_size}, which the UNet's"
            f" {len(config.unet.channel_mults)} levels do not divide; take a multiple of {factor}"
        )
    if not problems:
        try:
            build_sampler_table(config)
        except ValueError as error:
            problems.append(f"config.synthesis: {error}")
    if config.data.name in DATASETS:
        problems += missing_settings(config.data)
    if config.given_scores.csv and not Path(config.given_scores.csv).is_file():
        problems.append(
            f"config.given_scores.csv is {config.given_scores.csv}, and there is no such file:"
            " check the path"
        )
    problems += stand_ins(config)
    problems += _unequal_sizes(config)
    if not problems:
        problems += unusable_settings(config) + unusable_generated(config) + contradictions(config)
    for name in ("classifier",) if config.amplifier.kind == "lda" else ("amplifier", "classifier"):
        section = config[name]
        fields = ("network", "stem", "norm", "dtype")
        if all(section[field] in FIELDS[f"{name}.{field}"].choices for field in fields):
            problems += unusable_network(f"config.{name}", section, config.diffusion.image_size)
    drawn = [] if problems else batch_sections(config)
    problems += _unusable_devices(config, drawn)
    if problems:
        raise UserError("; ".join(problems) + ".")
    for doubt in doubts(config):
        log.warning("warning: %s", doubt)


def _unusable_devices(config: ConfigDict, drawn: Sequence[str]) -> list[str]:
    """Sentences for what the devices cannot do; `drawn` are sections whose batches they share."""
    problems = unusable_remat(config) + unusable_bfloat16(config, drawn, jax.devices()[0])
    if config.num_devices > jax.device_count():
        problems.append(
            f"config.num_devices is {config.num_devices}, but only {jax.device_count()}"
            f" {'device is' if jax.device_count() == 1 else 'devices are'} visible: take no"
            " more than these, or 0 for all"
        )
    else:
        sections = ["diffusion", "synthesis", "amplifier", "classifier", *drawn]
        batch_sizes = {f"{name}.batch_size": _get(config, name).batch_size for name in sections}
        num_devices = max(config.num_devices, 0) or jax.device_count()
        problems += indivisible_batches(batch_sizes, num_devices)
        problems += indivisible_parts(config, num_devices)
        if config.fsdp > 0 and num_devices % config.fsdp:
            problems.append(
                f"config.fsdp is {config.fsdp}, which does not divide the {num_devices} devices:"
                " take 1, or another of their divisors"
            )
        if jax.process_count() > 1 and num_devices != jax.device_count():
            problems.append(
                f"config.num_devices is {config.num_devices}, and a run of several processes uses"
                f" all their {jax.device_count()} devices: take 0"
            )
    return problems


def _unequal_sizes(config: ConfigDict) -> list[str]:
    """Error messages if images would be cropped or resized by mistake."""
    generator = config.diffusion.image_size
    classifier = config.classifier.source_size or config.classifier.image_size
    if 0 < config.amplifier.image_size < generator:
        return [
            f"config.amplifier.image_size is {config.amplifier.image_size}, less than"
            f" config.diffusion.image_size, {generator}: the amplifier would be trained on parts of"
            " the images and judge other parts; take 0 for equal sizes"
        ]
    if config.data.resize != "none" or config.data.name in ARRAYS or generator == classifier:
        return []
    return [
        "config.data.resize is 'none', and the images are asked for at two sizes,"
        f" config.diffusion.image_size {generator} and the classifier's source_size or image_size"
        f" {classifier}: make them one, or take 'squash' or 'center_crop'"
    ]


def _mistyped(config: ConfigDict, names: list[str]) -> list[str]:
    """Error messages for lists with wrong entries and for values that are no finite numbers."""
    problems = []
    for name in names:
        value = _get(config, name)
        kind = FIELDS.get(name, Field()).entries
        allowed = (int, float) if kind is float else (kind,)
        if kind and not isinstance(value, tuple):
            problems.append(f"config.{name} is {value!r}, it must be a list")
        elif kind and not all(type(entry) in allowed for entry in value):
            words = {str: "names", int: "whole numbers", float: "numbers"}[kind]
            problems.append(f"config.{name} is {value}, it must be a list of {words}")
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(f"config.{name} is {value}, it must be a finite number")
    if not config.unet.channel_mults:
        problems.append(
            "config.unet.channel_mults is empty: give one number a level, such as 1,2,2"
        )
    return problems


def _unusable_gce(name: str, section: ConfigDict) -> list[str]:
    """A sentence for a loss that would be 0 everywhere."""
    if not FIELDS[f"{name}.gce_q"].range.holds(section.gce_q):
        return []  # said already
    try:
        check_gce(section.gce_q, section.gce_scaled, owner=f"the {name} section")
    except ValueError as error:
        return [f"config.{name}: {str(error).rstrip('.')}"]
    return []


def _out_of_range(name: str, value: Any) -> list[str]:
    """A sentence for a value that is not among the field's choices, or not in its range."""
    field = FIELDS.get(name, Field())
    choices = list(field.choices)
    if choices and value not in choices:
        near = difflib.get_close_matches(value, choices, 1, 0.0)[0]
        return [
            f"config.{name} is {value!r}, the nearest of"
            f" {', '.join(choice or repr(choice) for choice in choices)} is {near!r}"
        ]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and field.range and not field.range.holds(value):
        return [f"config.{name} is {value}, it must be {field.range.words}"]
    return []
