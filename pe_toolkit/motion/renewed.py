"""The phase where a scheduler draws noise at every step.

CogVideoX-5b and 1.5 are run with a scheduler that does (SDE-DPM, `CogVideoXDPMScheduler`): of the
noise epsilon that a generation begins with, a step keeps the share sqrt(1 - u^2) and adds u times a
noise n of its own. From pure noise u is 1, so that the first step already leaves nothing of it, the
phase of a card neither. Inside of the disc that bears the phase the noise stays, as with a
scheduler that draws none, if

    sqrt(1 - u^2) epsilon + u n' = epsilon,   n' = s epsilon,   s = (1 - sqrt(1 - u^2)) / u

and outside of it n' = beta n with the beta of `motion.phase`: as strong as the noise that the
generation began with is there.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pe_toolkit.motion.phase import as_strong, disc, planes_of, spectrum_of

Renewal = Callable[[Tensor, Tensor, float], Tensor]
"""What a step takes instead of the noise that it draws: of that noise, of the noise that the
generation began with (both `(N, F, C, h, w)`, of standard deviation 1), and of the share u of
the noise after the step that it makes up, 0 to 1.
"""


def renewing(radius: float) -> Renewal:
    """`renewed` for a disc of so many cycles per picture."""

    def change(drawn: Tensor, began: Tensor, part: float) -> Tensor:
        return renewed(drawn, began, part, radius)

    return change


def renewed(drawn: Tensor, began: Tensor, part: float, radius: float) -> Tensor:
    """n' of the formula of this module.

    Args:
        drawn: n, `(..., h, w)`, any floating dtype and device.
        began: epsilon, which bears a phase in the disc: as `drawn`.
        part: u, 0 to 1; with 0, nothing of n' is used.
        radius: of the disc, in cycles per picture, as of the phase.

    Returns:
        As `drawn`.

    Raises:
        UsageError: as `motion.phase.disc`.
    """
    half = disc(radius, *drawn.shape[-2:]).to(drawn.device)
    ky, kx = half.unbind(-1)
    spectrum, kept = spectrum_of(drawn), spectrum_of(began)
    new, beta = as_strong(spectrum, spectrum[..., ky, kx], kept[..., ky, kx], 1.0, fitted=True)
    new = new * ((1 - (1 - part**2) ** 0.5) / part if part else 0.0)
    return planes_of(spectrum * beta[..., None, None], half, new).to(drawn.dtype)
