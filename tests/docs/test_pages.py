"""The documentation: the reference is that of the package, pages build without warnings, and what they show is true."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fedmpi.config import loads, parts, validate
from fedmpi.config.schema import value_of
from fedmpi.experiment.parts import resolve

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
MINE = PROJECT / "tests" / "parts" / "mine"

PARTS_PAGE = (DOCS / "parts.md").read_text(encoding="utf-8")
FILES = re.findall(r'```python title="(\w+\.py)"\n(.*?)```', PARTS_PAGE, re.DOTALL)
CONFIGURATIONS = re.findall(r"```toml\n(.*?)```", PARTS_PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["configuration.md", "trace.md", "interfaces.md"])
def test_the_reference_is_what_the_package_says(generator: ModuleType, name: str) -> None:
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == generator.pages()[name], "run python docs/generate_reference.py"


def test_a_key_without_a_phrase_is_refused(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"keys of \[x\]: b, c"):
        generator._agree("keys of [x]", {"a": "", "b": ""}, ["a", "c"])


def test_every_built_in_part_is_in_the_reference(generator: ModuleType) -> None:
    page = generator.pages()["configuration.md"]
    for key in parts.FAMILIES:
        rows = page.split(f"Built-in names of `{key}`:")[1].split("\n\n")[1].splitlines()[2:]
        assert [row.split("`")[1] for row in rows] == list(parts.built_in(key))


@pytest.mark.parametrize(
    "key", ["sparsification.method", "k_control.method", "pruning.method", "federation.aggregator"]
)
def test_every_method_is_described(key: str) -> None:
    described = (DOCS / "methods.md").read_text(encoding="utf-8")
    for name in parts.built_in(key):
        assert f"`{name}`" in described


@pytest.mark.parametrize(("name", "text"), FILES)
def test_the_parts_that_are_shown_are_those_that_are_tested(name: str, text: str) -> None:
    assert text in (MINE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_the_configurations_that_are_shown_can_be_run(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(MINE)
    config = loads(text)
    validate(config)
    resolve(config)
    shown = [key for key in parts.FAMILIES if parts.is_reference(value_of(config, key))]
    assert shown
    for key in shown:
        parts.find(key, value_of(config, key))


def test_the_pages_build_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "parts/index.html", "configuration/index.html", "trace/index.html"):
        assert (tmp_path / page).is_file()


def test_the_readme_leads_to_what_exists() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (PROJECT / target).exists(), target
