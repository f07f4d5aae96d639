"""Model folders as MLflow models: signature, example and loader; the weights stay safetensors."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from medssl.runs.model_package import ModelPackage


def log_model(
    client: Any, run_id: str, name: str, folder: Path, package: ModelPackage, known: str | None
) -> str:
    """Record the model in ``folder`` as an output of the run; return its id.

    ``known`` is the id it got in an earlier attempt, which is then completed.
    """
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    model = _found(client, known) or client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run_id,
        tags={"medssl.digest": package.digest, **package.tags},
        model_type="medssl",
    )
    if str(model.status) != "READY":
        with tempfile.TemporaryDirectory(prefix="medssl-model-") as place:
            path = Path(place) / "model"
            _save(path, folder, package, run_id, model)
            client.log_model_artifacts(model.model_id, str(path))
        client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return str(model.model_id)


def find_model(client: Any, run_id: str, digest: str) -> str | None:
    """Return the id of the model of these weights that the run already has."""
    run = client.get_run(run_id)
    for output in getattr(run.outputs, "model_outputs", None) or ():
        model = client.get_logged_model(output.model_id)
        if model.tags.get("medssl.digest") == digest:
            return str(model.model_id)
    return None


def _found(client: Any, model_id: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_logged_model(model_id) if model_id else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None  # somebody deleted it


def _save(path: Path, folder: Path, package: ModelPackage, run_id: str, model: Any) -> None:
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model

    with tempfile.TemporaryDirectory(prefix="medssl-data-") as place:
        data = Path(place) / "model"
        data.mkdir()
        for name in package.files:
            shutil.copyfile(folder / name, data / name)
        mlflow.pyfunc.save_model(
            str(path),
            loader_module=package.loader,
            data_path=str(data),
            mlflow_model=Model(run_id=run_id, model_uuid=model.model_id, model_id=model.model_id),
            signature=_signature(package),
            input_example=np.asarray(package.example, dtype=package.input[0]),
            pip_requirements=package.requirements,
        )


def _signature(package: ModelPackage) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    def schema(kind: tuple[str, list[int]]) -> Schema:
        return Schema([TensorSpec(np.dtype(kind[0]), tuple(kind[1]))])

    params = ParamSchema(
        [
            ParamSpec(name, DataType.double, default, shape=(-1,))
            for name, default in package.params.items()
        ]
    )
    signature = ModelSignature(schema(package.input), schema(package.output), params)
    # The loader checks its input itself: MLflow would let arrays of one type pass and no path.
    signature._is_signature_from_type_hint = True
    return signature
