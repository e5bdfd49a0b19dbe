"""Training a text-to-image model on captioned images: what is written, resumed and refused."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from diffusers_reference import import_diffusers, relative_error, to_torch
from PIL import Image
from runs import StopAfter
from safetensors.numpy import load_file

from ddb_jax.configs import digits
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated import train_autoencoder, train_text_to_image
from ddb_jax.text_to_image.autoencoder import AutoencoderKL
from ddb_jax.text_to_image.latent_diffusion import load_model
from ddb_jax.text_to_image.layout import read_layout
from ddb_jax.text_to_image.model_folder import check_sizes
from ddb_jax.training.mesh import make_mesh

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
CAPTIONS = ("a {} square", "something {}")


def tiny_config(folder):
    """Six captions of three images of 8 pixels, and networks of a few channels."""
    lines = ["path,caption_1,caption_2"]
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}.png")
        lines.append(",".join((f"{name}.png", *(text.format(name) for text in CAPTIONS))))
    (folder / "table.csv").write_text("\n".join(lines))
    c = digits.get_config("smoke")
    c.captioned.csv = str(folder / "table.csv")
    sizes = c.train_text_to_image
    sizes.image_size = 8
    sizes.vocab_size = 600
    sizes.text_width = 8
    sizes.text_layers = 1
    sizes.text_heads = 2
    sizes.autoencoder_channels = (4, 8)
    sizes.latent_channels = 2
    sizes.unet_channels = (8,)
    sizes.unet_heads = 2
    sizes.norm_num_groups = 4
    sizes.num_timesteps = 50
    for settings in (sizes.autoencoder, sizes.diffusion):
        settings.num_steps = 4
        settings.batch_size = 4
        settings.warmup_steps = 1
        settings.log_every = 2
        settings.checkpoint_every = 2
    return c


def run(stage, config, folder, inputs=None, stop=None):
    folder.mkdir(exist_ok=True)
    context = Context(
        config=config,
        dataset=None,
        mesh=make_mesh(1),
        stop=StopFlag() if stop is None else stop,
        name=folder.name,
        seed=0,
        folder=folder,
        inputs=inputs or {},
    )
    return stage.run(context)


def tensors(path):
    return load_file(path)


def assert_same_weights(a, b):
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys() and left
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The config, the folder that both stages have run in, and what they returned."""
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("trained")
    config = tiny_config(folder)
    first = run(train_autoencoder, config, folder / "autoencoder")
    inputs = {"train_autoencoder": folder / "autoencoder"}
    second = run(train_text_to_image, config, folder / "diffusion", inputs)
    return SimpleNamespace(config=config, folder=folder, inputs=inputs, results=(first, second))


def test_the_results(trained):
    first, second = trained.results
    assert first["images"] == second["images"] == second["captions"] == 6
    assert sorted(path.name for path in (trained.folder / "diffusion" / "model").iterdir()) == [
        "model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae"
    ]  # fmt: skip
    layout = read_layout(trained.folder / "diffusion" / "model")
    assert layout.scheduler[1:6] == (50, 0.00085, 0.012, "scaled_linear", "v_prediction")
    assert layout.unet.config["sample_size"] == 4 and layout.vae.config["sample_size"] == 8
    # A row of images and one of what became of them; a row for each of the six captions.
    for file, rows in (("autoencoder/reconstructions.png", 2), ("diffusion/samples.png", 6)):
        with Image.open(trained.folder / file) as sheet:
            assert sheet.height == 50 * rows


def test_latents_are_scaled_to_unit_deviation(trained):
    model = load_model(trained.folder / "diffusion" / "model", jnp.float32)
    x = np.array([np.full((8, 8, 3), colour) for colour in COLOURS.values()]) / 127.5 - 1.0
    mean, _ = model.vae.apply(
        {"params": model.params["vae"]}, x.astype(np.float32), method=AutoencoderKL.encode
    )
    # Every image is there twice, which does not change the deviation.
    np.testing.assert_allclose(1.0 / np.std(mean), model.vae.scaling_factor, rtol=1e-4)
    assert model.vae.scaling_factor == trained.results[0]["scaling_factor"]


