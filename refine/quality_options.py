"""What a user may ask of a candidate's quality while it is sampled; the search never asks for it by itself."""

from __future__ import annotations

from dataclasses import dataclass

from editcritic.refine.capabilities import Capabilities
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput

__all__ = ["MOST_QUALITY_GUIDANCE", "QualityOptions", "quality_options"]

MOST_QUALITY_GUIDANCE = 3.0
"""End of the band: beyond it pictures are overdrawn, as with any guidance."""


@dataclass(frozen=True)
class QualityOptions:
    """Options of one candidate; as they are by default, the engine samples as if there were none, bit for bit.

    target: visual quality to condition on, 0 to 100; None for the base engine. guidance: how far to lead away from
    what the engine knows as low quality, 0 to 3. critic_guidance: how strongly the gradient of a critic's score moves
    the last steps, 0 to 1.
    """

    target: float | None = None
    guidance: float = 0.0
    critic_guidance: float = 0.0

    def checked(self, able: Capabilities) -> QualityOptions:
        """The same. Raises: InvalidInput when a value is out of its band, or the engine cannot do it."""
        if self.target is not None:
            _check("quality_target", self.target, 100.0)
        _check("quality_guidance", self.guidance, MOST_QUALITY_GUIDANCE)
        _check("critic_guidance", self.critic_guidance, 1.0)
        if (self.target is not None or self.guidance > 0) and not able.quality_target:
            raise _unable(able, "quality_target", "takes no quality target and no quality guidance")
        if self.critic_guidance > 0 and not able.critic_guidance:
            raise _unable(able, "critic_guidance", "cannot be guided by a critic's gradient")
        return self


def quality_options(sampling: refine_pb2.SamplingOptions) -> QualityOptions | None:
    """The options of a request; None where it asks for nothing of the kind."""
    asked = QualityOptions(
        sampling.quality_target if sampling.HasField("quality_target") else None,
        sampling.quality_guidance,
        sampling.critic_guidance,
    )
    return None if asked == QualityOptions() else asked


def _check(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:
        raise InvalidInput(
            f"{name} is {value:g}; expected 0 to {most:g}.",
            reason=pb.ERROR_REASON_FIELD_INVALID,
            field=f"sampling.{name}",
        )


def _unable(able: Capabilities, field: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"the engine {able.name!r} {what}; leave it out, or use tabletop, which has it.",
        reason=pb.ERROR_REASON_FIELD_INVALID,
        field=f"sampling.{field}",
    )
