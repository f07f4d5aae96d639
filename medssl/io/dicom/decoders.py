"""Which decoder reads which compression: the quickest first, the others where it fails."""

from pydicom import Dataset, uid
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from medssl.io.narrow import VoxelArray

_QUICKEST = {
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.RLELossless: "pylibjpeg",
}
"""As measured by pipelines/benchmarks/ingest_speed.py; elsewhere pydicom's order."""


def decodable(syntax: uid.UID) -> bool:
    """Return whether a decoder of ``syntax`` is installed."""
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def decode(dataset: Dataset) -> VoxelArray:
    """Return the pixels of ``dataset``; whatever its decoders raise when none can read them."""
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = _QUICKEST.get(syntax, "")
    if plugin in get_decoder(syntax).available_plugins:
        try:
            return pixel_array(dataset, decoding_plugin=plugin)
        except Exception:  # noqa: BLE001  a decoder raises anything; the next may do better
            return pixel_array(dataset)
    return pixel_array(dataset)
