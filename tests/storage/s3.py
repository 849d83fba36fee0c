"""A bucket of the S3 server, seen with Amazon's own client and not with what is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Bucket:
    """A new bucket.

    Args:
        name: of it.
    """

    def __init__(self, name: str) -> None:
        import boto3

        self.name = name
        self._client: Any = boto3.client("s3")
        self._client.create_bucket(Bucket=name)

    def address(self, key: str) -> str:
        """The address of a folder, or of an object."""
        return f"s3://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def upload(self, key: str, folder: Path) -> str:
        """Put the files of a folder, and return their address."""
        for path in folder.iterdir():
            self.put(f"{key}/{path.name}", path.read_bytes())
        return self.address(key)

    def objects(self) -> dict[str, int]:
        """The sizes of all objects, by their keys."""
        listed = self._client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {each["Key"]: each["Size"] for each in listed}

    def get(self, key: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def uploads(self) -> int:
        """Uploads in parts that were neither finished nor given up."""
        return len(self._client.list_multipart_uploads(Bucket=self.name).get("Uploads", []))
