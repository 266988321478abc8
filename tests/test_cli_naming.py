"""Files that nobody named, one process for each output, and what is suggested at the end."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.card import MotionCard
from pe_toolkit.cli import apply_steps, long_work, prompts, train_steps
from pe_toolkit.cli.errors import Session, describe
from pe_toolkit.cli.exclusive import only_one
from pe_toolkit.cli.main import cli
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.requests.apply import ApplyOptions
from pe_toolkit.cli.requests.reference import free_name
from pe_toolkit.cli.requests.train import TrainOptions
from pe_toolkit.errors import OutputError, UsageError

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
REF = Path("my ref.mp4")
CARD = GOLDEN / "rotary-angle.safetensors"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_card_that_nobody_named_is_named_after_its_clip(here: Path) -> None:
    assert free_name(Path("clips/my ref.mp4"), ".safetensors") == Path("my ref.safetensors")
    Path("my ref.safetensors").touch()
    Path("my ref-2.safetensors").symlink_to("nowhere")
    assert free_name(Path("clips/my ref.mp4"), ".safetensors") == Path("my ref-3.safetensors")
    Path("a.safetensors.resume").touch()  # `--resume` finds what was begun under that name
    assert free_name(Path("a.gif"), ".safetensors") == Path("a.safetensors")
    assert free_name(Path("."), ".safetensors") == Path(f"{here.name}.safetensors")
    assert free_name(Path(os.fsdecode(b"cl\xffip.mp4")), ".safetensors") == Path(
        "cl_ip.safetensors"
    )


def test_a_card_is_called_what_the_user_called_it() -> None:
    """And not by the name that stands in it, which nobody typed."""
    beside = ("--prompt", "a red circle on a grey background", "--side-by-side", "none.mp4")
    assert pe("add", CARD, "big@2.0.0").exit_code == 0
    for given, called in (("big", "big@2.0.0 -> big.mp4, "), (CARD, f"{CARD} -> {CARD.stem}.mp4,")):
        result = pe("apply", given, *beside)  # ends before a model is loaded
        assert result.exit_code == 1, result.stderr
        assert called in " ".join(result.stderr.split())


def options(*texts: str, card: Path = Path("wave.safetensors"), **more: object) -> ApplyOptions:
    return ApplyOptions(card_path=card, prompts=texts, **more)  # type: ignore[arg-type]


def test_videos_that_nobody_named_overwrite_nothing() -> None:
    def names(asked: ApplyOptions, seeds: list[int]) -> list[str]:
        return [t.video.name for t in apply_steps.planned_at(asked, seeds, "My Wave")]

    assert names(options("a"), [42]) == ["wave.mp4"]
    assert names(options("a", resume=True), [42]) == ["wave.mp4"]
    Path("wave.mp4").touch()  # the reference, perhaps
    assert names(options("a", force=True), [42]) == ["wave-new.mp4"]
    Path("wave-new.mp4").touch()
    assert names(options("a"), [42]) == ["wave-new-2.mp4"]
    Path("wave.json").touch()  # ours
    assert names(options("a"), [42]) == ["wave-2.mp4"]
    assert names(options("a", "b"), [42]) == ["wave-p01-s42.mp4", "wave-p02-s42.mp4"]
    Path("wave-p02-s42.json").touch()
    assert names(options("a", "b"), [42]) == ["wave-2-p01-s42.mp4", "wave-2-p02-s42.mp4"]
    assert names(options("a", "b", resume=True), [42])[0] == "wave-p01-s42.mp4"
    kept = Path("objects") / f"{'0' * 64}.safetensors"
    assert names(options("a", card=kept), [42]) == ["my-wave.mp4"]


def test_two_trainings_into_one_output() -> None:
    output = Path("card.safetensors")
    with only_one(output):
        code = (
            "from pathlib import Path; from pe_toolkit.cli.exclusive import only_one\n"
            "with only_one(Path('card.safetensors')): pass"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert run.returncode == 1
        assert "Expected no other training into card.safetensors" in run.stderr
        with pytest.raises(UsageError, match="one is at work"), only_one(output):
            pass
        with only_one(Path("other.safetensors")):
            pass
    Path("card.safetensors.lock").touch()  # of a process that was killed: nobody holds it
    with only_one(output):
        pass
    assert not list(Path().iterdir())


def train_options(*words: str, **changes: object) -> TrainOptions:
    return replace(
        TrainOptions(
            reference=REF, references=(REF,), output=Path("c.safetensors"), backbone="auto"
        ),
        **changes,  # type: ignore[arg-type]
    )


def test_the_suggested_command_runs_as_it_stands() -> None:
    spec = MotionCard.load(CARD).spec
    said = train_steps.next_command(train_options(), spec, image_to_video=False)
    assert shlex.split(said) == [
        "pe", "apply", "c.safetensors", "--prompt", train_steps.NEW_BUNDLED,
    ]  # fmt: skip
    layers = MotionCard.load(GOLDEN / "rotary-offset.safetensors").spec
    for names, asked_for in (
        (("camera", "subject"), [train_steps.NEW_TEXTURED]),  # its camera moves
        (("subject", "subject-2"), [train_steps.NEW_TWO]),
    ):
        of = replace(layers, recipe=replace(layers.recipe, layers=names), digest="")
        said = train_steps.next_command(train_options(), of, image_to_video=False)
        assert shlex.split(said)[4:] == asked_for
    own = replace(spec.backbone, variant="my-model")
    folder = replace(spec, backbone=own, digest="")
    asked = train_options(backbone="models/mine", offload="model", quantize="fp8")
    words = shlex.split(train_steps.next_command(asked, folder, image_to_video=True))
    assert words[3:5] == ["--backbone", "models/mine"]
    assert words[words.index("--image") + 1] == "my ref.mp4"  # its first frame
    assert words[-4:] == ["--quantize", "fp8", "--offload", "model"]
    asked = train_options(backbone="models/mine", copy_of="cogvideox-5b")
    assert "--backbone models/mine" in train_steps.next_command(asked, spec, image_to_video=False)
    bound = replace(spec, recipe=replace(spec.recipe, kv="required"), digest="")
    said = train_steps.next_command(train_options(), bound, image_to_video=False)
    assert "--kv-from 'my ref.mp4'" in said
    latents = MotionCard.load(GOLDEN / "latents.safetensors").spec
    said = train_steps.next_command(train_options(), latents, image_to_video=False)
    assert shlex.quote(latents.samples[0].prompt) in said


def test_a_full_disk_says_what_is_kept() -> None:
    state = Path("card.safetensors.resume")
    session = Session(argv=("train", "ref.mp4"), resume=state)
    full = OutputError("Expected to write, but the disk is full.", "Free some space.")
    assert describe(full, session)[1] == "Free some space."
    state.touch()
    for error in (full, OSError(28, "No space left on device")):
        _, hint, code = describe(error, session)
        assert hint is not None
        assert code == 1
        assert "Finished steps are kept in card.safetensors.resume" in hint
        assert hint.endswith("pe train ref.mp4 --resume")


def test_prompts_that_are_no_text_are_refused_before_anything_is_loaded() -> None:
    broken = os.fsdecode(b"a r\xffed circle")
    for words in (["--prompt", broken], ["--prompt", "x", "--negative-prompt", broken]):
        result = pe("apply", CARD, *words)
        assert result.exit_code == 2
        assert "valid Unicode" in result.stderr


def test_only_line_ends_end_a_prompt() -> None:
    path = Path("prompts.txt")
    path.write_bytes("one\u2028two\r\nthree\x0cfour\x85\rfive\n".encode())
    assert prompts.from_file(path) == ["one\u2028two", "three\x0cfour\x85".strip(), "five"]


def test_what_takes_hours_or_much_room_is_said_before(capsys: pytest.CaptureFixture[str]) -> None:
    def said(name: str, gpu: bool = True, **changes: object) -> str:
        asked = train_options(**changes)
        long_work.tell_training(Output(), VARIANTS[name], asked, gpu=gpu)
        return capsys.readouterr().err

    assert said("bundled") == ""
    assert said("bundled", frames=65, size=(256, 256), samples=1) == ""
    assert " days (as on an NVIDIA A40" in said(
        "bundled", frames=481, size=(1024, 1024), recipe="default"
    )
    assert said("cogvideox-5b", samples=1, steps=10) == ""
    assert "hours (on two cores" in said("cogvideox-5b", gpu=False)
    assert "about 674.4 MB" in said("cogvideox-2b")
    for small in ({"mode": "latents"}, {"recipe": "rich"}, {"parametrisation": "offset"}):
        assert "the card will have" not in said("cogvideox-2b", **small)
    assert "hours" not in said("cogvideox-5b", gpu=False, recipe="rich", samples=64)
    assert long_work.duration(7300) == "2 hours"


@pytest.mark.parametrize(
    ("prompt", "layers", "more"),
    [
        ("a red circle on a grey background", ("subject", "subject-2"), True),
        ("a red circle and a blue square on a grey background", ("subject", "subject-2"), False),
        ("a red circle on a grey background", ("camera", "subject"), False),
        ("a fox", ("subject", "subject-2"), False),
    ],
)
def test_a_preview_says_what_it_is_of(prompt: str, layers: tuple[str, ...], more: bool) -> None:
    spec = MotionCard.load(GOLDEN / "rotary-offset-disc.safetensors").spec
    sample = replace(spec.samples[0], prompt=prompt, seed=7)
    recipe = replace(spec.recipe, layers=layers)
    said = train_steps.preview_words(replace(spec, samples=(sample,), recipe=recipe))
    assert said.startswith(f"the first training sample, '{prompt}', seed 7.")
    assert ("--prompt can name two" in said) == more
