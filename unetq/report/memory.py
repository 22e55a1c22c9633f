"""Memory as a user means it: what the file, the weights, the activations, the arena and the whole process take."""

from dataclasses import dataclass

from .schema import Cost, Latency
from .seeds import configurations_of
from .table import Group

COLUMNS = (
    ("model_file_bytes", "model file", "bytes on disk"),
    ("weight_bytes", "weights", "packed at their bits"),
    ("peak_activation_bytes", "peak activations", "planned, at their bits"),
    ("arena_bytes", "arena", "what the runtime asks for"),
    ("process_peak_bytes", "process peak", "most memory the whole process held"),
)
FLOAT = "float32"


@dataclass(frozen=True)
class MemoryRow:
    """One network at one width.

    Attributes:
        values: bytes, in the order of ``COLUMNS``; None where not recorded.
        reference: the float network's, in the same order.
        base: of the process before the model was loaded.
    """

    name: str
    is_float: bool
    values: tuple[int | None, ...]
    reference: tuple[int | None, ...]
    base: int | None
    latency: Latency | None
    float_latency: Latency | None

    @property
    def speed(self) -> float | None:
        """How many times faster than the float network on the same runtime."""
        if self.is_float or self.latency is None or self.float_latency is None:
            return None
        return self.float_latency.seconds / self.latency.seconds


def memory_rows(group: Group) -> list[MemoryRow]:
    """The float network of each architecture first, then what was made of it, most bits first."""
    configurations = configurations_of(group)
    networks = list(dict.fromkeys(item.first.run.metrics.network.model_dump_json() for item in configurations))
    rows: list[MemoryRow] = []
    for network in networks:
        own = [item for item in configurations if item.first.run.metrics.network.model_dump_json() == network]
        floats = [item.first.run.metrics.cost for item in own if item.first.run.metrics.bits.is_float]
        low = [item for item in own if not item.first.run.metrics.bits.is_float]
        low.sort(key=lambda item: -item.first.run.metrics.bits.weight * item.first.run.metrics.bits.act)
        twins = [item.first.run.metrics.cost for item in low]
        reference = _float_values(floats, twins)
        latency = next((cost.latency for cost in floats if cost.latency), None) or next(
            (cost.float_latency for cost in twins if cost.float_latency), None
        )
        base = next((cost.process_base_bytes for cost in [*floats, *twins] if cost.process_base_bytes), None)
        name = FLOAT if len(networks) == 1 else f"{own[0].first.run.metrics.network.name}, {FLOAT}"
        if any(value is not None for value in reference):
            rows.append(MemoryRow(name, True, reference, reference, base, latency, latency))
        for item in low:
            cost = item.first.run.metrics.cost
            rows.append(
                MemoryRow(item.name, False, _values(cost), reference, cost.process_base_bytes, cost.latency, latency)
            )
    return rows


def _values(cost: Cost) -> tuple[int | None, ...]:
    return tuple(getattr(cost, name) for name, *_ in COLUMNS)


def _float_values(floats: list[Cost], twins: list[Cost]) -> tuple[int | None, ...]:
    """Each column from a float run where one recorded it, else from what a low-bit run says about its float twin."""
    found = []
    for name, *_ in COLUMNS:
        values = [getattr(cost, name) for cost in floats] + [getattr(cost, f"float_{name}") for cost in twins]
        found.append(next((value for value in values if value is not None), None))
    return tuple(found)
