"""Parts of other packages: a real installed one, made in a folder on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pe_toolkit import extensions
from pe_toolkit.errors import DependencyError, UsageError

GROUP = "pe_toolkit.objectives"
OWN = {"dumps": "json:dumps"}


def install(
    folder: Path, name: str, module: str | None, entries: str, version: str = "0.3"
) -> None:
    """What `pip install` leaves: the module, and a dist-info that declares its entry points."""
    folder.mkdir(exist_ok=True)
    if module is not None:
        (folder / f"{name}.py").write_text(module, encoding="utf-8")
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
    )
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("away", "broken", "other", "smooth"):
        sys.modules.pop(name, None)


def load(name: str) -> object:
    return extensions.load(GROUP, OWN, name, "an objective")


def test_without_other_packages_there_are_ours() -> None:
    assert extensions.names_in("pe_toolkit.nothing", OWN) == ("dumps",)
    import json

    assert load("dumps") is json.dumps


def test_an_installed_package_adds_a_name(site) -> None:
    install(
        site, "smooth", "class Smooth:\n    pass\n", "smooth = smooth:Smooth\na = smooth:Smooth"
    )
    assert extensions.names_in(GROUP, OWN) == ("dumps", "a", "smooth")
    assert "smooth" not in sys.modules  # listing imports nothing of it
    assert load("smooth").__name__ == "Smooth"


def test_names_that_ship_are_not_taken_over(site) -> None:
    install(site, "smooth", "Smooth = None\n", "dumps = smooth:Smooth")
    assert extensions.names_in(GROUP, OWN) == ("dumps",)
    assert load("dumps") is not None


def test_unknown_names_are_refused_with_those_there_are(site) -> None:
    install(site, "smooth", "class Smooth: ...\n", "smooth = smooth:Smooth")
    with pytest.raises(UsageError, match=r"an objective out of dumps, smooth, got 'none'"):
        load("none")


@pytest.mark.parametrize(
    ("module", "entry", "said"),
    [
        (None, "bad = away:Thing", "ModuleNotFoundError"),
        ("raise RuntimeError('no licence')\n", "bad = broken:Thing", "RuntimeError: no licence"),
        ("", "bad = broken:Thing", "AttributeError"),
        ("Thing = 1\n", "BAD NAME = broken:Thing", "rename"),
    ],
)
def test_a_bad_one_names_its_package(site, module, entry, said) -> None:
    install(site, "broken", module, entry)
    with pytest.raises(DependencyError) as caught:
        load(entry.partition(" =")[0])
    assert "broken 0.3" in caught.value.message
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_two_packages_for_one_name_are_both_named(site) -> None:
    for name in ("smooth", "other"):
        install(site, name, "class Thing: ...\n", f"same = {name}:Thing")
    with pytest.raises(DependencyError, match=r"other 0\.3 and smooth 0\.3"):
        load("same")


def test_one_that_does_not_fit_is_refused_by_its_package(site) -> None:
    install(site, "smooth", "Smooth = 3\n", "smooth = smooth:Smooth")
    error = extensions.refused(GROUP, "smooth", "an objective", "it has no `loss`")
    assert "smooth 0.3" in error.message
    assert "it has no `loss`" in error.message
