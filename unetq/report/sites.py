"""Dice by site: whether a network is as good where other scanners stand."""

from dataclasses import dataclass

from .table import Group


@dataclass(frozen=True)
class SiteTable:
    """One class: the sites with how many cases each has, and the mean Dice of each row there, 0…1."""

    label: str
    sites: tuple[tuple[str, int], ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def site_tables(group: Group) -> list[SiteTable]:
    """A table for each class, none where no run knows two sites; each float reference is there once."""
    sites = sorted({site for row in group.rows for site in row.evaluation.by_site if site})
    if len(sites) < 2:
        return []
    counts = {
        site: max(sum(case.site == site for case in row.evaluation.units) for row in group.rows) for site in sites
    }
    tables = []
    for label in group.shown:
        rows: dict[str, tuple[float | None, ...]] = {}
        seen: set[tuple[float | None, ...]] = set()
        for row in group.rows:
            for name, evaluation in (
                (f"float of {group.row_label(row)}", row.reference),
                (row.run.name, row.evaluation),
            ):
                if evaluation is None or not evaluation.by_site:
                    continue
                values = tuple(evaluation.by_site.get(site, {}).get(label, {}).get("dice") for site in sites)
                if evaluation is row.reference and values in seen:
                    continue
                seen.add(values)
                rows[name] = values
        tables.append(SiteTable(label, tuple((site, counts[site]) for site in sites), tuple(rows.items())))
    return tables
