"""What is wrong with an input, and what the one sentence on it must say: what, where and the mend.

`BAD` has one row a case: the config; the flags, of which those without dashes are fields of the
config; and what the sentence must hold. ROOT is the folder of `bad_files.write_inputs`.
"""

from bad_fields import FIELDS, row

OWN = "methods=diffubias data.reference_share=0.1"
RESNET18 = "classifier.network=resnet18"
SCRATCH = "or train from scratch with --config.classifier.weights="


def folder(name: str, *words: str) -> tuple:
    return row("folder", f"data.root=ROOT/{name}", f"ROOT/{name}", *words)


def table(name: str, *words: str) -> tuple:
    return row("csv", f"data.root=ROOT/pets/{name}.csv", f"ROOT/pets/{name}.csv", *words)


FILES = [
    row(
        "digits",
        f"{RESNET18} classifier.weights=ROOT/none.pth",
        "config.classifier.weights is ROOT/none.pth, and there is no such file",
        "get it by",
        SCRATCH,
    ),
    row(
        "digits",
        f"{RESNET18} classifier.weights=ROOT/weights.pth",
        "config.classifier.weights: ",
        "ROOT/weights.pth is a git-lfs pointer",
        "git lfs pull",
        SCRATCH,
    ),
    row(
        "digits",
        f"{RESNET18} classifier.weights=ROOT/weights.safetensors",
        "cut short at 13",
        SCRATCH,
    ),
    row(
        "digits",
        f"{RESNET18} classifier.weights=ROOT/weights.bin",
        "config.classifier.weights: ",
        "weights.bin",
        SCRATCH,
    ),
    row(
        "digits",
        "amplifier.weights=ROOT/weights.pth",
        "config.amplifier.weights is ROOT/weights",
        "config.amplifier.network is resnet8: take one of these",
    ),
    row(
        "digits",
        "given_scores.csv=ROOT/none.csv",
        "config.given_scores.csv is ROOT/none.csv",
        "there is no such file: check the path",
    ),
    row(
        "digits",
        "given_scores.csv=ROOT/pets/pointer.csv",
        "config.given_scores.csv: ",
        "is a git-lfs pointer",
        "run `git lfs pull` in ROOT/pets",
    ),
    row(
        "digits",
        "given_scores.csv=ROOT/pets/scores_nobody.csv",
        "of no image (line 2: elsewhere/1)",
        "fix or delete them",
    ),
    row(
        "digits",
        "given_scores.csv=ROOT/pets/scores_none.csv",
        "scores_none.csv",
        "(line 2: 0)",
        "fix or delete them",
    ),
    row(
        "digits",
        "given_scores.csv=ROOT/pets/scores_word.csv",
        "lacks 1,076 of 1,077 train images",
        "give a row to each of them",
    ),
    row(
        "digits",
        f"{OWN} captions.source=csv captions.csv=ROOT/none.csv",
        "config.captions.csv is 'ROOT/none.csv'",
        "give a CSV file with the columns",
    ),
    row(
        "digits",
        f"{OWN} captions.source=csv captions.csv=ROOT/pets/captions.csv",
        "config.captions.csv: ROOT/pets/captions.csv has no column generated_text",
        "it must have",
    ),
    row(
        "digits",
        "methods=diffubias captioned.csv=ROOT/pets/captioned.csv",
        "config.captioned.csv: ROOT/pets/captioned.csv has no column path",
        "it must have",
    ),
    row(
        "digits",
        "methods=diffubias",
        "an empty config.text_to_image.folder",
        "give config.captioned.csv, or config.data.reference_share above 0",
    ),
    row(
        "digits",
        f"{OWN} text_to_image.folder=ROOT/none",
        "config.text_to_image.folder: ",
        "there is no folder ROOT/none",
        "check the path",
    ),
    row(
        "digits",
        f"{OWN} text_to_image.folder=ROOT/sd",
        "config.text_to_image.folder: ",
        "ROOT/sd is not a complete folder of the diffusers layout: it lacks model_index.json",
    ),
    row(
        "digits",
        "given_scores.csv=ROOT/pets/scores_none.csv methods=ddb_ii+rebalanced",
        "config.given_scores.csv says nothing of generated images",
        "leave one of the two out",
    ),
]
DATA = [
    row("folder", "", "config.data.root is empty: give --config.data.root=FOLDER"),
    row("csv", "", "config.data.root is empty: give --config.data.root=FILE.csv"),
    folder("none", "there is no folder", "check the path"),
    folder("a_file", "is a file", "give the folder that holds the images"),
    folder("nothing", "no train/ or class folder", "put one folder of images per class"),
    folder("empty_class", "/cat has no images", "add some, or remove the folder"),
    folder("texts", "/cat has no images, only 1 file", "convert them to JPEG or PNG"),
    folder("one_class", "one class folder only, cat", "give the folder that holds two or more"),
    folder("flat", "no train/ or class folder", "put one folder of images per class there"),
    folder("no_train", "has test/ but no train/", "put the training images into"),
    folder("new_class", "has class c, which train lacks", "add training images of it or remove"),
    folder("two_tests", "test and testing, which both name the test split", "rename the other"),
    folder(
        "look_alike", "'Cat' and 'cat', whose names look the same", "into one folder, or rename"
    ),
    folder("above", "like a level above the classes", "If they are splits, name them train"),
    folder("line_break", "/do\\ng' has a line break", "rename it"),
    row(
        "folder",
        "data.root=ROOT/heic",
        "ROOT/heic/cat/9.jpg: is HEIC, which is not read (convert it to JPEG or PNG",
        "fix or delete them, or allow as many with config.data.max_broken",
    ),
    row(
        "folder",
        "data.root=ROOT/cut",
        "ROOT/cut/cat/9.png: is not an image that can be read",
        "fix or delete them, or allow as many with config.data.max_broken",
    ),
    row(
        "folder",
        "data.root=ROOT/pets methods=group_dro",
        "group_dro needs the true bias",
        "leave it out of config.methods",
    ),
    row(
        "folder",
        "data.root=ROOT/pets data.test_share=0.01",
        "pets has no test split",
        "add images or a test split, or change config.data.test_share",
    ),
    row("csv", "data.root=ROOT/pets", "ROOT/pets is a folder", "give the CSV file"),
    table("none", "there is no file", "check the path"),
    table("columns", "no column path or label", "name the columns there"),
    table("semicolons", "no column path", "by commas instead of semicolons"),
    table("tabs", "no column path", "by commas instead of tabs"),
    table("excel", "is a zip archive that is cut short", "get it again"),
    table("utf16", "in UTF-16", "save it as CSV (UTF-8"),
    table("latin", "is not a CSV file in UTF-8", "save it as CSV (UTF-8"),
    table("pointer", "is a git-lfs pointer", "run `git lfs pull` in ROOT/pets"),
    table("page", "is a web page, not the content", "get it again"),
    table("empty", "is empty", "again"),
    table("header", "has no rows", "add one line per image"),
    table("gone", "names dog/99.png, which is not a file in ROOT/pets", "are relative to the CSV"),
    table("one", "one class only, cat", "classification needs two"),
    table("gaps", "2 integers from 1 to 3", "number the classes 0 to 1, or give"),
    table("fox", "class fox, which train lacks", "add training images of it or remove"),
    table("split", "has split 'holdout'", "it must be train, val"),
    table("nan", "has no label but 'nan'", "fill it in or remove the row"),
    table("quote", "a quotation mark that opens a field of line 3", "close it before"),
    table("case", "'Cat' (line 2) and 'cat' (line 3)", "write one of them everywhere"),
    table("twice", "repeats ./cat/0.png, which is the file cat/0.png of line 2", "remove one"),
    table("equal", "more than one column 'label'", "rename or remove all but one"),
    table("short", "has 1 fields and the first line 2", "put quotes around fields with commas"),
    table("pairs", "cannot be paired with the classes", "write into it the class"),
    row("bar", "data.root=ROOT/pets", "there is no train/ in ROOT/pets", "give the folder that"),
    row("cmnist", "data.root=ROOT/pets", "in ROOT/pets", "ddb_jax.data.download mnist` gets it"),
    row("waterbirds", "data.root=ROOT/pets", "no metadata.csv in ROOT/pets", "give the folder"),
    row("tfds", "data.root=ROOT", "config.data.tfds_name is empty", "give --config.data.tfds_name"),
    row("huggingface", "data.root=ROOT/none", "there is no folder ROOT/none", "give the folder"),
]
ARGUMENTS = [
    row("digits", "nothing=1", "there is no field config.nothing", "the nearest is config."),
    row("digits", "diffusion.num_step=5", "no field config.diffusion.num_step", "num_steps"),
    row("digits", "--stage=train", "--stage=train names no stage", "which has"),
    row("digits", "--workdir=foo://b/x", "--workdir=foo://b/x", "give a local folder, or BUCKET"),
    row("digits", "--workdir=ROOT/a_file", "ROOT/a_file", "give another one with --workdir"),
    row("digits", "--config=configs/digit.py", "no config file configs/digit.py", "configs/digits"),
    row("digits", "--config=none/x.py", "there is no config file none/x.py", "check the path"),
    row("digits", "--config=configs/digits.py:smok", "'smok'", "the nearest is 'smoke'"),
    row("digits", "--config=README.md", "--config=README.md cannot be loaded", "a Python file"),
    row("digits", "--config=ROOT/broken.py", "broken.py cannot be loaded: division", "get_config"),
    row("digits", "--coordinator=here:1", "--coordinator, --num_processes and", "go together"),
]
BAD = [*FIELDS, *FILES, *DATA, *ARGUMENTS]
