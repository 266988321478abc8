"""`pe doctor`: what this machine can run."""

from __future__ import annotations

from typing import Any

import click

from pe_toolkit.cli import doctor_steps, options, speed
from pe_toolkit.cli.errors import Session


@click.command(
    epilog="""\b
Example:
  pe doctor --backbone cogvideox-5b
  pe doctor --backbone cogvideox-5b --frames 49 --samples 1"""
)
@options.backbone_option(None, "Also say what this backbone needs; exit code 1 if it does not fit.")
@click.option("--frames", type=click.IntRange(2, 10_000), metavar="N", help="Of the clip.")
@click.option("--size", type=options.Size(), metavar="WxH", help="Of the clip.")
@click.option("--samples", type=click.IntRange(1, 64), metavar="N", help="Of the training.")
@click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Denoising steps.")
@options.offload_option
@speed.quantize_option
@options.common
@click.pass_context
def doctor(ctx: click.Context, /, backbone: str | None, **o: Any) -> None:
    """Say what this machine can run, and what a backbone will need.

    Looks at versions, devices, memory, disk and the download cache. Downloads and loads nothing:
    memory and time of training and applying are estimated from the published configurations.
    """
    session: Session = ctx.obj
    doctor_steps.check_usage(backbone, o)
    facts = doctor_steps.examine()
    fit = doctor_steps.needs(backbone, facts, o) if backbone is not None else None
    session.out.table(_rows(facts))
    if fit is not None:
        session.out.data("")
        session.out.table({f"{fit['name']}": fit["verdict"]} | fit["needs"])
    session.out.event("summary", **facts, backbone=fit)
    if fit is not None and not fit["fits"]:
        ctx.exit(1)


def _rows(facts: dict[str, Any]) -> dict[str, str]:
    packages = [
        f"{name} {p['installed'] or '-'}"
        + (f" ({p['state']}; tested with {p['tested']})" if p["state"] != "ok" else "")
        for name, p in facts["packages"].items()
    ]
    gpus = [
        f"{g['name']}, {g['free_gb']:.1f} of {g['total_gb']:.1f} GB free" for g in facts["gpus"]
    ]
    cache, total = facts["cache"], facts["memory_total_gb"]
    free = facts["memory_free_gb"]
    return {
        "pe-toolkit": facts["pe_toolkit"],
        "python": f"{facts['python']} on {facts['system']}",
        "packages": "\n".join(packages),
        "device": "\n".join(
            [*gpus, f"cpu, {facts['cores']} cores", *filter(None, [facts["trouble"]])]
        ),
        "memory": f"{free:.1f} of {total:.1f} GB free" if total else "unknown",
        "disk": f"{facts['disk_free_gb']:.1f} GB free here",
        "cache": f"{cache['folder']}, {cache['free_gb']:.1f} GB free\n"
        + ", ".join(f"{name}: {state}" for name, state in cache["backbones"].items()),
        "bundled": "present" if facts["bundled"] else "missing",
        "auto": f"{facts['auto']['backbone']} ({facts['auto']['why']})",
    }
