"""The wire contracts of TorchServe's two gRPC services; `python -m client.protos` compiles them."""
