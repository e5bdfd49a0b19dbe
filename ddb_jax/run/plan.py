"""The plan of a run: which tasks a config needs, in which order, and what each depends on."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ddb_jax.debias.table import GENERATED, GeneratedImages, MethodEntry, method_entry
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.stages.common.search import draw
from ddb_jax.stages.common.training_set import selection_rule


class Task(NamedTuple):
    """One use of a stage.

    Attributes:
        name: Its folder in the work directory.
        stage: Name of the stage.
        seed: Seeds its draws.
        data: Which of the data set's two sizes it reads, "generator" or "classifier".
        sections: The config sections and fields that it reads.
        inputs: What it calls the tasks it reads from, and their names.
        options: Handed to the stage.
    """

    name: str
    stage: str
    seed: int
    data: str
    sections: tuple[str, ...]
    inputs: dict[str, str]
    options: dict[str, Any]


def plan(config: ConfigDict, bias_known: bool) -> list[Task]:
    """The tasks of a run, each after those it reads from.

    Args:
        config: The resolved config.
        bias_known: Whether the dataset names the bias attribute of its images.
    """
    tasks: dict[str, Task] = {}

    def add(
        stage: str,
        seed: int,
        sections: tuple[str, ...],
        inputs: dict[str, str] | None = None,
        variant: str = "",
        data: str = "generator",
        place: str = "",
        **options: Any,
    ) -> str:
        name = f"seed_{seed}/{place or stage}" + (f"/{variant}" if variant else "")
        tasks.setdefault(name, Task(name, stage, seed, data, sections, inputs or {}, options))
        return name

    def add_synthesis(seed: int) -> str:
        # Its sample grid is drawn by the synthesis settings of the day; they are not among what
        # it depends on, since a new guidance scale must not train a new model.
        diffusion = add("train_diffusion", seed, OF_DIFFUSION)
        synthesis = add(
            "synthesize",
            seed,
            (*OF_DIFFUSION, "synthesis"),
            {"train_diffusion": diffusion},
        )
        if bias_known and config.measure_synthesis.probe_steps:
            add(
                "measure_synthesis",
                seed,
                ("data", "diffusion.image_size", "measure_synthesis", "amplifier"),
                {"synthesize": synthesis},
            )
        return synthesis

    def add_amplifier(seed: int, train_on: str) -> str:
        inputs = {"synthesize": add_synthesis(seed)} if train_on == "synthetic" else {}
        return add(
            "train_amplifier", seed, OF_TRAINED_AMPLIFIER, inputs, train_on, train_on=train_on
        )

    def add_scores(seed: int, train_on: str) -> str:
        inputs = {"train_amplifier": add_amplifier(seed, train_on)}
        return add("score", seed, (*OF_TRAINED_AMPLIFIER, *PSEUDO_GROUP_RULE), inputs, train_on)

    def upstream(seed: int) -> int:
        """The seed of what comes before the classifiers of a seed."""
        return config.seeds[0] if config.share_upstream else seed

    def add_requirements(seed: int, needs: set[str]) -> dict[str, str]:
        """The tasks that a method of this seed reads from, but for the base of a last layer."""
        inputs, upstream_seed = {}, upstream(seed)
        if needs & OF_AMPLIFIER and config.given_scores.csv:
            sections = ("data", "given_scores", "pseudo_groups")
            given = add("given_scores", config.seeds[0], sections, data="classifier")
            inputs["score"] = given
        elif needs & OF_AMPLIFIER:
            inputs["score"] = add_scores(upstream_seed, config.amplifier.train_on)
            if config.amplifier.compare:
                other = {"synthetic": "real", "real": "synthetic"}[config.amplifier.train_on]
                add_scores(upstream_seed, other)

        def add_first(stage: str, *sections: str, **sources: str) -> None:
            inputs[stage] = add(stage, seed, ("data", *sections), sources, data="classifier")

        if needs & {"reference_errors", "environments"}:
            add_first("train_reference", "classifier", "reference", *PSEUDO_GROUP_RULE)
        if "environments" in needs:
            reference = inputs["train_reference"]
            add_first("infer_environments", "eiil", train_reference=reference)
        if "committee_votes" in needs:
            add_first("train_committee", "classifier", "reference", "committee")
        if "bias_features" in needs:
            add_first("train_bias_features", "classifier", "reference")
        return inputs

    def add_base(seed: int, method: str) -> str:
        """The plainly trained network that a last layer is fitted over."""
        if method_entry(method).settings != "afr":
            return add_training(seed, "erm")
        needs = requirements(config, "erm")
        return add(
            "train_base",
            seed,
            ("data", "classifier", *_read_for(needs)),
            add_requirements(seed, needs),
            data="classifier",
            held_out_share=config.afr.held_out_share,
        )

    def add_generated(seed: int, entry: MethodEntry) -> dict[str, str]:
        """Generated images that are fit for training, and what the amplifier says of them."""
        name, images = entry.generated, GENERATED[entry.generated]
        scored = entry.requires in OF_AMPLIFIER
        biased = add("train_biased", seed, OF_BIASED, data="classifier")
        amplifier = {}
        if images.steered_by or scored:
            amplifier = {"train_amplifier": add_amplifier(seed, config.amplifier.train_on)}
        add_drawn = add_steered if images.steered_by else add_captioned
        inputs = {"drawn": add_drawn(seed, name, images, biased), "train_biased": biased}
        sections = ("data", "classifier", "biased", "gate")
        if images.steered_by:
            inputs |= amplifier
            sections += ("diffusion.image_size", "amplifier")
        if config.gate.labels:
            inputs["debiased"] = add_training(seed, config.gate.debiased_method)
        checked = add("check_generated", seed, sections, inputs, name, "classifier")
        result = {"check_generated": checked}
        if scored:
            inputs = {"drawn": inputs["drawn"], **result, **amplifier}
            inputs["score"] = add_scores(seed, config.amplifier.train_on)
            sections = (*OF_TRAINED_AMPLIFIER, *PSEUDO_GROUP_RULE)
            result["score_generated"] = add("score_generated", seed, sections, inputs, name)
        return result

    def add_captioned(seed: int, name: str, images: GeneratedImages, biased: str) -> str:
        """Images that a text-to-image model draws of captions of the real ones."""
        extracted = add(
            "extract", seed, ("data", "extraction"), {"train_biased": biased}, data="classifier"
        )
        sections = ("data", "captions", "captioned", "text_filter.allow_empty_classes")
        if config.captions.features == "pretrained":
            sections += ("classifier",)
        captions = add("caption", seed, sections, {"extract": extracted}, data="classifier")
        if images.captions == "filter_captions":
            sections, inputs = ("data", "text_filter"), {"caption": captions}
            captions = add("filter_captions", seed, sections, inputs, data="classifier")
        inputs = {"captions": captions, "train_biased": biased}
        if not config.text_to_image.folder:
            # It stands for a pretrained model, of which there is one.
            inputs["train_text_to_image"] = add_text_to_image(config.seeds[0])
        sections = ("data", "text_to_image", "generated")
        return add("draw", seed, sections, inputs, name, data="classifier")

    def add_text_to_image(seed: int) -> str:
        inputs = {}
        if not config.train_text_to_image.start_from:
            sections = ("data", "captioned", *OF_AUTOENCODER)
            inputs["train_autoencoder"] = add("train_autoencoder", seed, sections)
        sections = ("data", "captioned", "train_text_to_image")
        return add("train_text_to_image", seed, sections, inputs)

    def add_steered(seed: int, name: str, images: GeneratedImages, biased: str) -> str:
        """Images that DDB's own model draws, steered away from what the amplifier expects."""
        amplifier = add_amplifier(seed, config.amplifier.train_on)
        diffusion = add("train_diffusion", seed, OF_DIFFUSION)
        inputs = {
            "train_diffusion": diffusion,
            "train_amplifier": amplifier,
            "train_biased": biased,
        }
        if images.steered_by == "difference":
            inputs["train_balanced_diffusion"] = add(
                "train_balanced_diffusion",
                seed,
                (*OF_DIFFUSION, "steering.fine_tune_steps"),
                {
                    "train_diffusion": diffusion,
                    "score": add_scores(seed, config.amplifier.train_on),
                },
            )
        sections = (*OF_DIFFUSION, "synthesis", "amplifier", "steering", "generated")
        return add("steer", seed, sections, inputs, name, by=images.steered_by)

    def add_training(seed: int, method: str) -> str:
        entry, needs = method_entry(method), requirements(config, method)
        sections = ("data", "classifier", *filter(None, [entry.settings]), *_read_for(needs))

        def add_inputs(seed: int) -> dict[str, str]:
            inputs = add_requirements(seed, needs)
            if entry.generated:
                inputs |= add_generated(upstream(seed), entry)
            if entry.stage == "train_last_layer":
                inputs["base"] = add_base(seed, method)
            return inputs

        inputs, first = add_inputs(seed), config.seeds[0]
        searched = entry.search or entry.stage == "train_classifier"
        if searched and config.search.tries > 1:
            for i in range(config.search.tries):  # the first seed searches for all
                inputs[f"try_{i}"] = add(
                    entry.stage,
                    first,
                    sections,
                    add_inputs(first),
                    f"{method}/{i}",
                    "classifier",
                    "search",
                    method=method,
                    values=draw(config, method, i),
                )
        return add(entry.stage, seed, sections, inputs, method, "classifier", method=method)

    for seed in config.seeds:
        for method in config.methods:
            inputs = {"trained": add_training(seed, method)}
            sections = ("data", "classifier", "evaluation")
            add("evaluate", seed, sections, inputs, method, data="classifier", method=method)
    # The report reads every other task.
    sections = tuple(config.keys())
    tasks["report"] = Task(
        "report", "report", config.seeds[0], "generator", sections, {n: n for n in tasks}, {}
    )
    return list(tasks.values())


