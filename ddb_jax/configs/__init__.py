"""The repository's folder configs/, importable: `from ddb_jax.configs import base`.

This file is for a checkout alone. In a wheel the files of configs/ lie here themselves (setup.py).
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "configs")]
