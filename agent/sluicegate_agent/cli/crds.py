"""``sluicegate crds``: the custom resource definitions of this version."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sluicegate_api.crd import crds_yaml


class _Form(StrEnum):
    YAML = "yaml"


class _Kind(StrEnum):
    LOADBALANCER = "loadbalancer"
    DPISNIFFER = "dpisniffer"
    ADDRESSPOOL = "addresspool"
    NODESTATE = "nodestate"
    CONFIGSLICE = "configslice"
    RULEBUNDLE = "rulebundle"


def crds(
    kind: Annotated[_Kind | None, typer.Argument(help="Only this kind; default all.", show_default=False)] = None,
    output: Annotated[_Form, typer.Option("-o", "--output", help="Form of the answer.")] = _Form.YAML,
) -> None:
    """Print the custom resource definitions, for "kubectl apply --server-side -f -"."""
    del output
    typer.echo(crds_yaml(kind), nl=False)
