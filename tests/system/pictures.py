"""Pictures that the stub engine answers for: small, each of its own, with a consistent invoice as their
truth.
"""

import io
import json
import random
from decimal import Decimal

from PIL import Image, PngImagePlugin


def stub_picture(number: int, *, total: Decimal | None = None, least_bytes: int = 0) -> bytes:
    """A picture of invoice `number`; with another total it is another scan that says something else.

    `least_bytes`: how large the file is at least; what fills it up means nothing.
    """
    amount = Decimal(100 + number) if total is None else total / Decimal("1.13")
    amount = amount.quantize(Decimal("0.01"))
    tax = (amount * Decimal("0.13")).quantize(Decimal("0.01"))
    fields = {
        "vat_invoice_type": "增值税电子普通发票",
        "vat_invoice_daima": "012002000211",
        "vat_invoice_haoma": f"{10_000_000 + number}",
        "vat_invoice_issue_date": "2020年05月15日",
        "vat_invoice_correct_code": "08277904119363653442",
        "vat_invoice_total": str(amount),
        "vat_invoice_tax_total": str(tax),
        "vat_invoice_total_cover_tax_digits": str(amount + tax),
        "vat_invoice_tax_rate": "13%",
        "vat_invoice_payer_name": "北京云杉示例信息技术有限公司",
        "vat_invoice_seller_name": "天津远帆示例机械设备有限公司",
        "vat_invoice_seller_id": "91120104MAGNP25J6J",
    }
    info = PngImagePlugin.PngInfo()
    truth = json.dumps({"type": "vat_electronic_invoice", "fields": fields})
    info.add_text("jdocr-truth", truth)
    if least_bytes:
        info.add(b"noIs", random.Random(number).randbytes(least_bytes))
    content = io.BytesIO()
    Image.new("RGB", (240, 160), (number % 256, number // 256, 99)).save(content, "PNG", pnginfo=info)
    return content.getvalue()
