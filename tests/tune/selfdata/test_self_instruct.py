"""Self-Instruct: filters by hand, the loop with a scripted model, and the seed tasks that people wrote."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orrery.evaluate.metrics.rouge import rouge
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import write_rows
from orrery.tune.selfdata.self_instruct.filters import Pool, instance_fault, instruction_fault
from orrery.tune.selfdata.self_instruct.loop import SelfInstruct, sample_instructions
from orrery.tune.selfdata.self_instruct.prompts import read_instance, read_instructions
from orrery.tune.selfdata.self_instruct.tasks import Instance, read_tasks
from orrery.tune.selfdata.speaker import Speaker, Speech

from ..conftest import Small
from .scripted import Scripted


def test_the_nearest_text_of_a_pool_is_that_of_comparing_all(shared_data: Path) -> None:
    texts = [task.instruction for task in read_tasks(shared_data / "sft_self_instruct" / "seed_tasks.jsonl")]
    pool = Pool(texts[:120])
    for text in texts[120:160]:
        all_of_them = max(rouge(text, [other]).f1 for other in texts[:120])
        assert pool.nearest(text).similarity == pytest.approx(all_of_them)
    assert pool.nearest(texts[7]).similarity == 1.0 and pool.nearest("Überprüfe это").similarity == 0.0
    assert sum(instruction_fault(text) is None for text in texts) > 0.85 * len(
        texts
    )  # what people wrote passes


def test_instructions_that_are_left_out() -> None:
    assert instruction_fault("Write a short poem about the sea.") is None
    assert instruction_fault("Write it.") == "too short"
    assert instruction_fault("a b c " * 60) == "too long"
    assert instruction_fault(": the second half of a thought") == "a fragment"
    assert instruction_fault("Explain the difference between a and") == "a fragment"
    assert instruction_fault("Describe the picture of a dog.") == "about what a text cannot hold (picture)"
    assert instruction_fault("Please go to the library and read.") == "about what a text cannot hold (go to)"
    assert instruction_fault("Say why the pictures-only rule is bad.") is None
    assert instruction_fault("12 34 + 56 - 78 = ?") == "hardly any words"
    assert instruction_fault("very very very very very very very good") == "the same words again and again"


def test_cases_that_are_left_out() -> None:
    assert instance_fault("Add.", "1 2", "3") is None
    assert instance_fault("Add.", "1 2", " 1  2 ") == "the output repeats the input"
    assert instance_fault("Add the numbers", "", "add the  numbers") == "the instruction again"
    assert (
        instance_fault("Write a list of what birds eat.", "", "A list of what birds eat.")
        == "the instruction again"
    )
    assert instance_fault("Say yes or no.", "Is it late?", "no") is None
    assert instance_fault("Add.", "1 2", "N/A") == "no output" == instance_fault("Add.", "1", "...")
    assert instance_fault("Add.", "the numbers:", "3") == "unfinished"
    assert instance_fault("Say it.", "", "word " * 500) == "too long"
    assert instance_fault("Say it.", "the sea is our home. " * 3, "yes") == "the same words again and again"


def test_a_continued_list_is_read() -> None:
    text = "Say hello.\nTask 10: Add the\n two numbers.\n11. Name a bird.\nTask 12: Write a"
    assert read_instructions(text, whole=False) == ["Say hello.", "Add the two numbers.", "Name a bird."]
    assert read_instructions("Task 9: Say hello.", whole=True) == ["Say hello."]
    assert read_instance(" 1 + 2\nOutput: 3\n", label_first=False) == Instance("1 + 2", "3")
    assert read_instance("Input: (none)\nOutput: a\nb", label_first=False) == Instance("", "a\nb")
    assert read_instance(" good\nInput: I like it", label_first=True) == Instance("I like it", "good")
    assert read_instance("Label: bad\nInput: none", label_first=True) == Instance("", "bad")
    assert read_instance("only words", label_first=False) is None


NEW = [
    "one plus two is three", "be short and say more", "add with a and b", "call the same or less", "what is it of more",
]  # fmt: skip


def seeds(folder: Path, n: int = 8) -> SelfInstruct:
    verbs = ["sing", "count", "paint", "rhyme", "sort", "guess", "shout", "whisper", "bake", "plant"]
    rows = [
        {"instruction": f"{verb.title()} {i} kinds of {verb}ing things", "instances": [{"input": "", "output": verb}],
         "is_classification": i % 2 == 0}
        for i, verb in enumerate(verbs[:n])
    ]  # fmt: skip
    write_rows(folder / "seeds.jsonl", rows)
    return SelfInstruct(
        seeds=("seeds.jsonl",), instructions=4, asks=2, rounds=3, shown=4, demonstrations=2, instances=2
    )


def model(small: Small) -> Scripted:
    def says(text: str, i: int) -> str:
        if text.endswith("\nTask 5:"):
            first = NEW[(len(text) + i) % len(NEW)]
            return f" {first}\nTask 6: {NEW[(len(text) + 1) % len(NEW)]}\nTask 7: tiny\nTask 8: {first} again"
        if text.endswith("\nLabel:"):
            return f" label {i}\nInput: input {i}\n\nTask: another"
        return f" same input\nOutput: output {i}"

    def likes(text: str) -> float:
        label = "less" in text.rsplit("Task: ", 1)[1]
        return 0.0 if text.endswith("Yes") == label else -5.0

    return Scripted(small.tokenizer, says, likes=likes)


def test_the_loop_makes_new_tasks_until_there_are_enough(small: Small, tmp_path: Path) -> None:
    cfg = seeds(tmp_path)
    made = sample_instructions(cfg, Speaker(model(small).subject()), Speech(), root=tmp_path)
    numbers, account = made.account.numbers, made.account
    assert numbers["instructions"] == 4 and account.balanced
    texts = [row["messages"][0]["content"] for row in made.examples]
    tasks = {text.split("\n\n")[0] for text in texts}
    assert tasks <= set(NEW) | {f"{text} again" for text in NEW} and len(tasks) == 4
    assert (
        account.filtered["instruction: too short"] and account.filtered["instruction: too like one there is"]
    )
    labelled = [task for task in tasks if "less" in task]
    assert numbers["classification"] == len(labelled) / 4
    for task in tasks:
        cases = [
            row["messages"]
            for row in made.examples
            if row["messages"][0]["content"].startswith(f"{task}\n\n")
        ]
        if task in labelled:  # two labels with two inputs
            assert [turns[1]["content"] for turns in cases] == ["label 0", "label 1"]
        else:  # the same input twice is one case
            assert [turns[1]["content"] for turns in cases] == ["output 0"]
    unlabelled = len(tasks) - len(labelled)
    assert account.filtered["instance: an input there is"] == unlabelled
    again = sample_instructions(cfg, Speaker(model(small).subject()), Speech(), root=tmp_path)
    assert again == made
    other = sample_instructions(
        dataclasses.replace(cfg, classification="none"),
        Speaker(model(small).subject(), seed=1),
        Speech(),
        root=tmp_path,
    )
    assert other.account.numbers["classification"] == 0.0


def test_seeds_that_do_not_do(small: Small, tmp_path: Path) -> None:
    cfg = seeds(tmp_path, n=3)
    with pytest.raises(OrreryError, match="the seeds are 3 tasks"):
        sample_instructions(cfg, Speaker(model(small).subject()), Speech(), root=tmp_path)
    write_rows(tmp_path / "seeds.jsonl", [{"instruction": "x", "instances": [{"input": ""}]}])
    with pytest.raises(OrreryError, match="row 1 is no task"):
        read_tasks(tmp_path / "seeds.jsonl")