def test_the_autoencoder_is_copied_and_the_rest_trained(trained):
    model = trained.folder / "diffusion" / "model"
    file = "vae/diffusion_pytorch_model.safetensors"
    assert_same_weights(trained.folder / "autoencoder" / file, model / file)
    unet = tensors(model / "unet" / "diffusion_pytorch_model.safetensors")
    assert np.abs(unet["conv_out.weight"]).max() > 0  # it starts at zero
    text_encoder = tensors(model / "text_encoder" / "model.safetensors")
    biases = text_encoder["text_model.encoder.layers.0.mlp.fc1.bias"]
    assert np.abs(biases).max() > 0  # these too
    # Tokens are 512 bytes, START and END, and the merges that make six words whole, among them
    # eight of "something" and two of "red".
    words = ("a", "red", "green", "blue", "square", "something")
    lines = (model / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    embedding = text_encoder["text_model.embeddings.token_embedding.weight"]
    assert len(embedding) == 514 + len(lines) and len(lines) <= sum(len(w) - 1 for w in words)


@pytest.mark.parametrize(("stage", "part"), [("autoencoder", "vae"), ("diffusion", "model/unet")])
def test_a_stopped_stage_goes_on_to_the_same_weights(trained, tmp_path, stage, part):
    module = {"autoencoder": train_autoencoder, "diffusion": train_text_to_image}[stage]
    arguments = (module, trained.config, tmp_path, trained.inputs)
    with pytest.raises(Interrupted, match="stopped at step 3 of 4"):
        run(*arguments, stop=StopAfter(3))
    run(*arguments)
    file = f"{part}/diffusion_pytorch_model.safetensors"
    assert_same_weights(trained.folder / stage / file, tmp_path / file)


def test_a_given_model_is_fine_tuned(trained, tmp_path):
    given = trained.folder / "diffusion" / "model"
    config = trained.config.copy_and_resolve_references()
    sizes = config.train_text_to_image
    sizes.start_from = str(given)
    # All of these are the model's, not the config's.
    sizes.unet_channels, sizes.text_width, sizes.latent_channels = (24,), 12, 3
    sizes.prediction, sizes.num_timesteps = "eps", 10
    result = run(train_text_to_image, config, tmp_path)
    assert result["captions"] == 6
    model = tmp_path / "model"
    for file in ("text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        assert_same_weights(given / file, model / file)
    for file in (
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt",
        "tokenizer/vocab.json", "unet/config.json", "text_encoder/config.json",
    ):  # fmt: skip
        assert (given / file).read_text() == (model / file).read_text()
    file = "unet/diffusion_pytorch_model.safetensors"
    before, after = tensors(given / file), tensors(model / file)
    moved = max(np.abs(after[name] - value).max() for name, value in before.items())
    # Four steps of AdamW, of at most the learning rate each: it started from what was given.
    assert 0 < moved < 10 * sizes.diffusion.learning_rate
    read_layout(model)


def test_images_that_a_given_model_cannot_halve(trained, tmp_path):
    config = trained.config.copy_and_resolve_references()
    config.train_text_to_image.start_from = str(trained.folder / "diffusion" / "model")
    config.train_text_to_image.image_size = 9
    with pytest.raises(UserError, match=r"image_size does not fit .*divisible by 2, not 9x9"):
        run(train_text_to_image, config, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_size", 10, r"need sides divisible by 4, not 10x10"),
        ("text_heads", 3, r"text_heads = 3 does not divide text_width = 8"),
        ("unet_heads", 3, r"attention_head_dim"),
        ("norm_num_groups", 3, r"norm_num_groups = 3 does not divide"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, field, value, message):
    sizes = tiny_config(tmp_path).train_text_to_image
    sizes.unet_channels = (8, 16)
    check_sizes(sizes)
    sizes[field] = value
    with pytest.raises(UserError, match=rf"^config\.train_text_to_image: .*{message}"):
        check_sizes(sizes)


def test_a_vocabulary_without_room(trained, tmp_path):
    config = trained.config.copy_and_resolve_references()
    config.train_text_to_image.vocab_size = 100
    with pytest.raises(UserError, match="vocab_size = 100 is too small"):
        run(train_text_to_image, config, tmp_path, trained.inputs)


@pytest.mark.parity
def test_diffusers_loads_it_and_computes_the_same(trained):
    diffusers = import_diffusers()
    import torch

    folder = trained.folder / "diffusion" / "model"
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    model = load_model(folder, jnp.float32)
    assert pipeline.vae.config.scaling_factor == model.vae.scaling_factor
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    np.testing.assert_allclose(
        pipeline.scheduler.alphas_cumprod, model.schedule.alphas_cumprod, rtol=1e-5
    )
    texts = ["a green square", "Something blue!"]
    tokens = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    np.testing.assert_array_equal(tokens.numpy(), model.tokenize(texts))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 4, 2)).astype(np.float32)
    t = np.array([3, 40], np.int32)
    ours = {name: {"params": params} for name, params in model.params.items()}
    with torch.no_grad():
        text = pipeline.text_encoder(tokens)[0]
        output = pipeline.unet(to_torch(x), torch.from_numpy(t), text).sample
        image = pipeline.vae.decode(to_torch(x)).sample
    context = model.text_encoder.apply(ours["text_encoder"], model.tokenize(texts))
    np.testing.assert_allclose(context, text.numpy(), atol=1e-4 * np.abs(text.numpy()).max())
    assert relative_error(model.unet.apply(ours["unet"], x, t, context), output) <= 1e-4
    decoded = model.vae.apply(ours["vae"], x, method=AutoencoderKL.decode)
    assert relative_error(decoded, image) <= 1e-4
    # A pipeline draws from a text, which needs all parts to fit together.
    drawn = pipeline(texts[0], num_inference_steps=2, output_type="np", guidance_scale=3.0)
    assert drawn.images.shape == (1, 8, 8, 3)


def test_the_folder_says_that_nothing_checks_images(trained):
    index = json.loads((trained.folder / "diffusion" / "model" / "model_index.json").read_text())
    assert index["safety_checker"] == index["feature_extractor"] == [None, None]
