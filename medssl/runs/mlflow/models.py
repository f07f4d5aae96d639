"""Model folders as MLflow models: signature, example and loader; the weights stay safetensors."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from medssl.runs.model_package import ModelPackage

_DIGEST = "medssl.digest"


def log_model(client: Any, run_id: str, name: str, folder: Path, package: ModelPackage) -> str:
    """Record the model in ``folder`` as an output of the run; return its id.

    What an earlier attempt began is completed, so that doing it twice makes one model.
    """
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    model = _begun(client, run, package) or client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run_id,
        tags={_DIGEST: package.digest, **package.tags},
        model_type="medssl",
    )
    if model.status.value != "READY":
        with tempfile.TemporaryDirectory(prefix="medssl-model-") as place:
            path = Path(place) / "model"
            _save(path, folder, package, run_id, model)
            client.log_model_artifacts(model.model_id, str(path))
        client.finalize_logged_model(model.model_id, "READY")
    outputs = run.outputs.model_outputs if run.outputs else ()
    if model.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return str(model.model_id)


def made_by(client: Any, run_id: str, digest: str) -> str | None:
    """Return the run, this one or one under it, that has a model of these weights already."""
    experiment = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment], f"tags.`{_DIGEST}` = '{digest}'"):
        tags = client.get_run(model.source_run_id).data.tags
        if run_id in {model.source_run_id, tags.get("mlflow.parentRunId")}:
            return str(model.source_run_id)
    return None


def _begun(client: Any, run: Any, package: ModelPackage) -> Any:
    """Return the model of these weights that the run has, complete or not, or None."""
    found = client.search_logged_models(
        [run.info.experiment_id],
        f"source_run_id = '{run.info.run_id}' AND tags.`{_DIGEST}` = '{package.digest}'",
    )
    return found[0] if found else None


def _save(path: Path, folder: Path, package: ModelPackage, run_id: str, model: Any) -> None:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="medssl-data-") as place:
        warnings.simplefilter("ignore")  # MLflow warns of its own modules as it imports them
        import mlflow.pyfunc
        import numpy as np
        from mlflow.models import Model

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
