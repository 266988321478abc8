"""Write the Python API as a small static site, by pdoc, from the docstrings.

python docs/generate_site.py [site]

One page for each module that docs/api.md names something of, with its sources; nothing on them is
fetched from a network. `docs/check_links.py site` checks the links.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_api", HERE / "generate_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def modules() -> list[str]:
    """Those that docs/api.md says to import from, and those that define what is on it."""
    api, found = _generator(), set()
    for module, names in api.PARTS.values():
        found.add(module)
        for name in names or api.public(module):
            inner, _, last = name.rpartition(":")
            origin = f"{module}.{inner}" if inner else module
            found |= {origin, api.find(origin, last)[0]}
    return sorted(found)


def main(words: list[str]) -> int:
    """Returns the exit code."""
    import pdoc
    import pdoc.render

    folder = Path(words[0] if words else "site")
    for name in modules():  # what is imported when it is first used, pdoc does not find by itself
        module = importlib.import_module(name)
        vars(module).update({n: getattr(module, n) for n in getattr(module, "__all__", ())})
    pdoc.render.configure(docformat="google", footer_text="pe-toolkit", search=True)
    pdoc.pdoc(*modules(), output_directory=folder)
    print(f"{folder}/index.html: {len(modules())} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
