"""`pe edit` and `changed`: a new card of another motion, from a card alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pe_toolkit.apply.parts import turned
from pe_toolkit.card import MotionCard
from pe_toolkit.card.edit import renewed
from pe_toolkit.card.motion_words import card_motion
from pe_toolkit.card.spec import STILL, EditSpec, SubjectSpec
from pe_toolkit.cli.main import cli
from pe_toolkit.editing import Change, changed
from pe_toolkit.editing.cards import fields_of
from pe_toolkit.editing.maps import tokens
from pe_toolkit.editing.sizes import check_phase, latent_frames
from pe_toolkit.errors import MismatchError, UnsupportedError, UsageError
from pe_toolkit.motion.disc import half_disc
from pe_toolkit.motion.words import camera_words, words
from pe_toolkit.video import write_image
from tests.registry.cards import GOLDEN

LAYERED, PLAIN, EDITED = "rotary-offset", "absolute-offset", "rotary-offset-combined"


def golden(case: str) -> MotionCard:
    return MotionCard.load(GOLDEN / f"{case}.safetensors")


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def done(old: MotionCard, new: MotionCard) -> list[tuple[str, dict[str, float | str]]]:
    """What was done between two cards of one line."""
    return [(e.what, dict(e.settings)) for e in (new.spec.edits or ())[len(old.spec.edits or ()) :]]


def positions(card: MotionCard) -> np.ndarray:
    return card.tensors["positions"].astype(np.float64)


def test_a_card_mirrored_twice_moves_as_before() -> None:
    old = golden(LAYERED)
    once = changed(old, Change(mirror=("left-right",)), name="mirrored")
    assert once.spec.parents == (old.digest,)
    assert done(old, once) == [("mirror", {"axis": "left-right"})]
    assert once.spec.name == "mirrored"
    assert once.spec.scores == {}
    twice = changed(once, Change(mirror=("left-right",)))
    assert twice.spec.parents == (once.digest,)
    assert done(old, twice) == [("mirror", {"axis": "left-right"})] * 2
    for name, array in old.tensors.items():
        np.testing.assert_array_equal(twice.tensors[name], array, err_msg=name)
    assert twice.spec.reference.motion == old.spec.reference.motion


def test_what_is_fixed_to_the_camera_goes_where_the_edited_camera_goes() -> None:
    old = golden("rotary-offset-ground")
    new = changed(old, Change(mirror=("left-right",)))
    assert new.spec.recipe.ground == old.spec.recipe.ground == 1.25
    motion = new.spec.reference.motion
    assert motion is not None
    assert [row[4] for row in motion.camera] == [0.5, 0.0, -0.5]
    # Two cameras, one after the other, are one; after something that moves by itself none is known.
    after = changed(old, Change(then=old))
    assert after.spec.recipe.ground == 1.25
    assert [row[4] for row in after.spec.reference.motion.camera] == [-1.0, 0.0, 1.0]
    thing = SubjectSpec(path=((0.0, 0.0), (1.0, 0.0), (2.0, 0.0)), share=0.9)
    with_thing = replace(old.spec.reference, motion=replace(motion, subjects=(thing,)))
    other = MotionCard(replace(old.spec, reference=with_thing, digest=""), old.tensors)
    assert changed(old, Change(then=other)).spec.recipe.ground is None


def test_a_pan_stays_a_camera_that_can_be_turned() -> None:
    old = golden("rotary-offset-ground")
    recipe = replace(old.spec.recipe, layers=("whole",))
    pan = MotionCard(replace(old.spec, recipe=recipe, digest=""), old.tensors)
    assert turned(pan.spec) == {"camera": True, "subject": False}
    for change in (Change(mask=np.eye(4)), Change(then=pan), Change(mirror=("up-down",))):
        assert turned(changed(pan, change).spec) == {"camera": True, "subject": False}


def test_of_two_cards_the_one_that_guides_to_the_lowest_noise_guides() -> None:
    old = golden("rotary-offset-ground")
    low = replace(old.spec.schedule, timesteps=(999,), noise=(0.5,))
    other = MotionCard(replace(old.spec, schedule=low, digest=""), old.tensors)
    assert changed(old, Change(then=other)).spec.schedule.noise == (0.5,)
    assert changed(other, Change(then=old)).spec.schedule.noise == (0.5,)


def test_what_is_fixed_to_a_camera_that_rests_stays_where_everything_rests() -> None:
    old = golden("rotary-offset-ground")
    motion = old.spec.reference.motion
    assert motion is not None
    rests = replace(motion, camera=(STILL,) * len(motion.camera))
    reference = replace(old.spec.reference, motion=rests)
    still = MotionCard(replace(old.spec, reference=reference, digest=""), old.tensors)
    for change in (Change(then=still), Change(mask=np.eye(4))):
        new = changed(still, change)
        assert (new.spec.reference.motion is None) == (change.then is None)
        assert new.spec.recipe.ground == 1.25
        assert changed(new, Change(reverse=True)).spec.recipe.ground == 1.25
    assert changed(still, Change(then=old)).spec.recipe.ground == 1.25  # one camera, which is known
    # Two things have none, wherever they come from.
    recipe = replace(old.spec.recipe, ground=None)
    none = MotionCard(replace(still.spec, recipe=recipe, digest=""), still.tensors)
    for first, second in ((still, none), (none, still)):
        assert changed(first, Change(then=second)).spec.recipe.ground is None
    beside = Change(mask=np.eye(4), outside=still)
    assert changed(still, beside).spec.recipe.ground is None


def test_cards_of_phases_of_two_radii_go_together_by_the_coarser_one() -> None:
    """Of two things the phase is finer than of one."""
    fine = golden("rotary-offset-ground")
    spec = fine.spec.recipe.phase
    assert spec is not None
    kept = len(half_disc(1.0))
    assert kept < fine.tensors["phase"].shape[-1]
    recipe = replace(fine.spec.recipe, phase=replace(spec, radius=1.0))
    tensors = {**fine.tensors, "phase": np.ascontiguousarray(fine.tensors["phase"][..., :kept])}
    coarse = MotionCard(replace(fine.spec, recipe=recipe, digest=""), tensors)
    wanted = changed(coarse, Change(then=coarse))
    for first, second in ((fine, coarse), (coarse, fine)):
        new = changed(first, Change(then=second))
        assert new.spec.recipe.phase == recipe.phase
        np.testing.assert_array_equal(new.tensors["phase"], wanted.tensors["phase"])
        new = changed(first, Change(mask=np.eye(4), outside=second))
        assert new.spec.recipe.phase == recipe.phase
        assert new.tensors["phase"].shape[-1] == kept


def test_means_stay_with_the_noise_where_one_of_the_cards_leaves_them() -> None:
    bears = golden("rotary-offset-ground")
    spec = bears.spec.recipe.phase
    assert spec is not None
    recipe = replace(bears.spec.recipe, phase=replace(spec, mean=False))
    leaves = MotionCard(replace(bears.spec, recipe=recipe, digest=""), bears.tensors)
    for cards, mean in (((bears, bears), None), ((bears, leaves), False), ((leaves, bears), False)):
        new = changed(cards[0], Change(then=cards[1])).spec.recipe.phase
        assert new is not None
        assert new.mean is mean


def test_cards_of_one_set_of_positions_go_together_whatever_steps_they_guide() -> None:
    """A camera that pans guides all steps, other motions do not."""
    first = golden("rotary-offset-ground")
    recipe = replace(first.spec.recipe, guided_range=(0.0, 1.0))
    other = MotionCard(replace(first.spec, recipe=recipe, digest=""), first.tensors)
    new = changed(first, Change(then=other))
    assert new.spec.recipe.guided_range == first.spec.recipe.guided_range
    noise = (*first.spec.schedule.noise, first.spec.schedule.noise[-1] / 2)
    times = (*first.spec.schedule.timesteps, first.spec.schedule.timesteps[-1] - 1)
    schedule = replace(first.spec.schedule, noise=noise, timesteps=times)
    more = replace(first.spec, recipe=recipe, schedule=schedule, digest="")
    for pair in (
        (first, MotionCard(more, first.tensors)),
        (MotionCard(more, first.tensors), first),
    ):
        new = changed(pair[0], Change(then=pair[1]))  # those of the one that guides most
        assert new.spec.recipe.guided_range == (0.0, 1.0)
        assert new.spec.schedule.noise == noise
    many = golden(EDITED)  # a set for each guided step
    recipe = replace(many.spec.recipe, guided_range=(0.0, 1.0))
    longer = MotionCard(replace(many.spec, recipe=recipe, digest=""), many.tensors)
    with pytest.raises(MismatchError, match="guided range"):
        changed(many, Change(then=longer))


def test_the_numbers_of_the_motion_are_edited_with_it() -> None:
    old = golden(LAYERED)
    motion = old.spec.reference.motion
    assert motion is not None
    found = changed(old, Change(mirror=("left-right",))).spec.reference.motion
    assert found is not None
    np.testing.assert_allclose([row[4] for row in found.camera], [-r[4] for r in motion.camera])
    np.testing.assert_allclose([row[5] for row in found.camera], [r[5] for r in motion.camera])
    path = np.array(motion.subjects[1].path)
    back = changed(old, Change(reverse=True)).spec.reference.motion
    assert back is not None
    np.testing.assert_allclose(back.subjects[1].path, (path - path[1])[::-1])
    large = changed(old, Change(size=(64, 32))).spec.reference.motion
    assert large is not None
    np.testing.assert_allclose(large.subjects[1].path, path * [2, 1])


def test_every_edit_in_one_new_card(tmp_path: Path) -> None:
    old = golden(LAYERED)
    mask = np.zeros((4, 4))
    mask[:, :2] = 1
    change = Change(
        reverse=True,
        speed=0.5,
        mirror=("up-down", "left-right"),
        frames=17,
        size=(64, 48),
        mask=mask,
    )
    new = changed(old, change)
    assert [what for what, _ in done(old, new)] == [
        "reverse", "speed", "mirror", "mirror", "frames", "size", "mask",
    ]  # fmt: skip
    assert tuple(new.spec.grid.token_grid()) == (5, 3, 4)
    assert (new.spec.clip.frames, new.spec.clip.width, new.spec.clip.height) == (17, 64, 48)
    assert new.spec.reference.motion is None
    new.save(tmp_path / "new.safetensors")
    assert MotionCard.load(tmp_path / "new.safetensors").digest == new.digest


def test_angles_of_older_cards_become_the_coordinates_that_they_are() -> None:
    from pe_toolkit.embedding.rotary import axis_dims, frequencies

    old = golden("rotary-angle")
    steps, _, tokens, half = old.tensors["positions"].shape
    offsets = np.random.default_rng(0).normal(size=(steps, tokens, 3))
    rates = frequencies(axis_dims(2 * half))
    # The card is of 2 x 2 patches; its model has 8 x 8 coordinates for them.
    scaled = offsets * (1, 4, 4)
    angles = np.concatenate([scaled[..., [i]] * r.numpy() for i, r in enumerate(rates)], -1)
    both = np.repeat(angles[:, None], 2, 1).astype(np.float16)
    card = MotionCard(replace(old.spec, digest=""), dict(old.tensors) | {"positions": both})
    fields = fields_of(card)
    assert fields.layers == ("whole",)
    np.testing.assert_allclose(fields.offsets.reshape(steps, tokens, 3), offsets, atol=5e-3)
    unknown = replace(old.spec, digest="", backbone=replace(old.spec.backbone, variant="own"))
    with pytest.raises(UnsupportedError, match="a model that is known"):
        fields_of(MotionCard(unknown, dict(card.tensors)))
    with pytest.raises(UnsupportedError, match=r"can be edited: .* optimised freely") as caught:
        fields_of(
            MotionCard(
                replace(old.spec, digest=""),
                dict(old.tensors)
                | {
                    "positions": np.random.default_rng(1).normal(size=both.shape).astype(np.float16)
                },
            )
        )
    assert "Train a card of the same clip with --recipe rich" in str(caught.value.hint)


def test_two_cards_side_by_side_and_one_after_the_other() -> None:
    first = golden(LAYERED)
    second = changed(first, Change(mirror=("up-down",)))
    mask = np.zeros((32, 32))
    mask[:, :16] = 1
    both = changed(first, Change(mask=mask, outside=second))
    assert both.spec.parents == (first.digest, second.digest)
    made, own, others = (positions(c).reshape(1, 3, 3, 2, 2, 3) for c in (both, first, second))
    share = 1 / (1 + np.exp(-0.5 / 0.25))  # a soft border: a quarter of a patch, of two
    there = others + (own - others)[:, :, 1, None]  # as those of the first in the middle frame
    left, right = (own * w + there * (1 - w) for w in (share, 1 - share))
    np.testing.assert_allclose(made[..., 0, :], left[..., 0, :], atol=2e-3)
    np.testing.assert_allclose(made[..., 1, :], right[..., 1, :], atol=2e-3)
    after = changed(first, Change(then=second))
    assert after.spec.parents == (first.digest, second.digest)
    assert done(first, after) == [("then", {"card": second.digest})]


@pytest.mark.parametrize(
    ("case", "change", "says"),
    [
        ("latents", Change(reverse=True), "positions, got latents"),
        ("latents-2", Change(reverse=True), "positions, got latents"),
        ("rotary-table", Change(reverse=True), "can be edited.* parametrisation 'table'"),
        ("rotary-angle-kv", Change(reverse=True), "keys and values"),
        (PLAIN, Change(), "something to change"),
        (PLAIN, Change(speed=1.0, frames=9, size=(32, 32)), "something to change"),
        (PLAIN, Change(speed=17), "speed from 1/16 to 16"),
        (PLAIN, Change(speed=float("nan")), "speed from 1/16 to 16"),
        (PLAIN, Change(mirror=("sideways",)), "left-right, up-down, got 'sideways'"),
        (PLAIN, Change(frames=10), "such as 9, 16, 17, 24, 25, .*, 505 at most, got 10"),
        (PLAIN, Change(frames=13), "such as 9, 16, 17"),
        (PLAIN, Change(frames=513), "505 at most"),
        ("rotary-angle", Change(reverse=True), "heads of a multiple of 16 columns, got 8"),
        (PLAIN, Change(size=(40, 32)), "whole patches of 16 pixels, got 40"),
        (PLAIN, Change(mask=np.ones((2, 2))), "covers a part"),
        (PLAIN, Change(mask=np.full((2, 2), 2.0)), "numbers in"),
        (PLAIN, Change(mask=np.zeros((0, 2))), "numbers in"),
    ],
)
def test_what_cannot_be_edited_is_refused(case: str, change: Change, says: str) -> None:
    with pytest.raises((UsageError, UnsupportedError), match=says):
        changed(golden(case), change)


def test_one_after_the_other_takes_three_latent_frames() -> None:
    short = changed(golden(LAYERED), Change(frames=8))
    assert short.spec.grid.frames == 2
    with pytest.raises(UsageError, match="three latent frames or more"):
        changed(short, Change(then=short))


def test_before_cameras_that_rest_nothing_goes_out_of_the_picture() -> None:
    goes = golden("rotary-offset-ground")
    tensors = dict(goes.tensors)
    tensors["positions"] = np.full_like(tensors["positions"], 1.5)
    tensors["positions"][..., 0] = 0
    reference = replace(goes.spec.reference, motion=None)  # a ground without a camera: it rests
    far = MotionCard(replace(goes.spec, reference=reference, digest=""), tensors)
    fields = fields_of(changed(far, Change(then=changed(far, Change(reverse=True)))))
    _, height, width = fields.grid
    there = fields.offsets.sum(1)[..., 1:] + tokens(height, width)
    assert there.min() >= -0.51
    assert (there <= np.array([height, width]) - 0.49).all()


def test_cards_that_do_not_go_together_are_refused() -> None:
    first, second = golden(LAYERED), golden(EDITED)
    with pytest.raises(MismatchError, match=r"kind of phase|architecture"):
        changed(first, Change(then=second))
    with pytest.raises(MismatchError, match="token grid"):
        changed(first, Change(then=changed(first, Change(frames=17))))
    with pytest.raises(UsageError, match="mask or a region"):
        changed(first, Change(outside=first))


def test_pe_edit_says_what_was_done(tmp_path: Path) -> None:
    source, new = GOLDEN / f"{LAYERED}.safetensors", tmp_path / "new.safetensors"
    made = pe("edit", source, "--mirror", "left-right", "--speed", 0.5, "--name", "slow", "-o", new)
    assert made.exit_code == 0, made.stderr
    assert "edits    speed: times 0.5" in made.stdout
    assert "mirror: axis left-right" in made.stdout
    card = MotionCard.load(new)
    assert card.spec.name == "slow"
    motion = "camera pans right 0.5 patches; one subject moves on its own: right 1.0 patches"
    rows = [line.split()[0] for line in made.stdout.splitlines()]
    assert f"motion   {motion}" in made.stdout
    assert rows.index("motion") < rows.index("parent") < rows.index("content")
    shown = pe("show", new).stdout
    assert "mirror: axis left-right" in shown
    assert pe("verify", new).exit_code == 0
    lines = pe("edit", source, "--reverse", "-o", tmp_path / "b.safetensors", "--json").stdout
    assert json.loads(lines.splitlines()[-1])["parent"] == golden(LAYERED).digest


def test_a_card_that_was_put_together_says_so(tmp_path: Path) -> None:
    other, new = GOLDEN / f"{LAYERED}.safetensors", tmp_path / "new.safetensors"
    words = ("--region", "0,0,16,32", "--outside", other, "-o", new)
    assert pe("edit", other, *words).exit_code == 0
    card = MotionCard.load(new)
    assert card.spec.reference.motion is None
    digest = card.spec.came_from[0]
    said = card_motion(card.spec)
    assert said.startswith("edited (mask: covered 0.5, outside ")
    assert digest not in said
    assert digest[-64:-56] in said
    told = " ".join(pe("show", new).stdout.split())
    assert "edits mask: covered 0.5, outside " in told
    assert "motion edited (mask: covered" in told
    second = tmp_path / "second.safetensors"
    assert pe("edit", other, "--reverse", "-o", second).exit_code == 0
    assert pe("edit", other, "--then", second, "-o", new, "--force").exit_code == 0
    both = MotionCard.load(new).spec
    told = " ".join(pe("show", new).stdout.split())
    short = (both.parents or ())[1][:15]
    assert f"motion put together of 2 cards (then: card {short});" in told
    unedited = replace(card.spec, edits=None, parents=None, digest="")
    assert card_motion(unedited) == ""


def test_an_edit_to_another_length_is_warned_of(tmp_path: Path) -> None:
    source = GOLDEN / "rotary-offset.safetensors"
    longer = pe(
        "edit", source, "--frames", 49, "--size", "128x128", "-o", tmp_path / "a.safetensors"
    )
    assert longer.exit_code == 0, longer.stderr
    assert longer.stderr.count("Warning: the bundled backbone was made for 33 frames") == 1
    own = pe("edit", source, "--frames", 17, "--size", "128x128", "-o", tmp_path / "b.safetensors")
    assert (own.exit_code, "Warning" in own.stderr) == (0, False)


@pytest.mark.parametrize(("region", "beside"), [("16,0,16,16", False), ("16,16,16,16", True)])
def test_a_region_beside_what_moves_is_warned_of(tmp_path: Path, region: str, beside: bool) -> None:
    card = golden("rotary-offset-ground")
    flow = card.tensors["flow"].copy()
    flow[:, :, 1:] = 0  # the lower half rests
    still = MotionCard(replace(card.spec, digest=""), dict(card.tensors) | {"flow": flow})
    still.save(tmp_path / "card.safetensors")
    made = pe(
        "edit", tmp_path / "card.safetensors", "--region", region, "-o", tmp_path / "n.safetensors"
    )
    assert made.exit_code == 0, made.output
    assert ("hardly anything that moves is inside of the mask" in made.stderr) == beside


def test_after_the_last_edit_it_is_said_what_to_do(tmp_path: Path) -> None:
    many = golden(LAYERED)
    edits = tuple(EditSpec(what="reverse", settings={}) for _ in range(32))
    spec = replace(many.spec, edits=edits, parents=(many.digest,), digest="")
    MotionCard(spec, many.tensors).save(tmp_path / "many.safetensors")
    made = pe("edit", tmp_path / "many.safetensors", "--reverse", "-o", tmp_path / "x.safetensors")
    assert made.exit_code == 2
    assert "Expected a card of at most 32 edits, got 33." in made.stderr
    assert "Hint: Edit a card that it was made from" in made.stderr


def test_a_region_and_the_same_picture_make_the_same_card(tmp_path: Path) -> None:
    source = GOLDEN / f"{LAYERED}.safetensors"
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 255
    write_image(tmp_path / "mask.png", picture)
    by_region, by_mask = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert pe("edit", source, "--region", "0,0,16,32", "-o", by_region).exit_code == 0
    made = pe("edit", source, "--mask", tmp_path / "mask.png", "-o", by_mask)
    assert made.exit_code == 0, made.stderr
    # Bicubic edges of the small picture are softer than those of the region.
    one, other = (positions(MotionCard.load(path)) for path in (by_region, by_mask))
    np.testing.assert_allclose(one, other, atol=0.1)
    assert one.any()


@pytest.mark.parametrize(("white", "fits"), [(0, False), (1, False), (127, False), (200, True)])
def test_a_mask_of_0_and_1_is_refused(tmp_path: Path, white: int, fits: bool) -> None:
    picture = np.zeros((8, 8), np.uint8)
    picture[:, :4] = white
    Image.fromarray(picture).save(tmp_path / "mask.png")
    words = ("--mask", tmp_path / "mask.png", "-o", tmp_path / "x.safetensors")
    made = pe("edit", GOLDEN / f"{LAYERED}.safetensors", *words)
    assert made.exit_code == (0 if fits else 2), made.stderr
    if not fits:
        assert f"the brightest pixel of mask.png is {white} of 255" in " ".join(made.stderr.split())
        assert "multiply" in made.stderr
    assert (tmp_path / "x.safetensors").exists() == fits


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--region", "0,0,16"], "left,top,width,height"),
        (["--region", "20,0,16,32"], "inside of the clip's 32x32"),
        (["--region", "0,0,16,32", "--mask", "no.png"], "--region or --mask, got both"),
        (["--mask", "no.png"], "no.png"),
        (["--speed", "0"], "above 0"),
        (["--speed", "nan"], "above 0"),
        (["--then", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--outside", str(GOLDEN / f"{LAYERED}.safetensors")], "mask or a region"),
        (["--size", "33x32"], "whole patches"),
    ],
)
def test_pe_edit_refuses_with_words(tmp_path: Path, words: list[str], says: str) -> None:
    made = pe("edit", GOLDEN / f"{LAYERED}.safetensors", *words, "-o", tmp_path / "x.safetensors")
    assert made.exit_code in (1, 2)
    assert says in made.stderr
    assert not (tmp_path / "x.safetensors").exists()


def test_what_changed_gives_is_in_the_format_of_today() -> None:
    old = golden(EDITED)
    assert old.spec.edits
    assert renewed(old)[0].edits == old.spec.edits
    new = changed(old, Change(reverse=True))
    assert [e.what for e in new.spec.edits or ()] == [
        *(e.what for e in old.spec.edits or ()),
        "reverse",
    ]


@pytest.mark.parametrize(
    ("have", "clip", "wanted", "count"),
    [
        (3, 9, 33, 9), (2, 8, 33, 9), (9, 33, 8, 2), (5, 16 + 1, 16, 4), (4, 16, 33, 9),
        (13, 49, 81, 21), (11, 81, 49, 7), (11, 81, 9, 2), (6, 24, 25, 7),
    ],
)  # fmt: skip
def test_lengths_are_those_that_can_be_generated(
    have: int, clip: int, wanted: int, count: int
) -> None:
    """Four frames a latent frame; one or two of these a token."""
    old = golden(PLAIN).spec
    grid, seconds = replace(old.grid, frames=have), replace(old.clip, frames=clip)
    assert latent_frames(replace(old, grid=grid, clip=seconds), wanted) == count


def test_lengths_are_those_of_the_backbone() -> None:
    """The rule without a model is that of one."""
    from tests.tiny import SIDE, tiny_adapter

    adapter, old = tiny_adapter(), golden(PLAIN).spec

    def of(rule: Callable[[int], int], frames: int) -> int | None:
        try:
            return rule(frames)
        except UsageError:
            return None

    for frames in range(1, 60):
        here = of(lambda n: latent_frames(old, n), frames)
        assert here == of(lambda n: adapter.grid_for(n, SIDE, SIDE).frames, frames), frames


def test_a_size_holds_the_phase() -> None:
    old = golden("rotary-offset-ground")
    assert old.spec.recipe.phase is not None
    with pytest.raises(UsageError, match="a size that holds the card's phase"):
        check_phase(2.83, (4, 4))
    check_phase(2.83, (5, 6))


def test_learned_positions_have_one_size() -> None:
    card = golden(PLAIN)
    own = replace(card.spec.backbone, variant="cogvideox-5b-i2v")
    fixed = MotionCard(replace(card.spec, backbone=own, digest=""), card.tensors)
    for change in (Change(frames=17), Change(size=(64, 64))):
        with pytest.raises(UnsupportedError, match="learned its positions for 49 frames"):
            changed(fixed, change)


def test_displacements_of_a_patched_card_are_not_compared() -> None:
    from pe_toolkit.backbones import load_backbone
    from pe_toolkit.evaluation.following import ReferenceMotion

    adapter, old = load_backbone("bundled"), golden(LAYERED)
    frames = np.zeros((9, 32, 32, 3), np.uint8)
    slow = changed(old, Change(speed=0.5, mirror=("left-right",)))
    assert ReferenceMotion.of_card(adapter, slow).compare(frames).reason == (
        "the card was edited (speed): its displacements are not those of a clip"
    )
    mirrored = changed(old, Change(mirror=("left-right",)))
    assert (
        "the card was edited"
        not in ReferenceMotion.of_card(adapter, mirrored).compare(frames).reason
    )


def test_words_of_a_card_that_was_stretched_are_true() -> None:
    """A roll is one of the same angle in another shape of picture, and no crop was taken."""
    turn = math.radians(40)
    rolled = [
        (math.cos(a), -math.sin(a) * stretch, math.sin(a) / stretch, math.cos(a), 0.0, 0.0)
        for stretch in (2.0,)
        for a in (0.0, turn / 2, turn)
    ]
    assert camera_words(rolled) == "camera rolls 40 degrees counterclockwise"
    assert words([(1, 0, 0, 1, 0, 0)] * 3, ["hardly"]) == "nothing moves that can be followed"
