"""Caption files of every layout, and the captioners: a reference set, and Hugging Face models."""

import json
import sys

import numpy as np
import pytest

from ddb_jax.text_to_image.captioners import hugging_face_captioner, retrieval_captioner
from ddb_jax.text_to_image.captions import (
    read_captions,
    read_image_captions,
)

CLASSES = ("young", "old")
PATHS = ("a/1.png", "a/2.png", "b/3.png")
PATH_LABELS = (0, 0, 1)


@pytest.fixture
def table(tmp_path):
    """A file of this content."""

    def write(text):
        path = tmp_path / "captions.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_published_layout(table):
    path = table('\ufefflabel,generated_text\r\n1,"a man, with  a\nhat"\r\nyoung,a girl \r\n\r\n')
    found = read_captions(path, CLASSES)
    assert found.texts == ("a man, with a hat", "a girl")
    assert found.labels.tolist() == [1, 0] and found.labels.dtype == np.int32
    assert found.images.tolist() == [-1, -1]
    assert found.notes == ()


def test_one_caption_a_row_and_other_columns(table):
    path = table("Caption,score,Path\nold lady,3,b/3.png\na boy,1,a/1.png\nthe lady,2,b/3.png\n")
    found = read_captions(path, CLASSES, PATHS, PATH_LABELS)
    assert found.texts == ("old lady", "a boy", "the lady")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.images.tolist() == [2, 0, 2]


def test_three_captions_a_row_and_empty_ones(table):
    path = table("path,caption_1,caption_2,caption_3\na/2.png,x y,,z\nb/3.png,, ,w\n")
    found = read_captions(path, CLASSES, PATHS, PATH_LABELS)
    assert found.texts == ("x y", "z", "w")
    assert found.images.tolist() == [1, 1, 2]
    assert found.labels.tolist() == [0, 0, 1]
    assert found.notes == ("captions.csv: 3 empty captions are left out.",)


def test_class_names_that_are_numbers_are_names(table):
    path = table("label,generated_text\n2,x\n1,y\n")
    assert read_captions(path, ("1", "2")).labels.tolist() == [1, 0]
    assert read_captions(path, ("0", "1", "2")).labels.tolist() == [2, 1]
    with pytest.raises(ValueError, match="line 2: '2'"):
        read_captions(path, ("7", "1"))


def test_image_captions_of_any_images(table):
    captions, notes = read_image_captions(table("path,caption\n q  1.png,x\nr.png,\nq  1.png,y\n"))
    assert captions == {"q  1.png": ("x", "y")}
    assert len(notes) == 1 and "1 empty" in notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\nx,0\n", "no column generated_text, its first line is 'text,label'"),
        ("a,b\nx,0\n", "no column label or generated_text"),
        ("path,text\nx,0\n", "no column caption,"),
        ("caption_1,caption_2\nx,0\n", "no column path,"),
        ("label,generated_text\n", "has no rows"),
        ("", "has no rows"),
        ("label,generated_text\n0,a man, smiling\n", "line 2 .* has 3 fields and the first line 2"),
        ("label,generated_text\n0,\n1, \n", "no caption, all are empty"),
        ("label,generated_text\nOld,x\n0,y\n2,z\n", "2 rows whose label .*'Old', line 4: '2'"),
        ("path,caption\na/1.png,x\n1.png,y\n", "not among the 3 images .* line 3: '1.png'"),
        (b"label,generated_text\n0,\xff\n", "not a CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(table, content, words):
    with pytest.raises(ValueError, match=words) as error:
        read_captions(table(content), CLASSES, PATHS, PATH_LABELS)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_missing_file_and_missing_path(tmp_path, table):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv"):
        read_captions(tmp_path / "none.csv", CLASSES)
    with pytest.raises(ValueError, match=r"line 3 of .* has no path"):
        read_image_captions(table("path,caption\nq.png,x\n,y\n"))


def test_retrieval_as_a_captioner():
    def mean_colour(images):
        return images.mean((1, 2))

    caption = retrieval_captioner(mean_colour, np.eye(3), ("red", "green", "blue"))
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, ..., 2], images[0, ..., 0] = 200, 9
    images[1, ..., 1], images[1, ..., 2] = 90, 60
    assert caption(images, 2) == [["blue", "red"], ["green", "blue"]]


def test_missing_packages_are_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[captions\]'"):
        hugging_face_captioner("anything")


def test_settings_of_a_captioner_are_checked_before_anything_is_loaded():
    with pytest.raises(ValueError, match="decoding is 'greedy', it must be beam or nucleus"):
        hugging_face_captioner("anything", decoding="greedy")
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        hugging_face_captioner("anything", dtype="int8")


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "blue", "seven", "on", "a")
CLS, SEP = 2, 3
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's


