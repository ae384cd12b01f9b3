"""Compiled from `client/protos` by `python -m client.protos`. Edit the .proto files, never these."""
