"""What can be wrong with the tables that a config names, by their first bytes."""

from pathlib import Path

from ml_collections import ConfigDict

from ddb_jax.models.file_content import stand_in

# Weights are read whole by `networks.unusable_network`, Stable Diffusion folders by
# `generated_images.unusable_generated`.
TABLES = ("data.root", "given_scores.csv", "captions.csv", "captioned.csv")


def stand_ins(config: ConfigDict) -> list[str]:
    """Sentences for tables that are git-lfs pointers, web pages, archives, or empty.

    Args:
        config: Fields that name no file are passed over, what is missing is said elsewhere.
    """
    problems = []
    for field in TABLES:
        section, name = field.split(".")
        path = Path(config[section][name]).expanduser()
        if not config[section][name] or not path.is_file():
            continue
        try:
            other = stand_in(path)
        except OSError as error:
            other = f"cannot be read ({error.strerror}): check its permissions"
        problems += [f"config.{field}: {path} {other}"] if other else []
    return problems
