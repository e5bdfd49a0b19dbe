"""Captioners of images: any Hugging Face image-to-text model, or a reference set.

A captioner is a function of images uint8 [B, H, W, 3] and a number of captions C that gives B lists
of C texts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddb_jax.models.file_content import stand_in
from ddb_jax.models.safetensors_file import open_tensors
from ddb_jax.text_to_image.retrieval import retrieve

Captioner = Callable[[np.ndarray, int], list[list[str]]]

DECODINGS = ("beam", "nucleus")
DTYPES = ("float32", "float16", "bfloat16")
INSTALL = "pip install -e '.[captions]'"
# Asked of models that hold a conversation (LLaVA) where no other prompt is given.
QUESTION = "Describe this image in one sentence."


def retrieval_captioner(
    features: Callable[[np.ndarray], np.ndarray],
    reference_features: np.ndarray,
    reference_captions: Sequence[str],
) -> Captioner:
    """A captioner that gives the captions of the nearest reference images; see `retrieve`.

    Args:
        features: uint8 [B, H, W, 3] -> float [B, F].
        reference_features: float [R, F], of the reference images.
        reference_captions: R texts.
    """

    def caption(images: np.ndarray, num_captions: int) -> list[list[str]]:
        return retrieve(features(images), reference_features, reference_captions, num_captions)

    return caption


def hugging_face_captioner(
    name_or_folder: str,
    *,
    prompt: str = "",
    decoding: str = "beam",
    num_beams: int = 3,
    top_p: float = 0.9,
    min_tokens: int = 5,
    max_tokens: int = 20,
    batch_size: int = 8,
    dtype: str = "float32",
    device: str = "",
    seed: int = 0,
) -> Captioner:
    """A captioner that runs an image-to-text model in PyTorch, such as BLIP, BLIP-2 or LLaVA.

    DiffuBias' text names LLaVA-LLaMA-3-8B; its code comes with BLIP, whose demonstration searches
    with 3 beams or samples with top_p = 0.9, and writes 5 to 20 tokens: the defaults here.

    Args:
        name_or_folder: Name on the Hugging Face hub, or folder of a model saved by transformers.
        prompt: The beginning of every caption (BLIP), or the question (models with a chat
            template, which are asked `QUESTION` where this is empty).
        decoding: "beam" gives an image's most likely captions and draws nothing; "nucleus" samples
            each from the most likely tokens of total probability top_p, and depends on batch_size.
        num_beams: Beams of "beam"; at least the number of captions.
        top_p: Probability mass of "nucleus".
        min_tokens: Fewest tokens of a caption.
        max_tokens: Most tokens of a caption.
        batch_size: Images described at a time.
        dtype: Type of weights and computation.
        device: PyTorch's device name; "" is a GPU if there is one.
        seed: Seed of "nucleus".

    Raises:
        ValueError: PyTorch or transformers is missing, there is no such folder, the model cannot be
            loaded or is of another kind, or decoding or dtype is not one of these.
    """
    for what, value, choices in (("decoding", decoding, DECODINGS), ("dtype", dtype, DTYPES)):
        if value not in choices:
            raise ValueError(f"{what} is {value!r}, it must be {' or '.join(choices)}.")
    processor, model = _load(name_or_folder, dtype, device)
    import torch  # not before: `_load` says what to do where it is missing

    text = _prompt_of(processor, prompt)
    limits = {"min_new_tokens": min_tokens, "max_new_tokens": max_tokens}

    def caption_batch(images: np.ndarray, num_captions: int) -> list[list[str]]:
        pictures = [Image.fromarray(image) for image in images]
        texts = {"text": [text] * len(pictures)} if text else {}
        inputs = processor(images=pictures, return_tensors="pt", **texts)
        inputs = inputs.to(model.device, getattr(torch, dtype))
        if decoding == "beam":
            how = {"do_sample": False, "num_beams": max(num_beams, num_captions)}
        else:
            how = {"do_sample": True, "num_beams": 1, "top_p": top_p, "top_k": 0}
        tokens = model.generate(**inputs, **how, **limits, num_return_sequences=num_captions)
        tokens = _without_prompt(tokens, inputs.get("input_ids"), num_captions)
        lines = processor.batch_decode(tokens, skip_special_tokens=True)
        lines = [" ".join(line.split()) for line in lines]
        return [lines[i : i + num_captions] for i in range(0, len(lines), num_captions)]

    def caption(images: np.ndarray, num_captions: int) -> list[list[str]]:
        result = []
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            for start in range(0, len(images), batch_size):
                result += caption_batch(images[start : start + batch_size], num_captions)
        return result

    return caption


def _load(name_or_folder: str, dtype: str, device: str) -> tuple[Any, Any]:
    """The processor and the model, ready to write, on the device."""
    try:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise ValueError(
            "a Hugging Face captioner needs PyTorch and transformers, which cannot be imported"
            f" ({_first_line(error)}): {INSTALL}"
        ) from None
    if Path(name_or_folder).expanduser().is_dir():
        name_or_folder = str(Path(name_or_folder).expanduser())
    elif name_or_folder.startswith(("/", ".", "~")):
        raise ValueError(f"there is no folder {name_or_folder} of a captioner: check the path.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        processor = AutoProcessor.from_pretrained(name_or_folder)
        model = AutoModelForImageTextToText.from_pretrained(
            name_or_folder, dtype=getattr(torch, dtype)
        ).to(device)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(
            f"the captioner {name_or_folder} cannot be loaded, it must be a Hugging Face"
            f" image-to-text model such as BLIP, BLIP-2 or LLaVA: {_first_line(error)}"
        ) from None
    return processor, model.eval()


def folder_fault(name_or_folder: str) -> str:
    """What a captioner's folder lacks, without loading it; "" for one on the Hugging Face hub.

    Returns:
        The beginning of a sentence, with the fix; "" where nothing is known against it.
    """
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        local = name_or_folder.startswith(("/", ".", "~"))
        return f"there is no folder {folder} of a captioner: check the path" if local else ""
    files = [path for path in folder.iterdir() if path.is_file()]
    weights = [path for path in files if path.suffix in (".safetensors", ".bin")]
    lacking = [] if (folder / "config.json").is_file() else ["config.json"]
    lacking += [] if weights else ["weights (.safetensors or .bin)"]
    if lacking:
        return (
            f"{folder} lacks {' and '.join(lacking)}, it must be a model that transformers saved:"
            " check the path"
        )
    for path in sorted(files):
        own = {".safetensors": ("safetensors",), ".json": ()}.get(path.suffix, ("zip", "pickle"))
        if path.suffix in (".safetensors", ".bin", ".json") and (other := stand_in(path, own=own)):
            return f"{path} {other}"
    try:
        for path in weights:
            if path.suffix == ".safetensors":
                with open_tensors(path):
                    pass  # cut files are refused here
    except ValueError as error:
        return str(error)
    return ""


def _prompt_of(processor: Any, prompt: str) -> str:
    """The text that goes in with every image: the prompt, or the conversation around it."""
    if not getattr(processor, "chat_template", None):
        return prompt
    question = {"type": "text", "text": prompt or QUESTION}
    message = {"role": "user", "content": [{"type": "image"}, question]}
    return processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)


def _without_prompt(tokens: Any, prompt: Any, copies: int) -> Any:
    """Generated tokens [B * copies, T] without those of the prompt [B, P], where they begin so.

    Some kinds of model give the prompt back before the caption, others the caption alone.
    """
    if prompt is None:
        return tokens
    prompt = prompt.repeat_interleave(copies, 0)
    length = prompt.shape[1]
    repeated = tokens.shape[1] >= length and bool((tokens[:, :length] == prompt).all())
    return tokens[:, length:] if repeated else tokens


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
