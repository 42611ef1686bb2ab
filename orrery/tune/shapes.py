"""Common shapes of rows, each recognised by its fields and turned into dialogues.

    messages     {"messages": [{"role", "content", "tool_calls"?}], "tools"?}          OpenAI, TRL
    sharegpt     {"conversations": [{"from", "value"}], "tools"?, "system"?}           ShareGPT, LLaMA-Factory
    alpaca       {"instruction", "input"?, "output"} or {"instruction", "instances"}   Alpaca, Self-Instruct
    completion   {"prompt", "completion" or "response"}                                OpenAI's first, P3; texts or messages
    question     {"question", "answer", "cot"?}                                        GSM8K, FLAN's chains of thought
    tree         {"prompt": {"text", "replies"}}                                       OpenAssistant
    text         {"text"}                                                              plain passages

One row may give several dialogues (instances) or none (a tree that nobody answered).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from orrery.kit.errors import OrreryError, suggest
from orrery.tune.dialogue import Dialogue, Passage, Sample, check, kind_of, text_of
from orrery.tune.rows import Row
from orrery.tune.trees import dialogue_of_tree
from orrery.tune.turns import given_tools, openai_turns, sharegpt_turns

Shape = Literal["messages", "sharegpt", "alpaca", "completion", "question", "tree", "text"]

LISTS = ("messages", "conversations", "conversation", "dialogue", "turns")
COMPLETIONS = ("completion", "response", "answer", "output")
ANSWERS = ("answer", "response", "output")
OUTPUTS = ("output", "response", "completion")
THOUGHTS = ("cot", "rationale", "reasoning")
CONCLUSION = "\nThe answer is {answer}."
"""What joins a chain of thought and an answer that stand in two fields."""


def shape_of(row: Row) -> Shape:
    """The shape of a row by its fields.

    Raises:
        OrreryError: none fits; names the fields there are and those that were looked for.
    """
    fields = row.fields
    turns = next((fields[name] for name in LISTS if isinstance(fields.get(name), list)), None)
    if turns is not None:
        first = turns[0] if turns and isinstance(turns[0], Mapping) else {}
        return "sharegpt" if "from" in first else "messages"
    if isinstance(fields.get("prompt"), Mapping) and "replies" in fields["prompt"]:
        return "tree"
    if "instruction" in fields and _one_of(fields, (*OUTPUTS, "instances")):
        return "alpaca"
    if "question" in fields and _one_of(fields, ANSWERS):
        return "question"
    if "prompt" in fields and _one_of(fields, COMPLETIONS):
        return "completion"
    if isinstance(fields.get("text"), str):
        return "text"
    raise OrreryError(
        f"{row.where}: no shape of data that is known has these fields ({', '.join(map(str, fields)) or 'none'}); rename them with "
        "`fields` (for example fields: {prompt: query, completion: reply}), to messages, or conversations, or instruction and "
        "output, or prompt and completion, or question and answer, or text"
    )


def samples_of(row: Row, shape: Shape | Literal["auto"] = "auto") -> list[Sample]:
    """What a row teaches.

    Raises:
        OrreryError: the row is not of its shape; names the file, line, field and fix.
    """
    return READERS[shape_of(row) if shape == "auto" else shape](row)


def renamed(row: Row, names: Mapping[str, str]) -> Row:
    """The row with fields under our names; `names` maps ours to the file's.

    Raises:
        OrreryError: the row lacks a field that is to be renamed.
    """
    if not names:
        return row
    missing = next((theirs for theirs in names.values() if theirs not in row.fields), None)
    if missing is not None:
        raise OrreryError(f"{row.where}: no field '{missing}' to rename.{suggest(missing, row.fields)}")
    kept = {name: value for name, value in row.fields.items() if name not in names.values()}
    return Row(row.where, kept | {ours: row.fields[theirs] for ours, theirs in names.items()})


def _messages(row: Row) -> list[Sample]:
    name, turns = _list_of(row)
    messages, silent = openai_turns(turns, row.where, name)
    return [check(Dialogue(messages, row.where, given_tools(row), silent), name)]


def _sharegpt(row: Row) -> list[Sample]:
    name, turns = _list_of(row)
    messages = sharegpt_turns(turns, row.where, name)
    system = row.fields.get("system")
    if isinstance(system, str) and system and messages[:1] and messages[0]["role"] != "system":
        messages = ({"role": "system", "content": system}, *messages)
    return [check(Dialogue(messages, row.where, given_tools(row)), name)]


def _alpaca(row: Row) -> list[Sample]:
    instruction = _text(row, "instruction")
    if isinstance(row.fields.get("instances"), list):
        pairs = []
        for n, instance in enumerate(row.fields["instances"]):
            place = f"instances[{n}]"
            if not isinstance(instance, Mapping):
                raise OrreryError(
                    f"{row.where}: '{place}' is {kind_of(instance)}; an object with input and output is needed"
                )
            inner = Row(f"{row.where}: '{place}'", dict(instance))
            pairs.append((_text(inner, "input", absent=""), _text(inner, "output")))
    else:
        pairs = [(_text(row, "input", absent=""), _text(row, _chosen(row, OUTPUTS)))]
    system = row.fields.get("system")
    return [
        _pair(row, f"{instruction}\n\n{given}" if given.strip() else instruction, output, system)
        for given, output in pairs
    ]


def _completion(row: Row) -> list[Sample]:
    prompt, name = row.fields.get("prompt"), _chosen(row, COMPLETIONS)
    completion = row.fields[name]
    if isinstance(prompt, list) and isinstance(completion, list):  # TRL's conversational form
        messages, _ = openai_turns([*prompt, *completion], row.where, "prompt + completion")
        silent = frozenset(turn for turn in range(len(prompt)) if messages[turn]["role"] == "assistant")
        return [check(Dialogue(messages, row.where, given_tools(row), silent), "prompt + completion")]
    return [_pair(row, _text(row, "prompt"), _text(row, name), row.fields.get("system"))]


def _question(row: Row) -> list[Sample]:
    answer = _text(row, _chosen(row, ANSWERS))
    thought = next((row.fields[name] for name in THOUGHTS if isinstance(row.fields.get(name), str)), "")
    if thought.strip():
        answer = thought.rstrip() + CONCLUSION.format(answer=answer.strip().removesuffix("."))
    return [_pair(row, _text(row, "question"), answer, row.fields.get("system"))]


def _tree(row: Row) -> list[Sample]:
    found = dialogue_of_tree(row.fields.get("prompt"), row.where)
    return [] if found is None else [check(found, "prompt")]


def _plain(row: Row) -> list[Sample]:
    text = _text(row, "text")
    if not text.strip():
        raise OrreryError(f"{row.where}: 'text' is empty; remove the row")
    return [Passage(text, row.where)]


READERS: dict[Shape, Callable[[Row], list[Sample]]] = {
    "messages": _messages, "sharegpt": _sharegpt, "alpaca": _alpaca, "completion": _completion,
    "question": _question, "tree": _tree, "text": _plain,
}  # fmt: skip


def _pair(row: Row, asked: str, said: str, system: Any) -> Dialogue:
    """One question and its answer."""
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    if not said.strip():
        raise OrreryError(f"{row.where}: the answer is empty; write one or remove the row")
    if not asked.strip():
        raise OrreryError(
            f"{row.where}: the question is empty; write one, or use the field 'text' for text without questions"
        )
    pair = (*first, {"role": "user", "content": asked}, {"role": "assistant", "content": said})
    return Dialogue(pair, row.where)


def _text(row: Row, name: str, *, absent: str | None = None) -> str:
    if name not in row.fields or (row.fields[name] is None and absent is not None):
        if absent is not None:
            return absent
        have = ", ".join(map(str, row.fields)) or "none"
        raise OrreryError(
            f"{row.where}: no field '{name}' (its fields: {have}); add it, or rename one with `fields`"
        )
    return text_of(row.fields[name], f"{row.where}: '{name}'")


def _one_of(fields: Mapping[str, Any], names: Sequence[str]) -> bool:
    return any(name in fields for name in names)


def _chosen(row: Row, names: Sequence[str]) -> str:
    """The first of several names for the same thing that the row has."""
    return next((name for name in names if row.fields.get(name) is not None), names[0])


def _list_of(row: Row) -> tuple[str, list[Any]]:
    name = next((name for name in LISTS if name in row.fields), LISTS[0])
    turns = row.fields.get(name)
    if not isinstance(turns, list):
        raise OrreryError(f"{row.where}: '{name}' is {kind_of(turns)}; a list of turns is needed")
    return name, turns
