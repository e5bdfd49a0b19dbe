"""Loading a latent diffusion model and drawing with it: noise, texts, independence, refusals."""

import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_text_to_image import CAPTIONS, nan_in_decoder, write_model

from ddb_jax.configs import base
from ddb_jax.diffusion.gaussian import predict_x_start
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image.autoencoder import AutoencoderKL
from ddb_jax.text_to_image.latent_diffusion import encode_texts, load_model, published_schedule
from ddb_jax.text_to_image.latent_sampling import make_latent_sampler, sample_side, sampler_table
from ddb_jax.training.mesh import make_mesh

pytest.importorskip("tokenizers")

KEY = jax.random.key(3)


def make_settings(**changes):
    settings = base.get_config().text_to_image
    settings.update({"num_steps": 2, "dtype": "float32", **changes})
    return settings


def largest_difference(a, b):
    return np.abs(a.astype(int) - b).max()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, "float32")


@pytest.fixture(scope="module")
def contexts(model):
    return encode_texts(model, [*CAPTIONS, ""], make_mesh(1))


@pytest.fixture(scope="module")
def drawn(model, contexts):
    """Number n of caption n mod 3, for n < 8, all at once on one device."""
    sample = make_latent_sampler(model, make_settings(), make_mesh(1))
    return sample(KEY, np.arange(8, dtype=np.int32), contexts[[0, 1, 2, 0, 1, 2, 0, 1, 3]])


def test_evenly_spaced_betas():
    np.testing.assert_allclose(published_schedule("linear", 3, 0.1, 0.3).betas, [0.1, 0.2, 0.3])


def test_evenly_spaced_roots_of_betas():
    schedule = published_schedule("scaled_linear", 3, 0.04, 0.16)
    np.testing.assert_allclose(schedule.betas, [0.04, 0.09, 0.16])
    np.testing.assert_allclose(schedule.alphas_cumprod[-1], 0.96 * 0.91 * 0.84)


def test_squared_cosine():
    betas = published_schedule("squaredcos_cap_v2", 2, 0.1, 0.2).betas
    # alpha_bar(t) = cos((t + 0.008) / 1.008 * pi / 2)^2 at 0, 1/2 and 1, where it is 0.
    start, middle = (math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 0.5))
    np.testing.assert_allclose(betas, [1 - middle / start, 0.999])


def test_the_noise_of_stable_diffusion():
    """alphas_cumprod[-1] of its schedule is widely quoted: arXiv 2305.08891, table 1."""
    schedule = published_schedule("scaled_linear", 1000, 0.00085, 0.012)
    assert schedule.alpha[-1] == pytest.approx(0.068265, abs=1e-6)


def test_what_a_folder_says(model):
    assert model.prediction == "v"
    assert model.schedule.num_timesteps == 20
    np.testing.assert_allclose(model.schedule.betas[[0, -1]], [0.01, 0.2])
    assert model.vae_factor == 2
    assert sample_side(model, 0) == 8  # 4 latents a side, twice as many pixels
    assert sample_side(model, 12) == 12


