"""What the benchmark's programs in PyTorch have in common: networks, modes, checks, inputs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ddb_jax.benchmark.peer.networks import ResNet, load

Task = Mapping[str, Any]
Figures = dict[str, float]


def make_optimizer(settings: Task, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW or SGD in PyTorch's fused form, at a constant learning rate."""
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    if settings["optimizer"] == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
    momentum = settings["momentum"]
    return torch.optim.SGD(parameters, rate, momentum, weight_decay=decay, fused=True)


def gradient_norm(parameters: list[nn.Parameter]) -> torch.Tensor:
    """Of all parameters together."""
    return torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()


def symmetric(images: torch.Tensor) -> torch.Tensor:
    """Pixels 0..255 -> -1..1."""
    return images.float() / 127.5 - 1.0


def flipped(x: torch.Tensor) -> torch.Tensor:
    """Every image mirrored with probability one half."""
    flip = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(flip, x.flip(3), x)


class Step:
    """A network or several, with the project's weights, in one mode of PyTorch.

    Args:
        task: What `peer_tasks` wrote.
        mode: One of client.MODES.
    """

    def __init__(self, task: Task, mode: str) -> None:
        self.task, self.mode, self.checking = task, mode, True
        self.device = torch.device("cuda" if task["on_gpu"] else "cpu")
        self.networks = {name: self.network() for name in task["weights"]}
        self.parameters_of_all = sum(
            load(network, task["weights"][name]) for name, network in self.networks.items()
        )
        layout = torch.channels_last if mode == "channels_last" else torch.contiguous_format
        for name, network in self.networks.items():
            self.networks[name] = network.to(self.device, memory_format=layout)
        self.parameters = [p for n in self.networks.values() for p in n.parameters()]
        # Compiled copies share their parameters; the checks run before anything is compiled.
        self.runners: dict[str, Callable] = dict(self.networks)
        if mode == "compile":
            self.runners = {name: torch.compile(n) for name, n in self.networks.items()}
        self.batch = {name: self.tensor(array) for name, array in task["batch"].items()}

    def network(self) -> nn.Module:
        """A network of the task, of any weights."""
        return ResNet(self.task["settings"], self.task["num_classes"])

    def tensor(self, array: Any) -> torch.Tensor:
        """On the device; images in PyTorch's order of axes."""
        tensor = torch.from_numpy(array.copy())  # JAX's arrays cannot be written to
        tensor = tensor.long() if tensor.dtype == torch.int32 else tensor
        if tensor.ndim == 4:
            tensor = tensor.permute(0, 3, 1, 2).contiguous()
        return tensor.to(self.device)

    def autocast(self) -> torch.autocast:
        """Half precision where the mode has it; the checks are in single precision."""
        enabled = self.mode == "bf16" and not self.checking
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def inputs(self) -> dict[str, torch.Tensor]:
        """Those of the check."""
        return {name: self.tensor(array) for name, array in self.task["check"].items()}

    def checked(self) -> Figures:
        """The number of parameters, the loss and the gradient's norm of the check's inputs."""
        loss = self.loss(self.networks, **self.inputs())
        loss.backward()
        norm = gradient_norm(self.parameters).item()
        for parameter in self.parameters:
            parameter.grad = None
        return {"parameters": self.parameters_of_all, "loss": loss.item(), "grad_norm": norm}

    def loss(self, networks: Mapping[str, Callable], **inputs: torch.Tensor) -> torch.Tensor:
        """The scalar loss of a training step."""
        raise NotImplementedError

    def step(self) -> None:
        """One step of the work."""
        raise NotImplementedError
