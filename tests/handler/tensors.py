"""A bare worker that reads films and shows what the network would see, and all that it logs.

python -m tests.handler.tensors FILE... -> one line each: sha256 of the tensor, or the error
"""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)

from cxr.errors import CxrError  # noqa: E402
from cxr.film import Limits  # noqa: E402
from cxr.reading import decode, stretch, to_tensor  # noqa: E402
from cxr.recipe import Recipe  # noqa: E402

RECIPE = Recipe(name="test", architecture="resnet18", version="1", labels=("a", "b"), size=64)


def answer(data: bytes) -> str:
    try:
        tensor = to_tensor(stretch(decode(data, Limits()), RECIPE.stretch), RECIPE)
    except CxrError as error:
        return f"{type(error).__name__}: {error.message}"
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(answer(Path(path).read_bytes()))
