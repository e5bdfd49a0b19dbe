"""The table of generated images: what draws those that a method may be trained on."""

from typing import NamedTuple


class GeneratedImages(NamedTuple):
    """Generated images that a method may be trained on beside the real ones.

    Attributes:
        title: Name for people.
        captions: The stage whose captions a text-to-image model draws; "" where none does.
        steered_by: How DDB's class-conditional model is steered away from what the amplifier
            expects, see stages/generated/steer.py; "" where another model draws.
    """

    title: str
    captions: str = ""
    steered_by: str = ""


GENERATED: dict[str, GeneratedImages] = {
    "diffubias": GeneratedImages("DiffuBias", captions="filter_captions"),
    "diffubias_unfiltered": GeneratedImages("DiffuBias without text filter", captions="caption"),
    "steered": GeneratedImages("steered synthesis", steered_by="gradient"),
    "rebalanced": GeneratedImages("rebalanced synthesis", steered_by="difference"),
    "rejection": GeneratedImages("rejection sampling", steered_by="none"),
}
