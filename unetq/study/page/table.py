"""The study in tables: verdicts by claim and arm, and all figures by arm and width."""

from collections.abc import Sequence
from dataclasses import dataclass

from .charts import columns_of, is_logarithmic, title
from .claims import Claim
from .figures import ALL, drop_of
from .findings import ALL_NETWORKS
from .record import TITLES, Study
from .statistics import VERDICTS, Verdict


@dataclass(frozen=True)
class Table:
    """One arm beside float: a head a width, and of each figure its title and a text a width."""

    arm: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def tables_of(study: Study) -> tuple[Table, ...]:
    """Every figure that some run has; means of logarithmic figures are geometric. Only float: a table of it alone."""
    tables = []
    for arm in study.arms or ("float",):
        networks = [("float", bits) for bits in study.bits("float")]
        networks += [(arm, bits) for bits in study.bits(arm)] if study.arms else []
        rows = []
        for figure in (*ALL, *(drop_of(name) for name in study.distortions)):
            logarithmic = is_logarithmic(study, figure)
            found = {(c.arm, c.bits): c for c in columns_of(study, figure, logarithmic)}
            cells = [_short(title(found[key], figure, logarithmic)) if key in found else "–" for key in networks]
            if any(key in found for key in networks):
                rows.append((figure.title, tuple(cells)))
        heads = tuple("float" if name == "float" else f"{bits} bits" for name, bits in networks)
        tables.append(Table(arm, heads, tuple(rows)))
    return tuple(tables)


def _short(text: str) -> str:
    """Of ``weights quantised, 4 bits: 0.31 (…), 3 seeds`` the figures."""
    return text.rpartition(": ")[2].rpartition(",")[0]


@dataclass(frozen=True)
class Glance:
    """Who was judged, and by claim how often each verdict was given on them."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Claim, tuple[tuple[tuple[int, Verdict], ...], ...]], ...]


def glance(study: Study, claims: Sequence[Claim]) -> Glance:
    """The verdicts counted; findings that compare two arms stand with those of all networks."""
    heads = (*(TITLES[arm] for arm in study.arms), ALL_NETWORKS)
    rows = []
    for claim in claims:
        cells = []
        for head in heads:
            mine = [f.verdict for f in claim.findings if (f.who if f.who in heads else ALL_NETWORKS) == head]
            cells.append(tuple((mine.count(verdict), verdict) for verdict in VERDICTS if verdict in mine))
        rows.append((claim, tuple(cells)))
    return Glance(heads, tuple(rows))
