"""Common shapes of rows of preferences, each recognised by its fields.

pair      {"prompt", "chosen", "rejected"}: texts, messages, or ShareGPT turns               TRL, LLaMA-Factory, BIG-bench HHH
          "messages" or "conversations" in place of a prompt; "system" and "tools" beside it
          without a prompt: two whole conversations, or transcripts, that begin alike         Anthropic HH, UltraFeedback
thumbs    {"prompt", "completion", "label"}, or a conversation that ends with the answer and its label    KTO
ranked    {"prompt", "answers": [...], "ranks" or "scores"}: texts, or objects with their own rank or score
tree      {"prompt": {"text", "replies": [{"rank", ...}]}}: a ranking at every question       OpenAssistant
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from orrery.kit.errors import OrreryError
from orrery.tune.dialogue import kind_of, role_of, text_of
from orrery.tune.preference.records import Messages, Pair, Ranked, Record, Thumb, valid
from orrery.tune.preference.transcripts import asked_of, is_transcript, turns_of
from orrery.tune.rows import Row
from orrery.tune.shapes import LISTS
from orrery.tune.trees import NAMES
from orrery.tune.turns import given_tools, openai_turns, sharegpt_turns

PairShape = Literal["pair", "thumbs", "ranked", "tree"]

PROMPTS = ("prompt", *LISTS, "question", "instruction", "query")
ANSWERS = ("completion", "response", "answer", "output")
LABELS = ("label", "thumb", "feedback", "kto_tag")
SEVERAL = ("answers", "responses", "completions", "candidates")
TEXTS = ("text", "content", "response", "answer", "completion", "value")
RANKS, SCORES = (
    ("rank", "ranks", "ranking"),
    ("score", "scores", "rating", "ratings", "overall_score", "reward"),
)
THUMBS = {
    "up": True, "good": True, "like": True, "liked": True, "positive": True, "true": True, "yes": True, "desirable": True,
    "down": False, "bad": False, "dislike": False, "disliked": False, "negative": False, "false": False, "no": False,
    "undesirable": False,
}  # fmt: skip


def pair_shape_of(row: Row) -> PairShape:
    """The shape of a row by its fields.

    Raises:
        OrreryError: none fits; names the fields there are and those that were looked for.
    """
    fields = row.fields
    if "chosen" in fields and "rejected" in fields:
        return "pair"
    if isinstance(fields.get("prompt"), Mapping) and "replies" in fields["prompt"]:
        return "tree"
    if any(isinstance(fields.get(name), list) for name in SEVERAL):
        return "ranked"
    if _first(fields, LABELS) is not None:
        return "thumbs"
    raise OrreryError(
        f"{row.where}: no shape of preferences that is known has these fields ({', '.join(map(str, fields)) or 'none'}); rename them "
        "with `fields` (for example fields: {chosen: better, rejected: worse}), to prompt, chosen and rejected, or prompt, completion "
        "and label, or prompt, answers and ranks"
    )


def records_of(row: Row, shape: PairShape | Literal["auto"] = "auto") -> list[Record]:
    """What a row says of answers; nothing where a tree compares none.

    Raises:
        OrreryError: the row is not of its shape, or says nothing; names the file, line, field and fix.
    """
    return [valid(record) for record in READERS[pair_shape_of(row) if shape == "auto" else shape](row)]


def _pair(row: Row) -> list[Record]:
    fields = row.fields
    chosen, rejected = (_turns(row, name, fields.get(name)) for name in ("chosen", "rejected"))
    asked = _first(fields, PROMPTS)
    whole = [turns[:1] and turns[0]["role"] != "assistant" for turns in (chosen, rejected)]
    if asked is not None and not any(whole):
        messages = _prompt(row, asked)
    elif all(whole):
        messages, chosen, rejected = _common(row, chosen, rejected)
    elif asked is None:
        raise OrreryError(
            f"{row.where}: there is no prompt (one of {', '.join(PROMPTS)}), and the answers are not whole conversations; add one"
        )
    else:
        name = ("chosen", "rejected")[whole.index(True)]
        raise OrreryError(
            f"{row.where}: '{name}' is a whole conversation and the other answer is not; give both alike"
        )
    margin = _margin(fields)
    return [
        Pair(messages=messages, chosen=chosen, rejected=rejected, where=row.where, tools=given_tools(row), margin=margin)
    ]  # fmt: skip


def _thumbs(row: Row) -> list[Record]:
    fields = row.fields
    name = _first(fields, LABELS)
    if name is None:
        raise OrreryError(f"{row.where}: no label (one of {', '.join(LABELS)}); add one, true or false")
    up, asked, said = (
        _up(fields[name], f"{row.where}: '{name}'"),
        _first(fields, PROMPTS),
        _first(fields, ANSWERS),
    )
    if said is not None and asked is not None:
        messages, answer = _prompt(row, asked), _turns(row, said, fields[said])
    elif asked is not None:
        turns = _prompt(row, asked)
        messages, answer = turns[:-1], turns[-1:]
    else:
        raise OrreryError(f"{row.where}: there is no prompt (one of {', '.join(PROMPTS)}); add one")
    return [Thumb(messages=messages, answer=answer, up=up, where=row.where, tools=given_tools(row))]


def _ranking(row: Row) -> list[Record]:
    fields = row.fields
    name, asked = (
        next((n for n in SEVERAL if isinstance(fields.get(n), list)), SEVERAL[0]),
        _first(fields, PROMPTS),
    )
    given = fields.get(name)
    if not isinstance(given, list) or len(given) < 2 or asked is None:
        raise OrreryError(f"{row.where}: a ranking needs a prompt and a list '{name}' of two answers or more")
    texts = [_answer_text(item, f"{row.where}: '{name}[{n}]'") for n, item in enumerate(given)]
    ranks, scores = _numbers(row, given, RANKS), _numbers(row, given, SCORES)
    if ranks is None and scores is None:
        raise OrreryError(
            f"{row.where}: nothing says which of '{name}' is better; add 'ranks' (least is best) or 'scores' (most is best), one each"
        )
    better = [-score for score in scores] if ranks is None and scores is not None else ranks or []
    order = sorted(set(better))
    return [
        Ranked(
            messages=_prompt(row, asked), answers=tuple(_turns(row, name, text) for text in texts),
            ranks=tuple(order.index(value) for value in better), where=row.where, tools=given_tools(row),
            scores=None if scores is None else tuple(scores),
        )
    ]  # fmt: skip


def _tree(row: Row) -> list[Record]:
    found: list[Record] = []
    _walk(row, row.fields.get("prompt"), "prompt", (), found)
    return found


def _walk(row: Row, node: Any, field: str, before: Messages, found: list[Record]) -> None:
    """Every question of a tree to which two answers or more have a rank."""
    if not isinstance(node, Mapping) or "text" not in node:
        raise OrreryError(
            f"{row.where}: '{field}' is {kind_of(node)} without a text; a node has role, text and replies"
        )
    role = role_of(node.get("role", "prompter"), NAMES, f"{row.where}: '{field}.role'")
    path = (*before, {"role": role, "content": text_of(node["text"], f"{row.where}: '{field}.text'")})
    replies = [
        (f"{field}.replies[{n}]", reply) for n, reply in enumerate(node.get("replies") or [])
        if isinstance(reply, Mapping) and reply.get("review_result") is not False and not reply.get("deleted")
    ]  # fmt: skip
    ranked = [reply for _, reply in replies if isinstance(reply.get("rank"), int)]
    if role == "user" and len(ranked) > 1:
        answers = tuple(
            ({"role": "assistant", "content": text_of(reply.get("text"), f"{row.where}: '{field}.replies'")},)
            for reply in ranked
        )
        ranks = tuple(reply["rank"] for reply in ranked)
        found.append(Ranked(messages=path, answers=answers, ranks=ranks, where=row.where))
    for place, reply in replies:
        _walk(row, reply, place, path, found)


READERS: dict[PairShape, Callable[[Row], list[Record]]] = {
    "pair": _pair, "thumbs": _thumbs, "ranked": _ranking, "tree": _tree,
}  # fmt: skip


def _prompt(row: Row, name: str) -> Messages:
    """What was asked, the row's system message in front."""
    value = row.fields[name]
    if isinstance(value, str):
        more = row.fields.get("input") if name == "instruction" else None
        text = f"{value}\n\n{more}" if isinstance(more, str) and more.strip() else value
        turns = asked_of(text) if is_transcript(text) else ({"role": "user", "content": text},)
        turns = turns if text.strip() else ()
    else:
        turns = _listed(row, name, value)
    system = row.fields.get("system")
    if isinstance(system, str) and system and turns and turns[0]["role"] != "system":
        return ({"role": "system", "content": system}, *turns)
    return turns


