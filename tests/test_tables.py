"""A new form of positions, and a new objective, is one file and one line in a table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORM = '''
"""The same turn for queries and keys."""
from pe_toolkit.embedding.rotary import RotaryAngle

class Shared(RotaryAngle):
    name = "shared"

    @property
    def shape(self):
        return super().shape[1:]

    def embed(self, delta):
        return super().embed(delta.expand(2, -1, -1))

    def from_offsets(self, offsets):
        return super().from_offsets(offsets)[0]
'''
OBJECTIVE = '''
"""Half as far."""
from pe_toolkit.objectives.amf import AmfObjective

class Half(AmfObjective):
    def loss(self, q, k):
        return super().loss(q, k) / 2
'''
# The two lines, then what a person does. A fresh interpreter: the tables are read once.
STORY = """
import sys
from pe_toolkit import embedding, objectives
line = embedding.Form("rotary", "shared", "shared:Shared", (embedding.TOKENS, "head_dim/2"))
embedding.FORMS += (line,)
objectives.OBJECTIVES = {**objectives.OBJECTIVES, "half": "half:Half"}

from click.testing import CliRunner
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import CardError, UnsupportedError
help = CliRunner().invoke(cli, ["train", "--help"]).output
assert "[table|angle|offset|shared]" in help, help
assert "torch" not in sys.modules

from pe_toolkit.apply import applied
from pe_toolkit.card import MotionCard
from pe_toolkit.training import TrainConfig, train
from tests import tiny

def card_of(parametrisation, objective):
    config = TrainConfig(
        prompts=("a red circle",), samples=1, parametrisation=parametrisation
    ).with_overrides({"objective": objective})
    *_, last = train(tiny.tiny_adapter(), tiny.moving_square(), config)
    return last.card

half, whole = card_of("shared", "half"), card_of("shared", "amf")
first = [card.spec.training.loss[0][0] for card in (half, whole)]
assert abs(first[0] * 2 - first[1]) < 1e-5 * first[1], first
assert half.tensors["positions"].shape == (half.guided_steps, half.spec.grid.tokens, 8)
half.save("card.safetensors")
assert MotionCard.load("card.safetensors").spec.recipe.objective == "half"
adapter = tiny.tiny_adapter()
with applied(adapter, "card.safetensors") as log:
    adapter.pipe("a red circle", **half.pipe_kwargs(), output_type="latent")
assert log.guided_steps == half.guided_steps
try:
    tiny.tiny_adapter("absolute").form("shared", 9, 32, 32)
except UnsupportedError as error:
    assert "its positions are absolute, and that is a form of rotary ones" in str(error), error
else:
    raise AssertionError
"""


def test_a_form_and_an_objective_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(FORM, encoding="utf-8")
    (tmp_path / "half.py").write_text(OBJECTIVE, encoding="utf-8")
    root = Path(__file__).parent.parent
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]\n{STORY}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
