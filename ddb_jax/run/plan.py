"""The plan of a run: which tasks a config needs, in which order, and what each depends on."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ddb_jax.debias.generated_images import GENERATED, GeneratedImages
from ddb_jax.debias.method_config import selection_rule
from ddb_jax.debias.requirements import (
    BIAS_FEATURES,
    COMMITTEE_VOTES,
    ENVIRONMENTS,
    OF_AMPLIFIER,
    REFERENCE_ERRORS,
    TRUE_GROUPS,
)
from ddb_jax.debias.table import MethodEntry, method_entry
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.stages.common.search import sample_values
from ddb_jax.stages.table import EVERYTHING, STAGES


class Task(NamedTuple):
    """One run of a stage.

    Attributes:
        name: Its folder in the work directory.
        stage: Name of the stage.
        seed: Seeds its random draws.
        data: The size of the images that it reads, "generator" or "classifier".
        sections: The config sections and fields that its result depends on.
        inputs: The tasks that it reads from, by the role they play for it.
        options: Options of the stage.
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
    planner = Planner(config, bias_known)
    for seed in config.seeds:
        for method in config.methods:
            planner.evaluation(seed, method)
    return [*planner.tasks.values(), planner.report()]


def requirements(config: ConfigDict, method: str) -> set[str]:
    """What the method and the rule that selects its step need beforehand."""
    rule = selection_rule(config, method)
    needs = {method_entry(method).requires, SELECTION_RULES[rule].requires}
    if method_entry(method).stage == "train_last_layer":
        needs |= requirements(config, "erm")  # of its base
    return needs


def _group_sections(needs: set[str]) -> tuple[str, ...]:
    """Sections that say what the groups are."""
    return ("evaluation",) if TRUE_GROUPS in needs else ()


