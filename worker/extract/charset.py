"""Decodes a body's bytes to text: by byte order mark, then the charset of Content-Type, then UTF-8. Never fails.

The labels are those of the WHATWG Encoding Standard (https://encoding.spec.whatwg.org/#names-and-labels), each with the closest
Python codec. The table is closed, so no header can reach a codec that is not a charset (zip, rot13, utf-7, idna …).
"""

from __future__ import annotations

import codecs
import re

DEFAULT = "utf-8"

# UTF-32 comes before UTF-16: its little-endian mark begins with that of UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# One byte per character: decoded with a full table (below).
_SINGLE_BYTE = {
    "cp866": "866 cp866 csibm866 ibm866",
    "iso8859-2": "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso8859-3": "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso8859-4": "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso8859-5": "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988",
    "iso8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e"
    " iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 iso_8859-7"
    " iso_8859-7:1987 sun_eu_greek",
    "iso8859-8": "csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8"
    " iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical",
    "iso8859-10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8-u": "koi8-ru koi8-u",
    "mac-roman": "csmacintosh mac macintosh x-mac-roman",
    "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
    "cp1250": "cp1250 windows-1250 x-cp1250",
    "cp1251": "cp1251 windows-1251 x-cp1251",
    "cp1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1"
    " iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252",
    "cp1253": "cp1253 windows-1253 x-cp1253",
    "cp1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5"
    " windows-1254 x-cp1254",
    "cp1255": "cp1255 windows-1255 x-cp1255",
    "cp1256": "cp1256 windows-1256 x-cp1256",
    "cp1257": "cp1257 windows-1257 x-cp1257",
    "cp1258": "cp1258 windows-1258 x-cp1258",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
}
_MULTI_BYTE = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8",
    "gb18030": "gb18030 chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc_jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
    "iso2022_jp": "csiso2022jp iso-2022-jp",
    "cp932": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    "cp949": "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949",
    "utf-16-be": "unicodefffe utf-16be",
    "utf-16-le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le",
    # The standard leaves UTF-32 out, but servers use it.
    "utf-32-be": "utf-32be",
    "utf-32-le": "utf-32 utf-32le",
}

_CODECS = {label: codec for codec, labels in (_SINGLE_BYTE | _MULTI_BYTE).items() for label in labels.split()}
# Full tables, because Python calls its error handler for each byte that a codec does not define: 1.5 s for 10 MiB of them.
# In the standard such bytes below A0 are C1 controls.
_TABLES = {
    codec: "".join(
        chr(byte) if char == "\ufffd" and byte < 0xA0 else char
        for byte, char in enumerate(bytes(range(256)).decode(codec, errors="replace"))
    )
    for codec in _SINGLE_BYTE
}

_HEADER_LIMIT = 1024
_PARAMETER = re.compile(r';\s*([^\s=;"]+)=(?:"([^"]*)"|([^;\s]*))')


def decode_body(body: bytes, content_type: str | None) -> str:
    """The text of a body; bytes that are invalid in the charset become U+FFFD.

    A byte order mark wins and is dropped (RFC 3629, WHATWG "decode"); then the charset that `content_type` names, if it is
    known; then UTF-8. Line ends stay as they are. Linear in the body's size.
    """
    for mark, codec in _BOMS:
        if body.startswith(mark):
            return codecs.decode(
                memoryview(body)[len(mark) :], codec, errors="replace"
            )  # a slice of bytes would be a copy
    codec = _codec(content_type)
    if codec in _TABLES:
        return codecs.charmap_decode(body, "strict", _TABLES[codec])[0]
    return body.decode(codec, errors="replace")


def load() -> None:
    """Load every codec now; otherwise Python reads each from a file at its first use."""
    for codec in _MULTI_BYTE:
        codecs.lookup(codec)


def _codec(content_type: str | None) -> str:
    for name, quoted, plain in _PARAMETER.findall((content_type or "")[:_HEADER_LIMIT]):
        if name.lower() == "charset":
            return _CODECS.get((quoted or plain).strip().lower(), DEFAULT)
    return DEFAULT
