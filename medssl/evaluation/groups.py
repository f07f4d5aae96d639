"""The headline in groups of patients and scanners, where the data set knows of any."""

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds.base import Judge
from medssl.evaluation.subgroups import (
    AGE_EDGES_YEARS,
    SLICE_THICKNESS_EDGES_MM,
    bands,
    subgroup_table,
)
from medssl.labelled.cases import LabelledCase

Json = dict[str, Any]
_BANDS: Final = {
    "age_years": ("age", AGE_EDGES_YEARS, "years"),
    "slice_thickness_mm": ("slice thickness", SLICE_THICKNESS_EDGES_MM, "mm"),
}
NONE: Final = (
    "The data set says nothing of its patients or scanners. A table may: with the columns sex, "
    "age_years, scanner, site and slice_thickness_mm."
)


def attributes_of(cases: Sequence[LabelledCase]) -> pd.DataFrame:
    """Return a row per case, by ``case_key``, with a column per attribute that the set knows.

    Numbers become bands; an attribute that no case has is left out.
    """
    about = pd.DataFrame(
        [dict(case.about) for case in cases], index=[case.case_key for case in cases], dtype=object
    )
    found = dict[str, "pd.Series[Any]"]()
    for name in about.columns:
        values = about[name].where(about[name].astype(bool))
        if values.isna().all():
            continue
        title, edges, unit = _BANDS.get(name, (str(name), (), ""))
        found[title] = bands(values, edges, unit) if edges else values
    return pd.DataFrame(found, index=about.index)


def by_group(judge: Judge, table: pd.DataFrame, at_least: int, how: Resampling) -> Json:
    """Return the headline of every model in every group.

    Args:
        judge: What made the table.
        table: A row per case, model and answer.
        at_least: Patients that a group and its others need, to be measured.
        how: How intervals and p-values are made.

    Returns:
        ``models``: rows of ``subgroup_table`` by model; or none, and ``why``.
    """
    attributes = attributes_of(judge.trial.cases)
    if attributes.empty:
        return {"at_least": at_least, "models": {}, "why": NONE}
    models = Json()
    for model in judge.models:
        grouped = judge.grouped(table, model)
        cases = grouped.cases.merge(attributes, left_on="case_key", right_index=True)
        found = subgroup_table(
            cases,
            list(attributes.columns),
            list(grouped.columns),
            grouped.statistic,
            at_least=at_least,
            how=how,
            bounds=judge.headline.bounds,
        )
        models[model] = found.to_dict("records")
    return {"at_least": at_least, "models": models, "why": ""}
