"""Two encoders, of the class and of the bias, whose codes meet in two heads (Lee et al. 2021)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.mlp import linear


class Disentangled(nn.Module):
    """The network of DisEnt (Lee et al., NeurIPS 2021, section 3): main and biased, side by side.

    The parameters of the encoders lie under "main_encoder" and "biased_encoder", each those of the
    classifier that `make_encoder` gives, its own head included, which is not read and gets no
    gradient: so the weights of a classifier fit as they are. The heads lie under "main_head" and
    "biased_head", linear layers from both codes, initialised as PyTorch's.
    """

    make_encoder: Callable[[], nn.Module]  # () -> module of `classifiers.make_classifier`
    num_classes: int

    def setup(self) -> None:
        """Names the two encoders."""
        self.main_encoder = self.make_encoder()
        self.biased_encoder = self.make_encoder()

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [B, num_classes] of the main head, and the main code [B, F], of images."""
        z_main, z_biased = self.encode(x, train=train)
        code = jnp.concatenate([z_main, z_biased], axis=-1)
        logits, _ = self.heads(code, code, train=train)
        return logits, z_main

    def encode(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """The main and the biased code, both float32 [B, F], of images [B, H, W, C]."""
        _, z_main = self.main_encoder(x, train=train)
        _, z_biased = self.biased_encoder(x, train=train)
        return z_main, z_biased

    @nn.compact
    def heads(
        self, code_for_main: jax.Array, code_for_biased: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Main and biased logits, both float32 [B, num_classes].

        Each head has a code [B, 2F] of its own, [z_main, z_biased], because training stops other
        gradients in one than in the other. `train` changes nothing.
        """
        del train
        fan_in = code_for_main.shape[-1]
        main_head = linear(self.num_classes, fan_in, jnp.float32, "main_head")
        biased_head = linear(self.num_classes, fan_in, jnp.float32, "biased_head")
        return main_head(code_for_main), biased_head(code_for_biased)
