"""A MONAI bundle, laid out as the model zoo does: for MONAI, MONAI Label, 3D Slicer."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from medssl import __version__
from medssl.config.load import validate
from medssl.errors import InputError
from medssl.export.card_scores import headline_scores
from medssl.export.formats.base import Format, Papers
from medssl.export.model_card import CardConfig
from medssl.export.open_bundle import INFERENCE, METADATA
from medssl.export.verify import REPORT, VerificationError, verify_bundle
from medssl.labelled.read import read_labelled
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json
from medssl.runs.private import read_config
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.reference import REFERENCE
from medssl.training.task_model import (
    DESCRIPTION,
    WEIGHTS,
    ModelDescription,
    load_task_model,
    read_description,
)

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
MODEL = "models/model.pt"
_SHOWN = {"overlap": "sw_overlap", "sw_batch_size": "sw_batch_size"}
"""Arguments of an inferer that change speed and smoothness -> what MONAI Label calls them."""
_FORMATS = {"CT": "hounsfield", "MR": "magnitude"}


class MonaiBundle(Format):
    """State dict, configuration and metadata, beside our own safetensors and description."""

    class Config(Format.Config):
        verify_on: Path | None = None
        """A NIfTI scan to verify the bundle on; null for a case the finetuning held aside."""
        bundle_version: str = "0.1.0"
        """Version of the bundle, for those who get several."""

    readme = "docs/README.md"

    def digests(self, run: Path) -> dict[str, str]:
        about = read_description(run)
        if about.network_def is None or about.task.get("regions"):
            raise InputError(
                f"{run}: a bundle holds a segmentation of classes that exclude each other; this "
                f"model does {'regions' if about.network_def else about.task.get('name')}",
                hint="use the run's folder itself with `medssl predict`",
            )
        target = str(about.network_def.get("_target_"))
        if target.startswith("medssl."):
            raise InputError(
                f"{run}: its network is one that MONAI does not have ({target})",
                hint="use the run's folder itself with `medssl predict`",
            )
        self._scan(run)  # says what is missing before anything is left
        return {"model": about.weights_digest, "description": digest_file(run / DESCRIPTION)}

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        about = read_description(run)
        for name in ("configs", "docs", "models"):
            (folder / name).mkdir()
        usual = [REFERENCE] if about.reference_digest else []
        for name in (WEIGHTS, DESCRIPTION, *usual):
            (folder / "models" / name).write_bytes((run / name).read_bytes())
        torch.save(load_file(run / WEIGHTS), folder / MODEL)
        write_json(folder / INFERENCE, inference_config(about))
        write_json(folder / METADATA, metadata(about, card, self.config.bundle_version))

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        try:
            load_task_model(folder, trust_names=True)
        except InputError as error:
            raise VerificationError(error.problem, hint=REPORT) from error
        return verify_bundle(run, folder, self._scan(run))

    def _scan(self, run: Path) -> Path:
        scan = self.config.verify_on or _held_aside(run)
        if not scan.is_file():
            raise InputError(
                f"{scan}: there is no such file to verify the bundle on",
                hint="set format.verify_on to a NIfTI scan of the kind the model is for",
            )
        return scan

    def papers(self, run: Path, card: CardConfig) -> Papers:
        about = read_description(run)
        return Papers(
            title=about.title,
            usage=_usage(about),
            facts=_facts(about),
            member=str(about.training.get("start", "")),
        )


def inference_config(about: ModelDescription) -> dict[str, Any]:
    """Return ``inference.json``; expressions use MONAI and torch, and nothing else."""
    save = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "seg",
        "output_ext": ".nii.gz",
        "output_dtype": "uint8",
        "resample": False,
        "separate_folder": False,
        "print_log": False,
    }
    # The loading is spelled out, not left to a handler: no other code can hide in the weights.
    load = (
        f"$@network.load_state_dict(torch.load(@bundle_root + '/{MODEL}', "
        "map_location=@device, weights_only=True))"
    )
    return {
        "bundle_root": ".",
        "dataset_dir": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(torch.utils.data.datapipes.iter.FileLister(@dataset_dir, "
        "masks=['*.nii', '*.nii.gz']))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": about.network_def,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": list(about.preprocessing)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        **_shown_inferer(about.inferer),
        "postprocessing": {"_target_": "Compose", "transforms": [*about.postprocessing, save]},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "initialize": ["$monai.utils.set_determinism(seed=0)", load],
        "run": ["$@evaluator.run()"],
    }


def _shown_inferer(inferer: dict[str, Any]) -> dict[str, Any]:
    """Return the inferer, with what a user of MONAI Label may change of it set apart."""
    shown = {name: inferer[key] for key, name in _SHOWN.items() if key in inferer}
    referred = {
        key: f"@displayable_configs#{name}" for key, name in _SHOWN.items() if key in inferer
    }
    return {"displayable_configs": shown, "inferer": {**inferer, **referred}}


def metadata(about: ModelDescription, card: CardConfig, bundle_version: str) -> dict[str, Any]:
    """Return ``metadata.json``, with every entry that MONAI's schema of 2024-07-25 requires."""
    metrics = card.metrics()
    member = str(about.training.get("start", ""))
    shape = list(about.patch_voxels)
    patch = {"type": "image", "spatial_shape": shape, "dtype": "float32", "is_patch_data": True}
    image = {
        **patch,
        "format": _FORMATS.get(about.modality, "magnitude"),
        "modality": about.modality,
        "num_channels": 1,
        "value_range": [0, 1],
        "channel_def": {"0": "image"},
    }
    pred = {
        **patch,
        "format": "segmentation",
        "num_channels": len(about.labels),
        "value_range": [0, 1],
        "channel_def": {str(number): label for number, label in enumerate(about.labels)},
    }
    return {
        "schema": SCHEMA,
        "version": bundle_version,
        "changelog": {bundle_version: f"exported by medssl {__version__}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {
            "nibabel": _version("nibabel"),
            "pytorch-ignite": _version("pytorch-ignite", otherwise="0.5.0"),
            **({"einops": _version("einops")} if _needs_einops(about) else {}),
        },
        "name": about.title,
        "task": about.title,
        "description": _description(about),
        "authors": card.authors,
        "copyright": f"Licence of the weights: {card.licence}",
        "data_source": str(about.training.get("dataset", "not stated")),
        "data_type": "nibabel",
        "image_classes": "one channel, intensity scaled to [0, 1]",
        "label_classes": ", ".join(f"{n} is {label}" for n, label in enumerate(about.labels)),
        "pred_classes": f"{len(about.labels)} channels of logits, one per class",
        "eval_metrics": _eval_metrics(metrics, member),
        "intended_use": card.intended_use,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def _needs_einops(about: ModelDescription) -> bool:
    return (about.network_def or {}).get("_target_") == "SwinUNETR"


def _description(about: ModelDescription) -> str:
    started = {"pretrained": "from an encoder pretrained without labels", "scratch": "from scratch"}
    spacing = " x ".join(f"{step:g}" for step in about.grid_mm)
    start = started.get(str(about.training.get("start")), "")
    return (
        f"Segments {', '.join(about.labels[1:])} in {about.modality} volumes at {spacing} mm; "
        f"trained {start} on {about.training.get('train_cases')} cases."
    )


def _eval_metrics(metrics: dict[str, Any] | None, member: str) -> dict[str, float]:
    metric, found = headline_scores(metrics, member)
    return {f"{metric}_{name}": value["value"] for name, value in found.items()}


def _facts(about: ModelDescription) -> dict[str, Any]:
    encoder = ", ".join(f"{key} {value}" for key, value in about.encoder.items())
    classes = ", ".join(f"{number} {label}" for number, label in enumerate(about.labels))
    shown = ("start", "dataset", "dataset_licence", "train_cases", "steps", "seed")
    best = about.training.get("best")
    kept = (
        {"weights_of": f"step {best['step']}, validation Dice {best['val/dice']:.3f}"}
        if best
        else {}
    )
    return {
        "classes": classes,
        "modality": about.modality,
        "spacing": f"{list(about.grid_mm)} mm",
        "patch": f"{list(about.patch_voxels)} voxels",
        "encoder": encoder,
        **{name: about.training[name] for name in shown if name in about.training},
        **kept,
        "dataset_digest": about.training.get("dataset_digest", NOT_KNOWN),
        "encoder_digest": about.training.get("encoder_digest", NOT_KNOWN),
        "weights_digest": about.weights_digest,
    }


NOT_KNOWN = "not known"


def _usage(about: ModelDescription) -> str:
    return f"""\
With medssl, on NIfTI files or DICOM folders:

```bash
medssl predict BUNDLE SCAN.nii.gz DICOM_FOLDER --out MASKS
```

With MONAI (`pip install "monai[nibabel,ignite,fire]"`), on a folder of NIfTI files; masks go to
`eval`:

```bash
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir SCANS
```

In 3D Slicer or OHIF through MONAI Label's `monaibundle` app. The network gives
{len(about.labels)} channels of logits; `postprocessing` turns them into class numbers on the scan's
own grid. A bundle's JSON is code to MONAI: open only bundles you trust. medssl itself reads
`models/model.json` and `models/model.safetensors`, and executes nothing."""


def _held_aside(run: Path) -> Path:
    """Return a scan that the finetuning around ``run`` never trained on."""
    tree, splits = read_config(run.parent), run.parent / "splits.json"
    if tree is None or not splits.is_file():
        raise InputError(
            f"{run}: there is no finetuning around this model to take a scan from",
            hint="set format.verify_on to a NIfTI scan of the kind the model is for",
        )
    config = validate(FinetuneConfig, tree, where=str(run.parent / "config.yaml"))
    parts = read_json(splits)["cases"]
    key = (parts["test"] or parts["val"])[0]
    return read_labelled(config.dataset).case(key).image


def _version(package: str, otherwise: str = NOT_KNOWN) -> str:
    """Return an installed version as others can install it: without a build such as +cpu."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return otherwise
