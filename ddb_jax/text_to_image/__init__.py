"""Captions, and Stable Diffusion from published weights."""
