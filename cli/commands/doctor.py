"""`pe doctor`: what this machine can run."""

from __future__ import annotations

from typing import Any

import click

from pe_toolkit.cli import doctor_steps, options, parameters
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.requests.doctor import DoctorOptions


@click.command(
    epilog="""\b
Example:
  pe doctor --backbone cogvideox-5b
  pe doctor --backbone cogvideox-5b --frames 49 --samples 1"""
)
@options.backbone_option(None, "Also say what this backbone needs; exit code 1 if it does not fit.")
@click.option("--frames", type=click.IntRange(2, 10_000), metavar="N", help="Of the clip.")
@click.option("--size", type=parameters.Size(), metavar="WxH", help="Of the clip.")
@click.option("--samples", type=click.IntRange(1, 64), metavar="N", help="Of the training.")
@click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Denoising steps.")
@options.offload_option
@options.quantize_option
@options.common
@click.pass_context
def doctor(ctx: click.Context, /, **parsed: Any) -> None:
    """Say what this machine can run, and what a backbone will need.

    Looks at versions, devices, memory, disk and the download cache. Downloads and loads nothing:
    memory and time of training and applying are estimated from the published configurations.
    """
    request = DoctorOptions(**parsed)
    session: Session = ctx.obj
    request.check()
    facts = doctor_steps.examine()
    name, fit = request.backbone, None
    if name is not None:
        fit = doctor_steps.needs(name, facts, request)
    session.out.table(_rows(facts))
    if fit is not None:
        session.out.data("")
        session.out.table({fit.name: fit.verdict, **fit.needs})
    session.out.event("summary", **vars(facts), backbone=fit and fit.to_dict())
    if fit is not None and not fit.fits:
        ctx.exit(1)


def _rows(facts: doctor_steps.Facts) -> dict[str, str]:
    packages = [
        f"{name} {p.installed or '-'}"
        + (f" ({p.state}; tested with {p.tested})" if p.state != "ok" else "")
        for name, p in facts.packages.items()
    ]
    gpus = [f"{g.name}, {g.free_gb:.1f} of {g.total_gb:.1f} GB free" for g in facts.gpus]
    cache, total, free = facts.cache, facts.memory_total_gb, facts.memory_free_gb
    return {
        "pe-toolkit": facts.pe_toolkit,
        "python": f"{facts.python} on {facts.system}",
        "packages": "\n".join(packages),
        "device": "\n".join([*gpus, f"cpu, {facts.cores} cores", *filter(None, [facts.trouble])]),
        "memory": f"{free:.1f} of {total:.1f} GB free" if total else "unknown",
        "disk": f"{facts.disk_free_gb:.1f} GB free here",
        "cache": f"{cache.folder}, {cache.free_gb:.1f} GB free\n"
        + ", ".join(f"{name}: {state}" for name, state in cache.backbones.items()),
        "bundled": "present" if facts.bundled else "missing",
        "auto": f"{facts.auto.backbone} ({facts.auto.why})",
    }
