"""Open a bundle as MONAI does, in a process of its own.

    python -m medssl.export.open_bundle BUNDLE OUT SCAN...

Nothing of medssl is used here, so what a bundle gives is what any user of MONAI gets. A process of
its own also because MONAI looks through all imported modules, which another thread's import upsets.
Writes ``OUT/0``, ``OUT/1``, ...: the mask of each scan, as the bundle saves it; or, where the
network's input and output are not those that the bundle's metadata describes, ``OUT/not_described``
alone.
"""

import logging
import sys
import warnings
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow, verify_net_in_out

METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
NOT_DESCRIBED = "not_described"


def network_is_as_described(bundle: Path) -> bool:
    """Return whether the network takes and gives what ``metadata.json`` says."""
    try:
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / METADATA),
            config_file=str(bundle / INFERENCE),
            device="cpu",
        )
    except (ValueError, KeyError):
        return False
    return True


def segment(bundle: Path, scan: Path, out: Path) -> None:
    """Have the bundle write the mask of ``scan`` below ``out``.

    Every part comes from the bundle's own configuration, through ``monai.bundle``; only the
    device and the output folder are set. The parts are called here, as MONAI's evaluator calls
    them, so that pytorch-ignite need not be installed.
    """
    workflow = ConfigWorkflow(
        config_file=str(bundle / INFERENCE),
        meta_file=str(bundle / METADATA),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(bundle),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    parse = workflow.parser.get_parsed_content
    network = parse("network").eval()
    data = parse("preprocessing")({"image": str(scan)})
    with torch.no_grad():
        data["pred"] = parse("inferer")(data["image"][None], network)[0]
    parse("postprocessing")(data)


def main(bundle: Path, out: Path, scans: list[Path]) -> None:
    """Check the network, and segment the scans."""
    warnings.filterwarnings("ignore", message=".*NvImgCodecPydicomReader.*")
    logging.disable(logging.WARNING)  # notes on optional packages, summaries
    out.mkdir(parents=True)
    if not network_is_as_described(bundle):
        (out / NOT_DESCRIBED).touch()
        return
    for number, scan in enumerate(scans):
        segment(bundle, scan, out / str(number))


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(given[0], given[1], given[2:])
