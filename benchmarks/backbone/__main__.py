"""Train the bundled backbone from nothing: VAE, decoder, whitened latents, rotary transformer
(coarse, then detail), absolute transformer, what was learned since (bind, bind_absolute), export.

Every stage keeps checkpoints in --folder and resumes there. On a CUDA GPU the same script takes
larger batches.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.backbone import bind, export, latents, transformer, vae

STAGES = (
    "vae", "decoder", "whiten", "latents", "rotary", "detail", "absolute", "bind", "bind_absolute",
    "export",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbone", description=__doc__)
    parser.add_argument(
        "stages",
        nargs="*",
        default=[],
        help=f"out of {', '.join(STAGES)} (default: all but the two of bind), or restore: start "
        "from what ships",
    )
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--vae-steps", type=int, default=1120)
    parser.add_argument("--decoder-steps", type=int, default=400)
    parser.add_argument("--shards", type=int, default=20, help="200 clips each")
    parser.add_argument(
        "--wide", action="store_true", help="latents: of every class of motion, see README.md here"
    )
    parser.add_argument(
        "--ordered",
        type=int,
        default=0,
        metavar="SHARDS",
        help="latents: and so many of clips where the order of the caption's words matters",
    )
    parser.add_argument(
        "--camera",
        type=int,
        default=0,
        metavar="SHARDS",
        help="latents: and so many of clips where a camera moves over a texture",
    )
    parser.add_argument(
        "--keep-two",
        type=float,
        default=latents.KEEP_TWO,
        help="share of the clips of two objects that are trained on, the others passed over",
    )
    parser.add_argument(
        "--keep-plain",
        type=float,
        default=1.0,
        help="share of the clips that are trained on whose caption means the same in any order",
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--detail-steps", type=int, default=2000)
    parser.add_argument("--absolute-steps", type=int, default=4500)
    parser.add_argument("--bind-steps", type=int, default=2800)
    parser.add_argument("--bind-absolute-steps", type=int, default=600)
    parser.add_argument("--bind-peak", type=float, default=5e-4)
    parser.add_argument(
        "--teacher",
        type=Path,
        help="bind: the backbone's folder whose knowledge is to be kept (none: large batches "
        "learn everything from the clips)",
    )
    parser.add_argument(
        "--start", type=Path, help="bind: the backbone's folder to start from (default: --teacher)"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--peak", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument(
        "--jobs", type=int, default=1, help="latents: processes that draw the clips"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="of each transformer stage: it ends, and its learning rate falls, by the clock",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile every block")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="export: of what was trained in the rotary transformer; the rest is --start's",
    )
    parser.add_argument("--into", type=Path, default=Path("pe_toolkit/backbones/bundled"))
    args = parser.parse_args()
    if unknown := set(args.stages) - {*STAGES, "restore"}:
        parser.error(f"unknown stages: {', '.join(sorted(unknown))}")
    stages, device = (
        args.stages or [s for s in STAGES if "bind" not in s],
        torch.device(args.device),
    )
    if {"bind", "bind_absolute"} & set(stages) and not (args.teacher or args.start):
        parser.error("bind needs --teacher FOLDER, --start FOLDER or both")
    if args.share != 1 and args.start is None:
        parser.error("--share needs --start FOLDER")
    args.folder.mkdir(parents=True, exist_ok=True)
    if "restore" in stages:
        export.restore(args.into, args.folder)
    if "vae" in stages:
        vae.train(args.folder, device, args.vae_steps)
    if "decoder" in stages:
        vae.polish(args.folder, device, args.decoder_steps)
    if "whiten" in stages:
        vae.whiten(args.folder, device)
    if "latents" in stages:
        latents.make(
            args.folder,
            device,
            args.shards,
            wide=args.wide,
            ordered=args.ordered,
            camera=args.camera,
            jobs=args.jobs,
        )
    for stage, steps, peak in (
        ("rotary", args.steps, args.peak),
        ("detail", args.detail_steps, args.peak / 2),
        ("absolute", args.absolute_steps, args.peak * 0.75),
    ):
        if stage in stages:
            transformer.train(
                args.folder,
                device,
                stage,
                steps,
                batch=args.batch,
                peak=peak,
                compiled=args.compile,
                keep_two=args.keep_two,
                keep_plain=args.keep_plain,
                minutes=args.minutes,
            )
    for stage, steps in (("bind", args.bind_steps), ("bind_absolute", args.bind_absolute_steps)):
        if stage in stages:
            bind.train(
                args.folder,
                device,
                stage,
                steps,
                start=args.start or args.teacher,
                teacher=args.teacher,
                batch=args.batch,
                peak=args.bind_peak,
                compiled=args.compile,
                minutes=args.minutes,
            )
    if "export" in stages:
        before = args.start / "transformer" if args.share != 1 else None
        export.write(args.folder, args.into, before, args.share)


if __name__ == "__main__":
    main()
