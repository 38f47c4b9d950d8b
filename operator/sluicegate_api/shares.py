"""How many places of a table each backend gets."""

from __future__ import annotations

from collections.abc import Mapping


def turns(weights: Mapping[str, int], places: int) -> list[str]:
    """The order in which backends take the places of a table, so that they end up in proportion to their weights.

    A backend of weight w takes its k-th place (from 0) at the time k/w; the first `places` of all these are it (Adams's
    divisor method). So every backend with a weight has at least one place, none is more than one place above its share,
    and the order of any two backends depends on nothing but their own weights. Weight 0 takes no place.

    Raises ValueError when there are more backends than places.
    """
    names = sorted(name for name, weight in weights.items() if weight > 0)
    if len(names) > places:
        raise ValueError(f"{len(names)} backends do not fit into a table of {places}")
    total = sum(weights[name] for name in names)
    times: list[tuple[float, int]] = []
    for index, name in enumerate(names):
        weight = weights[name]
        # Equal fractions give equal floats, so ties do not depend on the scale of the weights.
        times.extend((place / weight, index) for place in range(weight * places // total + 1))
    times.sort()
    return [names[index] for _, index in times[:places]]
