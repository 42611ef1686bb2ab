"""Scores equal lm-evaluation-harness's, on the same tiny model and the same rows; and its own tasks run on our models."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of lm-eval and what it imports
]

from orrery.evaluate.lm_eval_adapter import lm_eval_model  # noqa: E402
from orrery.evaluate.run_task import run_task  # noqa: E402
from orrery.evaluate.scorers import ScoreContext, table  # noqa: E402
from orrery.evaluate.task import Task  # noqa: E402
from orrery.kit.config import resolve  # noqa: E402
from orrery.model import Decoder, DecoderConfig  # noqa: E402
from orrery.model.folder import save_model  # noqa: E402
from orrery.model.mlp import Mlp  # noqa: E402
from orrery.serve.lm import LM  # noqa: E402
from orrery.text import TokenizerConfig, train_tokenizer  # noqa: E402

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "small",
    "old",
    "green",
    "sees",
    "hears",
    "likes",
    "finds",
    "house",
    "tree",
    "river",
    "because",
    "when",
    "is",
    "are",
    "not",
]


def sentences(rng: random.Random, n: int, length: int) -> list[str]:
    return [" ".join(rng.choices(WORDS, k=length)).capitalize() + "." for _ in range(n)]


def compared_rows() -> list[dict[str, Any]]:
    rng = random.Random(0)
    rows = []
    for i in range(24):
        options = sentences(rng, 4, rng.randint(1, 4))
        rows.append(
            {"topic": "ab"[i % 2], "question": sentences(rng, 1, 9)[0], "options": options, "label": i % 4}
        )
    return rows


ROWS: dict[str, list[dict[str, Any]]] = {
    "choices": compared_rows(),
    "pairs": [
        {"good": a, "bad": b} for a, b in zip(*[iter(sentences(random.Random(1), 40, 7))] * 2, strict=True)
    ],
    "rolling": [{"text": " ".join(sentences(random.Random(i), 1 + 7 * i, 8))} for i in range(6)],
    "generate": [{"question": s, "answer": "the"} for s in sentences(random.Random(3), 12, 6)],
}
SHARED = {
    "choices": {"shots": 3, "prompt": "Topic: {{ topic }}\nQ: {{ question }}\nA:"},
    "pairs": {},
    "rolling": {},
    "generate": {"prompt": "Q: {{ question }}\nA:"},
}
OURS: dict[str, dict[str, Any]] = {
    "choices": {
        "kind": "choices", "choices": "{{ options }}", "choice": " {{ choice }}", "answer": "{{ label }}",
        "target": " {{ options[label] }}", "preamble": "Answer these.\n\n", **SHARED["choices"],
    },
    "pairs": {"kind": "pairs", "pair": {"good": "{{ good }}", "bad": "{{ bad }}"}},
    "rolling": {"kind": "rolling", "target": "{{ text }}"},
    "generate": {
        "kind": "generate", "target": " {{ answer }}", "stop": [" the", "\n"], "max_tokens": 12, "score": "as_text",
        **SHARED["generate"],
    },
}  # fmt: skip
THEIRS: dict[str, dict[str, Any]] = {
    "choices": {
        "output_type": "multiple_choice", "doc_to_text": SHARED["choices"]["prompt"], "doc_to_choice": "{{ options }}",
        "doc_to_target": "{{ label }}", "description": "Answer these.\n\n", "num_fewshot": 3, "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")],
    },
    "pairs": {
        "output_type": "multiple_choice", "doc_to_text": "", "doc_to_target": 0, "doc_to_choice": "{{ [good, bad] }}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{ text }}",
        "metric_list": [{"metric": m} for m in ("bits_per_byte", "byte_perplexity", "word_perplexity")],
    },
    "generate": {
        "output_type": "generate_until", "doc_to_text": SHARED["generate"]["prompt"], "doc_to_target": " {{ answer }}",
        "generation_kwargs": {"until": [" the", "\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["without-bos", "with-bos"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LM:
    """A tiny model in a folder that transformers opens; its tokenizer's files say whether BOS stands before a text."""
    texts = [s for rows in ROWS.values() for row in rows for s in map(str, row.values())]
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=400, add_bos=request.param))
    cfg = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, feed_forward=Mlp(d_ff=48),
        max_positions=256,
    )  # fmt: skip
    model = Decoder(cfg, seed=5).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)
    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder)
    tokenizer.save(folder)
    return LM.load(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, rows in ROWS.items():
        for part, some in (("train", rows[:6]), ("test", rows[6:] if name == "choices" else rows)):
            (folder / f"{name}-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder


@pytest.fixture(scope="module")
def theirs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], dict[str, Any]]:
    """(their model) -> their results of all four tasks."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    folder, cache = tmp_path_factory.mktemp("tasks"), tmp_path_factory.mktemp("cache")
    os.environ["HF_DATASETS_CACHE"] = str(cache)
    for name, task in THEIRS.items():
        files = {part: str(data / f"{name}-{part}.jsonl") for part in ("train", "test")}
        made = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "test_split": "test",
        }
        (folder / f"{name}.yaml").write_text(json.dumps(made | task))

    def evaluate(model: Any) -> dict[str, Any]:
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        return lm_eval.simple_evaluate(
            model=model, tasks=list(THEIRS), task_manager=manager, bootstrap_iters=0, log_samples=True
        )

    return evaluate


@pytest.fixture(scope="module")
def hf(lm: LM, theirs: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    return theirs(HFLM(pretrained=str(lm.folder), device="cpu", dtype="float32", batch_size=4))


@pytest.fixture
def as_text() -> Iterator[None]:
    def score(answer: str, row: Any, context: ScoreContext) -> dict[str, float]:
        return {"exact_match": float(answer == context.target)}

    table.SCORERS["as_text"] = score
    yield
    del table.SCORERS["as_text"]


def ours(name: str) -> Task:
    data = {"path": f"{name}-test.jsonl"} | ({"shots": f"{name}-train.jsonl"} if name == "choices" else {})
    return resolve(Task, {"name": name, "version": 1, "about": "a test", "data": data} | OURS[name])


def likelihoods(results: dict[str, Any], name: str) -> list[list[float]]:
    samples = sorted(results["samples"][name], key=lambda s: s["doc_id"])
    return [[float(one[0]) for one in sample["filtered_resps"]] for sample in samples]


@pytest.mark.parametrize("name", ["choices", "pairs"])
def test_log_probabilities_and_accuracies(name: str, lm: LM, data: Path, hf: dict[str, Any]) -> None:
    result = run_task(lm, ours(name), data=data)
    for record, expected in zip(result.records, likelihoods(hf, name), strict=True):
        assert record.detail["logprobs"] == pytest.approx(expected, abs=2e-3)
    assert result.metrics["acc"].mean == hf["results"][name]["acc,none"]
    if name == "choices":
        assert result.metrics["acc_norm"].mean == hf["results"][name]["acc_norm,none"]


def test_whole_texts(lm: LM, data: Path, hf: dict[str, Any]) -> None:
    """lm-eval puts BOS before texts that its tokenizer puts BOS before as well; those it then counts twice."""
    result = run_task(lm, ours("rolling"), data=data)
    if lm.tokenizer.adds[0]:
        pytest.skip("lm-eval doubles BOS here: it predicts BOS behind BOS, which is no part of the text")
    assert len(lm.tokenizer.encode(ROWS["rolling"][-1]["text"])) > lm.context  # more than one window
    for metric, estimate in result.metrics.items():
        assert estimate.mean == pytest.approx(hf["results"]["rolling"][f"{metric},none"], rel=1e-4)


@pytest.mark.usefixtures("as_text")
def test_generated_texts(lm: LM, data: Path, hf: dict[str, Any]) -> None:
    result = run_task(lm, ours("generate"), data=data)
    samples = sorted(hf["samples"]["generate"], key=lambda s: s["doc_id"])
    assert [record.answer for record in result.records] == [sample["resps"][0][0] for sample in samples]
    assert result.metrics["exact_match"].mean == hf["results"]["generate"]["exact_match,none"]


def test_lm_evals_own_tasks_on_our_model(
    lm: LM, hf: dict[str, Any], theirs: Callable[[Any], dict[str, Any]]
) -> None:
    found = theirs(lm_eval_model(lm))
    for name in ("choices", "pairs"):
        for mine, expected in zip(likelihoods(found, name), likelihoods(hf, name), strict=True):
            assert mine == pytest.approx(expected, abs=2e-3)
        greedy = [[one[1] for one in s["filtered_resps"]] for s in found["samples"][name]]
        assert greedy == [[one[1] for one in s["filtered_resps"]] for s in hf["samples"][name]]
    said = [[sample["resps"] for sample in results["samples"]["generate"]] for results in (found, hf)]
    assert said[0] == said[1]
    for name, metrics in hf["results"].items():
        if name == "rolling" and lm.tokenizer.adds[0]:
            continue
        numbers = {key: value for key, value in metrics.items() if isinstance(value, float)}
        assert {key: found["results"][name][key] for key in numbers} == pytest.approx(numbers, rel=1e-4)