class Planner:
    """Gathers the tasks of a run.

    Every method below adds a task, after those it reads from, and returns its name, or the names of
    several by role. What was added before is added once.

    Attributes:
        config: The resolved config.
        bias_known: Whether the dataset names the bias attribute of its images.
        tasks: By name, in the order in which they run.
    """

    def __init__(self, config: ConfigDict, bias_known: bool) -> None:
        self.config, self.bias_known = config, bias_known
        self.tasks: dict[str, Task] = {}

    def add(
        self,
        stage: str,
        seed: int,
        inputs: dict[str, str] | None = None,
        *,
        variant: str = "",
        place: str = "",
        sections: tuple[str, ...] = (),
        **options: Any,
    ) -> str:
        """One task.

        Args:
            stage: Name of a stage in the table.
            seed: Its seed.
            inputs: Names of the tasks that it reads from, by role.
            variant: Sets it apart from other uses of the stage with this seed.
            place: Its folder, if not the stage's name.
            sections: Config sections that it depends on beside those of the stage's row.
            **options: Options of the stage.

        Raises:
            ValueError: Another task has this name.
        """
        row = STAGES[stage]
        if row.trains == "classifier" and self.config.classifier.trainable == "last_block":
            maps = self.add("frozen_maps", self.config.seeds[0])
            inputs = {**(inputs or {}), "frozen_maps": maps}
        name = f"seed_{seed}/{place or stage}" + (f"/{variant}" if variant else "")
        task = Task(name, stage, seed, row.data, (*row.reads, *sections), inputs or {}, options)
        if self.tasks.setdefault(name, task) != task:
            raise ValueError(f"two tasks are called {name}: {self.tasks[name]} and {task}")
        return name

    def upstream(self, seed: int) -> int:
        """The seed of the tasks before the classifiers of a seed."""
        return self.config.seeds[0] if self.config.share_upstream else seed

    # DDB: the diffusion model, its images, the amplifier and its scores.

    def synthesis(self, seed: int) -> str:
        """Synthetic images; where the bias is known, they are measured, too."""
        diffusion = self.add("train_diffusion", seed)
        synthesis = self.add("synthesize", seed, {"train_diffusion": diffusion})
        if self.bias_known and self.config.measure_synthesis.probe_steps:
            self.add("measure_synthesis", seed, {"synthesize": synthesis})
        return synthesis

    def amplifier(self, seed: int, train_on: str) -> str:
        """The amplifier trained on "synthetic" or "real" images."""
        inputs = {"synthesize": self.synthesis(seed)} if train_on == "synthetic" else {}
        return self.add("train_amplifier", seed, inputs, variant=train_on, train_on=train_on)

    def scores(self, seed: int, train_on: str) -> str:
        """The scores of that amplifier."""
        inputs = {"train_amplifier": self.amplifier(seed, train_on)}
        return self.add("score", seed, inputs, variant=train_on)

    def lda_scores(self, seed: int) -> str:
        """The scores of linear discriminant analysis, which needs no synthetic images."""
        features = self.add("frozen_features", self.config.seeds[0])
        return self.add("score_lda", seed, {"frozen_features": features})

    # What methods need beforehand.

    def required(self, seed: int, needs: set[str]) -> dict[str, str]:
        """What a method of this seed reads from, except the network below a last layer."""
        config, inputs = self.config, {}
        if needs & OF_AMPLIFIER and config.given_scores.csv:
            inputs["score"] = self.add("given_scores", config.seeds[0])
        elif needs & OF_AMPLIFIER and config.amplifier.kind == "lda":
            inputs["score"] = self.lda_scores(self.upstream(seed))
        elif needs & OF_AMPLIFIER:
            upstream, train_on = self.upstream(seed), config.amplifier.train_on
            inputs["score"] = self.scores(upstream, train_on)
            if config.amplifier.compare:
                self.scores(upstream, {"synthetic": "real", "real": "synthetic"}[train_on])
        if needs & {REFERENCE_ERRORS, ENVIRONMENTS}:
            inputs["train_reference"] = self.add("train_reference", seed)
        if ENVIRONMENTS in needs:
            reads = {"train_reference": inputs["train_reference"]}
            inputs["infer_environments"] = self.add("infer_environments", seed, reads)
        if COMMITTEE_VOTES in needs:
            inputs["train_committee"] = self.add("train_committee", seed)
        if BIAS_FEATURES in needs:
            inputs["train_bias_features"] = self.add("train_bias_features", seed)
        return inputs

    def base(self, seed: int, method: str) -> str:
        """The plainly trained network that a last layer is fitted over."""
        if method_entry(method).settings != "afr":
            return self.training(seed, "erm")
        needs = requirements(self.config, "erm")
        return self.add(
            "train_base",
            seed,
            self.required(seed, needs),
            sections=_group_sections(needs),
            held_out_share=self.config.afr.held_out_share,
        )

    # Generated images.

    def generated(self, seed: int, entry: MethodEntry) -> dict[str, str]:
        """Generated images that passed the gate, and the amplifier's scores of them."""
        name, images = entry.generated, GENERATED[entry.generated]
        scored, train_on = entry.requires in OF_AMPLIFIER, self.config.amplifier.train_on
        biased = self.add("train_biased", seed)
        amplifier = {}
        if images.steered_by or scored:
            amplifier = {"train_amplifier": self.amplifier(seed, train_on)}
        drawn = (self.steered if images.steered_by else self.captioned)(seed, name, images, biased)
        inputs, sections = {"drawn": drawn, "train_biased": biased}, ()
        if images.steered_by:
            inputs |= amplifier
            sections = ("diffusion.image_size", "amplifier")
        if self.config.gate.labels:
            inputs["debiased"] = self.training(seed, self.config.gate.debiased_method)
        checked = self.add("check_generated", seed, inputs, variant=name, sections=sections)
        result = {"check_generated": checked}
        if scored:
            inputs = {"drawn": drawn, **result, **amplifier, "score": self.scores(seed, train_on)}
            result["score_generated"] = self.add("score_generated", seed, inputs, variant=name)
        return result

    def captioned(self, seed: int, name: str, images: GeneratedImages, biased: str) -> str:
        """Images that a text-to-image model draws from captions of the real ones."""
        extracted = self.add("extract", seed, {"train_biased": biased})
        pretrained = self.config.captions.features == "pretrained"
        sections = ("classifier",) if pretrained else ()
        captions = self.add("caption", seed, {"extract": extracted}, sections=sections)
        if images.captions == "filter_captions":
            captions = self.add("filter_captions", seed, {"caption": captions})
        inputs = {"captions": captions, "train_biased": biased}
        if not self.config.text_to_image.folder:
            # It stands in for a pretrained model, so there is only one for all seeds.
            inputs["train_text_to_image"] = self.text_to_image(self.config.seeds[0])
        return self.add("draw", seed, inputs, variant=name)

    def text_to_image(self, seed: int) -> str:
        """A text-to-image model of our own."""
        inputs = {}
        if not self.config.train_text_to_image.start_from:
            inputs["train_autoencoder"] = self.add("train_autoencoder", seed)
        return self.add("train_text_to_image", seed, inputs)

    def steered(self, seed: int, name: str, images: GeneratedImages, biased: str) -> str:
        """Images that DDB's own model draws, steered away from what the amplifier expects."""
        train_on = self.config.amplifier.train_on
        inputs = {
            "train_amplifier": self.amplifier(seed, train_on),
            "train_diffusion": self.add("train_diffusion", seed),
            "train_biased": biased,
        }
        if images.steered_by == "difference":
            reads = {"train_diffusion": inputs["train_diffusion"]}
            reads["score"] = self.scores(seed, train_on)
            inputs["train_balanced_diffusion"] = self.add("train_balanced_diffusion", seed, reads)
        return self.add("steer", seed, inputs, variant=name, by=images.steered_by)

    # Classifiers, and what is said of them.

    def training(self, seed: int, method: str) -> str:
        """A debiased classifier; the tries of a search over its settings come before it."""
        entry, needs = method_entry(method), requirements(self.config, method)
        sections = (*filter(None, [entry.settings]), *_group_sections(needs))
        inputs, first = self._training_inputs(seed, method), self.config.seeds[0]
        if self.config.search.tries > 1 and (entry.search or entry.stage == "train_classifier"):
            for i in range(self.config.search.tries):  # the first seed searches for all
                inputs[f"try_{i}"] = self.add(
                    entry.stage,
                    first,
                    self._training_inputs(first, method),
                    variant=f"{method}/{i}",
                    place="search",
                    sections=sections,
                    method=method,
                    values=sample_values(self.config, method, i),
                )
        return self.add(entry.stage, seed, inputs, variant=method, sections=sections, method=method)

    def _training_inputs(self, seed: int, method: str) -> dict[str, str]:
        entry = method_entry(method)
        inputs = self.required(seed, requirements(self.config, method))
        if entry.generated:
            inputs |= self.generated(self.upstream(seed), entry)
        if entry.stage == "train_last_layer":
            inputs["base"] = self.base(seed, method)
        return inputs

    def evaluation(self, seed: int, method: str) -> str:
        """The test figures of a method."""
        inputs = {"trained": self.training(seed, method)}
        return self.add("evaluate", seed, inputs, variant=method, method=method)

    def report(self) -> Task:
        """Reads every other task; it lies at the top of the work directory."""
        row, names = STAGES["report"], {name: name for name in self.tasks}
        assert row.reads == (EVERYTHING,), row
        sections = tuple(self.config.keys())
        return Task("report", "report", self.config.seeds[0], row.data, sections, names, {})
