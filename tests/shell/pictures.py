"""Small pictures that pass preflight and differ from each other."""

from io import BytesIO
from pathlib import Path

from PIL import Image


def picture(number: int) -> bytes:
    content = BytesIO()
    Image.new("RGB", (240, 160), (number % 256, number // 256 % 256, 7)).save(content, "PNG")
    return content.getvalue()


def folder_of(path: Path, count: int) -> str:
    """A folder with that many pictures; gives its prefix."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (path / f"{number:04}.png").write_bytes(picture(number))
    return f"file://{path}/"
