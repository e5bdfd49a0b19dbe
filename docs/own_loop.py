"""DDB's scores in a training loop of your own: Recipe II beside plain training, on coloured digits.

    python -m ddb_jax.main --config=configs/digits.py      # writes runs/digits/scores.csv
    python docs/own_loop.py runs/digits/scores.csv

Network, optimiser and loop are Flax's and optax's; what comes from ddb_jax is imported by name.
With the scores of seed 0 plain training gets 38.9% of the conflicting test images right after 150
steps and 63.3% after 500, Recipe II 68.7% and 68.0%. One seed; network and steps were chosen with
these test images in view, so this is an example and not a result.
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddb_jax import cross_entropy, read_given_scores, relative_difficulty, train_batches
from ddb_jax.data.sets.digits import load_coloured_digits


class Classifier(nn.Module):
    """Three convolutions, the mean over the image and a dense layer."""

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """uint8 [B, H, W, 3] -> logits float32 [B, 10]."""
        x = image / 127.5 - 1.0
        for features in (32, 64, 128):
            x = nn.relu(nn.Conv(features, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


def main(scores_csv: str, num_steps: int = 150) -> dict[str, float]:
    """Train both ways and print the accuracies on the test images that conflict with the bias."""
    dataset = load_coloured_digits()
    splits = {"train": dataset.train, "validation": dataset.validation}
    scores, _ = read_given_scores(
        Path(scores_csv),
        {name: split.paths for name, split in splits.items()},
        {name: split.labels for name, split in splits.items()},
        dataset.class_names,
    )
    columns = {"amplifier_loss": scores["train"].loss}  # joined to the images by their path
    model, optimizer = Classifier(), optax.adam(1e-3)

    def loss_fn(params: dict, batch: dict, recipe_ii: bool) -> jax.Array:
        losses = cross_entropy(model.apply(params, batch["image"]), batch["label"])
        if not recipe_ii:
            return jnp.mean(losses)
        # Hard for the amplifier, which knows the bias alone, rather than for this classifier.
        weight = relative_difficulty(batch["amplifier_loss"], jax.lax.stop_gradient(losses))
        return jnp.mean(weight * losses)

    @jax.jit(static_argnames="recipe_ii")
    def step(params: dict, state: tuple, batch: dict, recipe_ii: bool) -> tuple[dict, tuple]:
        gradient = jax.grad(loss_fn)(params, batch, recipe_ii)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    test, accuracies = dataset.test, {}
    for name, recipe_ii in (("plain training", False), ("DDB, Recipe II", True)):
        params = model.init(jax.random.key(0), test.images[:1])
        state = optimizer.init(params)
        for batch in train_batches(
            dataset.train, batch_size=64, seed=0, start_step=0, num_steps=num_steps, columns=columns
        ):
            params, state = step(params, state, batch, recipe_ii)
        right = np.argmax(jax.jit(model.apply)(params, test.images), axis=-1) == test.labels
        accuracies[name] = float(np.mean(right[test.bias != test.labels]))
        print(f"{name}: {accuracies[name]:.1%} of the conflicting test images")
    return accuracies


if __name__ == "__main__":
    main(sys.argv[1])
