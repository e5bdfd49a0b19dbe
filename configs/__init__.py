"""The configs that come with the package; imported as `ddb_jax.configs`, see there."""
