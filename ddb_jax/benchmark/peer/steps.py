"""The work of the benchmark's programs in PyTorch: each class checks itself and runs one step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ddb_jax.benchmark.peer.networks import UNet
from ddb_jax.benchmark.peer.step import (
    Figures,
    Step,
    Task,
    flipped,
    make_optimizer,
    symmetric,
)


class DiffusionTrain(Step):
    """The training step of the diffusion model."""

    def __init__(self, task: Task, mode: str) -> None:
        super().__init__(task, mode)
        self.optimizer = make_optimizer(task["settings"], self.parameters)
        schedule = ("alpha", "sigma", "loss_weight")
        self.alpha, self.sigma, self.weight = (self.tensor(task[name]) for name in schedule)
        self.ema = [p.detach().clone() for p in self.parameters]

    def network(self) -> nn.Module:
        """The UNet."""
        return unet(self.task)

    def checked(self) -> Figures:
        """As of Step; without dropout, whose noise the two cannot share."""
        self.networks["main"].eval()
        figures = super().checked()
        self.networks["main"].train()
        return figures

    def loss(
        self,
        networks: Mapping[str, Callable],
        x_start: torch.Tensor,
        t: torch.Tensor,
        eps: torch.Tensor,
        label: torch.Tensor,
    ) -> torch.Tensor:
        """The weighted mean squared error of the prediction."""
        alpha, sigma = (v[t][:, None, None, None] for v in (self.alpha, self.sigma))
        target = eps
        if self.task["settings"]["prediction"] == "v":
            target = alpha * eps - sigma * x_start
        with self.autocast():
            output = networks["main"](alpha * x_start + sigma * eps, t, label)
        errors = (output.float() - target).square().mean((1, 2, 3))
        return (self.weight[t] * errors).mean()

    def step(self) -> None:
        """Noise, loss, gradient, clipping, AdamW and the weights' running average."""
        s, batch = self.task["settings"], self.batch
        x = symmetric(batch["image"])
        x = flipped(x) if s["flip"] else x
        drop = torch.rand(len(x), device=x.device) < s["label_dropout"]
        label = torch.where(drop, self.task["num_classes"], batch["label"])
        t = torch.randint(len(self.alpha), (len(x),), device=x.device)
        loss = self.loss(self.runners, x_start=x, t=t, eps=torch.randn_like(x), label=label)
        self.optimizer.zero_grad()
        loss.backward()
        if s["grad_clip"]:
            nn.utils.clip_grad_norm_(self.parameters, s["grad_clip"])
        self.optimizer.step()
        if s["ema_decay"]:
            with torch.no_grad():
                for average, parameter in zip(self.ema, self.parameters, strict=True):
                    average.lerp_(parameter, 1.0 - s["ema_decay"])


