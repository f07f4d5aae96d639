"""Statistics of a table of cases: what is compared, and what there is to compare."""

import pandas as pd
import pytest

from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds.classification import RANKING
from medssl.evaluation.kinds.statistics import Statistics
from medssl.evaluation.summary import PRETRAINED, SCRATCH


def table(*models):
    return pd.DataFrame(
        [
            {"case_key": f"case-{n}", "patient_key": f"p{n}", "model": model, "answer": "finding",
             "target": n % 2, "probability": 0.1 * n}
            for model in models
            for n in range(8)
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("models", "compared"),
    [((SCRATCH,), False), ((PRETRAINED,), False), ((PRETRAINED, SCRATCH), True)],
)
def test_models_are_compared_where_there_are_two(models, compared):
    how = Resampling(resamples=50, permutations=50)
    found = Statistics(table(*models), how).summarise([RANKING])
    assert set(found["scores"]["auroc"]) == set(models)
    assert ("auroc" in found["differences"]) is compared
