"""What the columns of the warehouse mean, in English and Chinese; the columns themselves come from the code.

A column without a meaning, and a meaning without a column, fail a test. ``table.column`` comes before
``column``.
"""

from collections.abc import Mapping

MEANINGS: Mapping[str, tuple[str, str]] = {
    # documents
    "document_id": ("stands for service, endpoint, picture and page", "代表服务、接口、图片和页"),
    "service": (
        "`jd`, or the host of a service of one's own",
        "`jd`，或自建服务的主机",
    ),
    "endpoint": ("`ocr_invoice` or `intsig_invoice`", "`ocr_invoice` 或 `intsig_invoice`"),
    "sha256": ("of the original file", "原始文件的 SHA-256"),
    "page": ("of the file, from 1", "文件中的页，从 1 起"),
    "state": (
        "`recognised`; `unparsed`: the answer cannot be read; `failed`: the service could not recognise it",
        "`recognised` 已识别；`unparsed` 应答读不懂；`failed` 服务未能识别",
    ),
    "answer_code": ("of the stored answer", "所存应答的代码"),
    "answer_message": ("of the stored answer", "所存应答的消息"),
    "http_status": ("of the stored answer", "所存应答的 HTTP 状态"),
    "answer_id": ("leads to the raw answer in the ledger", "通向账本里的应答原文"),
    "answered_at": ("when the answer came", "应答到达的时间"),
    "reading_version": ("of parser and checks that read it", "读它的解析器和校验的版本"),
    "uris": ("the names under which the file was loaded", "入库时这个文件的各个名字"),
    "documents.invoice_key": (
        "the invoice it belongs to; empty where code and number are none",
        "它属于哪张发票；代码和号码不成立时为空",
    ),
    "line_count": ("rows in `lines`", "`lines` 里的行数"),
    "evidence": (
        "by column: printed text, key of the service, confidence, position",
        "按列：票面原文、服务的键、置信度、位置",
    ),
    "details": ("everything else that the answer holds, verbatim", "应答里其余的一切，原样保存"),
    "doubtful": ("whether one of its own findings is an error", "它自己的问题里有没有程度为 error 的"),
    # both documents and invoices
    "kind": ("kind of invoice, see below", "发票种类，见下"),
    "kind_text": ("the kind as the service said it", "服务报出的种类原文"),
    "code": ("发票代码; empty on a fully digital invoice", "发票代码；数电票为空"),
    "number": ("发票号码: 8 digits, 20 on a fully digital invoice", "发票号码：8 位，数电票 20 位"),
    "issue_date": ("开票日期", "开票日期"),
    "check_code": ("校验码, 20 digits", "校验码，20 位"),
    "machine_number": ("机器编号", "机器编号"),
    "buyer_name": ("购买方名称", "购买方名称"),
    "buyer_tax_id": ("购买方纳税人识别号", "购买方纳税人识别号"),
    "buyer_address_phone": ("购买方地址、电话", "购买方地址、电话"),
    "buyer_bank_account": ("购买方开户行及账号", "购买方开户行及账号"),
    "seller_name": ("销售方名称", "销售方名称"),
    "seller_tax_id": ("销售方纳税人识别号", "销售方纳税人识别号"),
    "seller_address_phone": ("销售方地址、电话", "销售方地址、电话"),
    "seller_bank_account": ("销售方开户行及账号", "销售方开户行及账号"),
    "amount": ("合计金额, before tax", "合计金额（不含税）"),
    "tax": ("合计税额; empty where 免税 or `***` is printed", "合计税额；印有免税或 `***` 时为空"),
    "total": ("价税合计", "价税合计（小写）"),
    "total_in_words": ("价税合计（大写）, as printed", "价税合计（大写），原文"),
    "tax_rate": (
        "the rate of all lines, 0.13 for 13 %; empty where there are several",
        "各行共同的税率，13 % 为 0.13；有几个税率时为空",
    ),
    "tax_rate_text": ("the rate as printed", "税率原文"),
    "remarks": ("备注", "备注"),
    "payee": ("收款人", "收款人"),
    "reviewer": ("复核, printed on the invoice", "票面上的复核人"),
    "drawer": ("开票人", "开票人"),
    "stamp": ("whether a stamp was seen", "是否看到印章"),
    "takes_back": (
        "key of the invoice that this red one takes back",
        "这张红字发票冲销的那张发票的键",
    ),
    "review_status": (
        "`clear`, `review`, `settled` (a document), or by a person `approved`, `corrected`, `rejected`",
        "`clear`、`review`，影像还可为 `settled`，或人的决定：`approved`、`corrected`、`rejected`",
    ),
    "reviewed_at": ("when a person decided; empty: nobody did", "人作出决定的时间；空表示还没有人决定"),
    "reviewed_by": ("who decided", "谁作的决定"),
    "review_note": ("what that person noted", "此人的备注"),
    "first_loaded_at": ("when the row was made", "这一行写入的时间"),
    "loaded_at": ("when it was changed last, by loading or by review", "入库或复核最近一次改动它的时间"),
    # invoices
    "invoice_key": (
        "`code:number`, or the 20 digits of a fully digital invoice",
        "`code:number`，或数电票的 20 位号码",
    ),
    "invoices.document_id": ("the document whose values these are", "这些值来自哪份影像"),
    "merged_from": (
        "the document of each value that is not that document's, by column; empty where all are",
        "各列中不取自该影像的值分别来自哪份影像；全部取自该影像时为空",
    ),
    "lines_document_id": ("the document whose lines are the invoice's", "明细行取自哪份影像"),
    # lines
    "lines.document_id": ("the document", "影像"),
    "line_number": ("from 1, as printed", "从 1 起，按票面次序"),
    "name": ("货物或应税劳务、服务名称", "货物或应税劳务、服务名称"),
    "specification": ("规格型号", "规格型号"),
    "unit": ("单位", "单位"),
    "quantity": ("数量", "数量"),
    "unit_price": ("单价, before tax", "单价（不含税）"),
    "lines.amount": ("金额, before tax; negative on a discount line", "金额（不含税）；折扣行为负"),
    "lines.tax": ("税额", "税额"),
    "lines.tax_rate": ("税率, 0.13 for 13 %", "税率，13 % 为 0.13"),
    # findings
    "findings.document_id": ("the document", "影像"),
    "position": (
        "from 1 for what the document itself gave rise to, below 0 for what others did",
        "从 1 起是影像自身的问题，负数是其他影像引起的",
    ),
    "findings.code": ("of the finding: [checks](checks.md)", "问题代码：[校验](checks.zh-CN.md)"),
    "severity": ("`error`, `warning` or `info`", "`error`、`warning` 或 `info`"),
    "fields": ("the columns it is about, parted by commas", "涉及的列，用逗号分隔"),
    "message": ("in a sentence", "一句话说明"),
    "found": ("what was read", "读到的"),
    "expected": ("what it should be", "应有的"),
    "proposal": (
        "the only possible repair, `field=value`, several parted by `; `",
        "唯一可能的修正，`field=value`，几个之间用 `; ` 分隔",
    ),
    # reviews
    "review_id": ("stands for the decision", "代表这次决定"),
    "reviews.document_id": ("the document decided about", "对哪份影像"),
    "reviews.invoice_key": ("the invoice it belonged to", "当时属于哪张发票"),
    "decision": ("`approve`, `correct` or `reject`", "`approve`、`correct` 或 `reject`"),
    "reviews.reviewed_by": ("who", "谁"),
    "reviews.reviewed_at": ("when", "何时"),
    "note": ("why", "为什么"),
    "changes": ("each value that was changed", "改过的每个值"),
    # the view tax_check
    "invoice_type": ("the tax office's two digits, see below", "税务局的两位票种代码，见下"),
    "invoice_code": ("发票代码", "发票代码"),
    "invoice_number": ("发票号码", "发票号码"),
    "tax_check.issue_date": ("开票日期, `YYYYMMDD`", "开票日期，`YYYYMMDD`"),
    "amount_before_tax": ("开具金额（不含税）", "开具金额（不含税）"),
    "check_code_last_6": ("校验码后六位", "校验码后六位"),
    "total_with_tax": ("价税合计", "价税合计"),
    "asks": ("which of the three is asked for", "要填三者中的哪一个"),
    "ready": ("1 where all that is asked for was read", "要填的都读到了为 1"),
    "tax_check.review_status": ("the invoice's", "发票的"),
}

KINDS: Mapping[str, str] = {
    "special_paper": "增值税专用发票（纸质）",
    "common_paper": "增值税普通发票（纸质）",
    "common_electronic": "增值税电子普通发票",
    "special_electronic": "增值税电子专用发票",
    "roll": "增值税普通发票（卷票）",
    "toll": "通行费电子普通发票",
    "digital_special": "数电票（增值税专用发票）",
    "digital_common": "数电票（普通发票）",
    "blockchain": "区块链电子发票",
    "other": "其他，或表中没有的种类",
}


def meaning(table: str, column: str, language: int) -> str:
    """In English (0) or Chinese (1); raises KeyError for a column that nobody has explained."""
    own = f"{table}.{column}"
    return MEANINGS[own if own in MEANINGS else column][language]
