"""A classifier with a projection of its features beside its head, for contrastive losses."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.mlp import linear


class ProjectionHead(nn.Module):
    """Two layers with a ReLU between them, the hidden one as wide as the features; unit length.

    The head of supervised contrastive learning (Khosla et al., NeurIPS 2020), in float32.
    """

    dim: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[B, F] -> float32 [B, dim]."""
        width = features.shape[-1]
        h = nn.relu(linear(width, width, jnp.float32, "hidden")(features))
        h = linear(self.dim, width, jnp.float32, "output")(h)
        # Shorter vectors than 1e-12 keep a finite gradient at the price of their unit length.
        return h * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(h), -1, keepdims=True), 1e-24))


class Projected(nn.Module):
    """The classifier that `make_classifier` makes, and a projection of `dim` numbers.

    Its parameters (and statistics) lie under "classifier" as they do in that module alone, the
    projection's under "projection". Initialisation makes all of them.
    """

    make_classifier: Callable[[], nn.Module]
    dim: int = 128

    def setup(self) -> None:
        """The two parts."""
        self.classifier = self.make_classifier()
        self.projection = ProjectionHead(self.dim)

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """The classifier's output: logits float32 [B, K] and features float32 [B, F]."""
        logits, features = self.classifier(x, train=train)
        if self.is_initializing():
            self.projection(features)
        return logits, features

    def project(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [B, K], and the projection of the features, float32 [B, dim]."""
        logits, features = self.classifier(x, train=train)
        return logits, self.projection(features)
