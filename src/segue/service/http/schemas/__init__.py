"""What clients send and get, as OpenAPI documents it: `requests` and `responses`."""