class Sampling(Step):
    """One step of guided DDPM sampling, both branches in one batch."""

    def network(self) -> nn.Module:
        """The UNet."""
        return unet(self.task).eval()

    @torch.no_grad()
    def guided(
        self, networks: Mapping[str, Callable], x: torch.Tensor, t: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """The guided output of the network."""
        null, scale = torch.full_like(y, self.task["num_classes"]), self.task["guidance_scale"]
        with self.autocast():
            output = networks["main"](x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([y, null]))
        conditional, unconditional = output.float().chunk(2)
        return unconditional + scale * (conditional - unconditional)

    def checked(self) -> Figures:
        """The number of parameters and the norm of the guided output."""
        output = self.guided(self.networks, **self.inputs())
        return {"parameters": self.parameters_of_all, "output_norm": output.norm().item()}

    @torch.no_grad()
    def step(self) -> None:
        """The last timestep's."""
        label, (a, b, d, alpha, sigma) = self.batch["label"], self.task["coefficients"]
        side = self.task["side"]
        x = torch.randn(len(label), 3, side, side, device=self.device)
        t = torch.full_like(label, self.task["num_timesteps"] - 1)
        output = self.guided(self.runners, x, t, label)
        if self.task["prediction"] == "eps":
            x_start = (x - sigma * output) / alpha
        else:
            x_start = alpha * x - sigma * output
        a * x + b * x_start.clamp(-1, 1) + d * torch.randn_like(x)


class ClassifierTrain(Step):
    """The training step of plain training."""

    def __init__(self, task: Task, mode: str) -> None:
        super().__init__(task, mode)
        self.optimizer = make_optimizer(task["settings"], self.parameters)
        mean, std = (torch.tensor(v, device=self.device) for v in task["normalization"])
        self.mean, self.std = (255 * v[:, None, None] for v in (mean, std))

    def loss(
        self, networks: Mapping[str, Callable], image: torch.Tensor, label: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        """Cross-entropy."""
        x = (image.float() - self.mean) / self.std
        with self.autocast():
            logits = networks["main"](x)
        return F.cross_entropy(logits.float(), label)

    def step(self) -> None:
        """Flips, loss, gradient, clipping and the optimiser."""
        s, batch = self.task["settings"], dict(self.batch)
        batch["image"] = flipped(batch["image"]) if s["flip"] else batch["image"]
        loss = self.loss(self.runners, **batch)
        self.optimizer.zero_grad()
        loss.backward()
        if s["grad_clip"]:
            nn.utils.clip_grad_norm_(self.parameters, s["grad_clip"])
        self.optimizer.step()


class LfFTrain(ClassifierTrain):
    """The training step of Learning from Failure: two networks, and memories of their losses."""

    def __init__(self, task: Task, mode: str) -> None:
        super().__init__(task, mode)
        self.labels = self.tensor(task["labels"])
        unseen = torch.full((len(self.labels),), -1.0, device=self.device)
        self.memories = {name: unseen.clone() for name in ("main", "biased")}

    def checked(self) -> Figures:
        """As of Step; what it remembered is forgotten."""
        figures = super().checked()
        for memory in self.memories.values():
            memory.fill_(-1.0)
        return figures

    def share(self, name: str, losses: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The running averages of a network's losses, by the largest of the class."""
        memory, ema = self.memories[name], self.task["ema"]
        old = memory[index]
        memory[index] = torch.where(old < 0, losses, ema * old + (1 - ema) * losses)
        largest = torch.full((self.task["num_classes"],), -torch.inf, device=self.device)
        largest = largest.scatter_reduce(0, self.labels, memory, "amax")
        return memory[index] / (largest[self.labels[index]] + 1e-8)

    def loss(
        self,
        networks: Mapping[str, Callable],
        image: torch.Tensor,
        label: torch.Tensor,
        index: torch.Tensor,
    ) -> torch.Tensor:
        """Generalised cross-entropy of the biased network; the main one's weighed cross-entropy."""
        x, q = (image.float() - self.mean) / self.std, self.task["gce_q"]
        with self.autocast():
            logits = {name: networks[name](x) for name in ("main", "biased")}
        own, biased = (
            F.cross_entropy(logits[name].float(), label, reduction="none")
            for name in ("main", "biased")
        )
        with torch.no_grad():
            of_own = self.share("main", own, index)
            of_biased = self.share("biased", biased, index)
            weight = of_biased / (of_biased + of_own + 1e-8)
        return (-torch.expm1(-q * biased) / q).mean() + (weight * own).mean()


class Scoring(ClassifierTrain):
    """The amplifier's pass over images."""

    @torch.no_grad()
    def score(self, networks: Mapping[str, Callable]) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted classes and losses of the batch."""
        self.networks["main"].eval()
        x = (self.batch["image"].float() - self.mean) / self.std
        with self.autocast():
            logits = networks["main"](x).float()
        log_p = F.log_softmax(logits, 1)
        return logits.argmax(1), -log_p.gather(1, self.batch["label"][:, None])[:, 0]

    def checked(self) -> Figures:
        """The number of parameters and the mean loss."""
        _, losses = self.score(self.networks)
        return {"parameters": self.parameters_of_all, "loss": losses.mean().item()}

    def step(self) -> None:
        """One batch."""
        self.score(self.runners)


def unet(task: Task) -> UNet:
    """The network of the task's `unet` section."""
    return UNet(task["unet"], task["side"], task["num_classes"], task["num_timesteps"])


STEPS = {
    "diffusion_train": DiffusionTrain,
    "sampling": Sampling,
    "classifier_train": ClassifierTrain,
    "lff_train": LfFTrain,
    "scoring": Scoring,
}
