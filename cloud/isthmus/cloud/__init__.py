"""The cloud tier: a gRPC gateway in front of a backend that answers."""