def test_parameters_have_the_precision_asked_for(folder, model):
    half = load_model(folder, "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {jnp.dtype("bfloat16")}
    exact, rounded = (
        encode_texts(m, CAPTIONS, make_mesh(1)).astype(np.float32) for m in (model, half)
    )
    error = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.05


def test_texts_do_not_depend_on_their_batch(model, contexts):
    assert contexts.shape == (4, 77, 8)
    others = encode_texts(model, [*["the digit"] * 40, *CAPTIONS], make_mesh(1))
    assert len(others) == 43
    np.testing.assert_allclose(others[-3:], contexts[:3], rtol=1e-5, atol=1e-5)
    many = encode_texts(model, CAPTIONS, make_mesh(8))
    np.testing.assert_allclose(many, contexts[:3], rtol=1e-5, atol=1e-5)


def test_a_step_is_that_of_the_formulas(model, contexts):
    """One step from t = 19 ends at x_start of the guided output, which is decoded."""
    settings = make_settings(sampler="ddim", num_steps=1, guidance_scale=3.0)
    images, finite = make_latent_sampler(model, settings, make_mesh(1))(
        KEY, np.array([5], np.int32), contexts[[1, 3]]
    )

    @jax.jit
    def expected(params):
        key = jax.random.fold_in(jax.random.fold_in(KEY, 5), 0)
        x, t = jax.random.normal(key, (1, 4, 4, 4)), jnp.array([19])
        cond, uncond = (
            model.unet.apply({"params": params["unet"]}, x, t, contexts[i : i + 1]) for i in (1, 3)
        )
        output = -2 * uncond + 3 * cond
        latents = predict_x_start(model.schedule, x, t, output, "v")
        decode = AutoencoderKL.decode
        return model.vae.apply({"params": params["vae"]}, 2 * latents, method=decode)

    # scaling_factor is 0.5: latents are doubled before they are decoded.
    pixels = 127.5 * (1 + np.asarray(expected(model.params), np.float64))
    assert finite.all() and images.dtype == np.uint8 and images.shape == (1, 8, 8, 3)
    inside = np.clip(pixels, 0, 255)
    assert np.abs(images - inside).max() <= 0.51
    assert 20 < np.std(inside)


def test_an_image_depends_on_its_number_and_text_alone(model, contexts, drawn):
    images, finite = drawn
    assert finite.all()
    sample = make_latent_sampler(model, make_settings(), make_mesh(1))
    few, _ = sample(KEY, np.array([7, 2, 30], np.int32), contexts[[1, 2, 0, 3]])
    assert largest_difference(few[:2], images[[7, 2]]) <= 1  # of 255, by rounding
    others, _ = sample(KEY, np.array([7, 3, 2], np.int32), contexts[[2, 0, 2, 3]])
    assert largest_difference(others[0], images[7]) > 10  # another text
    assert largest_difference(others[1], images[0]) > 10  # another number, the same text
    assert largest_difference(others[2], images[2]) <= 1


def test_eight_devices_draw_the_same(model, contexts, drawn):
    sample = make_latent_sampler(model, make_settings(), make_mesh(8))
    texts = contexts[[0, 1, 2, 0, 1, 2, 0, 1, 3]]
    images, _ = sample(KEY, np.arange(8, dtype=np.int32), texts)
    assert largest_difference(images, drawn[0]) <= 1


def test_weights_that_are_not_finite(tmp_path, contexts):
    write_model(tmp_path, change_params=nan_in_decoder)
    sample = make_latent_sampler(load_model(tmp_path, "float32"), make_settings(), make_mesh(1))
    images, finite = sample(KEY, np.arange(8, dtype=np.int32), contexts[[0] * 9])
    assert images.shape == (8, 8, 8, 3) and not finite.any()


def test_an_incomplete_folder(tmp_path):
    write_model(tmp_path)
    (tmp_path / "vae" / "config.json").unlink()
    (tmp_path / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"lacks vae/config\.json, tokenizer/merges\.txt") as error:
        load_model(tmp_path, "float32")
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": {"prediction_type": "sample"}}, "is sample, and only epsilon and v_pred"),
        ({"scheduler": {"beta_end": 1.5}}, "strictly inside"),
        ({"unet": {"class_embed_type": "timestep"}}, "class_embed_type = 'timestep'"),
        ({"unet": {"in_channels": 9}}, "in_channels = 9 channels, not 4"),
        ({"unet": {"cross_attention_dim": 12}}, "cross_attention_dim = 12 channels, not 8"),
        ({"unet": {"layers_per_block": 2}}, "weights in .* are not those of this network"),
    ],
)
def test_models_refused(tmp_path, folder, changes, message):
    """The files of `folder` with other configs."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for part, change in changes.items():
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        path = tmp_path / part / name
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message) as error:
        load_model(tmp_path, "float32")
    assert "\n" not in str(error.value)


def test_settings_refused(model):
    with pytest.raises(UserError, match="image_size is 9 and this model needs a multiple of 2"):
        sample_side(model, 9)
    nameless = model._replace(unet=model.unet.clone(sample_size=None))
    with pytest.raises(UserError, match=r"give it as config\.text_to_image\.image_size"):
        sample_side(nameless, 0)
    with pytest.raises(UserError, match=r"is 21, it must be 1 to 20"):
        sampler_table(model, make_settings(num_steps=21))


def test_a_tokenizer_that_does_not_fit(model):
    small = model._replace(text_encoder=model.text_encoder.clone(vocab_size=500))
    with pytest.raises(UserError, match="its text encoder has 500"):
        encode_texts(small, CAPTIONS, make_mesh(1))
