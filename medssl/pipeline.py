"""Several stages in order, under one parent run; what still matches is not done again."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import model_validator

from medssl.config.base import Config
from medssl.curation.curate import CurateConfig, curate
from medssl.data.prepare import PrepareConfig, prepare
from medssl.errors import FolderError
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.evaluation.paired.embed import EmbedConfig, embed
from medssl.evaluation.paired.zeroshot import ZeroShotConfig, zeroshot
from medssl.evaluation.probe import ProbeStageConfig, probe
from medssl.export.export import ExportConfig, export
from medssl.inference.predict import PredictConfig, predict
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.reports.pair import pair
from medssl.reports.pair_config import PairConfig
from medssl.runs.digest import digest_json
from medssl.runs.folder import write_json
from medssl.runs.private import without_private, write_config
from medssl.runs.stage import StageResult, flatten
from medssl.runs.tracking import TrackingConfig, parent_run
from medssl.training.finetune import finetune
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.pretrain import PretrainConfig, pretrain

_log = logging.getLogger(__name__)

Stage = Callable[..., StageResult]

STAGES: dict[str, Stage] = {
    "ingest": ingest,
    "curate": curate,
    "pair": pair,
    "prepare": prepare,
    "pretrain": pretrain,
    "zeroshot": zeroshot,
    "embed": embed,
    "finetune": finetune,
    "evaluate": evaluate,
    "probe": probe,
    "export": export,
    "predict": predict,
}
"""Every stage, in the order in which a pipeline runs them."""

WIRES: tuple[tuple[str, str], ...] = (
    ("ingest.library", "{work}/library"),
    ("ingest.key_file", "{work}/private/pseudonyms.key"),
    ("curate.library", "{ingest.library}"),
    ("curate.name", "main"),
    ("pair.library", "{curate.library}"),
    ("pair.selection", "{curate.name}"),
    ("pair.key_file", "{ingest.key_file}"),
    ("pair.out", "{work}/pairs"),
    ("prepare.library", "{curate.library}"),
    ("prepare.selection", "{curate.name}"),
    ("prepare.out", "{work}/store"),
    ("pretrain.store", "{prepare.out}"),
    ("pretrain.pairs.folder", "{pair.out}"),
    ("pretrain.out", "{work}/pretrain"),
    ("zeroshot.model", "{pretrain.out}"),
    ("zeroshot.pairs", "{pair.out}"),
    ("zeroshot.store", "{prepare.out}"),
    ("zeroshot.out", "{work}/zeroshot"),
    ("embed.model", "{pretrain.out}"),
    ("embed.pairs", "{pair.out}"),
    ("embed.store", "{prepare.out}"),
    ("embed.out", "{work}/index"),
    ("finetune.encoder_from", "{pretrain.out}"),
    ("finetune.out", "{work}/finetune"),
    ("evaluate.finetune", "{finetune.out}"),
    ("evaluate.out", "{work}/evaluate"),
    ("probe.encoders", "{pretrain.out}"),
    ("probe.dataset", "{finetune.dataset}"),
    ("probe.out", "{work}/probe"),
    ("predict.out", "{work}/predict"),
)
"""What a section's key is when it is not set: one line per path between stages."""

_OF_PAIRS = ("embed.pairs", "embed.store")
"""Not for scans that are embedded without reports."""

EXPORT_WIRES: tuple[tuple[str, str], ...] = (
    ("encoder_folder", "{pretrain.out}"),
    ("image_text", "{pretrain.out}"),
    ("nnunet", "{pretrain.out}"),
    ("swin_ssl", "{pretrain.out}"),
    ("voco", "{pretrain.out}"),
    ("monai_bundle", "{finetune.out}/pretrained"),
)
"""Which run a format exports when ``run`` is not set; its folder is ``{work}/export/<format>``."""


class PipelineConfig(Config):
    """The stages of a pipeline; a section that is absent is a stage that is not run.

    A section may be empty (``curate: {}``): paths between stages follow from ``work``.
    """

    work: Path
    """The folder that everything is written to."""
    name: str = "pipeline"
    """What the parent run is called in MLflow."""
    ingest: IngestConfig | None = None
    """Scans to a library."""
    curate: CurateConfig | None = None
    """Library to a selection of it."""
    pair: PairConfig | None = None
    """Reports and a selection to pairs of scans and what is said of them."""
    prepare: PrepareConfig | None = None
    """Selection to a crop store."""
    pretrain: PretrainConfig | None = None
    """Crop store to an encoder; with `pairs: {}` and report_contrast, of images and of texts."""
    zeroshot: ZeroShotConfig | None = None
    """Encoders of images and texts, and pairs, to findings asked in words."""
    embed: EmbedConfig | None = None
    """The same to an index that `medssl search` looks in."""
    finetune: FinetuneConfig | None = None
    """Encoder and labelled scans to task models."""
    evaluate: EvaluateConfig | None = None
    """Task models to metrics."""
    probe: ProbeStageConfig | None = None
    """Frozen encoders and labelled scans to what they know without fine-tuning."""
    export: tuple[ExportConfig, ...] = ()
    """Runs to what other tools open, one item per format."""
    predict: PredictConfig | None = None
    """Exported model and scans to masks."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the parent run and all its stages are recorded."""

    @model_validator(mode="before")
    @classmethod
    def _wired(cls, tree: Any) -> Any:
        return wire(tree) if isinstance(tree, Mapping) and tree.get("work") else tree

    def stages(self) -> list[tuple[str, Config]]:
        """Return the stages that are set, in the order in which they run."""
        found: list[tuple[str, Config]] = []
        for stage in STAGES:
            section = getattr(self, stage)
            sections = section if isinstance(section, tuple) else (section,)
            found += [(stage, config) for config in sections if config is not None]
        return found


