"""One client per store, made so that nothing is reported home and no request waits for long."""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medssl.errors import MedSSLError
from medssl.runs.destination import Destination, artifacts_of

_UNLESS_SET = {
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the spool tries again, and keeps what is unsent
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else a model would get files of the folder one stands in
}
_UNAUTHORISED, _FORBIDDEN = 401, 403

_CONNECTING = threading.Lock()
_CLIENTS: dict[str, Any] = {}


class StoreError(MedSSLError):
    """An MLflow store cannot be used for what a person asked for."""


def connect(uri: str) -> Any:
    """Return the client of ``uri``; one thread at a time imports mlflow or makes a database."""
    for variable, value in _UNLESS_SET.items():
        os.environ.setdefault(variable, value)
    with _CONNECTING:
        if uri not in _CLIENTS:
            _CLIENTS[uri] = _connect(uri)
        return _CLIENTS[uri]


def _connect(uri: str) -> Any:
    from mlflow.telemetry import set_telemetry_client
    from mlflow.tracking import MlflowClient

    # anew, since mlflow may have been imported before medssl, which forbids its telemetry
    set_telemetry_client()  # type: ignore[no-untyped-call]
    for chatty in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    if not uri.startswith("sqlite:///"):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    database = Path(uri.removeprefix("sqlite:///"))
    with _alone_with(database):
        if not database.exists():
            _make(uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make(uri: str) -> None:
    """Make the database: left to the client, files of its first experiment would go to ./mlruns."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(uri, artifacts_of(uri))  # type: ignore[no-untyped-call]
    store.engine.dispose()


@contextmanager
def _alone_with(database: Path) -> Iterator[None]:
    """Keep other processes from making the same database: two at once leave it broken for good."""
    database.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(database.with_name(f".{database.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def experiment_id(client: Any, to: Destination) -> str:
    """Return the id of the experiment ``to`` names, made if need be."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(to.experiment)
    if found is None:
        try:
            return str(client.create_experiment(to.experiment, artifact_location=to.artifact_root))
        except MlflowException as error:  # another process was first
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(to.experiment)
    return str(found.experiment_id)


def store_problem(to: Destination) -> str | None:
    """Return why the store ``to`` cannot be used, in a few words, or None where it can."""
    try:
        connect(to.uri).search_experiments(max_results=1)
    except Exception as error:  # noqa: BLE001 - MLflow and what is below it raise anything
        return f"does not answer ({type(error).__name__})"
    return None


@contextmanager
def store_errors_explained(to: Destination) -> Iterator[None]:
    """Turn whatever MLflow raises in the block into a StoreError that says what to do."""
    try:
        yield
    except MedSSLError:
        raise
    except Exception as error:
        problem, hint = _words(error)
        raise StoreError(f"the MLflow store {to.shown} {problem}", hint=hint) from error


def status_of(error: Exception) -> int | None:
    """Return the HTTP status behind ``error``, where a server answered with one."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is None and getattr(error, "json", None):  # what an MLflow server says of itself
        status = error.get_http_status_code()  # type: ignore[attr-defined]
    return int(status) if status is not None else None


def _words(error: Exception) -> tuple[str, str]:
    status, code = status_of(error), getattr(error, "error_code", None)
    if status == _UNAUTHORISED or code == "UNAUTHENTICATED":
        return (
            "wants a user name and a password, or refuses those it was given",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
    if status == _FORBIDDEN or code == "PERMISSION_DENIED":
        return "does not allow this user to do that", "ask who runs the server for the permission"
    if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
        missing = code.startswith("RESOURCE") or "not found" in str(error)
        said = "has no such run, model or alias" if missing else "refused a value"
        return f"{said} ({code})", "check the name and MLFLOW_TRACKING_URI"
    return (
        f"cannot be reached, or failed ({code or type(error).__name__})",
        "start the server, or correct MLFLOW_TRACKING_URI, and run this again",
    )
