"""How a generated clip is measured: metrics and trackers by name, loaded when asked for.

    reference, video, _ = pair.read_pair("reference.mp4", "video.mp4")
    two = Pair(reference, video)
    two = pair.with_tracks(two, *pair.tracks_of_both(two, tracker("lk")))
    results = pair.score(two, ["mf", "driving_similarity"])

Needs no torch, except `following`, which asks the backbone, and the metrics of `clip`. Installed
packages add metrics by entry points of the group `GROUP` (`pe_toolkit.extensions`), trackers by
those of `trackers.GROUP`. docs/metrics.md says what each metric is good for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pe_toolkit.errors import PeError
from pe_toolkit.extensions import in_words, load, names_in, refused

if TYPE_CHECKING:
    from pe_toolkit.evaluation.contract import Metric

_ROWS = "pe_toolkit.evaluation.rows"
METRICS: Mapping[str, str] = MappingProxyType(
    {
        name: f"{_ROWS}:{name.upper()}"
        for name in (
            "mf", "mf_speed", "mf_official", "hybrid", "hybrid_as_coded", "frechet_distance",
            "endpoint_error", "driving_similarity", "leak", "temporal_consistency",
            "dynamic_degree", "moving_consistency", "text_similarity", "driving_similarity_clip",
            "driving_similarity_dino", "true_cosine", "true_error", "true_visibility",
            "true_adherence", "true_worse", "true_share",
        )
    }
)  # fmt: skip
"""Name -> where its `contract.Metric` is, of those that ship with pe-toolkit."""
GROUP = "pe_toolkit.metrics"
"""The entry points of other packages: name -> a `contract.Metric`."""


def names() -> tuple[str, ...]:
    """All metrics by name, those of installed packages last."""
    return names_in(GROUP, METRICS)


def metric(name: str) -> Metric:
    """A metric.

    Raises:
        UsageError: there is none of that name; lists those there are.
        DependencyError: one of another package that cannot be loaded, or is none.
    """
    from pe_toolkit.evaluation.contract import BETTER, NEEDS, Metric

    found = load(GROUP, METRICS, name, "a metric")
    if not isinstance(found, Metric):
        raise refused(GROUP, name, "a metric", "it is no pe_toolkit.evaluation.contract.Metric")
    if not isinstance(found.needs, set | frozenset):
        raise refused(GROUP, name, "a metric", "its `needs` are no set")
    if not all(isinstance(end, int | float) for end in (found.low, found.high)):
        raise refused(GROUP, name, "a metric", "its `low` and `high` are no numbers")
    if unknown := sorted(map(str, found.needs - NEEDS.keys())):
        raise refused(GROUP, name, "a metric", f"it needs {', '.join(unknown)}, which nothing is")
    if found.better not in BETTER:
        why = f"its `better` is {found.better!r}, not {' or '.join(map(repr, BETTER))}"
        raise refused(GROUP, name, "a metric", why)
    return found


def prepare(name: str, one: Metric) -> None:
    """Have what a metric fetches.

    Raises:
        DependencyError: it cannot be had; names the package of another's.
    """
    if one.prepare is None:
        return
    try:
        one.prepare()
    except (Exception, SystemExit) as error:
        if name in METRICS or isinstance(error, PeError):
            raise
        raise refused(GROUP, name, "a metric", f"it failed: {in_words(error)}") from error
