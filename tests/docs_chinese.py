"""What the generated tables say in Chinese. A code or a sentence without its Chinese fails a test.

Findings are kept by code, because a code keeps its meaning; all else by the English sentence, so that a
sentence that changes is translated anew.
"""

from collections.abc import Mapping

FINDINGS: Mapping[str, str] = {
    "NOT_AN_INVOICE": "服务认为图上没有增值税发票",
    "REQUIRED_FIELD_MISSING": "这类发票必有的字段没有读到",
    "VALUE_UNPARSABLE": "票头上印着代码、号码、日期或金额，但读出来的不是",
    "DETAIL_UNPARSABLE": "其他印着的值，或明细行里的值，没能读懂",
    "UNREADABLE_CHARACTERS": "文本里有途中丢失的字符",
    "NUMBER_SHAPE": "发票号码应为 8 位数字，数电票为 20 位",
    "CODE_SHAPE": "发票代码应为 10 位或 12 位数字",
    "DIGITAL_NUMBER_AS_CODE": "没有号码，而代码看起来是数电票号码",
    "DIGITAL_NUMBER_SPLIT": "代码和号码是一个数电票号码被拆成的两段",
    "CODE_NOT_EXPECTED": "数电票没有发票代码",
    "CODE_KIND_UNKNOWN": "由代码推不出是哪种发票",
    "REGION_UNKNOWN": "代码或数电票号码里的地区不存在",
    "KIND_UNKNOWN": "服务报出的票种不在表中",
    "KIND_CONFLICTS": "一处读作专票，另一处读作普票",
    "KIND_DIFFERS": "报出的票种与由代码或号码推出的票种不同",
    "CHECK_CODE_SHAPE": "校验码应为 20 位数字",
    "CHECK_CODE_NOT_EXPECTED": "这类发票不印校验码",
    "DATE_TOO_EARLY": "1994 年以前没有增值税发票",
    "DATE_IN_FUTURE": "开票日期晚于今天",
    "CODE_YEAR_AFTER_DATE": "代码的印制年份晚于开票年份",
    "CODE_YEAR_OLD": "代码的印制年份比开票日期早三年以上",
    "NUMBER_YEAR_DISAGREES": "数电票号码应以开票年份开头",
    "TOTAL_NOT_SUM": "价税合计应等于金额加税额，精确到分",
    "TOTAL_UNCONFIRMED": "结果里没有别的内容可以印证价税合计",
    "SIGNS_DISAGREE": "金额、税额、价税合计应全为负（红字发票）或全不为负",
    "AMOUNT_TAX_SWAPPED": "只有把税额与金额对调，才得出合法税率",
    "TAX_RATE_ILLEGAL": "历来没有哪个增值税税率能算出这个税额，或印着的税率不存在",
    "TAX_RATE_DISAGREES": "金额乘以印着的税率不等于税额",
    "TAX_RATE_UNCERTAIN": "单一税率算不出这个税额：要么有几个税率，要么读错了",
    "WORDS_DISAGREE": "价税合计的大写与小写不一致",
    "WORDS_UNREADABLE": "价税合计大写读不成金额",
    "TAX_ID_LENGTH": "税号应为 15、18 或 20 个字符",
    "TAX_ID_CHARACTERS": "税号里有不可能出现的字符",
    "TAX_ID_CHECK_DIGIT": "税号校验位不符（GB 32100、GB 11714）",
    "TAX_ID_OLD_CHECK_DIGIT": "15 位税号中组织机构代码的校验位不符",
    "PARTIES_EQUAL": "购买方与销售方税号相同",
    "BUYER_UNKNOWN": "购买方不在作者给出的名单里",
    "BUYER_TAX_ID_DIFFERS": "购买方在名单里，但税号不同",
    "BUYER_NAME_DIFFERS": "购买方在名单里，但名称不同",
    "RED_INVOICE": "红字发票：冲销另一张发票",
    "RED_WITHOUT_ORIGINAL": "红字发票的备注没有写明冲销哪一张",
    "READINGS_DISAGREE": "票面印了两遍的内容读出了两个值",
    "READING_UNUSABLE": "第二处印刷读成了别的东西",
    "QR_DISAGREES": "二维码与识别结果不一致",
    "QR_OTHER_INVOICE": "二维码属于另一张发票：没有一项相符",
    "QR_SEVERAL_INVOICES": "图上有几张发票，只识别了其中一张",
    "QR_NO_VAT_INVOICE": "由二维码看，图上是别的单据",
    "QR_HAS_MORE": "二维码里有没读到的内容",
    "QR_UNUSABLE": "图上的二维码不能用来核对",
    "LINES_NOT_PAIRED": "表格各列的行数不同，没有拆成明细行",
    "LINES_SUM_DISAGREES": "各明细行之和不等于票头",
    "LINES_SUM_ROUNDED": "各明细行之和与票头相差不超过每行一分",
    "LINE_TAX_DISAGREES": "某行的金额乘以税率不等于税额",
    "LINE_PRODUCT_DISAGREES": "某行的数量乘以单价不等于金额",
    "DISCOUNT_LINE_ODD": "折扣行不是上一行的折扣",
    "REPAIRED": "按作者开启的修正替换了一个值",
    "CONFLICTING_DOCUMENT": "同一张发票的两份影像内容不一致",
    "DUPLICATE_DOCUMENT": "先入库的另一个文件就是同一张发票",
    "ENDPOINTS_DISAGREE": "两个接口对同一张图读得不同，校验无法定夺",
    "ENDPOINTS_SETTLED": "两个接口对同一张图读得不同，只有一种取值能通过校验",
    "NO_INVOICE_KEY": "代码和号码构不成发票的键，因此没有发票行",
    "PARSE_FAILED": "应答在账本里，但读不懂",
    "READ_FROM_ANOTHER": "送识别的是同一张发票的另一张图片",
    "RECOGNITION_FAILED": "服务未能识别这张图片",
    "TAKEN_BACK": "已入库的红字发票冲销了这一张",
    "VALUE_NOT_STORABLE": "值超出了列能保存的范围；该列为空",
    "VALUE_ROUNDED": "小数位多于列的位数；已舍入，完整的值在问题里",
}

