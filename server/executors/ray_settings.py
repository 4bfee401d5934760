"""How critics are spread over Ray: settings that are read without Ray."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

__all__ = ["RaySettings"]

_OVERRIDABLE = (
    "replicas", "max_replicas", "target_ongoing", "max_ongoing", "max_queued", "replica_cpus", "replica_gpus"
)  # fmt: skip


@dataclass(frozen=True)
class RaySettings:
    """One Ray Serve deployment for each critic and each engine, and the cluster that they run in.

    Attributes:
        address: of a Ray cluster that this machine is a node of, "auto" for the one that runs here; None starts one for
            this server alone, which ends with it.
        replicas: processes that each hold a critic or an engine; the fewest when their number follows the load.
        max_replicas: most processes of a critic, when their number is to follow the load; None keeps `replicas`.
        target_ongoing: batches for each process that the number is steered to; runs for an engine's.
        max_ongoing: batches that a critic's process has at a time: one runs, the others wait in it. A process of an
            engine has one run, unless per_engine says otherwise.
        max_queued: batches that a front lets wait for a process before it refuses; 0 for no bound but `max_queued` of
            the server.
        replica_cpus: cores that Ray sets aside for a process, and the threads of one call; may be a fraction.
        replica_gpus: GPUs that Ray sets aside for a process; 0.25 puts four of them on one GPU, which has to have the
            memory.
        per_critic: other values for some critics, as in multimodal?replica_gpus=1&max_replicas=4.
        per_engine: the same for engines, as in tabletop?replicas=2&replica_gpus=0.5; the name as it was offered.
        max_prepared_bytes: of prepared edits that a process keeps.
        start_timeout_s: time until the first process of a critic has to be ready, weights loaded.
        object_store_bytes: shared memory of a cluster that is started for this server alone.
        delete_on_stop: take the deployments out of a shared cluster when this server stops, from other fronts too;
            otherwise they stay, and the next front finds them warm.
    """

    address: str | None = None
    replicas: int = 1
    max_replicas: int | None = None
    target_ongoing: float = 1.0
    max_ongoing: int = 2
    max_queued: int = 0
    replica_cpus: float = 1.0
    replica_gpus: float = 0.0
    per_critic: tuple[str, ...] = ()
    per_engine: tuple[str, ...] = ()
    max_prepared_bytes: int = 512 * 2**20
    start_timeout_s: float = 900.0
    object_store_bytes: int = 512 * 2**20
    delete_on_stop: bool = False

    def __post_init__(self) -> None:
        for value in self.per_critic:
            self._overrides("per_critic", value)
        for value in self.per_engine:
            self.of_engine(_name(value))
        if self.address is not None and "://" in self.address:
            raise ValueError(
                f"ray.address is {self.address!r}; it must be HOST:PORT, or auto: Ray's client protocol is not spoken"
            )
        if self.max_ongoing < 1 or self.target_ongoing <= 0:
            raise ValueError("ray.max_ongoing must be 1 or more, and ray.target_ongoing more than 0")
        if self.max_replicas is None and self.replicas < 1:
            raise ValueError("ray.replicas must be 1 or more; it may be 0 where ray.max_replicas is given")
        if self.max_replicas is not None and self.max_replicas < max(1, self.replicas):
            raise ValueError("ray.max_replicas must be 1 or more, and no less than ray.replicas")

    def of(self, critic: str) -> RaySettings:
        """The settings of one critic, by its name.

        Raises:
            ValueError: its own values contradict each other.
        """
        return self._of("per_critic", critic)

    def of_engine(self, engine: str) -> RaySettings:
        """The settings of one engine, by the name that it is offered under.

        Raises:
            ValueError: its own values contradict each other.
        """
        return self._of("per_engine", engine, max_ongoing=1)

    def _of(self, where: str, name: str, **changes: typing.Any) -> RaySettings:
        for value in getattr(self, where):
            changes |= self._overrides(where, value) if _name(value) == name else {}
        return dataclasses.replace(self, per_critic=(), per_engine=(), **changes)

    @property
    def most_batches(self) -> int:
        """Batches that all processes of a critic can hold; runs, of an engine."""
        return (self.replicas if self.max_replicas is None else self.max_replicas) * self.max_ongoing

    def _overrides(self, where: str, value: str) -> Mapping[str, float]:
        given = parse_qsl(value.partition("?")[2], keep_blank_values=True)
        wrong = [name for name, _ in given if name not in _OVERRIDABLE]
        if wrong or not given:
            raise ValueError(
                f"ray.{where} has {value[:200]!r}; it must be NAME?SETTING=NUMBER&..., of {', '.join(_OVERRIDABLE)}"
            )
        whole = {field.name: "int" in str(field.type) for field in dataclasses.fields(self)}
        try:
            return {name: int(number) if whole[name] else float(number) for name, number in given}
        except ValueError as error:
            raise ValueError(f"ray.{where} has {value[:200]!r}; {error}") from error


def _name(value: str) -> str:
    return value.partition("?")[0]
