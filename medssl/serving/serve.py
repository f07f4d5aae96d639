"""The service: one model behind one address, until it is told to stop."""

from pathlib import Path

from medssl.errors import InputError
from medssl.inference.model_source import open_model
from medssl.inference.predictor import Predictor, choose_device
from medssl.serving.serve_config import ServeConfig
from medssl.serving.token import read_token

__all__ = ["ServeConfig", "serve"]

_BACKLOG = 64
_QUIET_S = 30
"""A connection on which nothing comes is closed after so long."""


def serve(config: ServeConfig) -> None:
    """Answer requests until SIGINT or SIGTERM; those under way are finished first.

    Raises:
        InputError: The extra `serve` is not installed, the model cannot be used, the token is
            missing, or the address is taken.
        StoreError: The registry that the model is to be taken from cannot be reached.
    """
    try:
        import python_multipart as _forms  # noqa: F401  Starlette needs it for forms
        import uvicorn

        from medssl.serving.answers import Answerer
        from medssl.serving.app import build_app
        from medssl.serving.worker import Worker
    except ImportError:
        raise InputError(
            "the service needs FastAPI, uvicorn and python-multipart, which are not installed",
            hint="pip install 'medssl[serve]'",
        ) from None
    token = read_token(config)
    model = open_model(config.model, config.tracking, Path("serve"))
    device = choose_device(config.device)
    predictor = Predictor(model, device, half=config.half_precision)
    limits = config.limits
    worker = Worker(model.network, limits.waiting, limits.time_s)
    outputs = {each.name: each.build() for each in config.outputs}
    answerer = Answerer(predictor=predictor, outputs=outputs)
    settings = uvicorn.Config(
        build_app(config, answerer, worker, token),
        host=config.host,
        port=config.port,
        backlog=_BACKLOG,
        timeout_keep_alive=_QUIET_S,
        timeout_graceful_shutdown=int(limits.time_s) + 1,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
    )
    try:
        uvicorn.Server(settings).run()
    except SystemExit:
        raise InputError(
            f"cannot listen at {config.host}, port {config.port}",
            hint="is the port taken, by another medssl perhaps?",
        ) from None
