"""Random changes of a stretched picture, after the reading and before the normalisation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from training.recipe import AugmentSettings


class Augment:
    """(S, S) uint8 -> (S, S) float32, 0..255, by torch's global random generator. All at 0: nothing changes."""

    def __init__(self, settings: AugmentSettings) -> None:
        self.settings = settings
        self.erase = v2.RandomErasing(p=settings.erase, scale=(0.02, 0.2), value=0.0)

    def __call__(self, picture: Tensor) -> Tensor:
        s = self.settings
        image: Tensor = picture.to(torch.float32).div(255).unsqueeze(0)  # (1, S, S)
        if torch.rand(()) < s.flip:
            image = F.horizontal_flip(image)
        image = self._geometry(image)
        if torch.rand(()) < s.equalise:
            image = F.equalize(image.mul(255).to(torch.uint8)).to(torch.float32).div(255)
        image = self._photometry(image)
        image = self.erase(image)  # (1, S, S)
        return image.squeeze(0).clamp(0, 1).mul(255)  # (S, S)

    def _geometry(self, image: Tensor) -> Tensor:
        s = self.settings
        side = image.shape[-1]
        stretch_y = _between(1 - s.aspect, 1 + s.aspect)
        if s.aspect:
            image = F.resize(image, [max(8, round(side * stretch_y)), side], antialias=True)
            image = F.center_crop(image, [side, side])
        if not (s.rotate or s.translate or s.scale != (1.0, 1.0)):
            return image
        moved: Tensor = F.affine(
            image,
            angle=_between(-s.rotate, s.rotate),
            translate=[side * _between(-s.translate, s.translate) for _ in range(2)],
            scale=_between(*s.scale),
            shear=[0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        return moved

    def _photometry(self, image: Tensor) -> Tensor:
        s = self.settings
        if s.gamma:
            image = image.clamp(0, 1) ** _between(1, 1 + s.gamma) ** (1 if torch.rand(()) < 0.5 else -1)
        image = image * _between(1 - s.brightness, 1 + s.brightness)
        if s.contrast:
            mean = image.mean()
            image = (image - mean) * _between(1 - s.contrast, 1 + s.contrast) + mean
        if s.blur and torch.rand(()) < 0.3:
            image = F.gaussian_blur(image, kernel_size=[7, 7], sigma=[_between(0.1, s.blur)])
        if s.noise:
            image = image + torch.randn_like(image) * _between(0, s.noise)
        return image


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