def _turns(row: Row, name: str, value: Any) -> Messages:
    """An answer: a text, a message, or a list of them; without a prompt, a whole conversation."""
    if isinstance(value, str):
        alone = _first(row.fields, PROMPTS) is None
        return (
            turns_of(value) if alone and is_transcript(value) else ({"role": "assistant", "content": value},)
        )
    return _listed(row, name, value)


def _listed(row: Row, name: str, value: Any) -> Messages:
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list):
        raise OrreryError(
            f"{row.where}: '{name}' is {kind_of(value)}; a text or a list of messages is needed"
        )
    if turns and isinstance(turns[0], Mapping) and "from" in turns[0]:
        return sharegpt_turns(turns, row.where, name)
    return openai_turns(turns, row.where, name)[0]


def _common(row: Row, chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """Two conversations as what they begin with, up to the last question they share, and what follows in each."""
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    while same and chosen[same - 1]["role"] == "assistant":
        same -= 1
    if not same:
        raise OrreryError(
            f"{row.where}: 'chosen' and 'rejected' do not begin with the same question, so they cannot be compared; mend or remove the row"
        )
    if chosen == rejected:
        raise OrreryError(
            f"{row.where}: 'chosen' and 'rejected' are the same conversation, which says nothing; remove the row"
        )
    return chosen[:same], chosen[same:], rejected[same:]


def _answer_text(item: Any, place: str) -> Any:
    """The text or turns of one of several answers."""
    if not isinstance(item, Mapping) or "role" in item or "from" in item:
        return item
    name = _first(item, TEXTS)
    if name is None:
        raise OrreryError(f"{place} has no text (one of {', '.join(TEXTS)}); add one")
    return item[name]


def _numbers(row: Row, given: Sequence[Any], names: Sequence[str]) -> list[float] | None:
    """One number an answer, from a list beside them or from each; None where there is none."""
    name = _first(row.fields, names)
    inside = [_first(item, names) if isinstance(item, Mapping) else None for item in given]
    if name is not None:
        values = row.fields[name]
    elif any(inside):
        name = next(filter(None, inside))
        values = [item[of] if of else None for item, of in zip(given, inside, strict=True)]
    else:
        return None
    numbers = [float(v) for v in values if isinstance(v, int | float)] if isinstance(values, list) else []
    if len(numbers) != len(given):
        raise OrreryError(
            f"{row.where}: '{name}' does not give one number for each of {len(given)} answers; give one each"
        )
    return numbers


def _margin(fields: Mapping[str, Any]) -> float | None:
    """`margin`, or the difference of `score_chosen` and `score_rejected` (or chosen_score ...)."""
    names = [
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("chosen_rating", "rejected_rating"),
    ]
    number = (int, float)
    if isinstance(fields.get("margin"), number):
        return float(fields["margin"])
    two = next((pair for pair in names if all(isinstance(fields.get(name), number) for name in pair)), None)
    return None if two is None else float(fields[two[0]]) - float(fields[two[1]])


def _up(value: Any, place: str) -> bool:
    """A label as up or down."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in THUMBS:
        return THUMBS[value.strip().lower()]
    if isinstance(value, int | float) and value in (0, 1, -1):
        return value == 1
    raise OrreryError(f"{place} is {str(value)[:40]!r}; a label is true or false (or 1 and 0, up and down)")


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of several names that is there."""
    return next((name for name in names if fields.get(name) is not None), None)
