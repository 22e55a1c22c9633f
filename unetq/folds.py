"""Cross-validation: which samples train and which validate in a fold. Groups stay whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .errors import ConfigError, DataError
from .samples import Sample

By = Literal["subject", "site", "slice"]


@dataclass(frozen=True)
class Fold:
    """Fold ``index`` of ``count`` (0: as many as there are groups; 1 is no division and refused).

    ``by`` "subject" and "site" keep a person, a site on one side; "slice" cuts a volume into blocks of neighbouring
    slices, for data of a single volume.
    """

    index: int
    count: int
    by: By = "subject"

    def split(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Training and validation samples. The groups, sorted by name, are shuffled once, by a fixed seed.

        Raises:
            ConfigError: fewer than two groups, more folds than groups, or a fold that does not exist.
            DataError: folds by site of samples that name none.
        """
        if self.by == "slice":
            return self._blocks(samples)
        keys = [_key(sample, self.by) for sample in samples]
        groups = sorted(set(keys))
        count = self.checked(len(groups))
        shuffled = np.random.default_rng(0).permutation(len(groups)) if self.count else np.arange(len(groups))
        chosen = {groups[place] for place in shuffled[self.index :: count]}
        return (
            [sample for sample, key in zip(samples, keys, strict=True) if key not in chosen],
            [sample for sample, key in zip(samples, keys, strict=True) if key in chosen],
        )

    def groups(self, samples: Sequence[Sample]) -> int:
        """How many groups ``samples`` have, which is the most folds that there can be."""
        return len(samples) if self.by == "slice" else len({_key(sample, self.by) for sample in samples})

    def _blocks(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        order = sorted(samples, key=lambda sample: (sample.volume, sample.index, sample.id))
        count = self.checked(len(order))
        first, last = (len(order) * step // count for step in (self.index, self.index + 1))
        return [*order[:first], *order[last:]], order[first:last]

    def checked(self, groups: int) -> int:
        """How many folds there are of so many groups.

        Raises:
            ConfigError: as ``split``.
        """
        count = self.count or groups
        if groups < 2 or not 2 <= count <= groups:
            raise ConfigError(
                f"data.folds = {self.count} of {groups} {self.by}s: there are 2 folds or more and at most one for each "
                f"{self.by} (0: one each); choose another number, or data.by."
            )
        if not 0 <= self.index < count:
            raise ConfigError(f"data.fold = {self.index} of {count} folds: folds are 0 to {count - 1}; choose one.")
        return count


def _key(sample: Sample, by: By) -> str:
    if by == "subject":
        return sample.subject or sample.volume
    if not sample.site:
        raise DataError(f"sample {sample.id} names no site: folds by site need one of each; use data.by=subject.")
    return sample.site