# What a predicted class and a loss are judged by; given scores read the other fields, too.
PSEUDO_GROUP_RULE = ("pseudo_groups.rule", "pseudo_groups.gamma")
# What trainings read.
OF_DIFFUSION = ("data", "unet", "diffusion")
OF_TRAINED_AMPLIFIER = ("data", "diffusion.image_size", "amplifier")
OF_BIASED = ("data", "classifier", "biased", *PSEUDO_GROUP_RULE)
OF_AUTOENCODER = tuple(
    f"train_text_to_image.{name}"
    for name in (
        "image_size", "autoencoder_channels", "autoencoder_blocks", "latent_channels", "kl_weight",
        "norm_num_groups", "autoencoder",
    )
)  # fmt: skip
# What an amplifier must have scored.
OF_AMPLIFIER = {"amplifier_scores", "amplifier_errors", "pseudo_groups"}


def requirements(config: ConfigDict, method: str) -> set[str]:
    """What the method and the rule that selects its step need beforehand."""
    rule = selection_rule(config, method)
    needs = {method_entry(method).requires, SELECTION_RULES[rule].requires}
    if method_entry(method).stage == "train_last_layer":
        needs |= requirements(config, "erm")  # of its base
    return needs


def _read_for(needs: set[str]) -> tuple[str, ...]:
    """Sections that say what the groups are."""
    return ("evaluation",) if "true_groups" in needs else ()
