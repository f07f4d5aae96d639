"""Whether a model serves everybody alike: metrics by sex, age, scanner, site and the like."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medssl.errors import InputError
from medssl.evaluation.comparisons import holm
from medssl.evaluation.intervals import (
    ANYTHING,
    DEFAULT,
    NAN,
    Floats,
    Resampling,
    Statistic,
    bootstrap_statistic,
    rows_by_patient,
)

PATIENT: Final = "patient_key"
UNKNOWN: Final = "unknown"
AT_LEAST: Final = 5
AGE_EDGES_YEARS: Final = (18, 40, 65, 80)
SLICE_THICKNESS_EDGES_MM: Final = (1.5, 3, 5)


def bands(values: "pd.Series[Any]", edges: Sequence[float], unit: str) -> pd.Series:
    """Return the band of each value as ordered categories, ``unknown`` where it is NaN.

    A band holds its lower edge: 18 is in ``18 to under 40 years``.

    Args:
        values: Numbers, such as ages.
        edges: Between bands, ascending; ``AGE_EDGES_YEARS`` for example.
        unit: To write behind the numbers.
    """
    between = [f"{low:g} to under {high:g} {unit}" for low, high in pairwise(edges)]
    names = [f"under {edges[0]:g} {unit}", *between, f"{edges[-1]:g} {unit} or more", UNKNOWN]
    numbers = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
    band = np.where(np.isnan(numbers), len(names) - 1, np.searchsorted(edges, numbers, "right"))
    named = [names[number] for number in band]
    return pd.Series(pd.Categorical(named, names, ordered=True), index=values.index)


@dataclass(frozen=True, kw_only=True)
class Group:
    """One row of the table; NaN where there are too few patients to say."""

    attribute: str
    group: str
    patients: int
    cases: int
    value: float = NAN
    low: float = NAN
    high: float = NAN
    difference: float = NAN
    """The group less all other cases."""
    difference_low: float = NAN
    difference_high: float = NAN
    p_value: float = NAN
    note: str = ""
    """Why numbers are missing."""


def subgroup_table(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    columns: Sequence[str],
    statistic: Statistic | None = None,
    *,
    at_least: int = AT_LEAST,
    how: Resampling = DEFAULT,
    bounds: tuple[float, float] = ANYTHING,
) -> pd.DataFrame:
    """Return a metric in every group of every attribute, beside that of all other cases.

    Intervals draw patients with all their cases. The p-value of a difference asks how often
    groups drawn by lot would differ as much: membership is shuffled among patients, so it tests
    that the metric has nothing to do with the group. A patient with cases inside and outside of
    a group counts as two, which makes its p-value too large rather than too small. ``p_holm`` is
    corrected for all comparisons of the table (``holm``); the two groups of an attribute that
    has no others are one comparison.

    Groups of fewer than ``at_least`` patients are listed without numbers: they would say little
    of the group and perhaps much of a patient. That no difference is found in a small group does
    not show that there is none; its interval tells how large one may be.

    Args:
        cases: A row per case: ``patient_key``, the attributes and the columns. Rows with NaN in
            one of the columns do not count. A missing attribute is the group ``unknown``.
        attributes: Columns that name groups; see ``bands`` for numbers.
        columns: What ``statistic`` is called with, as arrays.
        statistic: Of all cases of a group, such as ``auroc``; none is the mean over patients of
            a single column, to which a patient's cases contribute their mean.
        at_least: Patients in a group, and outside of it, to measure it.
        how: Number of draws and of shuffles, confidence and seed.
        bounds: What the metric can be, (0, 1) for Dice.

    Returns:
        The fields of ``Group``, and ``p_holm`` before ``note``.

    Raises:
        InputError: A column is missing, or the mean of several columns is asked for.
    """
    _check(cases, [PATIENT, *attributes, *columns])
    if statistic is None and len(columns) != 1:
        raise InputError(f"the mean over patients is of one column, and {list(columns)} were given")
    measure = _Measure(statistic, tuple(columns), at_least, how, bounds)
    kept = cases.dropna(subset=list(columns))
    rows, tests = list[Group](), list[float]()
    for attribute in attributes:
        groups, found = _groups(kept[attribute]), list[Group]()
        mirrored = len(groups) == 2  # noqa: PLR2004 - one comparison, told from both sides
        for group in groups:
            twin = found[0] if mirrored and found else None
            found.append(measure.group(kept, attribute, group, twin))
        rows += found
        tests += [row.p_value if not (mirrored and n) else NAN for n, row in enumerate(found)]
    corrected = holm(tests)
    for n, row in enumerate(rows):
        if np.isnan(corrected[n]) and not np.isnan(row.p_value):
            corrected[n] = corrected[n - 1]
    table = pd.DataFrame([asdict(row) for row in rows], columns=list(Group.__dataclass_fields__))
    table.insert(len(table.columns) - 1, "p_holm", corrected)
    return table


@dataclass(frozen=True)
class _Measure:
    """How a group is measured."""

    statistic: Statistic | None
    columns: tuple[str, ...]
    at_least: int
    how: Resampling
    bounds: tuple[float, float]

    def group(
        self, cases: pd.DataFrame, attribute: str, named: "_Named", twin: Group | None
    ) -> Group:
        """Return the row of a group; ``twin`` is that of the only other one, if it is known."""
        inside = named.inside
        patients = cases.loc[inside, PATIENT].nunique()
        others = cases.loc[~inside, PATIENT].nunique()
        row: dict[str, Any] = {
            "attribute": attribute, "group": named.name,
            "patients": patients, "cases": int(inside.sum()),
        }  # fmt: skip
        if patients < self.at_least:
            return Group(**row, note=f"fewer than {self.at_least} patients")
        sides = self._sides(cases, inside)
        row |= self._value(sides[sides["inside"]])
        if others < self.at_least:
            few = "no others" if not others else f"fewer than {self.at_least} other patients"
            return Group(**row, note=f"{few} to compare with")
        return Group(**row, **(_mirrored(twin) if twin else self._difference(sides)))

    def _sides(self, cases: pd.DataFrame, inside: NDArray[np.bool_]) -> pd.DataFrame:
        """Return what the statistic is of: cases, or patients' means inside and outside."""
        sides = cases[[PATIENT, *self.columns]].assign(inside=inside)
        if self.statistic is not None:
            return sides
        return sides.groupby([PATIENT, "inside"])[list(self.columns)].mean().reset_index()

    def _value(self, rows: pd.DataFrame) -> dict[str, float]:
        found = bootstrap_statistic(
            self.statistic or _mean,
            [rows[name].to_numpy() for name in self.columns],
            rows[PATIENT].to_list(),
            how=self.how,
            bounds=self.bounds,
        )
        return {"value": found.value, "low": found.low, "high": found.high}

    def _difference(self, sides: pd.DataFrame) -> dict[str, Any]:
        arrays = [sides[name].to_numpy() for name in ("inside", *self.columns)]
        width = self.bounds[1] - self.bounds[0]
        found = bootstrap_statistic(
            self._apart, arrays, sides[PATIENT].to_list(), how=self.how, bounds=(-width, width)
        )
        units = [f"{key} {is_in}" for key, is_in in zip(sides[PATIENT], arrays[0], strict=True)]
        return {
            "difference": found.value,
            "difference_low": found.low,
            "difference_high": found.high,
            "p_value": shuffle_p_value(self._apart, arrays[0], arrays[1:], units, self.how),
        }

    def _apart(self, inside_N: NDArray[np.bool_], *columns: NDArray[Any]) -> float:
        if inside_N.all() or not inside_N.any():
            return NAN
        statistic = self.statistic or _mean
        return statistic(*(c[inside_N] for c in columns)) - statistic(
            *(c[~inside_N] for c in columns)
        )


