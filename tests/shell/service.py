"""A server in the place of JD's `ocr_invoice`, as small as can be: it counts calls and answers as it is
told.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Answer = tuple[int, bytes]

FIELDS = {
    "code": "044031900111",
    "invoice_no": "12345678",
    "invoice_date": "20190308",
    "invoice_type": "10",
    "invoice_amount": "100.00",
    "tax_amount": "13.00",
    "total_amount": "113.00",
    "buyer_name": "买方",
    "buyer_tax_no": "",
    "saler_name": "卖方",
    "saler_tax_no": "",
    "verify_code": "08277904119363653442",
}


def invoice(remain: int = 499) -> Answer:
    result = {"code": 0, "message": "success", "request_id": "r", "result": FIELDS}
    return _reply(
        {"code": "10000", "charge": True, "remain": remain, "msg": "查询成功,扣费", "result": result}
    )


def keyed_invoice() -> Answer:
    """The same invoice as `intsig_invoice` answers it."""
    items = {
        "vat_invoice_daima": FIELDS["code"],
        "vat_invoice_haoma": FIELDS["invoice_no"],
        "vat_invoice_issue_date": FIELDS["invoice_date"],
        "vat_invoice_total": FIELDS["invoice_amount"],
        "vat_invoice_tax_total": FIELDS["tax_amount"],
        "vat_invoice_total_cover_tax_digits": FIELDS["total_amount"],
    }
    item_list = [{"key": key, "value": value} for key, value in items.items()]
    business = {"type": "vat_electronic_invoice", "item_list": item_list}
    result = {"code": 200, "message": "success", "result": business}
    return _reply({"code": "10000", "charge": True, "msg": "查询成功,扣费", "result": result})


def system(code: str, message: str = "") -> Answer:
    return _reply({"code": code, "charge": False, "msg": message})


def _reply(body: dict[str, Any]) -> Answer:
    return 200, json.dumps(body, ensure_ascii=False).encode()


class Service:
    """Answers on loopback while the `with` block lasts. `answer` may be replaced at any time."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.answer: Callable[[bytes], Answer] = lambda _: invoice()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Service":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.calls.append(body)
                status, content = service.answer(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                pass

        return Handler
