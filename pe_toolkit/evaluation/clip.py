"""What CLIP and DINO say of frames: whether a video shows the prompt, and whether it looks like the
reference. By transformers, imported here only; the weights are fetched from the Hub on first use.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pe_toolkit.errors import DependencyError, UsageError

CLIP = "openai/clip-vit-base-patch32"
"""What the published image quality (IQ) scores were made with."""
DINO = "facebook/dino-vitb16"
MOMENTS = 8
"""Frames that are compared for driving similarity, as in `likeness`."""
_BATCH = 16
# Mean and spread of red, green and blue that the models were trained with (0 to 1).
_CLIP_COLOURS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_DINO_COLOURS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Frames = NDArray[np.uint8]


def text_similarity(frames: Frames, prompt: str, model: str = CLIP) -> float:
    """Mean over all frames of the cosine of CLIP's embeddings of the frame and the prompt (IQ of
    DiTFlow, CLIP score without its factor of 100).

    Range [-1, 1], about 0.2 to 0.35 in practice; higher is better.

    Args:
        frames: `(F, H, W, 3)` uint8 RGB.
        prompt: English; CLIP reads the first 77 tokens.
        model: of the Hub, or a folder.

    Raises:
        DependencyError: the weights cannot be had.
    """
    clip, tokenizer = _clip(model)
    tokens = tokenizer([prompt], truncation=True, max_length=_longest(clip), return_tensors="pt")
    with torch.no_grad():
        text = clip.text_projection(clip.text_model(**tokens).pooler_output)
    images = _clip_images(frames, model)
    return float(torch.cosine_similarity(images, text.float(), dim=-1).mean())


def driving_similarity_clip(reference: Frames, video: Frames, model: str = CLIP) -> float:
    """The leak number by CLIP: mean over 8 evenly spaced moments of the cosine of the embeddings of
    both pictures. Range [-1, 1], lower is better; unrelated clips are at some 0.5.

    Raises:
        DependencyError: the weights cannot be had.
    """
    a, b = (_clip_images(_moments(frames), model) for frames in (reference, video))
    return float(torch.cosine_similarity(a, b, dim=-1).mean())


def driving_similarity_dino(reference: Frames, video: Frames, model: str = DINO) -> float:
    """The leak number by DINO (its class token), which sees shape more than meaning. As
    `driving_similarity_clip`; unrelated clips are lower.

    Raises:
        DependencyError: the weights cannot be had.
    """
    a, b = (_dino_images(_moments(frames), model) for frames in (reference, video))
    return float(torch.cosine_similarity(a, b, dim=-1).mean())


def fetch_clip(model: str = CLIP) -> None:
    """Have the weights here; kept for the metrics of this process.

    Raises:
        DependencyError: they cannot be had.
    """
    _clip(model)


def fetch_dino(model: str = DINO) -> None:
    """As `fetch_clip`."""
    _dino(model)


@functools.cache
def _clip(name: str) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPTokenizer

    return _loaded(CLIPModel, name), _loaded(CLIPTokenizer, name)


@functools.cache
def _dino(name: str) -> Any:
    from transformers import ViTModel

    return _loaded(ViTModel, name, add_pooling_layer=False)


def _loaded(kind: Any, name: str, **options: Any) -> Any:
    try:
        part = _from_cache_or_hub(kind, name, **options)
    except Exception as error:  # of the network, of the client, of a repository that is not there
        why = str(error).strip().splitlines()
        raise DependencyError(
            f"Expected the weights of {name}, but they cannot be had: "
            f"{why[0] if why else type(error).__name__}",
            "They are fetched from the Hub on first use: go online once, or leave out the metrics "
            "that need them (`pe eval` without --metrics asks for none).",
        ) from error
    return part.eval() if isinstance(part, torch.nn.Module) else part


def _from_cache_or_hub(kind: Any, name: str, **options: Any) -> Any:
    """What was fetched once is used without asking the Hub; and the Hub is asked once, briefly,
    whether it is there, because transformers asks for each file, six times.
    """
    try:
        return kind.from_pretrained(name, local_files_only=True, **options)
    except (OSError, ValueError):
        from huggingface_hub import HfApi

        HfApi().model_info(name, timeout=10)
        return kind.from_pretrained(name, **options)


def _longest(clip: Any) -> int:
    return int(clip.config.text_config.max_position_embeddings)


def _clip_images(frames: Frames, name: str) -> Tensor:
    clip, _ = _clip(name)
    side = int(clip.config.vision_config.image_size)

    def embed(pictures: Tensor) -> Tensor:
        found: Tensor = clip.visual_projection(clip.vision_model(pictures).pooler_output)
        return found

    return _embedded(frames, side, _CLIP_COLOURS, embed)


def _dino_images(frames: Frames, name: str) -> Tensor:
    dino = _dino(name)

    def embed(pictures: Tensor) -> Tensor:
        found: Tensor = dino(pictures).last_hidden_state[:, 0]
        return found

    return _embedded(frames, int(dino.config.image_size), _DINO_COLOURS, embed)


def _embedded(frames: Frames, side: int, colours: Any, embed: Any) -> Tensor:
    """`(F, D)` of square pictures: the shorter side to `side`, bicubic, the middle cut out."""
    if frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise UsageError(f"Expected frames (F, H, W, 3) uint8, got {frames.shape}.")
    mean, spread = (torch.tensor(c).view(1, 3, 1, 1) for c in colours)
    found = []
    with torch.no_grad():
        for start in range(0, len(frames), _BATCH):
            squares = np.stack([_square(frame, side) for frame in frames[start : start + _BATCH]])
            pictures = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
            found.append(embed((pictures - mean) / spread).float())
    return torch.cat(found)


def _square(frame: Frames, side: int) -> Frames:
    height, width = frame.shape[:2]
    factor = side / min(height, width)
    size = max(side, round(width * factor)), max(side, round(height * factor))
    image = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def _moments(frames: Frames) -> Frames:
    return np.asarray(frames[np.rint(np.linspace(0, len(frames) - 1, MOMENTS)).astype(int)])
