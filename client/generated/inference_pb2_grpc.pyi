# Types of the generated module, written by hand: protoc makes none for services.
# ruff: noqa: N802
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from client.generated.inference_pb2 import PredictionResponse, PredictionsRequest, TorchServeHealthResponse

class InferenceAPIsServiceStub:
    Ping: grpc.UnaryUnaryMultiCallable[Empty, TorchServeHealthResponse]
    Predictions: grpc.UnaryUnaryMultiCallable[PredictionsRequest, PredictionResponse]
    def __init__(self, channel: grpc.Channel) -> None: ...

class InferenceAPIsServiceServicer:
    Ping: Callable[..., Any]
    Predictions: Callable[..., Any]

def add_InferenceAPIsServiceServicer_to_server(servicer: InferenceAPIsServiceServicer, server: grpc.Server) -> None: ...
