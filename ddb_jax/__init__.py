"""Unsupervised removal of dataset bias from image classifiers, in JAX.

For a training loop of your own, as in docs/own_loop.py; each is imported when it is first used.

The classifier of a finished run: `load`, as in `load(RUN).predict(images)`.
Scores of a bias amplifier: `read_given_scores` reads the scores.csv of a run, or your own; the
score of an image is the amplifier's `cross_entropy`.
Pseudo-groups: `error_set` and `loss_threshold` say which images conflict with the bias,
`assign_groups` makes groups of class and verdict.
Losses: `relative_difficulty` is the weight of DDB's Recipe II and of LfF, `group_dro_loss` is for
Recipe I and GroupDRO, `generalized_cross_entropy` trains a biased model.
Batches of an `ArraySource`: `train_batches`, uniform or balanced over groups, and `eval_batches`.
Diffusion: `make_schedule`, `make_table` (DDPM, DDIM, DPM-Solver++), `guided` and `sample`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Every public name, and the module where it is defined and documented.
_HOMES = {
    "ArraySource": "data.source",
    "assign_groups": "debias.pseudo_groups",
    "cross_entropy": "debias.losses",
    "error_set": "debias.pseudo_groups",
    "eval_batches": "data.input_pipeline",
    "generalized_cross_entropy": "debias.losses",
    "group_dro_loss": "debias.group_dro",
    "guided": "diffusion.guidance",
    "load": "predict.model",
    "loss_threshold": "debias.pseudo_groups",
    "make_schedule": "diffusion.noise_schedule",
    "make_table": "diffusion.samplers",
    "read_given_scores": "data.scores_file",
    "relative_difficulty": "debias.loss_memory",
    "sample": "diffusion.samplers",
    "train_batches": "data.input_pipeline",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ddb_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ddb_jax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