@pytest.fixture(scope="module")
def torch_and_transformers():
    torch = pytest.importorskip("torch", reason="runs a captioner where PyTorch is installed")
    transformers = pytest.importorskip("transformers")
    try:
        from transformers import BlipProcessor  # noqa: F401
    except ImportError as error:  # a torchvision that does not fit, say
        pytest.skip(f"transformers cannot be used: {error}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch, transformers
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def blip(tmp_path_factory, torch_and_transformers):
    """A random BLIP of a few thousand weights, and the folder that it is saved in."""
    torch, tf = torch_and_transformers
    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    # Weights large enough for the caption to depend on the image.
    sizes = {
        "hidden_size": 16, "intermediate_size": 32, "projection_dim": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "initializer_range": 1.0,
    }  # fmt: skip
    text = {
        "vocab_size": len(WORDS), "max_position_embeddings": 32, "encoder_hidden_size": 16,
        "bos_token_id": CLS, "eos_token_id": SEP, "sep_token_id": SEP, "pad_token_id": 0,
    }  # fmt: skip
    config = tf.BlipConfig(
        text_config=sizes | text, vision_config={**sizes, "image_size": 16, "patch_size": 8}
    )
    model = tf.BlipForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    processor = tf.BlipProcessor(
        tf.BlipImageProcessor(size={"height": 16, "width": 16}),
        tf.BertTokenizer(str(folder / "vocab.txt")),
    )
    processor.save_pretrained(folder)
    return folder, model


def random_images(count):
    return np.random.default_rng(5).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parity
def test_blip_with_one_beam_is_the_likeliest_word_after_word(blip, torch_and_transformers):
    torch, _ = torch_and_transformers
    folder, model = blip
    images = random_images(5)
    pixels = torch.tensor(((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2), dtype=torch.float32)
    expected = []
    for image in pixels:
        tokens = [CLS]
        while len(tokens) < 8:
            with torch.no_grad():
                logits = model(image[None], torch.tensor([tokens])).logits[0, -1]
            if len(tokens) < 3:  # at least two words before the end
                logits[SEP] = -np.inf
            tokens.append(int(logits.argmax()))
            if tokens[-1] == SEP:
                break
        special = {0, CLS, SEP, 1, 4}
        expected.append([" ".join(WORDS[t] for t in tokens if t not in special)])
    assert len({caption for (caption,) in expected}) > 1
    caption = hugging_face_captioner(
        str(folder), num_beams=1, min_tokens=2, max_tokens=7, batch_size=2
    )
    assert caption(images, 1) == expected


@pytest.mark.parity
def test_blip_gives_the_captions_asked_for_and_draws_by_its_seed(blip, torch_and_transformers):
    torch, _ = torch_and_transformers
    images = random_images(3)
    found = hugging_face_captioner(str(blip[0]), batch_size=2, max_tokens=6)(images, 4)
    assert [len(captions) for captions in found] == [4] * 3
    state = torch.random.get_rng_state()
    first, again, other = (
        hugging_face_captioner(str(blip[0]), decoding="nucleus", seed=seed)(images, 3)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert torch.equal(state, torch.random.get_rng_state())
    assert [len(captions) for captions in first] == [3] * 3
    prompted = hugging_face_captioner(str(blip[0]), prompt="a seven")(images, 1)
    assert all(caption.startswith("a seven ") for (caption,) in prompted)


@pytest.mark.parity
def test_llava_is_asked_a_question_and_only_the_answer_is_kept(tmp_path, torch_and_transformers):
    torch, tf = torch_and_transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<pad>", "<unk>", "<s>", "</s>", "<image>"]
    asked = "USER : Describe this image in one sentence . ASSISTANT".split()
    words = [*special, *asked, "red", "green", "seven", "three"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>",
        eos_token="</s>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    template = (
        "{% for m in messages %}USER : {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }} {% endif %}{% endfor %}"
        "{% endfor %}ASSISTANT :"
    )
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }  # fmt: skip
    vision = tf.CLIPVisionConfig(**sizes, projection_dim=8, image_size=16, patch_size=8)
    text = tf.LlamaConfig(
        **sizes, vocab_size=len(words), max_position_embeddings=64, num_key_value_heads=2,
        pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    config = tf.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=words.index("<image>")
    )
    tf.LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    side = {"height": 16, "width": 16}
    tf.LlavaProcessor(
        tf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=side), tokenizer, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(tmp_path)  # fmt: skip
    images = random_images(2)
    found = hugging_face_captioner(str(tmp_path), min_tokens=4, max_tokens=4)(images, 2)
    # A random model may say any word, but four of them and not the whole conversation.
    lengths = [len(caption.split()) for captions in found for caption in captions]
    assert len(lengths) == 4 and 0 < max(lengths) <= 4


@pytest.mark.parity
def test_models_that_cannot_be_used_are_named(tmp_path, blip, torch_and_transformers):
    with pytest.raises(ValueError, match=r"no folder .*/none of a captioner"):
        hugging_face_captioner(str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"cannot be loaded, it must be .* such as BLIP") as error:
        hugging_face_captioner(str(tmp_path))
    assert "\n" not in str(error.value)
    for file in blip[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(ValueError, match="cannot be loaded"):
        hugging_face_captioner(str(tmp_path))
