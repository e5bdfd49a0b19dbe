"""Test set-up: eight emulated CPU devices, so that sharding is exercised everywhere."""

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
