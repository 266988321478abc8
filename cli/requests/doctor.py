"""The options of `pe doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from pe_toolkit.errors import UsageError, option


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """The backbone to estimate for, and the training or generation; None is the backbone's own."""

    backbone: str | None = None
    frames: int | None = None
    size: tuple[int, int] | None = None
    samples: int | None = None
    steps: int | None = None
    offload: str = "auto"
    quantize: str = "none"

    def check(self) -> None:
        """Refuse options of the estimate without a backbone to estimate.

        Raises:
            UsageError: names the option.
        """
        given = [
            field
            for field in ("frames", "size", "samples", "steps", "offload", "quantize")
            if getattr(self, field) != getattr(DoctorOptions, field)
        ]
        if self.backbone is None and given:
            raise UsageError(
                f"Expected {option('backbone')} with {option(given[0])}: the estimate is for one.",
                f"Add {option('backbone')} cogvideox-5b, or leave it out.",
            )
