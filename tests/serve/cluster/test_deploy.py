"""Two replicas of a tiny model under Ray Serve, for real; needs the extra `cluster`, and half a minute."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orrery.kit.errors import MissingExtra, OrreryError
from orrery.serve.lm import LM

ROOT = Path(__file__).resolve().parents[3]
with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'orrery-lm[cluster]'"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of pydantic and of files left open
PORT = 18437
KEY = {"authorization": "Bearer secret"}


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"orrery-lm\[cluster\]"):
        import orrery.serve.cluster.deploy  # noqa: F401


@pytest.fixture(scope="module")
def cluster(lm: LM, save_lm: Callable[[LM, Path], Path], tmp_path_factory: Any) -> Iterator[str]:
    folder = save_lm(lm, tmp_path_factory.mktemp("cluster") / "model")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    import ray
    from ray import serve

    from orrery.serve.cluster.deploy import ClusterConfig, deploy
    from orrery.serve.http.settings import ServerSettings

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    server = ServerSettings(port=PORT, api_keys=("secret",))
    try:
        yield deploy(ClusterConfig(model=str(folder), name="tiny", cpus=0.5, server=server))
    finally:
        serve.shutdown()
        ray.shutdown()


@with_ray
@pytest.mark.slow
def test_two_replicas(cluster: str, lm: LM) -> None:
    def ask(prompt: str, **more: Any) -> httpx2.Response:
        body = {"prompt": prompt, "max_tokens": 6, "temperature": 0, "ignore_eos": True, **more}
        return httpx2.post(f"{cluster}/v1/completions", json=body, headers=KEY, timeout=60, trust_env=False)

    # The answers are the model's, whole and streamed.
    expected = lm.generate("the cat", max_tokens=6, temperature=0, ignore_eos=True).text
    first = ask("the cat")
    assert first.status_code == 200 and first.json()["choices"][0]["text"] == expected
    streamed = ask("the cat", stream=True).text
    assert streamed.endswith("data: [DONE]\n\n") and streamed.count("data: ") > 2
    # Who asks again is answered where the beginning is cached; other beginnings go to either.
    prompts = [f"{i} the cat sat" for i in range(16)]
    chosen = {prompt: ask(prompt).headers["x-orrery-replica"] for prompt in prompts}
    assert len(set(chosen.values())) == 2
    for prompt in prompts:
        again = ask(prompt)
        assert again.headers["x-orrery-replica"] == chosen[prompt]
        usage = again.json()["usage"]
        read = usage["prompt_tokens"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == (read - 1) // 16 * 16
    # One prompt many times at once is shared out.
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: ask("the mat", max_tokens=40), range(32)))
    assert {a.status_code for a in answers} == {200} and len(
        {a.json()["choices"][0]["text"] for a in answers}
    ) == 1
    shares = Counter(a.headers["x-orrery-replica"] for a in answers)
    assert len(shares) == 2 and min(shares.values()) >= 6
    # Errors, keys and the other routes are those of one server.
    assert ask("the cat", max_tokens=-1).status_code == 400
    assert httpx2.post(f"{cluster}/v1/completions", json={"prompt": "a"}, trust_env=False).status_code == 401
    assert httpx2.get(f"{cluster}/health", trust_env=False).status_code == 200
    assert httpx2.get(f"{cluster}/v1/models", headers=KEY, trust_env=False).json()["data"][0]["id"] == "tiny"


@with_ray
def test_settings_as_texts_and_settings_that_mean_nothing(tmp_path: Path) -> None:
    from orrery.serve.cluster.deploy import ClusterConfig, application

    assert application({"model": "x", "replicas": "3", "slack": "1.5", "engine": "{max_sequences: 4}"})
    with pytest.raises(OrreryError, match="replicas"):
        application({"model": "x", "replicas": "0"})
    with pytest.raises(OrreryError, match="modle"):
        application({"modle": "x"})
    with pytest.raises(OrreryError, match="slack"):
        ClusterConfig(model="x", slack=0.5)
