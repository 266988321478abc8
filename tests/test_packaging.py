"""What is built and installed: one top-level name, every package, the bundled weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import pe_toolkit

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "setuptools"
]
BUNDLED = "pe_toolkit/backbones/bundled"
MAX_BYTES = 25 * 1000**2
LINKS = {"cli", "registry"}
PLACES = {"pe_toolkit": "pe_toolkit/", "cli": "pe_toolkit/cli/", "registry": "pe_toolkit/registry/"}
"""Folder of the repository -> where its files lie in the wheel."""


def packages_in(folder: Path, name: str) -> set[str]:
    """Dotted names of `folder` and everything below it that holds an `__init__.py`."""
    found = set()
    for init in folder.rglob("__init__.py"):
        parts = init.parent.relative_to(folder).parts
        if not name.startswith("pe_toolkit.") and LINKS.intersection(parts[:1]):
            continue  # the links: counted where they point to
        found.add(".".join((name, *parts)))
    return found


def data_files(tree: Path) -> set[str]:
    """Everything in the package folders that is not Python, as paths inside the wheel."""
    return {
        place + path.relative_to(tree / folder).as_posix()
        for folder, place in PLACES.items()
        for path in (tree / folder).rglob("*")
        if path.is_file() and path.suffix != ".py" and not through_link(tree, path)
    }


def modules(tree: Path) -> set[str]:
    """Every Python file of the package folders, as paths inside the wheel."""
    return {
        place + path.relative_to(tree / folder).as_posix()
        for folder, place in PLACES.items()
        for path in (tree / folder).rglob("*.py")
        if not through_link(tree, path)
    }


def through_link(tree: Path, path: Path) -> bool:
    """Whether `path` is a second way to a file, through one of the links in `pe_toolkit/`."""
    parts = path.relative_to(tree).parts
    return parts[0] == "pe_toolkit" and parts[1] in LINKS


def test_packages_list_is_the_folders() -> None:
    found = packages_in(ROOT / "pe_toolkit", "pe_toolkit")
    for name, folder in SETUPTOOLS["package-dir"].items():
        found |= packages_in(ROOT / folder, name)
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


@pytest.mark.parametrize("name", ["cli", "registry"])
def test_links_lead_to_the_folders(name: str) -> None:
    link = ROOT / "pe_toolkit" / name
    if not link.is_dir():
        pytest.skip("a checkout without symbolic links")
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


@pytest.fixture(scope="module")
def clean_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks or would track, as a fresh clone has it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    tree = tmp_path_factory.mktemp("clone")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, tree / name
        if not source.is_symlink() and not source.is_file():
            continue  # deleted, and not yet committed
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return tree


@pytest.fixture(scope="module")
def sdist(clean_tree: Path) -> Path:
    build(clean_tree, "--sdist")
    return next((clean_tree / "dist").glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, not from the tree: whatever the sdist forgets is missing here too."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    tree = next(folder.iterdir())
    build(tree, "--wheel")
    return next((tree / "dist").glob("*.whl"))


def build(tree: Path, kind: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", kind],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    log = result.stdout + result.stderr
    assert result.returncode == 0, log
    assert "would be ignored" not in log  # a data folder that setuptools takes for a package


def test_wheel_holds_one_top_level_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"pe_toolkit-{pe_toolkit.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"pe_toolkit", info}


def test_wheel_holds_every_module_once(wheel: Path, clean_tree: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(name for name in names if name.endswith(".py")) == sorted(modules(clean_tree))


def test_wheel_holds_every_data_file(wheel: Path, clean_tree: Path) -> None:
    """The bundled weights first of all; and whatever else lies in a package folder."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    data = {name for name in names if not name.endswith(".py")}
    assert data == data_files(clean_tree)
    assert "pe_toolkit/py.typed" in data


def test_bundled_backbone_is_small_enough(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    bundled = [i for i in archive.infolist() if i.filename.startswith(f"{BUNDLED}/")]
    assert sum(info.file_size for info in bundled) <= MAX_BYTES
    assert wheel.stat().st_size <= MAX_BYTES


def test_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"pe_toolkit-{pe_toolkit.__version__}.dist-info"
    metadata = archive.read(f"{info}/METADATA").decode()
    assert f"Version: {pe_toolkit.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "pe = pe_toolkit.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert b"Apache License" in archive.read(f"{info}/licenses/LICENSE")


def test_sdist_holds_one_copy_of_each_file(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert len(names) == len(set(names))
    assert "cli/main.py" in names
    assert "pe_toolkit/cli/main.py" not in names
    assert {"LICENSE", "Makefile", "tests/conftest.py", "CHANGELOG.md", "CITATION.cff"} <= set(
        names
    )
    assert {"docs/records/transfer-2026-11-21.json", "docs/images/transfer.png"} <= set(names)
    assert not [name for name in names if name.startswith(("runs/", ".venv/"))]


def test_sdist_is_small_enough(sdist: Path) -> None:
    assert sdist.stat().st_size <= 2 * MAX_BYTES


def test_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked as pip does it, and run with nothing else of ours on the path."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1));"
        "import pe_toolkit; print(pe_toolkit.__file__);"
        "from pe_toolkit.cli.main import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "site") in result.stdout
    assert "pe train" in result.stdout


def test_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {pe_toolkit.__version__}\n" in text


def test_an_unpacked_sdist_can_be_tested(sdist: Path, tmp_path: Path) -> None:
    """With nothing but our dependencies: the links are made by its own tests."""
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(tmp_path, filter="data")
        else:
            archive.extractall(tmp_path)
    tree = next(tmp_path.iterdir())
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "tests/test_cli_main.py", "tests/test_help_page.py", "tests/test_layers.py",
         "tests/registry/test_references.py"],
        cwd=tree, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
