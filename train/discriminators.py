"""STFT discriminators for the codec: they learn to tell its output from speech, and it learns from what they see.

As in the paper (arXiv 2603.25551), the codec gets the distance of their inner activations in place of an adversarial
loss; smaller and fewer than the paper's eight of 256 channels. Read next: `train.codec`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.loop import World

_WINDOWS = (1418, 542, 206)
_CHANNELS = 16


class StftDiscriminator(nn.Module):
    """Judge patches of a complex spectrum, its magnitude compressed."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window, self.hop = window, window // 4
        self.register_buffer("shape", torch.hann_window(window), persistent=False)
        width = _CHANNELS
        self.layers = nn.ModuleList(
            (
                nn.Conv2d(2, width, (3, 5), (1, 2), (1, 2)),
                nn.Conv2d(width, width, (3, 5), (1, 2), (1, 2)),
                nn.Conv2d(width, 2 * width, (3, 5), (1, 2), (1, 2)),
                nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            )
        )
        self.verdict = nn.Conv2d(2 * width, 1, 3, 1, 1)

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return verdicts and the activations of all layers for [B, S]."""
        shape = self.get_buffer("shape")
        spectrum = torch.stft(samples, self.window, self.hop, window=shape, return_complex=True)[:, 1:]
        scale = spectrum.abs().clamp(min=1e-5) ** -0.7
        x = torch.stack((spectrum.real * scale, spectrum.imag * scale), dim=1).transpose(2, 3)
        activations = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            activations.append(x)
        return self.verdict(x), activations


class Discriminators(nn.Module):
    """All of them, with their optimiser; call `generator_loss` once a step."""

    def __init__(self, world: World, rate: float) -> None:
        super().__init__()
        self.world = world
        self.members = nn.ModuleList(StftDiscriminator(window) for window in _WINDOWS)
        self.to(world.device)
        world.share(self.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters(), lr=rate, betas=(0.5, 0.9))

    def generator_loss(self, made: Tensor, target: Tensor) -> Tensor:
        """Train the members on this batch, then return the distance of their activations for `made`."""
        verdicts = made.new_zeros(())
        for member in self.members:
            real, fake = member(target)[0], member(made.detach())[0]
            verdicts = verdicts + F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        self.optimiser.zero_grad()
        verdicts.backward()
        self.world.average([parameter.grad for parameter in self.parameters() if parameter.grad is not None])
        self.optimiser.step()
        total = made.new_zeros(())
        for member in self.members:
            with torch.no_grad():
                wanted = member(target)[1]
            for got, want in zip(member(made)[1], wanted, strict=True):
                total = total + (got - want).abs().mean() / (want.abs().mean() + 1e-3)
        return total / len(self.members)
