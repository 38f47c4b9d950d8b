from pathlib import Path

import pytest

from sluicegate_agent.network.namespace import NamespaceError, enter, namespace_path


def test_a_name_is_where_ip_netns_keeps_it_and_a_path_is_itself():
    assert namespace_path("blue") == Path("/run/netns/blue")
    assert namespace_path("/proc/1/ns/net") == Path("/proc/1/ns/net")


def test_a_namespace_that_does_not_exist_is_named_with_its_place_and_a_remedy():
    with pytest.raises(
        NamespaceError, match=r"'sgt-nowhere' does not exist \(/run/netns/sgt-nowhere .* `ip netns list`"
    ):
        enter("sgt-nowhere")


def test_a_file_that_is_no_namespace_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NamespaceError, match=r"Invalid argument; is .*/file a network namespace\?"):
        enter(str(tmp_path / "file"))