_KEYS = "检查连接的登录名和密码：它们是应用的密钥和 secret。"
_SIGN = "请求的签名不对：检查密码，以及 extra 中的 `auth`、`region`、`service`。"

SAID: Mapping[str, str] = {
    "amount and tax change places": "金额与税额对调",
    "the buyer's name as the author wrote it, where the tax id is his": "税号相符时，购买方名称按作者所写",
    "the buyer's tax id as the author wrote it, where the name is his": "名称相符时，购买方税号按作者所写",
    "the 20 digits that were returned as the code become the number": "被当作代码返回的 20 位数字改为号码",
    "code and number are joined to the 20 digits that they are parts of": (
        "代码与号码拼回它们所属的 20 位号码"
    ),
    "the value that the QR code holds": "取二维码里的值",
    "the value that the QR code holds, where none was read": "没有读到的，取二维码里的值",
    "the one tax id whose check digits hold, a look-alike away": "改一个形近字符后校验位成立的唯一税号",
    "the one of amount, tax and total that words and rate leave to be wrong": (
        "金额、税额、价税合计中，按大写与税率只能是错的那一个"
    ),
    "the total that the words say, where amount plus tax say the same": (
        "大写所写的价税合计，且金额加税额与之相同"
    ),
    # what to do about a code
    "Check login and password of the connection: they are the application's key and secret.": _KEYS,
    "The request was signed wrongly: "
    "check password, and `auth`, `region` and `service` in the extras.": _SIGN,
    "Order the interface for this account, then run again.": "先为这个账号开通接口，再运行。",
    "The clock of this machine is more than five minutes off: synchronise it (NTP).": "本机时钟"
    "偏差超过五分钟：请用 NTP 校时。",
    "Check host, `endpoint`, `auth` and `body_encoding` of the connection.": "检查连接的 host、"
    "`endpoint`、`auth` 和 `body_encoding`。",
    "Buy more calls for this account, then run again: nothing is sent before.": "先为这个账号购买次数，"
    "再运行；在此之前什么都不会发送。",
    "Wait for the reset (`reset_time`, `reset_timezone`), or raise the account's daily limit.": "等到限额"
    "重置（`reset_time`、`reset_timezone`），或提高账号的每日限额。",
    "Lower `qps` on the connection if this happens often.": "如果经常出现，调低连接上的 `qps`。",
    "Check the host of the connection, the network and the proxy.": "检查连接的 host、网络和代理。",
    "Have this machine's address admitted, or leave by another.": "把本机地址加入白名单，或改用其他出口。",
    "Scan or convert the picture again.": "重新扫描或转换图片。",
    "Check the certificates of this machine.": "检查本机的证书。",
    "Raise `read_timeout_seconds` on the connection.": "调大连接上的 `read_timeout_seconds`。",
    "JD has disabled this account: ask JD.": "京东停用了这个账号：请联系京东。",
    "The publisher restricts this interface: ask JD.": "发布方限制了这个接口：请联系京东。",
    "The picture may not show a VAT invoice.": "图上可能不是增值税发票。",
    # what a code means, where JD has no Chinese for it
    "success": "成功",
    "picture missing or empty": "缺少图片，或图片为空",
    "picture unreadable": "图片读不出",
    "picture format not accepted": "不接受的图片格式",
    "picture over 5 MB": "图片超过 5 MB",
    "RPC failure": "RPC 失败",
    "program failure": "程序失败",
    "the request's form is not accepted": "请求的形式不被接受",
    "the signature is not accepted (ACCESS_ERROR, UNAUTHENTICATED)": "签名不被接受"
    "（ACCESS_ERROR、UNAUTHENTICATED）",
    "this account may not call the interface": "这个账号无权调用此接口",
    "no such interface at this address": "这个地址没有此接口",
    "the address takes no POST": "这个地址不接受 POST",
    "a proxy on the way wants credentials": "途中的代理要求认证",
    "the request did not arrive in time": "请求没有及时到达",
    "the request is too large": "请求太大",
    "the address is too long": "地址太长",
    "the content type is not accepted": "内容类型不被接受",
    "too many requests in this minute": "这一分钟内请求过多",
    "internal error of the gateway": "网关内部错误",
    "the service behind the gateway failed": "网关后面的服务失败",
    "the service is not available": "服务不可用",
    "the service did not answer in time (DEADLINE_EXCEEDED)": "服务没有及时应答（DEADLINE_EXCEEDED）",
    "the quota is used up": "限额已用完",
    "the host's name has no address": "主机名解析不到地址",
    "nothing listens at the host": "主机上没有服务在监听",
    "the host did not accept the connection in time": "主机没有及时接受连接",
    "no trusted TLS connection came about": "没能建立可信的 TLS 连接",
    "sent, and no answer came in time": "已发出，没有及时得到应答",
    "the connection broke after the request had left": "请求发出之后连接中断",
    "the reply is larger than a reply may be": "应答大得超出限度",
    "the host answers with another address, which is not followed": "主机让转到别的地址，不予跟随",
    "the reply ended before it was complete": "应答不完整就结束了",
    "the reply is empty, or is not what the service documents": "应答为空，或不是接口文档所述的形式",
    "the reply says success and holds no result": "应答说成功，却没有结果",
    # what was wrong, and how the task ended
    "an empty file": "空文件",
    "a text file named .jpg": "改名为 .jpg 的文本文件",
    "a scan of 6 MB": "6 MB 的扫描件",
    "a scan cut off by a broken upload": "上传中断而残缺的扫描件",
    "a key that is not there": "不存在的对象",
    "a picture of something else": "别的东西的图片",
    "a wrong secret, five pictures": "secret 写错，五张图片",
    "a wrong secret at the other endpoint, five pictures": "另一个接口的 secret 写错，五张图片",
    "no quota left today, five pictures": "当天限额已用完，五张图片",
    "a prepaid pack used up, five pictures": "预付套餐已用完，五张图片",
    "an unknown extra, five pictures": "连接里有不认识的 extra，五张图片",
    "an unreachable host, five pictures": "连不上的主机，五张图片",
    "a bucket that does not exist": "不存在的桶",
    "a connection that does not exist": "不存在的连接",
    "succeeds": "成功",
    "fails, no retry": "失败，不重试",
    "fails, retried": "失败，会重试",
}


def chinese(text: str) -> str:
    """The sentence itself where it has Chinese already; raises KeyError where nobody has translated it."""
    return text if not text or any("\u4e00" <= letter <= "\u9fff" for letter in text) else SAID[text]
