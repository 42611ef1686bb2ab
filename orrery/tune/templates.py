"""Which chat format a model is tuned with: its own, one chosen by name, or one that its vocabulary already has the tokens for.

A base model has no chat format. Many were pre-trained with a vocabulary that holds the control tokens of their makers' format
(Gemma's <start_of_turn>, Qwen's <|im_start|>, Llama's <|start_header_id|>), and then that format is the natural one, if they were trained
or can be; else turns are named in plain words and end with EOS. All of them write tools the same way: a call is JSON between <tool_call> and </tool_call>,
an answer is the text between <tool_response> and </tool_response> in a turn of the user's.
"""

from __future__ import annotations

from pathlib import Path

from orrery.kit.errors import OrreryError, suggest
from orrery.model.decoder import Decoder
from orrery.text.chat import CONTROL, ChatFormat
from orrery.text.chat_files import MAX_BYTES
from orrery.text.tokenizer import Tokenizer
from orrery.train.records import tell
from orrery.tune.untrained import untrained

OWN = "orrery"

_PARTS = """\
{%- macro calls(message) -%}
    {{- message.content or '' -}}
    {%- for call in message.tool_calls or [] -%}
        {%- set call = call.function or call -%}
        {{- ('\\n' if message.content or not loop.first else '') + '<tool_call>\\n{"name": ' + (call.name | tojson) + ', "arguments": ' -}}
        {{- (call.arguments if call.arguments is string else call.arguments | tojson) + '}\\n</tool_call>' -}}
    {%- endfor -%}
{%- endmacro -%}
{%- macro tool_text() -%}
    {{- 'You may call these functions, each call as <tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>:\\n' -}}
    {%- for tool in tools -%}{{- (tool | tojson) + ('' if loop.last else '\\n') -}}{%- endfor -%}
{%- endmacro -%}
{%- set first = messages[0] -%}
{%- set system = first.content if first.role == 'system' else '' -%}
"""
"""What the templates below share: an assistant's words and calls, the list of tools, the system message."""

_SYSTEM_TURN = """\
{{{{- bos_token or '' -}}}}
{{%- if system or tools -%}}
    {{{{- {open_system} + system + ('\\n\\n' if system and tools else '') -}}}}
    {{%- if tools -%}}{{{{- tool_text() -}}}}{{%- endif -%}}
    {{{{- {close} -}}}}
{{%- endif -%}}
{{%- for message in messages if message.role != 'system' -%}}
    {{%- if message.role == 'assistant' -%}}
        {{{{- {open_assistant} + calls(message) + {close} -}}}}
    {{%- elif message.role == 'tool' -%}}
        {{{{- {open_user} + '<tool_response>\\n' + message.content + '\\n</tool_response>' + {close} -}}}}
    {{%- else -%}}
        {{{{- {open_user} + message.content + {close} -}}}}
    {{%- endif -%}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{- {open_assistant} -}}}}{{%- endif -%}}
"""

_FIRST_TURN = """\
{{- bos_token or '' -}}
{%- for message in messages if message.role != 'system' -%}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' -}}
    {%- if loop.first and (system or tools) -%}
        {{- system + ('\\n\\n' if system and tools else '') -}}
        {%- if tools -%}{{- tool_text() -}}{%- endif -%}
        {{- '\\n\\n' -}}
    {%- endif -%}
    {%- if message.role == 'assistant' -%}
        {{- calls(message) -}}
    {%- elif message.role == 'tool' -%}
        {{- '<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
    {%- else -%}
        {{- message.content -}}
    {%- endif -%}
    {{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""


def _turns(**marks: str) -> str:
    return _PARTS + _SYSTEM_TURN.format(**marks)


TEMPLATES = {
    "gemma": _PARTS + _FIRST_TURN,
    "chatml": _turns(
        open_system="'<|im_start|>system\\n'", open_user="'<|im_start|>user\\n'",
        open_assistant="'<|im_start|>assistant\\n'", close="'<|im_end|>\\n'",
    ),
    "llama3": _turns(
        open_system="'<|start_header_id|>system<|end_header_id|>\\n\\n'",
        open_user="'<|start_header_id|>user<|end_header_id|>\\n\\n'",
        open_assistant="'<|start_header_id|>assistant<|end_header_id|>\\n\\n'", close="'<|eot_id|>'",
    ),
    "words": _turns(
        open_system="'System:\\n'", open_user="'User:\\n'", open_assistant="'Assistant:\\n'", close="eos_token + '\\n'",
    ),
}  # fmt: skip
"""By name. Gemma has no system turn: the system message opens the first turn of the user's."""

