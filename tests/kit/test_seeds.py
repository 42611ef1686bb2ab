"""Seeds are pure functions: same name, same number, anywhere."""

from __future__ import annotations

import torch

from orrery.kit.seeds import key, numpy_generator, torch_generator, uniform


def test_keys_depend_on_every_part_type_and_order() -> None:
    keys = [key(0), key(1), key(0, 1), key(0, "1"), key(0, 1, 2), key(0, 2, 1), key(0, "a", 1), key(0, "a1")]
    assert len(set(keys)) == len(keys)
    assert key(7, "data", 3) == 3852058673087435687  # pinned: a change would break resuming old runs


def test_generators_repeat_and_differ_by_name() -> None:
    assert torch.equal(
        torch.rand(4, generator=torch_generator(0, "a")), torch.rand(4, generator=torch_generator(0, "a"))
    )
    assert not torch.equal(
        torch.rand(4, generator=torch_generator(0, "a")), torch.rand(4, generator=torch_generator(0, "b"))
    )
    assert (numpy_generator(0, "a").random(4) == numpy_generator(0, "a").random(4)).all()


def test_uniform_covers_the_interval_evenly() -> None:
    draws = torch.tensor([uniform(0, i) for i in range(4000)])
    assert draws.min() >= 0 and draws.max() < 1
    assert abs(draws.mean().item() - 0.5) < 0.02
    assert torch.histc(draws, 10, 0, 1).min() > 330
