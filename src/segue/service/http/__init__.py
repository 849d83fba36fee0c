"""The HTTP side of the service: middleware, schemas, routes."""
