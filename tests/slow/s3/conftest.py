"""One S3 server for all these tests, with its address and credentials in the environment."""

import boto3
import pytest
from botocore.config import Config

from tests.support.tools.servers import KEY, SECRET, s3


@pytest.fixture(scope="package")
def address(tmp_path_factory):
    with s3(tmp_path_factory.mktemp("server") / "s3") as found:
        yield found


@pytest.fixture(autouse=True)
def environment(address, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("twofold.sources.base.PAUSE", 0.01)


@pytest.fixture(scope="package")
def store(address):
    plain = Config(request_checksum_calculation="when_required", max_pool_connections=16)
    return boto3.client(
        "s3",
        endpoint_url=address,
        config=plain,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
