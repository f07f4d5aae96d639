"""What MONAI Label and the Deploy SDK do with a bundle.

Neither can be installed here: MONAI Label brings a server, the SDK needs Holoscan. The names of
files and keys, their order and their strictness are those of ``monailabel/tasks/infer/bundle.py``
and of ``monai/deploy/operators/monai_bundle_inference_operator.py``.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged

CONFIGS = ("inference.json", "inference.yaml")
PREPROCESSING = ("preprocessing", "pre_transforms")
POSTPROCESSING = ("postprocessing", "post_transforms")
KINDS = ("segmentation", "deepgrow", "deepedit", "classification", "detection")
STATES = ("state_dict", "model", "raw")

log = logging.getLogger(__name__)


def parser_of(bundle):
    """Return the bundle's inference configuration, its root set, as both tools read it."""
    path = next(p for name in CONFIGS if (p := bundle / "configs" / name).is_file())
    parser = ConfigParser()
    parser.read_config(str(path))
    parser.config.update({"bundle_root": str(bundle), "device": "$torch.device('cpu')"})
    return parser


@dataclass
class Label:
    """A bundle as a task of MONAI Label."""

    bundle: Path
    given: dict = field(default_factory=dict)
    """What a user changed of the displayable settings."""

    def __post_init__(self):
        self.parser = parser_of(self.bundle)
        described = ConfigParser.load_config_file(str(self.bundle / "configs" / "metadata.json"))
        formats = described["network_data_format"]
        image = formats["inputs"][next(iter(formats["inputs"]))]
        pred = formats["outputs"][next(iter(formats["outputs"]))]
        self.labels = {
            name.lower(): int(number)
            for number, name in pred["channel_def"].items()
            if name.lower() != "background"
        }
        self.dimension = len(image["spatial_shape"])
        self.kind = next((kind for kind in KINDS if kind in self.bundle.name), "other")
        self.displayable = self.parser.get_parsed_content("displayable_configs")
        for name, value in self.given.items():
            self.parser[f"displayable_configs#{name}"] = value
        self.network = self._network()

    def _network(self):
        path = self.bundle / "models" / "model.pt"
        if not path.is_file():
            return torch.jit.load(str(self.bundle / "models" / "model.ts"), map_location="cpu")
        network = self.parser.get_parsed_content("network_def")
        held = torch.load(path, map_location="cpu", weights_only=True)
        state = held.get("model", held)
        if set(network.state_dict()) != set(state):
            log.warning("Checkpoint keys don't match network.state_dict()! Some may be ignored!")
        network.load_state_dict(state, strict=False)
        return network.eval()

    def _first(self, keys):
        return next(self.parser.get_parsed_content(key) for key in keys if self.parser.get(key))

    def infer(self, scan):
        """Return the mask on the scan's own grid, and its affine; nothing is saved."""
        data = self._first(PREPROCESSING)({"image": str(scan)})
        inferer = self._first(("inferer",))
        with torch.no_grad():
            data["pred"] = inferer(data["image"][None], self.network)[0]
        for transform in self._first(POSTPROCESSING).transforms:
            if not isinstance(transform, SaveImaged):
                data = transform(data)
        return data["pred"][0], data["pred"].affine


def deployed_network(bundle):
    """Return the network as the Deploy SDK opens it: TorchScript first, else strictly by names."""
    models = bundle / "models"
    for path in (models / "model.ts", models / "model.pt"):
        if not path.is_file():
            continue
        try:
            return torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError:
            parser = parser_of(bundle)
            key = next(key for key in ("network", "network_def") if parser.get(key))
            network = parser.get_parsed_content(key)
            held = torch.load(path, map_location="cpu", weights_only=True)
            state = next((held[name] for name in STATES if name in held), held)
            network.load_state_dict(state, strict=True)
            return network.eval()
    raise FileNotFoundError(models)