NEEDS: dict[str, tuple[str, ...]] = {
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    OWN: CONTROL,
    "words": (),
}
"""The control tokens of each; the first whose tokens a vocabulary has is its natural one."""


def choose_format(
    name: str, tokenizer: Tokenizer, own: ChatFormat | None, *, frozen: Decoder | None = None
) -> ChatFormat:
    """The format that `name` means: "auto" (the model's own, else the natural one), a name of `NEEDS`, or a file with a template.

    Args:
        frozen: the model, where its head will not learn: "auto" then passes over formats that end a turn with a token that was never
            trained (`untrained.py`), and one that is named is warned of.

    Raises:
        OrreryError: an unknown name, or the vocabulary lacks the format's tokens.
    """
    if name == "auto":
        if own is not None:
            return own
        natural = [known for known, tokens in NEEDS.items() if all(t in tokenizer.special for t in tokens)]
        can_end = [known for known in natural if not _never_ends(known, tokenizer, frozen)]
        if can_end[:1] != natural[:1] and tokenizer.eos_id is not None:
            tell(
                f"{NEEDS[natural[0]][-1]} was never trained in this model and cannot be told from other such tokens by a head that does "
                f"not learn; so the chat format is '{can_end[0]}', not '{natural[0]}'"
            )
            natural = can_end
        name = natural[0]
    elif _never_ends(name, tokenizer, frozen):
        tell(
            f"{NEEDS[name][-1]} was never trained in this model and cannot be told from other such tokens by a head that does not learn: "
            "answers will not end; take chat_template: words, or train all weights"
        )
    if name not in NEEDS:
        return _from_file(name, tokenizer)
    missing = [token for token in NEEDS[name] if token not in tokenizer.special]
    if missing:
        raise OrreryError(
            f"the chat format '{name}' needs the tokens {', '.join(missing)}, which this vocabulary lacks; list them in new_tokens, "
            "or take chat_template: words"
        )
    if name == OWN:
        return ChatFormat(tokenizer)
    if name == "words" and tokenizer.eos_id is None:
        raise OrreryError(
            "the chat format 'words' ends turns with EOS, which this tokenizer does not have; take another"
        )
    return ChatFormat.from_template(TEMPLATES[name], tokenizer)


def check_name(name: str) -> None:
    """Refuse what is neither a name of `NEEDS` nor a file.

    Raises:
        OrreryError: names what there is.
    """
    if name not in NEEDS and not Path(name).is_file():
        raise OrreryError(
            f"there is no chat format '{name}' and no file of that name; known are auto, {', '.join(NEEDS)}.{suggest(name, NEEDS)}"
        )


def _never_ends(name: str, tokenizer: Tokenizer, frozen: Decoder | None) -> bool:
    """Whether the token that ends turns is one that this model's head cannot tell from many others. The last of `NEEDS` is it."""
    if frozen is None or not (tokens := NEEDS.get(name)):
        return False
    end = tokenizer.special.get(tokens[-1])
    return end is not None and end < frozen.cfg.vocab_size and untrained(frozen, end)


def _from_file(name: str, tokenizer: Tokenizer) -> ChatFormat:
    check_name(name)
    path = Path(name)
    if path.stat().st_size > MAX_BYTES:
        raise OrreryError(f"'{path}' is too large for a chat template; give a .jinja file")
    try:
        return ChatFormat.from_template(path.read_text(encoding="utf-8"), tokenizer)
    except UnicodeDecodeError:
        raise OrreryError(f"'{path}' is no UTF-8 text; give a .jinja file") from None
