"""The options of `pe apply`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_toolkit.apply.request import ApplyRequest
from pe_toolkit.backbones.loading import lora
from pe_toolkit.cli import prompts
from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ApplyOptions(ApplyRequest, BackboneOptions):
    """What the library is asked, the card and the model for it, and where the results go."""

    card_path: Path
    output: Path | None = None
    prompt_file: Path | None = None
    loras: tuple[lora.Lora, ...] = ()
    side_by_side: Path | None = None
    sheet: Path | None = None
    score: bool | None = None
    scored_card: Path | None = None
    free: bool = False
    """Neither drafts nor a seed were asked for."""
    resume: bool = False
    force: bool = False

    @classmethod
    def of(cls, **parsed: Any) -> ApplyOptions:
        """From what click parsed; prompts of a file come after the others.

        Raises:
            UsageError: an empty prompt, a file that cannot be read, or a LoRA's weight.
        """
        lines, source = [], parsed["prompt_file"]
        if source is not None:
            lines = prompts.from_file(source)
        if parsed["negative_prompt"] is not None:
            prompts.check_unicode(parsed["negative_prompt"], "--negative-prompt")
        parsed["loras"] = tuple(map(lora.Lora.parse, parsed["loras"]))
        parsed["free"] = parsed["drafts"] is None and not parsed["seeds"]
        parsed["drafts"] = 1 if parsed["drafts"] is None else parsed["drafts"]
        return cls(**parsed | {"prompts": prompts.clean([*parsed["prompts"], *lines])})

    def check(self) -> None:
        """Refuse what makes no sense, before the card is read.

        Raises:
            UsageError: as `ApplyRequest.check`, or a LoRA that is not there.
            DependencyError: `--lora` without peft, or as `check_quantize`.
        """
        super().check()
        if self.scored_card is not None and (self.score is False or self.no_card):
            raise UsageError(
                "Expected --scored-card with the card and its scores, got "
                f"{'--no-card' if self.no_card else '--no-score'}.",
                "Leave one of them out.",
            )
        if self.loras:
            lora.check_peft()
        for one in self.loras:
            one.check()
        self.check_quantize()
