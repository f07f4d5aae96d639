"""Whether a text encoder hears the difference between a finding and its absence."""

from typing import Any

import numpy as np

from medssl.evaluation.paired.asking import Asking

Json = dict[str, Any]


def negation_table(asking: Asking) -> list[Json]:
    """Return a row per finding: cosines of its presence with its absence and with other findings.

    ``absence``
        cosine of what says that it is there with what says that it is not.
    ``nearest``
        the highest cosine with what says that another finding is there, and ``nearest_finding``;
        None where there is no other.
    ``heard``
        whether the finding's absence is further away than another finding: false means that, to
        this encoder, "no effusion" is more like "effusion" than any other finding is.

    The same words stand in both prompts of a finding but for the negation, so ``heard`` is rarely
    true of an encoder that was not trained for it.
    """
    findings = asking.prompts.findings
    if not findings:
        return []
    templates = tuple(asking.prompts.templates.values())
    sides = [asking.sides(finding, templates) for finding in findings]
    present_FD, absent_FD = (_unit(np.stack(rows)) for rows in zip(*sides, strict=True))
    absence_F = (present_FD * absent_FD).sum(axis=1)
    other_FF = present_FD @ present_FD.T
    np.fill_diagonal(other_FF, -np.inf)
    rows = list[Json]()
    for n, finding in enumerate(findings):
        alone = len(findings) == 1
        nearest = int(other_FF[n].argmax())
        rows.append(
            {
                "finding": finding.name,
                "absence": float(absence_F[n]),
                "nearest": None if alone else float(other_FF[n, nearest]),
                "nearest_finding": None if alone else findings[nearest].name,
                "heard": None if alone else bool(absence_F[n] < other_FF[n, nearest]),
            }
        )
    return rows


def _unit(x_FD: Any) -> Any:
    return x_FD / np.maximum(np.linalg.norm(x_FD, axis=1, keepdims=True), 1e-12)
