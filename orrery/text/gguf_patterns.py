r"""The named pre-tokenizers of GGUF files (`tokenizer.ggml.pre`): a name stands for a list of regular expressions.

Each expression cuts every piece that those before it left, and both what it matches and what lies between stand alone.
The expressions are the ones of the models' makers. llama.cpp, which coined the names, writes some of them anew for an
engine without Unicode classes; where its form cuts some texts elsewhere, the makers' form stands here:

    tekken, gpt-4o, kimi-k2     it takes any letter beyond ASCII for both upper and lower case
    qwen2, mpt, command-r ...   it leaves out the makers' Unicode composition (NFC)
"""

from __future__ import annotations

from typing import NamedTuple

from orrery.kit.errors import OrreryError, suggest
from orrery.text.patterns import DIGITS, GPT2, GPT4, GPT4O


class PreTokenizer(NamedTuple):
    """What a name stands for.

    Attributes:
        patterns: applied one after the other.
        ignore_merges: a word that is a token as it stands is taken whole, whatever the merges say.
        nfc: text is composed (Unicode NFC) first.
        add_bos: other tools put BOS in front where the file does not say.
        raw: tokens are text with `▁` for the space and `<0x0A>` for bytes, not GPT-2's byte characters.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    nfc: bool = False
    add_bos: bool = False
    raw: bool = False


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CJK = "\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff"
_DIGIT, _THREE = r"\p{N}", r"\p{N}{1,3}"
_GROUPS_FROM_RIGHT = r"\d{1,3}(?=(?:\d{3})*\b)"
_ASCII_MARK_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_PUNCTUATED = rf"{_ASCII_MARK_WORD}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
# Letters that have upper and lower case, as DeepSeek's tokenizer lists them.
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
    "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
    "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_YOUTU = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    f"|[\u3105-\u312f]+|[{_CJK}]+"
)
_AFMOE_SCRIPTS = (
    "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
    "\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_NOT_HAN = r"&&[^\p{Han}]"
_KIMI = (
    rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}{_NOT_HAN}]*[{_LOWER}{_NOT_HAN}]+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}{_NOT_HAN}]+[{_LOWER}{_NOT_HAN}]*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_FALCON_MARKS = r"[\p{P}\$\+<=>\^~\|`]+"
_DEEPSEEK_V3 = (_THREE, f"[{_CJK}]+", rf"{_PUNCTUATED}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}")
_HALVING_SPACES = (
    "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s{1}"
)

_NAMES: list[tuple[PreTokenizer, str]] = [
    (PreTokenizer((GPT2,)), "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum jina-v1-en "
        "jina-v2-code roberta-bpe jais trillion granite-docling exaone4"),
    (PreTokenizer((GPT2,), nfc=True), "olmo mpt modern-bert"),
    (PreTokenizer((GPT4,)), "dbrx smaug-bpe chatglm-bpe"),
    (PreTokenizer((GPT4,), ignore_merges=True), "glm4 glm5"),
    (PreTokenizer((GPT4,), ignore_merges=True, add_bos=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano"),
    (PreTokenizer((GPT4O,)), "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (PreTokenizer((GPT4O,), ignore_merges=True), "granite-embed-multi-97m"),
    (PreTokenizer((DIGITS,)), "stablelm2 deepseek-r1-qwen kormo megrez hunyuan solar-open grok-2"),
    (PreTokenizer((DIGITS,), nfc=True), "qwen2 f2llmv2"),
    (PreTokenizer((rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",), nfc=True), "qwen35"),
    (PreTokenizer((_DIGIT, GPT2)), "starcoder refact smollm codeshell exaone minerva-7b mellum2"),
    (PreTokenizer((_DIGIT, GPT2), nfc=True), "command-r"),
    (PreTokenizer((_GROUPS_FROM_RIGHT, GPT4O), nfc=True), "tiny_aya cohere2moe"),
    (PreTokenizer(("[\r\n]", rf"\s?[{_CASED}]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$", _ASIAN, r"\p{N}+")), "deepseek-llm"),
    (PreTokenizer(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _ASIAN, _DIGIT)), "deepseek-coder"),
    (PreTokenizer(_DEEPSEEK_V3), "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    (PreTokenizer((_THREE, f"[{_CJK}]+", rf"{_PUNCTUATED}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+", _DIGIT)), "spark2_5"),
    (PreTokenizer((_YOUTU, GPT4O.replace(_THREE, _DIGIT)), ignore_merges=True), "youtu"),
    (PreTokenizer((_FALCON_MARKS, GPT2, "[0-9][0-9][0-9]")), "falcon"),
    (PreTokenizer((_BLOOM,)), "bloom gpt3-finnish poro-chat"),
    (PreTokenizer((_BLOOM, _DIGIT)), "viking"),
    (PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True), "tekken"),
    (PreTokenizer((r"<sentinel:[0-9]+>", r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", _DIGIT,
        r"[\p{P}!-/:-@\[-`{-~]", GPT2), add_bos=True), "chameleon"),
    (PreTokenizer((_KIMI,)), "kimi-k2"),
    (PreTokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))")), "superbpe"),
    (PreTokenizer((r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",)), "bailingmoe bailingmoe2 llada-moe"),
    (PreTokenizer((rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",)),
        "seed-coder"),
    (PreTokenizer((DIGITS.removeprefix(f"{_CONTRACTIONS}|"),)), "ufakzeka"),
    (PreTokenizer((r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", _AFMOE_SCRIPTS, _DEEPSEEK_V3[2])), "afmoe"),
    (PreTokenizer((r"[^\n]+|[\n]+", DIGITS)), "laguna"),
    (PreTokenizer((rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}\p{{M}}*+(?: ?\p{{L}}\p{{M}}*+)*|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",)), "exaone-moe"),
    (PreTokenizer((GPT4.replace(r"|\s*[\r\n]+|\s+(?!\S)|\s+", rf"|\s*[\r\n]+|{_HALVING_SPACES}"),)), "jais-2"),
    (PreTokenizer((_THREE, DIGITS.replace(r"|\p{N}|", r"|\p{N}+|")), ignore_merges=True), "minicpm5"),
    (PreTokenizer((r"[^\n]+|[\n]+",), raw=True, add_bos=True), "gemma4 granite-embed-multi-311m"),
    (PreTokenizer((r"[^\n]+|[\n]+",), raw=True), "sarvam-moe"),
    (PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")), "default"),
]  # fmt: skip
PRE_TOKENIZERS: dict[str, PreTokenizer] = {name: pre for pre, names in _NAMES for name in names.split()}


def pre_tokenizer(name: str, where: str) -> PreTokenizer:
    """What a name stands for; `where` names the key that holds it.

    Raises:
        OrreryError: no pre-tokenizer has this name.
    """
    if name not in PRE_TOKENIZERS:
        raise OrreryError(
            f"{where} names the pre-tokenizer {name[:64]!r}, which is none of {', '.join(sorted(PRE_TOKENIZERS))}."
            f"{suggest(name[:64], PRE_TOKENIZERS)}"
        )
    return PRE_TOKENIZERS[name]
