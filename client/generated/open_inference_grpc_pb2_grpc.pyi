# Types of the generated module, written by hand: protoc makes none for services.
# ruff: noqa: N802
from collections.abc import Callable
from typing import Any

import grpc

from client.generated.open_inference_grpc_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelReadyRequest,
    ModelReadyResponse,
)

class GRPCInferenceServiceStub:
    ModelReady: grpc.UnaryUnaryMultiCallable[ModelReadyRequest, ModelReadyResponse]
    ModelInfer: grpc.UnaryUnaryMultiCallable[ModelInferRequest, ModelInferResponse]
    def __init__(self, channel: grpc.Channel) -> None: ...

class GRPCInferenceServiceServicer:
    ModelReady: Callable[..., Any]
    ModelInfer: Callable[..., Any]

def add_GRPCInferenceServiceServicer_to_server(servicer: GRPCInferenceServiceServicer, server: grpc.Server) -> None: ...
