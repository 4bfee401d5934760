"""All suites that a critic can be asked, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from editcritic.server.critics.base import Critic
from editcritic.server.critics.network.critic import NetworkCritic
from editcritic.server.training.evaluation import Job
from editcritic.server.training.report import Observation, pairs_of
from editcritic.server.training.suites.comparison import baseline_result
from editcritic.server.training.suites.grounding import grounding_result
from editcritic.server.training.suites.preference import preference_result, prefers_original
from editcritic.server.training.suites.reliability import OrderedPair, reliability_result
from editcritic.server.training.suites.results import SuiteResult
from editcritic.server.training.suites.robustness import robustness_result
from editcritic.server.training.suites.sanity import bias_result, invariance_result, sanity_result

__all__ = ["SUITES", "run_suites"]

Suite = Callable[[Critic, Sequence[Job]], SuiteResult]
_FEW = 24
"""Photographs of suites that ask many questions about each."""

SUITES: Mapping[str, Suite] = {
    "preference": lambda critic, jobs: preference_result(prefers_original(critic, jobs)),
    "sanity": sanity_result,
    "flattery": bias_result,
    "invariance": invariance_result,
}
"""Suites for any critic."""
_NETWORK_SUITES = ("grounding", "robustness")


def run_suites(
    critic: Critic,
    jobs: Sequence[Job],
    observations: Sequence[Observation],
    told: Callable[[str], object] = lambda _text: None,
) -> Iterator[SuiteResult]:
    """Each suite's result as it is done; those that need the network's insides only for the network."""
    for name, suite in SUITES.items():
        told(name)
        yield suite(critic, jobs)
    told("calibration")
    yield reliability_result([OrderedPair(*pair) for pair in pairs_of(observations)])
    if isinstance(critic, NetworkCritic):
        told(_NETWORK_SUITES[0])
        yield grounding_result(critic, jobs)
        told(_NETWORK_SUITES[1])
        yield robustness_result(critic, jobs[:_FEW])
    told("baselines")
    yield baseline_result(jobs)
