"""Programs a model wrote, run against their tests inside the sandbox: HumanEval and MBPP.

Chen et al. 2021 (arXiv:2107.03374): a function completed from its docstring. Austin et al. 2021 (arXiv:2108.07732): a function from
one sentence and three asserts. Never run outside the sandbox; without one every row is Unscored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orrery.evaluate.metrics.pass_at_k import pass_at_k
from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.kit.errors import OrreryError
from orrery.kit.sandbox import Limits

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n?```|\Z)", re.S)
KS = (1, 10, 100)
LIMITS = Limits(
    seconds=15.0, cpu_seconds=5.0
)  # what counts is processor time: the clock also runs while others work


def code_block(text: str) -> str | None:
    """The contents of the last fenced block that is not empty, else None."""
    blocks = [block for block in _FENCE.findall(text) if block.strip()]
    return blocks[-1] if blocks else None


def humaneval_program(answer: str, row: Mapping[str, Any]) -> str:
    """The prompt and its completion. An answer that defines the function itself (a chat model's) stands behind the prompt's imports.

    A completion ends where the next top-level statement of another kind begins, as sampling's stop words have it.
    """
    block = code_block(answer)
    code = answer if block is None else block
    if re.search(rf"^def\s+{re.escape(row['entry_point'])}\s*\(", code, re.M):
        head = row["prompt"].split(f"def {row['entry_point']}")[0]
        return f"{head}\n{code}\n"
    cut = re.split(r"\n(?=class |def |#|if |print|@|assert|```)", code)[0]
    if cut.strip() and not cut.lstrip("\n")[:1].isspace():
        lines = cut.strip("\n").split("\n")
        cut = "\n".join([f"    {lines[0]}", *_indented(lines[1:])])
    return f"{row['prompt']}{cut}\n"


def _indented(lines: list[str]) -> list[str]:
    """Lines of a body whose first line lost its indentation: they move too where they have none either."""
    lost = any(line.strip() and not line[:1].isspace() for line in lines)
    return [f"    {line}" for line in lines] if lost else lines


def mbpp_program(answer: str) -> str:
    """The program of an answer: a fenced block, or what stands before `[DONE]`."""
    block = code_block(answer)
    code = answer if block is None else block
    return code.split("[DONE]")[0].replace("[BEGIN]", "").strip() + "\n"


def score_humaneval(
    answer: str, row: Mapping[str, Any], context: ScoreContext, /
) -> Mapping[str, float] | Unscored:
    """pass@1 and, with enough samples, pass@10 and pass@100 of a HumanEval row."""
    programs = [humaneval_program(text, row) for text in context.answers or (answer,)]
    tests = f"{row['test']}\ncheck({row['entry_point']})\n"
    return _passed(programs, tests, context, entry=[row["entry_point"]])


def score_mbpp(
    answer: str, row: Mapping[str, Any], context: ScoreContext, /
) -> Mapping[str, float] | Unscored:
    """pass@1 (10, 100) of an MBPP row: the asserts of `test_list` after `test_setup_code`, which may use the program's classes."""
    programs = [mbpp_program(text) for text in context.answers or (answer,)]
    tests = "\n".join([row.get("test_setup_code", ""), *row["test_list"]]) + "\n"
    return _passed(programs, tests, context, entry=defined(row["code"]))


def defined(code: str) -> list[str]:
    """The functions and classes a gold solution defines: names that the tests mean the program's, also where Python has such a name."""
    return re.findall(r"^(?:def|class)\s+(\w+)", code, re.M)


def _passed(
    programs: list[str], tests: str, context: ScoreContext, *, entry: list[str]
) -> Mapping[str, float] | Unscored:
    """Only a test program that ran to its end counts as passed. Without a sandbox there is no verdict."""
    try:
        sandbox = context.sandbox
        outcomes = {
            program: sandbox.run_tests(program, tests, entry=entry, limits=LIMITS).status == "ok"
            for program in dict.fromkeys(programs)  # samples may repeat
        }
    except OrreryError as error:
        return Unscored(f"no sandbox: {error}")
    passed = sum(outcomes[program] for program in programs)
    return {f"pass@{k}": pass_at_k(len(programs), passed, k) for k in KS if k <= len(programs)}
