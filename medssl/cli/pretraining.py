"""The commands around a pretraining: start it, plan it, look again at the batch it broke at."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medssl.cli.options import Config, DryRun, Overrides, Overwrite

if TYPE_CHECKING:
    from medssl.training.plan import Plan


_SMALLER = "smaller crops or a smaller encoder"


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(pretrain)
    app.command()(replay)


def pretrain(
    config: Config,
    overrides: Overrides = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Say what it will take of memory, disk and time, and do nothing else."
        ),
    ] = False,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --plan: on which GPU, such as a100.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --plan: also write it as JSON.")
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Crop store to an encoder, without labels."""
    from medssl.cli.run import Request

    if not plan and (gpu or json):
        raise typer.BadParameter("--gpu and --json belong to --plan")
    given: dict[str, Any] = {"plan": {"gpu": gpu} if gpu else None}
    request = Request("pretrain", config, given, overrides or [], overwrite, dry_run)
    if plan and not dry_run:
        _show_plan(request, json)
    else:
        request.run()


def replay(run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False)]) -> None:
    """Where the first number appeared that was none, in a pretraining that stopped at one."""
    from medssl.cli.console import near, say
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        from medssl.training.replay import replay as play

        seen = play(run)
        offence = seen.offence
        say(
            f"The {offence.what} of step {offence.step + 1}, batch {offence.batch_index}, "
            f"was no finite number. Replayed with the weights of step {seen.weights_step}.",
            f"The first such number appears in {seen.words}",
            f"The batch is in {near(seen.folder)}; it shows patients.",
        )


def _show_plan(request: Any, json: Path | None) -> None:
    from medssl.cli.console import near, say
    from medssl.cli.run import user_errors_explained
    from medssl.runs.folder import write_json
    from medssl.training.plan import plan

    with user_errors_explained():
        found = plan(request.config())
        if json is not None:
            write_json(json, found.as_json())
        say(*plan_in_words(found))
        if json is not None:
            say("", f"As JSON: {near(json)}")


def plan_in_words(found: "Plan") -> list[str]:
    """Return a plan as lines for people."""
    passes = "" if found.epochs is None else f", {found.epochs:.1f} passes over the store"
    verdict = "it fits" if found.fits else "it does NOT fit"
    return [
        f"Network: {found.encoder} under {found.method}",
        *_rows(
            {
                "encoder": f"{found.encoder_parameters / 1e6:.2f} M parameters",
                "in all": f"{found.parameters / 1e6:.2f} M, of which "
                f"{found.trained_parameters / 1e6:.2f} M are trained",
            }
        ),
        f"One step, on each of {found.devices} device(s)",
        *_rows(
            {
                "data": f"{found.samples_per_step // found.devices} volumes, "
                f"{found.crops_per_step} crops",
                "arithmetic": f"{found.flops_per_step / 1e9:.3g} GFLOP, forward and backward",
                "memory traffic": f"{found.bytes_moved_per_step / 1e9:.3g} GB",
                "time": f"{1000 * found.seconds_per_step:.3g} ms",
            }
        ),
        f"Memory on {found.gpu}: {verdict}",
        *_rows({name: f"{size:.2f} GiB" for name, size in found.memory_gib.items()}),
        *_rows({"of": f"{found.gpu_memory_gib:.0f} GiB"}),
        *([] if found.fits else [f"  To hold less: {'; '.join(found.to_hold_less) or _SMALLER}."]),
        "Disk",
        *_rows({name: f"{size:.3f} GiB" for name, size in found.disk_gib.items()}),
        "Training",
        *_rows(
            {
                "length": f"{found.steps} steps, {found.samples} samples{passes}",
                "hours": f"{found.hours:.2f}",
            }
        ),
        f"Assumed: {found.assumed}",
        "Nothing was started and nothing written.",
    ]


def _rows(values: Mapping[str, str]) -> list[str]:
    return [f"  {name:<15} {value}" for name, value in values.items()]
