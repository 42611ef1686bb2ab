"""Message passing: by hand, how far it reaches, that numbering does not matter, and learning to classify nodes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.model.graph import GraphNet, GraphNetConfig, MessagePassing, aggregate, edges_of

GRAPHS = st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=12)
    )
)
HOW = st.sampled_from(["sum", "mean", "max"])


def net(layers: int, how: str, activation: str = "gelu") -> GraphNet:
    cfg = GraphNetConfig(features=3, classes=2, width=8, layers=layers, how=how, activation=activation)
    return GraphNet(cfg).double()


def features(n: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def distances(n: int, edges: torch.Tensor) -> torch.Tensor:
    """(n, n) hops between nodes, by powers of the adjacency matrix; 99 where there is no path."""
    reach = torch.eye(n, dtype=torch.bool)
    adjacent = torch.eye(n)
    adjacent[edges[0], edges[1]] = 1
    hops = torch.full((n, n), 99)
    for k in range(n):
        hops[reach & (hops == 99)] = k
        reach = (reach.float() @ adjacent) > 0
    return hops


def test_edges_go_both_ways_once() -> None:
    assert edges_of([(0, 1), (1, 0), (2, 2)]).T.tolist() == [[0, 1], [1, 0], [2, 2]]
    assert edges_of([]).shape == (2, 0)


def test_aggregates_by_hand() -> None:
    messages, targets = torch.tensor([[1.0, -5.0], [3.0, -1.0], [7.0, 7.0]]), torch.tensor([0, 0, 2])
    assert aggregate(messages, targets, 3, "sum").tolist() == [[4, -6], [0, 0], [7, 7]]
    assert aggregate(messages, targets, 3, "mean").tolist() == [[2, -3], [0, 0], [7, 7]]
    assert aggregate(messages, targets, 3, "max").tolist() == [[3, -1], [0, 0], [7, 7]]


@given(GRAPHS, HOW)
def test_a_layer_is_the_formula_node_by_node(graph: tuple[int, list[tuple[int, int]]], how: str) -> None:
    n, pairs = graph
    edges, h = edges_of(pairs), features(n)
    layer = MessagePassing(3, 4, how=how, activation=None).double()
    combine = {"sum": lambda m: m.sum(0), "mean": lambda m: m.mean(0), "max": lambda m: m.amax(0)}[how]
    out = layer(h, edges)
    for v in range(n):
        heard = [layer.message.weight @ h[u] for u, w in edges.T.tolist() if w == v]
        want = layer.own.weight @ h[v] + layer.own.bias + (combine(torch.stack(heard)) if heard else 0)
        torch.testing.assert_close(out[v], want)


@given(GRAPHS, st.integers(0, 3), st.sampled_from(["sum", "mean"]))
def test_k_layers_reach_exactly_k_hops(
    graph: tuple[int, list[tuple[int, int]]], layers: int, how: str
) -> None:
    n, pairs = graph
    edges, model = edges_of(pairs), net(layers, how)
    jacobian = torch.autograd.functional.jacobian(lambda x: model.states(x, edges), features(n))
    touched = jacobian.abs().amax((1, 3)) > 0  # (of node, by node)
    assert torch.equal(touched, distances(n, edges) <= layers)


def test_the_far_end_of_a_path_is_heard_after_as_many_layers_as_edges() -> None:
    edges, changed = edges_of((i, i + 1) for i in range(5)), features(6)
    changed[5] += 1
    for layers in range(7):
        same = torch.equal(
            net(layers, "max").states(features(6), edges)[0], net(layers, "max").states(changed, edges)[0]
        )
        assert same == (layers < 5)


@given(GRAPHS, HOW, st.randoms(use_true_random=False))
def test_renumbered_nodes_give_renumbered_answers(
    graph: tuple[int, list[tuple[int, int]]], how: str, random
) -> None:
    n, pairs = graph
    order = list(range(n))
    random.shuffle(order)
    new = torch.tensor(order)  # node v is called new[v] now
    model, x, edges = net(2, how), features(n), edges_of(pairs)
    turned = torch.empty_like(x)
    turned[new] = x
    some = torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(n))
    torch.testing.assert_close(model(turned, new[edges][:, some])[new], model(x, edges))


def test_graphs_that_do_not_touch_do_not_change_each_other() -> None:
    a, b = edges_of([(0, 1), (1, 2)]), edges_of([(0, 1)])
    model = net(2, "mean")
    both = model(torch.cat([features(3), features(2)]), torch.cat([a, b + 3], 1))
    torch.testing.assert_close(both, torch.cat([model(features(3), a), model(features(2), b)]))


def test_it_classifies_nodes_that_features_alone_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    likely = torch.where(labels[:, None] == labels, 0.15, 0.02)
    pairs = (torch.rand(120, 120, generator=generator) < likely).nonzero().tolist()
    edges = edges_of((u, v) for u, v in pairs if u < v)
    x = torch.randn(120, 4, generator=generator) + 0.4 * (2.0 * labels[:, None] - 1)
    known = torch.arange(120) < 20
    scores = {}
    for layers in (0, 2):
        model = GraphNet(GraphNetConfig(features=4, classes=2, width=16, layers=layers))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x, edges)[known], labels[known]).backward()
            optimizer.step()
        scores[layers] = (model(x, edges).argmax(1) == labels)[~known].float().mean().item()
    assert scores[2] > 0.88 > scores[0]


def test_an_edge_to_nowhere_says_so() -> None:
    with pytest.raises(OrreryError, match="the nodes are 0 to 2"):
        net(1, "sum")(features(3), torch.tensor([[0], [3]]))
