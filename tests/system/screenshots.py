"""The pictures of docs/review.md: ``python -m tests.system.screenshots FOLDER``.

From a whole Airflow and a real browser, with an invoice that nobody ever issued.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from airflow_provider_jdocr import review_answers
from tests.system.browser import CHROMIUM_IS_ABSENT, chromium
from tests.system.review_stage import ReviewStage, review_stage

_COLORS = 64
"""Enough for a page of text, and a quarter of the size."""


def main() -> int:
    if chromium() is None:
        print(CHROMIUM_IS_ABSENT)
        return 1
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="jdocr-review-") as home, review_stage(Path(home)) as stage:
        stage.load()
        stage.log_in()
        run = stage.ask()
        stage.page.goto(f"{stage.airflow.api}/required_actions")
        stage.page.get_by_role("link", name="¥").wait_for()
        _keep(stage, folder / "required_actions.png", (0, 0, 1400, 250))
        stage.page.set_viewport_size({"width": 1400, "height": 3100})
        stage.open_question()
        _keep(stage, folder / "review_form.png", (355, 380, 1400, 3100))
        stage.answer(review_answers.CORRECT)
        stage.await_end(run)
    return 0


def _keep(stage: ReviewStage, path: Path, part: tuple[int, int, int, int]) -> None:
    stage.page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(stage.page.screenshot())).convert("RGB").crop(part)
    small = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)
    small.quantize(_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    sys.exit(main())
