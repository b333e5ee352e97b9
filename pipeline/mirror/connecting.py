"""The way to MLflow: its client, how long is waited for it, and what went wrong in one sentence.

Belongs here: everything that knows how MLflow fails. Not here: what is asked of it (sync.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exfm.mlflow import MLflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI, REGISTRY_URI = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
STORES = ("", "file", "sqlite", "postgresql", "mysql", "mssql")  # schemes of what MLflow opens itself
AGAIN = "releases stand as they are; materialise mlflow again once that is mended"
# MLflow waits 120 s for an answer and asks eight times; and it reports its use to its makers unless told otherwise.
# What a user has set stays.
LIMITS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MirrorError(ValueError):
    """MLflow could not be brought up to what is stored: one sentence with the reason and what to do."""


@contextmanager
def limited() -> Iterator[None]:
    """MLflow's limits as above, for as long as it is asked."""
    added = {name: value for name, value in LIMITS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def uri_of(declared: MLflow) -> str:
    """The address of MLflow.

    Raises:
        MirrorError: if neither the declaration nor the environment has one: MLflow would make a file wherever a
            process happens to start.
    """
    uri = declared.tracking_uri or os.environ.get(URI, "").strip()
    if not uri:
        raise MirrorError(f"MLflow.tracking_uri: None, and {URI} is not set: set it, or declare one")
    return uri


def is_server(uri: str) -> bool:
    """Is there a server behind it? It takes no paths of this machine; a store does."""
    return urlsplit(uri).scheme.partition("+")[0] not in STORES


def registry_of(uri: str) -> str:
    """The address of the registry: that of the environment, else the same as of tracking."""
    return os.environ.get(REGISTRY_URI, "").strip() or uri


def called(uri: str) -> str:
    """An address as messages have it: a server's host, a store without who opens it."""
    split = urlsplit(uri)
    host = split.netloc.rpartition("@")[2]
    return host if split.scheme in ("http", "https") else f"{split.scheme}://{host}{split.path}"


def require_installed() -> None:
    """Import MLflow (1.5 s, and no part of most installations).

    Raises:
        MirrorError: if it is not installed.
    """
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise MirrorError('Project.mlflow: MLflow is not installed: pip install "exfm[mlflow]"') from error


def client_of(uri: str) -> "MlflowClient":
    """The client, for runs and for models."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=registry_of(uri))


@contextmanager
def worded(uri: str) -> Iterator[None]:
    """What MLflow, its transport or its database raises, as one sentence."""
    from mlflow.exceptions import MlflowException, RestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except RestException as error:
        raise MirrorError(f"MLflow at {called(uri)} refused: {_line(error)}: {AGAIN}") from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise MirrorError(f"MLflow at {called(uri)} can't be reached or used: {_reason(error)}: {AGAIN}") from error


def _reason(error: BaseException) -> str:
    """What the system said, if it did; the errors around it repeat the whole address."""
    found, each = "", error.__cause__ or error.__context__
    while each is not None:
        if isinstance(each, OSError) and (each.strerror or isinstance(each, TimeoutError)):
            found = each.strerror or "timed out"
        each = each.__cause__ or each.__context__
    return found or _line(error)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
