"""A trained classifier to be used: `ddb_jax.load(RUN).predict(images)`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from ddb_jax.data.images.decode import decode_image
from ddb_jax.data.preprocessing import to_input
from ddb_jax.predict.model_folder import RECORD, ModelRecord, read_record, read_variables
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import read_json, work_path
from ddb_jax.training.checkpoint import abstract_like, load_weights
from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import make_mesh, put, replicated, shard_batch

Original = np.ndarray | Image.Image | bytes | str | Path
BATCH_SIZE = 256  # as in evaluation, so that the figures are the same to the last digit


@dataclass(frozen=True)
class Model:
    """A classifier, ready to answer.

    Attributes:
        record: What it is.
        variables: Of its network, on the devices.
        mesh: The devices.
        logits: (variables, {"image": uint8 [B, S, S, 3]}) -> float32 [B, K], compiled.
    """

    record: ModelRecord
    variables: Any
    mesh: Mesh
    logits: Any

    def predict(
        self, images: Sequence[np.ndarray | Image.Image | bytes | str | Path]
    ) -> np.ndarray:
        """Probability of every class, float32 [N, K]; the classes are `record.class_names`.

        Args:
            images: uint8 arrays [H, W, 3] of any size, Pillow images, whole files as bytes, or
                paths. They are decoded as the training images were.

        Raises:
            ValueError: An image cannot be used; the sentence names its place and why.
            OSError: A file cannot be read.
        """
        pixels = []
        for i, image in enumerate(images):
            try:
                pixels.append(self.decode(image))
            except ValueError as error:
                raise ValueError(f"image {i} {error}") from None
        parts = list(self.probabilities(pixels))
        return np.concatenate(parts) if parts else np.zeros((0, len(self.record.class_names)))

    def decode(self, image: Original) -> np.ndarray:
        """uint8 [S, S, 3], as the model was trained on it."""
        if isinstance(image, (str, Path)):
            image = Path(image).read_bytes()
        elif isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
                raise ValueError(
                    f"is {image.dtype} {list(image.shape)}, and an array must be uint8 [H, W, 3]"
                )
            image = Image.fromarray(image)
        return decode_image(image, self.record.rules).pixels

    def probabilities(self, pixels: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """float32 [B, K] of one batch after the other; the images are those of `decode`."""
        size = -(-BATCH_SIZE // self.mesh.size) * self.mesh.size
        batch: list[np.ndarray] = []
        for image in pixels:
            batch.append(image)
            if len(batch) == size:
                yield self._of_batch(batch, size)
                batch = []
        if batch:
            yield self._of_batch(batch, size)

    def _of_batch(self, batch: list[np.ndarray], size: int) -> np.ndarray:
        filled = np.stack(batch + [batch[-1]] * (size - len(batch)))
        found = self.logits(self.variables, shard_batch(self.mesh, {"image": filled}))
        return jax.device_get(found)[: len(batch)]


def load(folder: str | Path, method: str = "", seed: int | None = None) -> Model:
    """The model of a finished run.

    Args:
        folder: The work directory of a run, or its `model/`, or a copy of that.
        method: Another method of the run than the recommended one; needs the work directory.
        seed: Another of its seeds, likewise.

    Raises:
        UserError: There is no whole model, or no such method or seed.
    """
    path = folder if isinstance(folder, Path) else work_path(folder)
    if not path.is_dir():
        raise UserError(f"there is no folder {path}: give a finished run's work directory.")
    inner = path if (path / RECORD).exists() or not (path / "model").is_dir() else path / "model"
    record, mesh = read_record(inner), make_mesh()
    if (method or record.method, record.seed if seed is None else seed) == (
        record.method,
        record.seed,
    ):
        variables = read_variables(inner, record)
    else:
        record, trained = _other(path, record, method, seed)
        abstract = abstract_like(record.shapes(), replicated(mesh))
        variables = load_weights(trained / "weights", abstract)
    network = record.build()

    def logits(variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
        x = to_input(batch["image"], record.input_size, record.normalization)
        found, _ = network.apply(variables, x, train=False)
        return jnp.exp(jax.nn.log_softmax(found))  # as in evaluation, to the last digit

    compiled = jit(logits, out_shardings=replicated(mesh))
    return Model(record, put(replicated(mesh), variables), mesh, compiled)


def _other(
    workdir: Path, record: ModelRecord, method: str, seed: int | None
) -> tuple[ModelRecord, Path]:
    """The record of another classifier of the run, and the folder of its training."""
    seed = record.seed if seed is None else seed
    method = method or record.method
    finished = {
        (path.parent.name, path.parents[2].name): path.parent
        for stage in ("train_classifier", "train_last_layer")
        for path in sorted(workdir.glob(f"seed_*/{stage}/*/done.json"))
    }
    folder = finished.get((method, f"seed_{seed}"))
    if folder is None:
        there = ", ".join(f"{name} of {of}" for name, of in sorted(finished))
        raise UserError(
            f"{workdir} has no finished {method} of seed_{seed}; it has"
            f" {there or 'none at all: give the work directory, not its model/'}."
        )
    selection = read_json(folder / "selection.json")
    changes = {
        "method": method,
        "seed": seed,
        "kind": selection["network"],
        "selection": selection["selection"],
        "fingerprint": read_json(folder / "done.json")["fingerprint"],
    }
    return replace(record, **changes), folder
