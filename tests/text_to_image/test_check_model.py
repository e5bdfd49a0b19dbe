"""A model folder is looked at whole before anything runs."""

import json
import re
import shutil

import ml_dtypes
import numpy as np
import pytest
from tiny_text_to_image import write_model

from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image.latent_diffusion import check_model, load_model

st = pytest.importorskip("safetensors.numpy")
pytest.importorskip("tokenizers")

UNET = "unet/diffusion_pytorch_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3438167540\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_model(folder)
    return folder


@pytest.fixture
def folder(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


def change_unet(folder, change):
    path = folder / UNET
    st.save_file({k: change(v) for k, v in st.load_file(path).items()}, path)


def cut(folder):
    data = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(data[: len(data) // 2])


def drop(folder):
    tensors = st.load_file(folder / UNET)
    del tensors["conv_in.bias"]
    st.save_file(tensors, folder / UNET)


def write(name, content):
    return lambda folder: (folder / name).write_text(content)


REFUSED = {
    "lfs_unet": (write(UNET, POINTER), "safetensors is a git-lfs pointer, not the content: run"),
    "cut": (cut, "safetensors is cut short: it has"),
    "html_page": (write(UNET, "<!doctype html><html>401"), "safetensors is a web page, not the"),
    "empty": (write(UNET, ""), "safetensors is empty: get it again"),
    "missing_tensor": (drop, "of the tensors 1 missing (conv_in.bias)"),
    "int8": (
        lambda f: change_unet(f, lambda v: v.astype(np.int8)),
        "not floating-point (conv_in.bias is I8, ",
    ),
    "lfs_config": (write("vae/config.json", POINTER), "vae/config.json is a git-lfs pointer"),
    "empty_index": (write("model_index.json", ""), "model_index.json is empty: get it again"),
    "lfs_vocab": (write("tokenizer/vocab.json", POINTER), "vocab.json is a git-lfs pointer"),
    "html_merges": (write("tokenizer/merges.txt", "<html>"), "merges.txt is a web page"),
    "wrong_type": (write("vae/config.json", '{"block_out_channels": 4}'), "cannot be used: "),
    "bad_beta": (
        write(
            "scheduler/scheduler_config.json",
            json.dumps(
                {
                    "_class_name": "DDIMScheduler", "num_train_timesteps": 20, "beta_start": "a",
                    "beta_end": 0.2, "beta_schedule": "linear",
                }
            ),
        ),
        "cannot be used: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_said(case, folder):
    damage, words = REFUSED[case]
    damage(folder)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        check_model(folder)
    assert "\n" not in str(error.value)


def test_a_whole_folder_is_well(folder):
    check_model(folder)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_small_floats_are_well_and_read(dtype, folder):
    before = st.load_file(folder / UNET)["conv_in.bias"]
    change_unet(folder, lambda v: v.astype(dtype))
    check_model(folder)
    bias = load_model(folder, "float32").params["unet"]["conv_in"]["bias"]
    np.testing.assert_array_equal(bias, before.astype(dtype).astype(np.float32))


def test_half_precision_is_taken_where_full_is_a_pointer(folder):
    tensors = {k: v.astype(np.float16) for k, v in st.load_file(folder / UNET).items()}
    st.save_file(tensors, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    (folder / UNET).write_text(POINTER)
    check_model(folder)
