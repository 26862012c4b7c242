"""What is published: the wheel holds the package and nothing else, the sdist what a builder needs."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_every_module_the_type_marker_and_the_licence(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "airflow_provider_jdocr"
    modules = {path.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}
    assert modules | {"airflow_provider_jdocr/py.typed"} <= names
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_wheel_holds_no_picture_and_no_test(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [
        name for name in names if Path(name).suffix in {".png", ".jpg", ".jpeg", ".bmp", ".ttf", ".pyc"}
    ]
    assert not [name for name in names if name.split("/")[0] in {"tests", "dags", "docs"}]
    assert wheel.stat().st_size < 500_000


def test_airflow_finds_the_provider_by_the_wheels_entry_point(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    text = archive.read(entry_points).decode()
    assert "[apache_airflow_provider]" in text
    assert "provider_info = airflow_provider_jdocr.get_provider_info:get_provider_info" in text


def test_the_sdist_builds_the_same_package_and_is_small(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "README.md", "airflow_provider_jdocr/py.typed"} <= names
    assert not [name for name in names if name.startswith("tests/specimens/pictures/")]
    assert sdist.stat().st_size < 2_000_000
