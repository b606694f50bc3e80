"""What the words before a number say that it is: the nearest telling word counts.

Only what stands before is asked (and, for telephones, one word behind): so a stream needs to hold almost nothing back for it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["AHEAD", "WINDOW", "follows", "nearest"]

WINDOW: Final = 48
"""Characters before a value that are looked at."""
AHEAD: Final = 10
"""Characters behind a value that ``follows`` looks at."""

# ``word*`` is any word that begins so; ``one two`` the second word behind the first.
_WORDS: Final = {
    "phone": """
        ph fone mob tlf tfno telf tel tél tele teleph* telef* teléf* téléph* telemóv* telemov* phone* fax* mobile mobil mobilnummer* mobiltel* cell cellulare cellphone call calls called
        calling callback ring dial whatsapp sms reach contact contacto contactar answering hotline handy* festnetz* rufnummer* anrufen ruf rufen erreich* appeler appelez
        appelle portable joindre móvil movil celular* llam* ligue ligar chiama* komórk* bel bellen telefoon* komórka numer-tel
    """,
    "ssn": "ssn ssns social itin",
    "cpf": "cpf",
    "cnpj": "cnpj",
    "bsn": "bsn burgerservicenummer sofinummer",
    "nif": "nif nipc contribuinte fiscal",
    "pesel": "pesel",
    "steuer_id": "steuer* idnr identifikationsnummer tin tax taxpayer",
    "dni": "dni nie identidad",
    "born": """
        born birth* dob bday geb geboren* geburt* né née nés naissance nací nacido nacida nacimiento nació nasc* nato nata nascita geboortedatum
        urodz*
    """,
    "card": "card cards karte* kreditkarte* carte cartes tarjeta* cartão cartao cartões visa mastercard amex carta kaart cc",
    "not": """
        order orders invoice* tracking sku isbn issn doi part product* item items artikel* ref reference* référence* referencia* referência* produto* producto* produit*
        serial* ticket* build* commit* version* versión versão release* firmware* bestell* auftrag* rechnung* pedido* commande* hash* model log facture* factura* fatura*
        article* bug port ports isrc barcode* ean upc timestamp* zip batch lot v rev revision* section* chapter* clause kapitel abschnitt figure abbildung
    """,
}  # fmt: skip
_PAIRS: Final = {
    **{(whose, number): "phone" for whose in ("my", "his", "her", "our", "your", "their", "mon", "son", "mi", "su", "meu", "seu", "meine", "seine", "ihre", "il", "mio")
       for number in ("number", "numéro", "número", "numero", "nummer")},
    ("art", "nr"): "not", ("text", "me"): "phone",
}  # fmt: skip
_SECOND: Final = frozenset(second for _, second in _PAIRS)
_CHINESE: Final = {
    "phone": "电话|手机|電話|手機|号码是|联系方式|致电|拨打|来电|热线|传真|座机|携帯|전화|휴대폰",
    "ssn": "社会安全号|社保号",
    "born": "出生|生日|生于|誕生|생년월일",
    "card": "卡",
    "not": "订单|产品|编号|版本|型号|发票|序列号|货号|单号|流水",
}
_WORD: Final = re.compile(r"[a-z\u00df-\u024f]+")
_CHINESE_WORDS: Final = tuple((word, name) for name, words in _CHINESE.items() for word in words.split("|"))
_FOLLOWS: Final = re.compile(
    r"[ \-\u2013(,]{0,2}(?:office|fax|mobile|cell|home|work\b|tel|\(?phone|büro|privat|bureau|oficina|casa|手机|电话)",
    re.IGNORECASE,
)
_EXACT: Final[dict[str, str]] = {}
_STEMS: Final[dict[str, str]] = {}
for _name, _words in _WORDS.items():
    for _word in _words.split():
        if _word.endswith("*"):
            _STEMS[_word[:-1]] = _name
        else:
            _EXACT[_word] = _name
_SHORTEST: Final = min(map(len, _STEMS))
_LONGEST: Final = max(map(len, _STEMS))


def nearest(text: str, at: int) -> str:
    """The kind that the last telling word before ``at`` names, within the window; empty where there is none."""
    window = text[max(0, at - WINDOW) : at]
    found, place = "", -1
    if not window.isascii():
        for telling, kind in _CHINESE_WORDS:
            last = window.rfind(telling)
            if last > place:
                found, place = kind, last
    words = _WORD.findall(window.lower())
    for n in range(len(words) - 1, -1, -1):
        kind = _kind(words, n)
        if kind:
            if place < 0 or window.lower().rfind(words[n]) > place:
                return kind
            break
    return found


def _kind(words: list[str], n: int) -> str:
    word = words[n]
    kind = _EXACT.get(word)
    if kind is not None:
        return kind
    for length in range(_SHORTEST, min(len(word), _LONGEST) + 1):
        kind = _STEMS.get(word[:length])
        if kind is not None:
            return kind
    if word in _SECOND and n:
        return _PAIRS.get((words[n - 1], word), "")
    return ""


def follows(text: str, at: int) -> bool:
    """Whether the word at ``at`` says that what stands before it is a telephone number."""
    return _FOLLOWS.match(text[at : at + AHEAD]) is not None
