"""Self-supervised pretraining for medical images: from an archive of scans to an encoder."""

import os

__version__ = "0.1.0"

# MLflow, which MONAI imports too, reads these once, when it is first imported: nothing that is
# done with scans is reported to anyone. The one thing that importing medssl does.
os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"})
