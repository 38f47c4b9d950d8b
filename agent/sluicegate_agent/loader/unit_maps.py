"""From a compiled unit's declarations to maps: those that are pinned already, or new ones."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sluicegate_agent.kernel.libbpf import BpfMap, KernelError, MapType
from sluicegate_agent.loader import layout
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.image import MapImage, UnitImage
from sluicegate_agent.loader.manifest import MapLayout, layout_digest

PROGRAM_ARRAY_PREFIX = "tails_"

# What the compiler says of their rows is a macro's, not ours: rows of a map of maps are ids, a ring has none.
_WITHOUT_ROWS = frozenset({MapType.ARRAY_OF_MAPS, MapType.RINGBUF})


@dataclass(slots=True)
class UnitMaps:
    """``opened`` has all maps by name; ``layouts`` all but the program array ``tails``, whose pin is in ``arrays``."""

    opened: dict[str, BpfMap] = field(default_factory=dict)
    layouts: dict[str, MapLayout] = field(default_factory=dict)
    arrays: dict[str, Path] = field(default_factory=dict)
    tails: BpfMap | None = None

    @property
    def descriptors(self) -> dict[str, int]:
        """What instructions refer to them by."""
        return {name: row.fd for name, row in self.opened.items()}


def install_maps(image: UnitImage, templates: dict[str, str], file: str, maps: Path, programs: Path) -> UnitMaps:
    """All maps of the unit, never the compiler's own: those end with it, and a kept image comes without.

    ``templates`` has the inner map's name by that of a map of maps. Maps are pinned in the directory ``maps`` under
    their layout's digest, the program array in ``programs``. Raises LoaderError and KernelError.
    """
    made = UnitMaps()
    layouts = {row.name: _layout_of(row, templates.get(row.name)) for row in image.maps}
    for row in image.maps:
        if row.name in templates.values():
            made.opened[row.name] = _create(row, None)
    for row in image.maps:
        if row.name in templates.values():
            made.layouts[row.name] = layouts[row.name]
        elif row.name.startswith(PROGRAM_ARRAY_PREFIX):
            if made.tails is not None:
                raise LoaderError(f"{file} has more than one map {PROGRAM_ARRAY_PREFIX}...")
            made.tails = made.opened[row.name] = _create(row, None)
            made.arrays[row.name] = programs / row.name
            made.tails.pin(programs / row.name)
        else:
            template = templates.get(row.name, "")
            path = maps / f"{row.name}-{layout_digest(layouts[row.name], layouts.get(template))}"
            made.layouts[row.name] = replace(layouts[row.name], path=path)
            made.opened[row.name] = _open_or_pin(path, partial(_create, row, made.opened.get(template)))
    return made


def _layout_of(row: MapImage, inner: str | None) -> MapLayout:
    for what, shape, real in (("key", row.key, row.key_size), ("value", row.value, row.value_size)):
        if row.type not in _WITHOUT_ROWS and layout.size(shape) != real:
            raise LoaderError(
                f"the {what} of {row.name} has {real} bytes, its members {layout.size(shape)}",
                "name the padding in types.h",
            )
    return MapLayout(None, row.type, row.key, row.value, row.max_entries, row.flags, inner)


def _create(row: MapImage, template: BpfMap | None) -> BpfMap:
    inner = None if template is None else template.fd
    sizes = (row.key_size, row.value_size, row.max_entries)
    return BpfMap.create(MapType(row.type), row.name, *sizes, flags=row.flags, inner_fd=inner)


def _open_or_pin(path: Path, create: Callable[[], BpfMap]) -> BpfMap:
    """The map that is pinned there, or a new one, which then is."""
    try:
        return BpfMap.open(path)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    own = create()
    try:
        own.pin(path)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        own.close()  # the other unit was faster
        return BpfMap.open(path)
    return own
