"""What a tokenizer is made of: the settings of every stage in one place, and the names of its special tokens."""

from __future__ import annotations

from typing import Literal

from orrery.kit.config import config, resolve, to_dict
from orrery.kit.errors import OrreryError, suggest

BOS, EOS, MASK = "<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"
FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX = "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"
CHAT = (
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|tools|>",
    "<|tool_call|>",
    "<|think|>",
    "<|end_think|>",
    "<|end|>",
)
SPECIAL_TOKENS = (BOS, EOS, MASK, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX, *CHAT, "<|reserved_0|>")

Normalizer = Literal["nfc", "nfd", "nfkc", "nfkd", "lowercase", "strip-accents", "bert"]
Kind = Literal["bpe", "bpe-fallback", "wordpiece", "unigram"]
UNKNOWN = {"wordpiece": "[UNK]", "unigram": "<unk>"}
SPACED = ("metaspace", "digits")
WORDS = ("bert", "whitespace")


@config
class TokenizerConfig:
    """A tokenizer to train.

    Attributes:
        kind: "bpe" works on bytes and spells any text; "bpe-fallback" works on characters and spells rare ones byte by
            byte (Llama 2); "wordpiece" marks the inside of words with ## (BERT); "unigram" picks the likeliest pieces
            (SentencePiece, T5).
        vocab_size: at most this many tokens, special tokens and single bytes counted.
        pattern: the pre-tokenizer. For "bpe": gpt2, gpt4, llama3, gpt4o, digits, or a regular expression. For
            "bpe-fallback" and "unigram": metaspace, or digits (every digit on its own). For "wordpiece": bert, or
            whitespace. None takes the usual one: gpt4, metaspace, bert.
        normalizer: applied in this order before anything else. What they change, decoding cannot bring back.
        special_tokens: get the ids from 0 on, in this order (after the unknown token where the kind needs one).
        bos, eos: which of them begin and end a sequence; None for neither.
        add_bos, add_eos: whether other tools add them when they encode with the saved files. `Tokenizer.encode` adds
            them only when asked.
        min_frequency: pairs seen less often are not merged.
        max_token_length: no token longer than this many characters (bytes for "bpe").
        byte_fallback: "unigram" only: spell unknown characters by their bytes instead of the unknown token.
    """

    kind: Kind = "bpe"
    vocab_size: int = 4096
    pattern: str | None = None
    normalizer: tuple[Normalizer, ...] = ()
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    bos: str | None = BOS
    eos: str | None = EOS
    add_bos: bool = False
    add_eos: bool = False
    min_frequency: int = 2
    max_token_length: int | None = None
    byte_fallback: bool = True

    @property
    def unknown(self) -> str | None:
        """The token for what cannot be spelled (with byte fallback it never comes up); None for the BPE kinds."""
        return UNKNOWN.get(self.kind)

    @property
    def specials(self) -> list[str]:
        """All special tokens in id order."""
        unknown = [self.unknown] if self.unknown and self.unknown not in self.special_tokens else []
        return [*unknown, *self.special_tokens]

    @property
    def least_size(self) -> int:
        """Special tokens and, where there are any, the 256 bytes."""
        return len(self.specials) + (256 if self.has_bytes else 0)

    @property
    def has_bytes(self) -> bool:
        """Whether every byte has a token, so that any text can be spelled."""
        return self.kind in ("bpe", "bpe-fallback") or (self.kind == "unigram" and self.byte_fallback)

    def check(self) -> None:
        """Refuse settings that are unknown or contradict each other.

        Raises:
            OrreryError: says which and how to mend it.
        """
        resolve(TokenizerConfig, to_dict(self), where="the tokenizer's settings")
        if len(set(self.specials)) < len(self.specials) or not all(self.specials):
            raise OrreryError("special_tokens holds an empty or a repeated name; give each once")
        for role, name in (("bos", self.bos), ("eos", self.eos)):
            if name is not None and name not in self.special_tokens:
                raise OrreryError(
                    f"{role}={name!r} is not one of special_tokens.{suggest(name, self.special_tokens)}"
                )
        if (self.add_bos and self.bos is None) or (self.add_eos and self.eos is None):
            raise OrreryError(
                "add_bos and add_eos need the token they add; set bos and eos, or switch them off"
            )
        known = (
            SPACED
            if self.kind in ("bpe-fallback", "unigram")
            else WORDS
            if self.kind == "wordpiece"
            else None
        )
        if known and self.pattern not in (None, *known):
            raise OrreryError(
                f"pattern '{self.pattern}' does not fit kind '{self.kind}', which takes {' or '.join(known)}."
                f"{suggest(self.pattern or '', known)}"
            )
        if self.vocab_size < (least := self.least_size):
            raise OrreryError(
                f"vocab_size={self.vocab_size} is too small: special tokens and bytes alone take {least}"
            )
