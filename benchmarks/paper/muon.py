"""Muon for the layers' matrices, AdamW for all else, as one optimizer that a trainer can be given.

tiny-base was trained like this; models of its size then need far fewer tokens until they copy words
out of a question into the answer.
"""

from collections.abc import Callable
from typing import Any

import torch


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimizers of torch behind one list of parameter groups, which a schedule can change."""

    def __init__(self, model: torch.nn.Module, muon_rate: float, adam_rate: float) -> None:
        """Divide a model's parameters.

        Args:
            model: The model that is trained.
            muon_rate: Peak learning rate of the layers' matrices.
            adam_rate: Peak learning rate of all else.
        """
        named = list(model.named_parameters())
        matrices = [p for name, p in named if ".layers." in name and p.ndim == 2]
        others = [p for name, p in named if ".layers." not in name or p.ndim != 2]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, lr=muon_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.01),
        ]
        groups = [{"params": matrices, "lr": muon_rate}, {"params": others, "lr": adam_rate}]
        super().__init__(groups, {})

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Take a step at the rates that the groups have now; gradients are there already."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()
