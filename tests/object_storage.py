"""An S3 server for tests, in this process (moto); skipped where the package is missing."""

from __future__ import annotations

import functools
import logging
import os
import uuid
from pathlib import Path

import pytest


@functools.cache
def endpoint() -> str:
    """The address of the server, with the bucket `shop`; the environment of this process names it and a key."""
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    os.environ |= {**keys, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}
    import boto3

    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
    client.create_bucket(Bucket="shop")
    client.close()
    return address


def url(_: Path) -> str:
    """The address of an empty gallery."""
    endpoint()
    return f"s3://shop/{uuid.uuid4().hex}"
