"""A whole Airflow with one invoice in doubt, a person who may log in, and a picture that a browser can show.

The invoice is fictitious and drawn. In the total that the service says, a 3 was read as an 8.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image, PngImagePlugin
from playwright.sync_api import Locator, Page

from tests.system.browser import page
from tests.system.installation import FINISHED, ROOT, Installation, Run, installation, until

PERSON, PASSWORD = "li.lei", "a-password-of-the-test"
SPECIMEN = "electronic_plain.png"
PRINTED, READ = "8633.30", "8633.80"
_PICTURES = ROOT / "tests" / "specimens" / "pictures"


DAG = "review_doubtful_invoices"


@dataclass(frozen=True, slots=True)
class ReviewStage:
    """`pictures`: where the browser sees them, as `picture_url` wants it."""

    airflow: Installation
    page: Page
    pictures: str

    def load(self) -> None:
        """The invoice is recognised and loaded, and is in doubt."""
        content = _misread()
        folder = self.airflow.home / "pictures" / "invoices" / "inbox"
        folder.mkdir(parents=True)
        (folder / SPECIMEN).write_bytes(content)
        run = self.airflow.trigger("batch", images=self.airflow.put("inbox", {SPECIMEN: content}))
        assert run.finish() == {"recognise": "success", "load": "success"}

    def ask(self) -> Run:
        """A run of the example DAG that waits for somebody's answer."""
        run = self.airflow.trigger(DAG, picture_url=self.pictures)
        self.await_question(run)
        return run

    def await_question(self, run: Run, try_number: int = 1) -> None:
        def asked() -> bool:
            task = self.tasks(run).get("review.ask", {})
            return task.get("state") in ("awaiting_input", "deferred") and task["try_number"] == try_number

        until(asked, f"question {try_number} of {run.run_id}", 180)

    def await_end(self, run: Run) -> dict[str, str]:
        until(lambda: run.has_ended or None, f"the end of {run.run_id}", 180)
        assert all(task["state"] in FINISHED for task in self.tasks(run).values())
        return {name: task["state"] for name, task in self.tasks(run).items()}

    def tasks(self, run: Run) -> dict[str, dict[str, Any]]:
        found = self.airflow.get(f"dags/{DAG}/dagRuns/{run.run_id}/taskInstances")
        return {task["task_id"]: task for task in found["task_instances"]}

    def log_in(self) -> None:
        self.page.goto(f"{self.airflow.api}/auth/login")
        self.page.get_by_label("Username").fill(PERSON)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.airflow.api}/")

    def open_required_actions(self) -> Locator:
        """The list of what is to be answered; gives the links of its subjects."""
        self.page.goto(f"{self.airflow.api}/required_actions?response_received=false")
        subjects = self.page.get_by_role("link", name="¥")
        subjects.first.wait_for()
        return subjects

    def open_question(self) -> None:
        """The first of them, with its form, and with the picture when it has come."""
        self.open_required_actions().first.click()
        self.page.get_by_role("button", name="Save corrections").wait_for()
        self.page.wait_for_function("[...document.images].every(each => each.complete)")

    def field(self, name: str) -> Locator:
        """The input of a field of the form."""
        return self.page.locator(f"#element_{name}")

    def answer(self, option: str) -> None:
        """Chooses it, and waits until Airflow has taken it: then nothing can be chosen any more."""
        self.page.get_by_role("button", name=option).click()
        self.page.get_by_role("button", name=option, disabled=True).wait_for()


@contextmanager
def review_stage(home: Path) -> Iterator[ReviewStage]:
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({PERSON: PASSWORD}))
    settings = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{PERSON}:op",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    with (
        installation(home, settings, login=(PERSON, PASSWORD)) as airflow,
        _gallery(home / "pictures") as pictures,
        page(home) as browser,
    ):
        yield ReviewStage(airflow, browser, pictures)


@contextmanager
def _gallery(folder: Path) -> Iterator[str]:
    """A web server of the pictures, as people have one inside their network."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{{bucket}}/{{key}}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


def _misread() -> bytes:
    """The drawn invoice, with what the stub service is to read from it."""
    truth: list[dict[str, Any]] = json.loads((_PICTURES / "truth.json").read_text(encoding="utf-8"))
    (invoice,) = [each for each in truth if each["file"] == SPECIMEN]
    fields = {**invoice["intsig"], "vat_invoice_total_cover_tax_digits": READ}
    info = PngImagePlugin.PngInfo()
    info.add_text("jdocr-truth", json.dumps({"type": invoice["type"], "fields": fields}))
    content = io.BytesIO()
    with Image.open(_PICTURES / SPECIMEN) as picture:
        picture.save(content, "PNG", pnginfo=info)
    return content.getvalue()