def wire(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``tree`` with every path between stages that is not set."""
    wired = {key: dict(val) if isinstance(val, Mapping) else val for key, val in tree.items()}
    for place, template in WIRES:
        *names, key = place.split(".")
        section = _section(wired, names)
        if place not in _OF_PAIRS or not (section or {}).get("inputs"):
            _set(wired, section, key, template)
    exports = wired.get("export")
    if isinstance(exports, list | tuple):
        wired["export"] = [_wired_export(item, wired) for item in exports]
    return wired


def _section(tree: dict[str, Any], names: Sequence[str]) -> Any:
    """Return a section below others, as a copy that stands in its place; None without it."""
    found: Any = tree
    for name in names:
        section = found.get(name) if isinstance(found, dict) else None
        if not isinstance(section, Mapping):
            return None
        found[name] = dict(section)
        found = found[name]
    return found


def _wired_export(item: Any, wired: dict[str, Any]) -> Any:
    """Return one item of ``export``; a bundle shows the evaluation, and is what predict uses."""
    form = _format(item)
    if form is None:
        return item
    item = dict(item)
    _set(wired, item, "run", dict(EXPORT_WIRES).get(form, ""))
    _set(wired, item, "out", f"{{work}}/export/{form}")
    if form == "monai_bundle":
        item["card"] = dict(item.get("card") or {})
        _set(wired, item["card"], "evaluation", "{evaluate.out}")
        _set(wired, wired.get("predict"), "model", f"{item['out']}/{item.get('name') or form}")
    return item


def _set(tree: Mapping[str, Any], section: Any, key: str, template: str) -> None:
    """Set ``section[key]`` from ``template``, if it is not set and all that it names is there."""
    if not isinstance(section, dict) or section.get(key) is not None or not template:
        return
    value = template
    for name in re.findall(r"{([\w.]+)}", template):
        found: Any = tree
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
        if found is None:
            return
        value = value.replace(f"{{{name}}}", str(found))
    section[key] = value


def _format(item: Any) -> str | None:
    form = item.get("format") if isinstance(item, dict) else None
    name = form.get("name") if isinstance(form, Mapping) else None
    return name if isinstance(name, str) else None


def run_pipeline(config: PipelineConfig, *, overwrite: bool = False) -> list[StageResult]:
    """Run the stages that are set, in order; return their results.

    A stage whose folder already holds the result of the same configuration and inputs is
    skipped. With ``overwrite``, what was made otherwise is replaced, instead of refused.

    Raises:
        MedSSLError: a stage cannot do its work; the stages before it need not be run again.
    """
    stages = config.stages()
    tree = config.model_dump(mode="json")
    key = digest_json({name: tree[name] for name in tree if name != "tracking"})[:12]
    write_config(config.work, tree)
    results: list[StageResult] = []
    with parent_run(config.name, config.work, key, config.tracking) as tracker:
        tracker.log_params(flatten(without_private(tree)))
        tracker.log_file(config.work / "config.yaml")
        for number, (name, section) in enumerate(stages, start=1):
            _log.info("Stage %d of %d: %s", number, len(stages), name)
            results.append(_run_stage(STAGES[name], section, overwrite))
            table = [_row(result, config.work) for result in results]
            write_json(config.work / "results.json", table)
            tracker.log_file(config.work / "results.json")
        tracker.log_metrics({"stages": len(results), "skipped": sum(r.skipped for r in results)})
    return results


def _run_stage(stage: Stage, config: Config, overwrite: bool) -> StageResult:
    try:
        return stage(config)
    except FolderError:
        if not overwrite:
            raise
        return stage(config, overwrite=True)


def _row(result: StageResult, work: Path) -> dict[str, Any]:
    folder = result.folder
    return {
        "stage": result.stage,
        "folder": str(folder.relative_to(work) if folder.is_relative_to(work) else folder),
        "skipped": result.skipped,
        "summary": result.summary,
        "look_at": result.look_at,
    }
