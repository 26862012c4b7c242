"""Tax ids: which characters they hold, whether their check digits do, and the one repair of a misread one.

18 characters are GB 32100 (mod 31) over all and, inside, GB 11714 (mod 11) over characters 9 to 17; 15 are a
region and an organisation code; 20 are a natural person's.
"""

from collections.abc import Mapping
from datetime import date

from stdnum.cn import ric, uscc

LENGTHS = (15, 18, 20)
_ALPHABET = frozenset("0123456789ABCDEFGHJKLMNPQRTUWXY")  # GB 32100: without I O S V Z
_FORBIDDEN = str.maketrans("OISZV", "0152U")
_LOOK_ALIKE: Mapping[str, str] = {
    character: group.replace(character, "")
    for group in ("0ODQ", "1IL7T", "2Z", "5S", "8B", "6G", "UV", "CG")
    for character in group
} | {"G": "6C"}
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def strange_characters(tax_id: str) -> str:
    """What no id of this length holds; ids of natural persons (20) may hold any letter."""
    if len(tax_id) == 18:
        return "".join(sorted(set(tax_id) - _ALPHABET))
    head = tax_id[:6] if len(tax_id) == 15 else ""
    letters = {character for character in head if not character.isdecimal()}
    return "".join(sorted(letters | set(tax_id) - _ALPHABET - frozenset("IOSVZ")))


def holds(tax_id: str) -> bool:
    """Whether the check digits of 18 known characters hold; an identity card's number is an id, too."""
    return _is_company(tax_id) or _is_identity_card(tax_id)


def _is_company(tax_id: str) -> bool:
    return bool(uscc.is_valid(tax_id)) and holds_organisation(tax_id[8:17])


def _is_identity_card(number: str) -> bool:
    """GB 11643. Its region is not held against the year of birth: people get their numbers later, too."""
    if not number[:17].isdecimal() or ric.calc_check_digit(number) != number[17]:
        return False
    try:
        return date.fromisoformat(number[6:14]).year >= _OLDEST_PERSON
    except ValueError:
        return False


_OLDEST_PERSON = 1900


def holds_organisation(code: str) -> bool:
    """GB 11714 over nine characters."""
    values = [int(character, 36) for character in code[:8]]
    remainder = sum(weight * value for weight, value in zip(_ORGANISATION_WEIGHTS, values, strict=True)) % 11
    return code[8] == "0X987654321"[remainder]


def repaired_tax_id(tax_id: str) -> str | None:
    """The one valid id a look-alike away; None when there is none, or several.

    Away is one character taken for another, or every forbidden letter (O, I, S, Z, V) taken for what it
    looks like.
    """
    swaps = {
        f"{tax_id[:place]}{other}{tax_id[place + 1 :]}"
        for place, character in enumerate(tax_id)
        for other in _LOOK_ALIKE.get(character, "")
    }
    swaps = swaps | {tax_id.translate(_FORBIDDEN)} - {tax_id}
    valid = [swap for swap in swaps if len(swap) == 18 and set(swap) <= _ALPHABET and _is_company(swap)]
    return valid[0] if len(valid) == 1 else None
