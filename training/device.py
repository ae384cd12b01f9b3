"""What a GPU changes of a training: half precision and deterministic kernels. On a CPU nothing of it acts."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler


class Precision:
    """Automatic mixed precision on CUDA: bfloat16 where the GPU has it, else float16 with scaled gradients.

    float16 alone underflows (Micikevicius et al. 2018, arXiv:1710.03740). On a CPU everything stays float32.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.active = device.type == "cuda"
        self.dtype = torch.bfloat16
        if self.active:
            _deterministic()
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                self.dtype = torch.float16
        self.scaler = GradScaler(device.type, enabled=self.active and self.dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        """The context of one forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.active)

    def step(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Backward and one step of the optimiser; a step whose gradients overflowed is left out."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(optimiser)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; empty where gradients are not scaled."""
        state: dict[str, Any] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)


def _deterministic() -> None:
    """The same kernels every time; where a kernel has no deterministic form, torch warns and goes on."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
