"""Another motion made of cards, without training: mirrored, reversed, faster, resized, combined.

    changed(card, Change(mirror=("left-right",), speed=0.5))

cards      a card and what is done to it -> a new card
fields     the motion as fields over the token grid, and each edit of them
phase      the same of the phase of the initial noise
things     whole things in a region
maps       one motion after another, where they are maps of the whole picture
measured   the same of the camera and the paths that a card says in numbers
sizes      whole patches and latent frames, masks
"""

from pe_toolkit.editing.cards import AXES, Change, changed

__all__ = ["AXES", "Change", "changed"]
