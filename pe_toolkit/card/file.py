"""The bytes of a card: the same for the same content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pe_toolkit.card.header import encode_header, file_order
from pe_toolkit.card.spec import CardSpec
from pe_toolkit.writing import Buffer

if TYPE_CHECKING:
    from pe_toolkit.card.tensors import Array


def card_chunks(spec: CardSpec, tensors: Mapping[str, Array]) -> Iterator[Buffer]:
    """The bytes of a card file, piece by piece; the description and tensors were checked before."""
    from pe_toolkit.card.tensors import layout_of, tensor_bytes  # numpy, for this function only

    layout = layout_of(tensors)
    yield encode_header(spec.canonical(), layout)
    for name in file_order(layout):
        yield tensor_bytes(tensors[name])
