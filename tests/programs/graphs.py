"""Networks of nodes and edges: gathers along edges, sums and maxima into nodes."""

from __future__ import annotations

import numpy as np

from programs import Program

SCATTERS = "has no np.add.at"


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


def edges(rng, nodes, count):
    """A ring, so that every node has an edge in and out, and ``count`` random edges more."""
    ring = np.arange(nodes)
    sources = np.concatenate([ring, rng.integers(0, nodes, count)])
    return sources, np.concatenate([(ring + 1) % nodes, rng.integers(0, nodes, count)])


def log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def graph_convolution(params, features, sources, targets, labels):
    """Two layers of Kipf and Welling's network, messages added up by np.add.at."""

    def propagate(h):
        degree = np.bincount(targets, minlength=len(features)) + 1
        root = np.sqrt(degree.astype(h.dtype))
        h = h / root[:, None]
        total = h.copy()
        np.add.at(total, targets, h[sources])
        return total / root[:, None]

    hidden = np.maximum(propagate(features @ params["w1"]) + params["b1"], 0)
    scores = log_softmax(propagate(hidden @ params["w2"]) + params["b2"])
    return -scores[np.arange(len(labels)), labels].mean()


def graph_convolution_data(seed, nodes=6, extra=8, width=3, hidden=4, classes=3):
    rng = np.random.default_rng(seed)
    params = {
        "w1": normal(rng, width, hidden),
        "b1": normal(rng, hidden),
        "w2": normal(rng, hidden, classes),
        "b2": normal(rng, classes),
    }
    sources, targets = edges(rng, nodes, extra)
    return params, normal(rng, nodes, width), sources, targets, rng.integers(0, classes, nodes)


def graph_attention(params, features, sources, targets, wanted):
    """Veličković's attention over edges: a softmax per node by np.maximum.at and np.add.at."""
    h = features @ params["w"]
    scores = (h @ params["from"])[sources] + (h @ params["to"])[targets]
    scores = np.where(scores > 0, scores, 0.2 * scores)
    largest = np.full_like(scores, -np.inf, shape=len(features))
    np.maximum.at(largest, targets, scores)
    scores = np.exp(scores - largest[targets])
    total = np.zeros_like(scores, shape=len(features))
    np.add.at(total, targets, scores)
    mixed = np.zeros_like(h)
    np.add.at(mixed, targets, (scores / total[targets])[:, None] * h[sources])
    return np.mean((np.tanh(mixed) @ params["out"] - wanted) ** 2)


def graph_attention_data(seed, nodes=5, extra=7, width=3, hidden=4):
    rng = np.random.default_rng(seed)
    params = {
        "w": normal(rng, width, hidden),
        "from": normal(rng, hidden),
        "to": normal(rng, hidden),
        "out": normal(rng, hidden),
    }
    sources, targets = edges(rng, nodes, extra)
    return params, normal(rng, nodes, width), sources, targets, normal(rng, nodes)


def dense_graph_attention(params, features, adjacency, wanted):
    """The same attention over a dense adjacency matrix: edges that are not there score -inf."""
    h = np.einsum("nd,hdk->hnk", features, params["w"])
    scores = (
        np.einsum("hnk,hk->hn", h, params["to"])[:, :, None] + np.einsum("hnk,hk->hn", h, params["from"])[:, None, :]
    )
    scores = np.where(adjacency, np.maximum(scores, 0.2 * scores), -np.inf)
    scores = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    weights = scores / np.sum(scores, axis=-1, keepdims=True)
    mixed = np.einsum("hnm,hmk->nhk", weights, h).reshape((len(features), -1))
    return np.mean((np.tanh(mixed) @ params["out"] - wanted) ** 2)


def dense_graph_attention_data(seed, nodes=5, width=3, hidden=2, heads=2):
    rng = np.random.default_rng(seed)
    params = {
        "w": normal(rng, heads, width, hidden),
        "from": normal(rng, heads, hidden),
        "to": normal(rng, heads, hidden),
        "out": normal(rng, heads * hidden),
    }
    adjacency = (rng.uniform(size=(nodes, nodes)) > 0.6) | np.eye(nodes, dtype=bool)
    return params, normal(rng, nodes, width), adjacency, normal(rng, nodes)


def road_network(log_costs, tails, heads, demand, counts):
    """Travel times from traffic counts: soft shortest paths (Bellman-Ford with logsumexp) load a road network."""
    n, cost = len(demand), np.exp(log_costs)
    arrival = np.full_like(cost, -40.0, shape=n)
    arrival[0] = 0.0
    for _ in range(n):
        weight = np.exp(arrival[tails] - cost)
        reached = np.zeros_like(cost, shape=n)
        np.add.at(reached, heads, weight)
        reached[0] = 1.0
        arrival = np.log(reached + 1e-18)
    flow_in = demand.copy()
    load = np.zeros_like(cost)
    for _ in range(n):
        load = flow_in[heads] * np.exp(arrival[tails] - cost - arrival[heads])
        flow_in = demand.copy()
        np.add.at(flow_in, tails, load)
    return np.mean((load - counts) ** 2)


def road_network_data(seed, nodes=5):
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(nodes) for j in range(i + 1, min(i + 3, nodes))]
    tails, heads = np.array(pairs).T.copy()
    demand = rng.uniform(0.2, 1, nodes)
    return 0.3 * normal(rng, len(tails)), tails, heads, demand, rng.uniform(0, 2, len(tails))


PROGRAMS = (
    Program(graph_convolution, graph_convolution_data, {"nodes": 200, "extra": 1000, "hidden": 16}, peer=SCATTERS),
    Program(graph_attention, graph_attention_data, {"nodes": 200, "extra": 1000, "hidden": 16}, peer=SCATTERS),
    Program(dense_graph_attention, dense_graph_attention_data, {"nodes": 60, "width": 8, "hidden": 8, "heads": 4}),
    Program(road_network, road_network_data, {"nodes": 20}, peer=SCATTERS),
)
