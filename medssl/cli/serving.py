"""The command that serves: a task model, to a research network."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.options import DryRun, Overrides, Refined


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(serve)


def serve(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", show_default=False)] = None,
    overrides: Overrides = None,
    host: Annotated[str | None, typer.Option(help="Address to listen at.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that callers must send.")
    ] = None,
    config: Refined = None,
    dry_run: DryRun = False,
) -> None:
    """Task model to a service: scans by HTTP to masks or answers. For research networks.

    Ctrl-C ends it, after the requests under way.
    """
    import yaml

    from medssl.cli.console import say
    from medssl.cli.run import Request, split_overrides, user_errors_explained

    words, more = split_overrides([model] if model else [])
    given = {
        "model": words[0] if words else None,
        "host": host,
        "port": port,
        "token_file": token_file,
    }
    with user_errors_explained(), suppress(KeyboardInterrupt):
        request = Request("serve", config, given, [*more, *(overrides or [])], False, dry_run)
        settings = request.config()
        if dry_run:
            say(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False).rstrip())
            return
        from medssl.serving.serve import ServeConfig, serve

        assert isinstance(settings, ServeConfig)  # noqa: S101  for the type checker
        say(f"Serving at http://{settings.host}:{settings.port} until Ctrl-C.")
        serve(settings)
