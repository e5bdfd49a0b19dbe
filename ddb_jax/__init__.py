"""Unsupervised removal of dataset bias from image classifiers, in JAX."""

__version__ = "0.1.0"
