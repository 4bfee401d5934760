"""A server's metrics as figures: rates, means and percentiles, of all its time or of the time between two looks."""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from editcritic.v1.errors import Incompatible, InvalidInput, ServerUnavailable

__all__ = ["Figures", "read_figures"]

_Sample: TypeAlias = tuple[str, frozenset[tuple[str, str]]]
_TIMEOUT_S = 5.0
_COUNTED = ("_total", "_count", "_sum", "_bucket")


@dataclass(frozen=True)
class Figures:
    """What a server said of itself.

    Attributes:
        samples: by name and labels.
        seconds: that counters and histograms stand for.
    """

    samples: Mapping[_Sample, float]
    seconds: float

    def since(self, earlier: Figures) -> Figures:
        """The same with counters and histograms of the time between the two alone; a server that was restarted
        meanwhile begins anew."""
        restarted = self.seconds < earlier.seconds
        before = {} if restarted else earlier.samples
        samples = {
            key: value - before.get(key, 0.0) if key[0].endswith(_COUNTED) else value
            for key, value in self.samples.items()
        }
        return Figures(samples, self.seconds - (0.0 if restarted else earlier.seconds))

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name that have these labels; 0 when there is none."""
        wanted = labels.items()
        return sum(value for (each, given), value in self.samples.items() if each == name and wanted <= given)

    def rate(self, name: str, **labels: str) -> float:
        """`total` a second."""
        return self.total(name, **labels) / self.seconds if self.seconds > 0 else 0.0

    def mean(self, histogram: str, **labels: str) -> float:
        """The mean of a histogram; not a number when it is empty."""
        count = self.total(f"{histogram}_count", **labels)
        return self.total(f"{histogram}_sum", **labels) / count if count else math.nan

    def quantile(self, share: float, histogram: str, **labels: str) -> float:
        """A quantile, linear within its bucket as Prometheus' histogram_quantile has it; not a number when empty.

        Args:
            share: 0.5 for the median.
            histogram: its name.
            **labels: that its samples have.
        """
        bounds = sorted((float(bound), bound) for bound in self.named("le", f"{histogram}_bucket", **labels))
        counts = [self.total(f"{histogram}_bucket", le=text, **labels) for _, text in bounds]
        if not counts or not counts[-1]:
            return math.nan
        wanted, below, low = share * counts[-1], 0.0, 0.0
        for (bound, _), count in zip(bounds, counts, strict=True):
            if count >= wanted and count > below:
                return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (count - below)
            below, low = count, bound
        return low

    def named(self, label: str, name: str, **labels: str) -> list[str]:
        """The values of a label, in order."""
        wanted = labels.items()
        found = {
            dict(given).get(label, "") for each, given in self.samples if each == name and wanted <= given
        }
        return sorted(found - {""})


def read_figures(url: str) -> Figures:
    """Ask a server's metrics.

    Args:
        url: of the metrics, http or https.

    Raises:
        InvalidInput: the address is no URL, or prometheus-client is missing.
        ServerUnavailable: nobody answers there.
        Incompatible: what answers is no editcritic.
    """
    try:
        from prometheus_client.parser import text_string_to_metric_families as parse
    except ModuleNotFoundError as error:
        raise InvalidInput(f"this needs {error.name}: pip install 'editcritic[server]'") from error
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"{url!r} is no address of metrics; one is http://127.0.0.1:9464/metrics")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the scheme was checked
            text = answer.read().decode("utf-8", "replace")
        families = list(parse(text))
    except OSError as error:
        raise ServerUnavailable(
            f"no metrics at {url} ({error}). Start the server with --metrics-port 9464."
        ) from error
    except ValueError as error:
        raise Incompatible(f"what answers at {url} are no metrics: {error}") from error
    samples = {
        (sample.name, frozenset(sample.labels.items())): float(sample.value)
        for family in families
        for sample in family.samples
    }
    if ("editcritic_queue_items", frozenset()) not in samples:
        raise Incompatible(f"the metrics at {url} are not those of an editcritic server")
    started = samples.get(("process_start_time_seconds", frozenset()), math.nan)
    return Figures(samples, max(0.0, time.time() - started) if math.isfinite(started) else 0.0)
