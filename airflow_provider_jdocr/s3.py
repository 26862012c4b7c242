"""`s3://` as a storage, through the boto3 client that Airflow's connection describes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urlsplit

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from botocore.utils import parse_timestamp

from airflow_provider_jdocr.core.errors import ConfigurationError, StorageError
from airflow_provider_jdocr.core.sources import Missing, Source
from airflow_provider_jdocr.storage import NoSuchKeyError

# What a picture is worth waiting for: the defaults of botocore wait up to five minutes for a dead endpoint.
_DEFAULTS = Config(
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=32,
    retries={"mode": "standard", "max_attempts": 4},
)
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "that is no bucket name",
    "AccessDenied": "the credentials may not do this",
    "403": "the credentials may not do this",
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "PermanentRedirect": "the bucket lives in another region",
}


def open_s3(conn_id: str | None) -> "S3Storage":
    """With a connection of Airflow; None: its `aws_default`, or boto3's own credentials."""
    hook = _Hook() if conn_id is None else _Hook(aws_conn_id=conn_id)
    # The connection's own config_kwargs win over these defaults.
    return S3Storage(hook.get_client_type(config=_DEFAULTS.merge(hook.config)))


class S3Storage:
    """`s3://bucket/…` through one boto3 client, which all threads share."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        bucket, key_prefix = _bucket_and_key(prefix)
        more: dict[str, str] = {"StartAfter": _bucket_and_key(after)[1]} if after else {}
        while True:
            with _errors(prefix, self._client):
                page = self._client.list_objects_v2(Bucket=bucket, Prefix=key_prefix, **more)
                found = [(f"s3://{bucket}/{one['Key']}", one) for one in page.get("Contents", ())]
                next_page = (
                    {"ContinuationToken": page["NextContinuationToken"]} if page.get("IsTruncated") else {}
                )
            for uri, one in found:
                if until is not None and uri > until:
                    return
                if not uri.endswith("/"):
                    yield _source(uri, one.get("Size"), one)
            if not next_page:
                return
            if next_page == more:
                raise StorageError(f"{prefix}: S3 answers with the same page again and again", uri=prefix)
            more = next_page

    def stat(self, uri: str) -> Source | Missing:
        bucket, key = _bucket_and_key(uri)
        try:
            with _errors(uri, self._client):
                found = self._client.head_object(Bucket=bucket, Key=key)
        except NoSuchKeyError:
            with _errors(uri, self._client):
                self._require_bucket(bucket)
            return Missing(uri, "MISSING", "no such object in the bucket")
        return _source(uri, found.get("ContentLength"), found)

    def read(self, uri: str) -> bytes:
        bucket, key = _bucket_and_key(uri)
        with _errors(uri, self._client):
            body: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def _require_bucket(self, bucket: str) -> None:
        """A HEAD answers 404 for a missing object and for a missing bucket alike: tell them apart."""
        try:
            self._client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if _code(error) == "404":
                raise ConfigurationError(_refusal(f"s3://{bucket}/", _REFUSALS["NoSuchBucket"])) from error


class _Hook(S3Hook):
    """Reads the times of a listing as what they are; trying out every way to write a time takes botocore half
    of the whole listing.
    """

    def get_session(self, *args: Any, **kwargs: Any) -> Any:
        session = super().get_session(*args, **kwargs)
        # boto3 has no public name for it.
        factory = session._session.get_component("response_parser_factory")  # noqa: SLF001
        factory.set_parser_defaults(timestamp_parser=moment_of)
        return session


def moment_of(value: Any) -> datetime:
    """A time of a listing or, as HTTP writes them, of an object; else botocore's own guess."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(AttributeError, TypeError, ValueError):
            if (moment := read(value)).tzinfo:
                return moment
    return cast(datetime, parse_timestamp(value))


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket:
        raise ConfigurationError(f"images: {uri} names no bucket. Write s3://bucket/folder/…")
    return bucket, key


def _source(uri: str, size: int | None, found: Mapping[str, Any]) -> Source:
    version, modified = found.get("VersionId"), found.get("LastModified")
    return Source(
        uri,
        size,
        found.get("ETag", "").strip('"') or None,
        None if version in (None, "null") else version,
        modified.timestamp() if modified else None,
    )


@contextmanager
def _errors(uri: str, client: Any) -> Iterator[None]:
    """Botocore's errors in our terms: what only a person can put right is a configuration error."""
    try:
        yield
    except ConfigurationError:
        raise
    except ClientError as error:
        code = _code(error)
        if code in ("404", "NoSuchKey"):
            raise NoSuchKeyError(f"{uri} does not exist", uri=uri) from error
        if code in _REFUSALS:
            raise ConfigurationError(_refusal(uri, _REFUSALS[code])) from error
        raise StorageError(f"{uri}: S3 answered {code}", uri=uri) from error
    except (NoCredentialsError, ParamValidationError) as error:
        raise ConfigurationError(_refusal(uri, str(error))) from error
    except BotoCoreError as error:
        raise StorageError(
            f"{uri}: {type(error).__name__} while talking to S3{_at(client)}. Check endpoint_url of the "
            "connection in storage_conn_id, the network and the proxy.",
            uri=uri,
        ) from error
    except Exception as error:  # what botocore makes of an answer that is not S3's
        raise StorageError(
            f"{uri}: S3's answer{_at(client)} makes no sense ({type(error).__name__})", uri=uri
        ) from error


def _at(client: Any) -> str:
    """Where the client asks, without a user and password that somebody wrote into the address."""
    url = urlsplit(str(getattr(getattr(client, "meta", None), "endpoint_url", "")))
    return f" at {url.scheme}://{url.netloc.rpartition('@')[2]}" if url.netloc else ""


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _refusal(uri: str, why: str) -> str:
    return f"images: {uri}: {why}. Correct the URI or the connection in storage_conn_id; nothing was sent."
