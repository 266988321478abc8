"""What pe-toolkit knows about each backbone: one frozen row each, with the source of every default.

Torch-free, so that commands can read defaults before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pe_toolkit.backbones.catalogue import sources
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.errors import UsageError
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS

# Content that CogVideoX draws well and that has nothing to do with most references.
GENERAL_PROMPTS = (
    "a golden retriever running through a sunny meadow, cinematic, high detail",
    "a red sports car driving on a coastal road, cinematic, high detail",
    "a sailing boat on a calm sea at sunset, cinematic, high detail",
    "a robot walking through a neon-lit city street, cinematic, high detail",
)

Positions = Literal["rotary", "absolute"]
OWNERS = ("THUDM", "zai-org")
"""The authors of CogVideoX on the Hub, by their first name and by that of today."""


@dataclass(frozen=True)
class Variant:
    """Defaults of one backbone.

    Attributes:
        name: of the row, as in `--backbone NAME`.
        hub_id: its repository on the Hub, `owner/name`; None for what ships with pe-toolkit.
        positions: how the model encodes positions.
        frames, width, height, fps: of a clip; width and height in pixels, fps frames per second.
        steps, guidance_scale, dynamic_cfg: of the denoising schedule; dynamic_cfg: the guidance
            grows from step to step, as diffusers' `use_dynamic_cfg`.
        scheduler: class name of the scheduler that the model's authors recommend.
        block: transformer block whose queries and keys are compared.
        guided_range: (low, high) in `noise = sqrt(1 - alphas_cumprod)`, [0, 1]: steps whose noise
            lies in it are guided.
        tau, mask, inner_steps, samples, parametrisation, start: as in `TrainConfig`.
        learning_rates, latent_learning_rates: Adam's for positions and for latents; they go
            linearly from the first guided step to the last.
        max_text_tokens: longest prompt in tokens.
        dtype: of the weights on a GPU.
        negative_prompt: of a generation without another; "" for none.
        reading: where and how the reference's queries and keys are read; None: the same block, by
            attention.
        start_scale: how far a start of `flow` moves the positions, in times of the reference's own
            motion.
        phase: (radius in cycles per picture, gamma) of the reference's phase in the initial noise;
            None: not used.
        download_gb, min_gpu_gb: decimal gigabytes, 0 if none.
        fixed_size: positions were learned for these frames and this size only.
        training_prompts: of a training without any: cycled over its samples.
        sources: field -> where its value comes from.
    """

    name: str
    hub_id: str | None
    positions: Positions
    frames: int
    width: int
    height: int
    fps: float
    steps: int
    guidance_scale: float
    dynamic_cfg: bool
    scheduler: str
    block: int
    guided_range: tuple[float, float]
    tau: float
    mask: str
    inner_steps: int
    learning_rates: tuple[float, float]
    latent_learning_rates: tuple[float, float]
    samples: int
    parametrisation: str
    start: str
    max_text_tokens: int
    dtype: str
    negative_prompt: str = ""
    reading: Reading | None = None
    start_scale: float = 1.0
    phase: tuple[float, float] | None = None
    download_gb: float = 0.0
    min_gpu_gb: float = 0.0
    fixed_size: bool = False
    training_prompts: tuple[str, ...] = GENERAL_PROMPTS
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def bundled(self) -> bool:
        """Whether the weights ship with pe-toolkit."""
        return self.hub_id is None

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Its repository on the Hub under each name of its owner, `hub_id` first."""
        if self.hub_id is None:
            return ()
        owner, _, name = self.hub_id.partition("/")
        return tuple(f"{o}/{name}" for o in dict.fromkeys((owner, *OWNERS)))


# The first 10 of 50 trailing steps of CogVideoX are t = 999 .. 819. Noise at t = 819 is 0.9932 on
# 5b and 1.5 (SNR shift 1) and 0.9978 on 2b (shift 3), at the eleventh step 0.9910 and 0.9971; these
# bounds give the first fifth of 25, 30 and 100 steps as well (tests/test_recipes.py).
_FIRST_FIFTH_5B = (0.9915, 1.0)
_FIRST_FIFTH_2B = (0.9973, 1.0)

_BUNDLED = Variant(
    name="bundled",
    hub_id=None,
    positions="rotary",
    frames=33,
    width=128,
    height=128,
    fps=16.0,
    steps=20,
    guidance_scale=2.5,
    dynamic_cfg=False,
    scheduler="CogVideoXDDIMScheduler",
    block=4,
    reading=Reading((4, 5, 6), "content", 200),
    guided_range=(0.95, 1.0),
    tau=2.0,
    mask="tracked",
    inner_steps=3,
    learning_rates=(0.006, 0.003),
    latent_learning_rates=(0.01, 0.01),
    samples=2,
    parametrisation="angle",
    start="flow",
    start_scale=1.5,
    max_text_tokens=16,
    dtype="float32",
    training_prompts=TRAINING_PROMPTS,
    sources=sources.BUNDLED,
)

