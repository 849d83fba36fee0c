"""Shared storage, against moto's S3 server on loopback: `make test-storage`."""
