"""Chest X-ray core: from the bytes of one film to an explained answer.

Imports neither TorchServe nor `training`: the same core can sit behind another server.
Start reading at `cxr.reading`.
"""

__version__ = "1.0.0"