def _mirrored(twin: Group) -> dict[str, float]:
    """Return the difference to the only other group, told from this side."""
    return {
        "difference": -twin.difference,
        "difference_low": -twin.difference_high,
        "difference_high": -twin.difference_low,
        "p_value": twin.p_value,
    }


def shuffle_p_value(
    difference: Callable[..., float],
    inside_N: NDArray[np.bool_],
    columns: Sequence[NDArray[Any]],
    unit_keys: Sequence[str],
    how: Resampling = DEFAULT,
) -> float:
    """Return the two-sided p-value of a difference between a group and all others.

    Membership is shuffled among units ``how.permutations`` times; the data count as one shuffle
    more (Phipson & Smyth 2010). Shuffles in which the difference is undefined do not count.

    Args:
        difference: Called with membership and the columns.
        inside_N: Whether each row is of the group.
        columns: Arrays of N rows.
        unit_keys: (N,) of what is shuffled as a whole; one unit is inside or outside.
        how: Number of shuffles, and their seed.
    """
    observed = abs(difference(inside_N, *columns))
    if np.isnan(observed):
        return NAN
    rows, rng = rows_by_patient(unit_keys), np.random.default_rng(how.seed)
    unit_of_N = np.empty(len(inside_N), np.intp)
    for unit, of_unit in enumerate(rows):
        unit_of_N[of_unit] = unit
    inside_U = np.array([inside_N[of_unit[0]] for of_unit in rows])
    shuffles: Floats = np.array(
        [
            difference(rng.permutation(inside_U)[unit_of_N], *columns)
            for _ in range(how.permutations)
        ]
    )
    defined = np.abs(shuffles[~np.isnan(shuffles)])
    as_far = np.sum(defined >= observed * (1 - 1e-12))  # equal but for rounding is as far
    return float((1 + as_far) / (1 + len(defined)))


@dataclass(frozen=True)
class _Named:
    name: str
    inside: NDArray[np.bool_]


def _groups(values: "pd.Series[Any]") -> list[_Named]:
    """Return the groups that occur: categories in their order, other values sorted."""
    is_ordered = isinstance(values.dtype, pd.CategoricalDtype)
    order = [str(name) for name in values.cat.categories] if is_ordered else []
    named = np.where(values.isna(), UNKNOWN, values.astype(str))
    names = sorted(set(named), key=lambda n: (order.index(n) if n in order else len(order), n))
    return [_Named(str(name), np.asarray(named == name)) for name in names]


def _mean(values_N: Floats) -> float:
    return float(np.mean(values_N))


def _check(cases: pd.DataFrame, wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in cases.columns]
    if missing:
        raise InputError(
            f"the table of cases has no column {', '.join(map(repr, missing))}",
            hint=f"its columns are {', '.join(map(str, cases.columns))}",
        )
