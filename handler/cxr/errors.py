"""Why a film got no answer.

    CxrError                     500
    ├── BadRequest               400  empty body, no `data` field, unknown option
    │   └── WrongModel           400  the method is served by another registration
    ├── FilmTooLarge             413  more bytes or more decoded pixels than the limit
    ├── UnsupportedImage         415  bytes that are no image we read
    │   └── UnsupportedEncoding  415  an image whose compression or sample format we do not decode
    └── UnreadableImage          422  an image we read, but broken, truncated or without pixels
        ├── MultiFrame           422  more than one frame
        └── NotAFilm             422  a DICOM object that holds no film (SR, PDF, ...)

The status is chosen here, once, on the class. Messages never quote element values of a DICOM
object other than UIDs and sizes: they may end up in a log.
"""

from __future__ import annotations

from typing import Any


class CxrError(Exception):
    """One row has no answer. `status` is its HTTP status, `message` a sentence for the sender."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def as_json(self, request_id: str) -> dict[str, Any]:
        """The error object of the REST and gRPC contract."""
        return {
            "code": self.status,
            "type": type(self).__name__,
            "message": self.message,
            "request_id": request_id,
        }


def internal(error: Exception) -> CxrError:
    """What a client is told of an error of ours: its type alone, for its message may quote a patient."""
    return CxrError(f"internal error ({type(error).__name__})")


class BadRequest(CxrError):
    status = 400


class WrongModel(BadRequest):
    pass


class FilmTooLarge(CxrError):
    status = 413


class UnsupportedImage(CxrError):
    status = 415


class UnsupportedEncoding(UnsupportedImage):
    pass


class UnreadableImage(CxrError):
    status = 422


class MultiFrame(UnreadableImage):
    pass


class NotAFilm(UnreadableImage):
    pass
