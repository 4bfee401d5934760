"""Who leads after a race: the best by the critic that steers whom the acceptance critic finds no worse than plain."""

from __future__ import annotations

from editcritic.refine.acceptance import is_worse, lower_bound, scored
from editcritic.refine.critic import EditJudge
from editcritic.refine.mending import Mending
from editcritic.refine.run import Made, Run, Steps, Stop
from editcritic.refine.sampling import Racing, ask
from editcritic.v1 import refine_pb2

__all__ = ["Leading"]

_MAX_CHECKED = 8  # of those that were finished, before the plain answer leads
_MAX_RESERVES = 6  # of those that the race dropped, when all of these were refused


class Leading:
    """Chooses the leader of a run.

    Args:
        run: the run, `best` of which is set. judge: the critic that steers. other: the acceptance critic.
        mending: of the run. racing: the race that was run.
    """

    def __init__(
        self, run: Run, judge: EditJudge, other: EditJudge, mending: Mending, racing: Racing
    ) -> None:
        self._run, self._judge, self._other = run, judge, other
        self._mending, self._racing = mending, racing

    def steps(self) -> Steps:
        """Events; `run.best` leads afterwards. Raises: Stop when there is nobody to lead, or nothing to choose by."""
        run = self._run
        if run.best is None:
            raise Stop(refine_pb2.STOP_REASON_FAILED)
        overall = run.best.critique.scores.overall
        if not scored(run.best.critique):
            yield run.decide(refine_pb2.DECISION_KIND_ASK, run.best, overall.abstention_detail)
            raise Stop(refine_pb2.STOP_REASON_ASK)
        reason = f"best of {len(run.made)}: overall {overall.value:.1f} with a doubt of {overall.stddev:.1f}"
        yield run.decide(refine_pb2.DECISION_KIND_SELECT, run.best, reason)
        if self._other is not self._judge:
            yield from self._check()

    def _check(self) -> Steps:
        run, plain = self._run, self._run.made[0]
        yield from ask(run, self._other, plain)
        ranked = sorted(run.made, key=lambda each: lower_bound(each.critique), reverse=True)
        run.best = plain
        leaders = ranked[: ranked.index(plain)][:_MAX_CHECKED]
        for made in leaders:
            if (yield from self._may_lead(made)):
                return
        if leaders:
            yield from self._call_reserves()

    def _may_lead(self, made: Made) -> Steps:
        """Whether the acceptance critic lets it lead, as it is or mended; it then does."""
        run, plain, other = self._run, self._run.made[0], self._other
        yield from ask(run, other, made)
        leader = (yield from self._mending.free_steps(made)) if _is_behind(plain, made) else made
        if worse := _is_behind(plain, leader):
            yield run.decide(refine_pb2.DECISION_KIND_ROLL_BACK, made, f"by {other.identity.name}: {worse}")
            return False
        run.best = leader
        return True

    def _call_reserves(self) -> Steps:
        """All that the race finished were refused: try those that it had dropped."""
        plain = self._run.made[0]
        for _ in range(_MAX_RESERVES):
            made = yield from self._racing.another()
            if made is None:
                return
            is_ahead = lower_bound(made.critique) > lower_bound(plain.critique)
            if is_ahead and (yield from self._may_lead(made)):
                return


def _is_behind(plain: Made, made: Made) -> str:
    """Why the acceptance critic would rather keep the plain answer; empty when it would not."""
    return is_worse(plain.held_out, made.held_out) if plain.held_out and made.held_out else ""
