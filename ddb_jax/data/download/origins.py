"""Where published data and weights come from: `ORIGINS` by a plain address, `BY_HAND` in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        address: Where it is.
        name: What it is called on disk.
        checksum: "md5:HEX" or "sha256:HEX" as published, perhaps only its first digits; None where
            nobody publishes one.
        num_bytes: About how large it is, for where the server does not say; 0 is unknown.
    """

    address: str
    name: str
    checksum: str | None
    num_bytes: int


@dataclass(frozen=True)
class Origin:
    """A data set, or a file of weights, that plain addresses serve.

    Attributes:
        files: What is downloaded.
        about: What it is and on what terms, in a sentence.
        inner: Folder inside the archive that becomes the data set's folder, "" for all of it;
            None where the files are used as they are.
        at_least: Minimum number of files per pattern in the finished folder.
        folder: Its folder; "" is its name.
        config_field: The config's field that names it.
    """

    files: tuple[RemoteFile, ...]
    about: str
    inner: str | None = None
    at_least: Mapping[str, int] = field(default_factory=dict)
    folder: str = ""
    config_field: str = "data.root"


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_BAR_COMMIT = "b12b7c05514201dfae596c6af4739701fc871b0e"
_WATERBIRDS = "waterbird_complete95_forest2water2"


def _weights(name: str, num_bytes: int) -> Origin:
    """ImageNet weights of torchvision, whose file names end in the start of their SHA-256."""
    sha256 = name.removesuffix(".pth").rpartition("-")[2]
    address = f"https://download.pytorch.org/models/{name}"
    return Origin(
        files=(RemoteFile(address, name, f"sha256:{sha256}", num_bytes),),
        about=f"torchvision's ImageNet weights {name}, {num_bytes / 1e6:.0f} MB, BSD-3-Clause.",
        folder="weights",
        config_field="classifier.weights",
    )


ORIGINS: dict[str, Origin] = {
    "mnist": Origin(
        files=tuple(
            RemoteFile(_MNIST + name, name, f"md5:{md5}", num_bytes)
            for name, md5, num_bytes in (
                ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
                ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 28_881),
                ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 1_648_877),
                ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
            )
        ),
        about="70,000 handwritten digits, 28 px, 12 MB; Coloured MNIST is made from them.",
    ),
    "cifar10": Origin(
        files=(
            RemoteFile(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
                170_498_071,
            ),
        ),
        about="60,000 photographs, 32 px, 170 MB; Corrupted CIFAR-10 is made from them.",
        inner="",
        at_least={
            "cifar-10-batches-py/data_batch_*": 5,
            "cifar-10-batches-py/test_batch": 1,
            "cifar-10-batches-py/batches.meta": 1,
        },
    ),
    # An archive that GitHub packs when asked: its bytes may change, the files of a commit do not.
    "bar": Origin(
        files=(
            RemoteFile(
                f"https://codeload.github.com/alinlab/BAR/zip/{_BAR_COMMIT}",
                f"BAR-{_BAR_COMMIT[:7]}.zip",
                None,
                70_000_000,
            ),
        ),
        about="Biased Action Recognition, 2,595 photographs of six actions, about 70 MB; no terms"
        " are stated, the photographs belong to their owners (metadata.json).",
        inner=f"BAR-{_BAR_COMMIT}",
        at_least={"train/*.jpg": 1941, "test/*.jpg": 654},
    ),
    "waterbirds": Origin(
        files=(
            RemoteFile(
                f"https://nlp.stanford.edu/data/dro/{_WATERBIRDS}.tar.gz",
                f"{_WATERBIRDS}.tar.gz",
                None,
                0,
            ),
        ),
        about="11,788 birds of CUB-200-2011 on backgrounds of Places; the terms of both hold.",
        inner=_WATERBIRDS,
        at_least={"metadata.csv": 1, "*/*.jpg": 11_788},
    ),
    "resnet18": _weights("resnet18-f37072fd.pth", 46_830_571),
    "resnet34": _weights("resnet34-b627a593.pth", 87_319_819),
    "resnet50": _weights("resnet50-0676ba61.pth", 102_530_333),
    "densenet121": _weights("densenet121-a639ec97.pth", 32_342_954),
}

_DISENT = "https://drive.google.com/drive/folders/1JEOqxrhU_IhkdcRohdbuEtFETUxfNmNT"
_BIAS_ENSEMBLE = "https://drive.google.com/drive/folders/1q_8zIqJHVSxjU2p5zaN1l2Zf-uSmS6Fx"

