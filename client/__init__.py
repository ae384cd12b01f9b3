"""A small typed client of the chest X-ray service, over REST and gRPC.

    from client import RestClient

    with RestClient("http://127.0.0.1:8080") as service:
        answer = service.predict(open("film.dcm", "rb").read())
        print(answer.prediction, answer.confidence, answer.decision)

`GrpcClient` has the same methods, those of `Service` in `client/service.py`. Whatever goes wrong is a `ClientError`;
the tree is drawn in `client/errors.py`.
"""

from client.answers import Attribution, Explanation, Gate, Model, Prediction
from client.errors import (
    AccessDenied,
    BadRequest,
    BatchFailed,
    ClientError,
    ConnectionFailed,
    DeadlineExceeded,
    FilmTooLarge,
    ModelNotFound,
    NoCapacity,
    ProtocolError,
    RequestRejected,
    ServerFault,
    Unavailable,
    UnreadableImage,
    UnsupportedImage,
    WorkerDied,
)
from client.rest import RestClient
from client.retry import RetryPolicy
from client.rpc import GrpcClient
from client.service import Service
from client.v2 import Tensor

__all__ = [
    "AccessDenied",
    "Attribution",
    "BadRequest",
    "BatchFailed",
    "ClientError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Explanation",
    "FilmTooLarge",
    "Gate",
    "GrpcClient",
    "Model",
    "ModelNotFound",
    "NoCapacity",
    "Prediction",
    "ProtocolError",
    "RequestRejected",
    "RestClient",
    "RetryPolicy",
    "ServerFault",
    "Service",
    "Tensor",
    "Unavailable",
    "UnreadableImage",
    "UnsupportedImage",
    "WorkerDied",
]