_TEXT_TO_VIDEO = (
    _BUNDLED,
    replace(_BUNDLED, name="bundled-absolute", positions="absolute", parametrisation="table"),
    Variant(
        name="cogvideox-2b",
        hub_id="THUDM/CogVideoX-2b",
        positions="absolute",
        frames=49,
        width=720,
        height=480,
        fps=8.0,
        steps=50,
        guidance_scale=6.0,
        dynamic_cfg=False,
        scheduler="CogVideoXDDIMScheduler",
        block=15,
        guided_range=_FIRST_FIFTH_2B,
        tau=2.0,
        mask="nonzero",
        inner_steps=5,
        learning_rates=(0.002, 0.001),
        latent_learning_rates=(0.002, 0.001),
        samples=1,
        parametrisation="table",
        start="zero",
        max_text_tokens=226,
        dtype="float16",
        download_gb=13.8,
        min_gpu_gb=16.0,
        sources=sources.published("THUDM/CogVideoX-2b", ran=True),
    ),
    Variant(
        name="cogvideox-5b",
        hub_id="THUDM/CogVideoX-5b",
        positions="rotary",
        frames=49,
        width=720,
        height=480,
        fps=8.0,
        steps=50,
        guidance_scale=6.0,
        dynamic_cfg=True,
        scheduler="CogVideoXDPMScheduler",
        block=20,
        guided_range=_FIRST_FIFTH_5B,
        tau=2.0,
        mask="nonzero",
        inner_steps=5,
        learning_rates=(0.002, 0.001),
        latent_learning_rates=(0.002, 0.001),
        samples=1,
        parametrisation="angle",
        start="zero",
        max_text_tokens=226,
        dtype="bfloat16",
        download_gb=21.6,
        min_gpu_gb=24.0,
        sources=sources.published("THUDM/CogVideoX-5b", ran=True),
    ),
    Variant(
        name="cogvideox1.5-5b",
        hub_id="THUDM/CogVideoX1.5-5B",
        positions="rotary",
        frames=81,
        width=1360,
        height=768,
        fps=16.0,
        steps=50,
        guidance_scale=6.0,
        dynamic_cfg=True,
        scheduler="CogVideoXDPMScheduler",
        block=20,
        guided_range=_FIRST_FIFTH_5B,
        tau=2.0,
        mask="nonzero",
        inner_steps=5,
        learning_rates=(0.002, 0.001),
        latent_learning_rates=(0.002, 0.001),
        samples=1,
        parametrisation="angle",
        start="zero",
        max_text_tokens=226,
        dtype="bfloat16",
        download_gb=31.6,
        min_gpu_gb=40.0,
        sources=sources.published("THUDM/CogVideoX1.5-5B", ran=False),
    ),
)


def _image_to_video(row: Variant, hub_id: str, more_gb: float) -> Variant:
    """The image-to-video checkpoint of a model: as the text-to-video one, first frame given.

    Only rotary positions are optimised: 5b has a learned table beside them, which fixes the size.
    """
    return replace(
        row,
        name=f"{row.name}-i2v",
        hub_id=hub_id,
        download_gb=round(row.download_gb + more_gb, 1),
        fixed_size=row.name == "cogvideox-5b",
        sources=sources.published(hub_id, ran=False),
    )


_ROWS: tuple[Variant, ...] = (
    *_TEXT_TO_VIDEO,
    _image_to_video(_TEXT_TO_VIDEO[-2], "THUDM/CogVideoX-5b-I2V", 0.1),  # its learned table
    _image_to_video(_TEXT_TO_VIDEO[-1], "THUDM/CogVideoX1.5-5B-I2V", 0.0),
)
VARIANTS: dict[str, Variant] = {row.name: row for row in _ROWS}
"""Name -> defaults, for every known backbone."""


def variant_for(name: str) -> Variant:
    """The row of a known name, of its repository on the Hub, or of that repository's bare name.

    Raises:
        UsageError: if the name is not known; lists those that are.
    """
    if not isinstance(name, str):
        raise unknown(name)
    wanted = name.casefold()
    for row in _ROWS:
        ids = [hub_id.casefold() for hub_id in row.hub_ids]
        if name == row.name or wanted in ids or wanted in [i.partition("/")[2] for i in ids]:
            return row
    raise unknown(name)


def unknown(name: object) -> UsageError:
    """The error for what is no name of a backbone; lists those that are."""
    return UsageError(
        f"Expected a backbone out of {', '.join(VARIANTS)}, a folder or a Hub id of a CogVideoX "
        f"model, got {name!r}.",
        "See `pe doctor` for what this machine can run.",
    )


def nearest(*, rotary: bool, in_time: bool, image_to_video: bool, scheduler: str) -> Variant:
    """Defaults for a CogVideoX that no row names: those of the closest one.

    Args:
        rotary: whether positions are.
        in_time: whether patches span several latent frames, as in 1.5.
        image_to_video: whether it begins with a picture.
        scheduler: class name of the user's. Dynamic guidance goes with the recommended one only.
    """
    kind = "-i2v" if image_to_video else ""
    name = f"cogvideox-5b{kind}" if rotary else "cogvideox-2b"
    row = VARIANTS[f"cogvideox1.5-5b{kind}" if in_time else name]
    return row if scheduler == row.scheduler else replace(row, dynamic_cfg=False)


def auto(gpu_gb: float | None) -> tuple[str, str]:
    """The backbone that `auto` stands for on a GPU of that many decimal gigabytes (None: no CUDA
    GPU), and why: 5b where it fits, 2b on a smaller one, else the bundled backbone.

    A 24 GB card may show a little less than 24.
    """
    if gpu_gb is None:
        return "bundled", "there is no CUDA GPU, and CogVideoX needs one"
    for name in ("cogvideox-5b", "cogvideox-2b"):
        if gpu_gb >= VARIANTS[name].min_gpu_gb * 0.95:
            return name, f"the GPU has {gpu_gb:.0f} GB"
    return "bundled", f"the GPU has only {gpu_gb:.0f} GB"