BY_HAND: dict[str, str] = {
    "bffhq": f"""\
Biased FFHQ: faces, young or old, with gender as the bias.
  0.5%:          {_DISENT}
                 (link of github.com/kakaoenterprise/Learning-Debiased-Disentangled)
  0.5, 1, 2, 5%: {_BIAS_ENSEMBLE}
                 (link of github.com/kakaoenterprise/BiasEnsemble)
Google Drive folders: download them with a browser and unzip. Neither page states terms for it; the
faces are FFHQ's, which is CC BY-NC-SA 4.0 (github.com/NVlabs/ffhq-dataset). data.root must hold
  0.5pct/align/<class>/<id>_<label>_<bias>.png   and so on for 1pct, 2pct, 5pct
  0.5pct/conflict/<class>/...
  valid/...
  test/...""",
    "dogs_and_cats": f"""\
Dogs & Cats: dogs and cats, with the brightness of the coat as the bias, at 1% and 5% conflicting.
  {_BIAS_ENSEMBLE}
  (link of github.com/kakaoenterprise/BiasEnsemble)
A Google Drive folder: download it with a browser and unzip. The page states no terms; the
photographs are those of "Learning Not to Learn" (Kim et al., CVPR 2019). data.root must hold
  1pct/align/<class>/...   1pct/conflict/<class>/...   1pct/valid/...   and so on for 5pct
  test/<class>/...""",
    "bar_bias_ensemble": f"""\
BAR with new splits, at 1% and 5% conflicting; the original is `bar`.
  {_BIAS_ENSEMBLE}
  (link of github.com/kakaoenterprise/BiasEnsemble)
A Google Drive folder: download it with a browser and unzip. data.root must hold
  train/align/<class>/...   train/conflict/1pct/<class>/...   train/conflict/5pct/<class>/...
  valid/<class>/...
  test/<class>/...""",
    "cmnist": f"""\
Coloured MNIST: digits with a colour as the bias; made from MNIST, which needs no hand:
  python -m ddb_jax.data.download mnist   (data.root is the folder of its four files)
The published images, at 0.5, 1, 2 and 5% conflicting, are in
  {_DISENT}
  (link of github.com/kakaoenterprise/Learning-Debiased-Disentangled)
A Google Drive folder: download it with a browser and unzip. data.root must then hold
  0.5pct/align/<class>/...   0.5pct/conflict/<class>/...   0.5pct/valid/...   and so on
  test/<class>/...""",
    "ccifar10": f"""\
Corrupted CIFAR-10: objects with a corruption as the bias; made from CIFAR-10, which needs no hand:
  python -m ddb_jax.data.download cifar10   (data.root is the folder of cifar-10-batches-py)
The published images, at 0.5, 1, 2 and 5% conflicting, are in the folder cifar10c of
  {_DISENT}
  (link of github.com/kakaoenterprise/Learning-Debiased-Disentangled)
A Google Drive folder: download it with a browser and unzip. data.root must then hold
  0.5pct/align/<class>/...   0.5pct/conflict/<class>/...   0.5pct/valid/<class>/...   and so on
  test/<class>/...""",
    "urbancars": """\
UrbanCars: urban and country cars, with the background and a second object as biases.
Its authors do not serve the images; their script makes them from Stanford Cars, LVIS on COCO, and
Places365:
  https://github.com/facebookresearch/Whac-A-Mole
  bash scripts/prepare_dataset_models/create_urbancars.sh
Its addresses of Stanford Cars answer 404 since 2023 (github.com/pytorch/vision/issues/7545 names
copies). The terms of the three sets hold. data.root is the folder urbancars, which must hold
  bg-0.95_co_occur_obj-0.95/train/obj-<o>_bg-<b>_co_occur_obj-<c>/NNN.jpg
  bg-0.5_co_occur_obj-0.5/val/...   bg-0.5_co_occur_obj-0.5/test/...
with urban or country for each of <o>, <b>, <c>.""",
    "imagenet9": """\
ImageNet-9: nine super-classes of ImageNet, tested on ImageNet-A.
  ImageNet (ILSVRC2012), train/ with its 1,000 class folders: registration and agreement to
  non-commercial use at https://image-net.org/download.php
  ImageNet-A, 688 MB: https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar
  SHA-256 3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e
  (github.com/hendrycks/natural-adv-examples; checksum of tensorflow-datasets)
data.root is the folder of ImageNet's train/, data.imagenet_a_root that of ImageNet-A's class
folders.""",
}
