"""Self-supervised pretraining for medical images: from an archive of scans to an encoder."""

__version__ = "0.1.0"
