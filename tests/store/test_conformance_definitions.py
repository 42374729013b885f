"""Every store: the namespace's settings, workflows and actions."""

from __future__ import annotations

import pytest

from orchy.errors import LimitReached
from orchy.store.definitions import NamespaceSettings, StoredWorkflow
from orchy.store.limits import DefinitionLimits

FEW = DefinitionLimits(workflows_max=2, versions_max=3, versions_bytes_max=100, actions_max=2)


async def test_the_first_settings_are_kept(store):
    first = NamespaceSettings(64, 1)
    assert await store.settings(first) == first
    assert await store.settings(NamespaceSettings(32, 2)) == first


async def test_the_first_identity_is_kept(store):
    assert await store.settings(NamespaceSettings(64, 1)) == NamespaceSettings(64, 1)  # as an older version stored it
    assert (await store.settings(NamespaceSettings(64, 1, "a"))).identity == "a"
    assert (await store.settings(NamespaceSettings(64, 1, "b"))).identity == "a"
    assert await store.settings(NamespaceSettings(64, 1)) == NamespaceSettings(64, 1, "a")


async def test_data_at_another_place_get_a_new_identity(store):
    assert await store.settings(NamespaceSettings(64, 1, "a"), "here") == NamespaceSettings(64, 1, "a")
    assert await store.settings(NamespaceSettings(64, 1, "b"), "here") == NamespaceSettings(64, 1, "a")
    assert await store.settings(NamespaceSettings(64, 1, "b")) == NamespaceSettings(
        64, 1, "a"
    )  # a caller that does not know the place
    assert await store.settings(NamespaceSettings(64, 1, "c"), "there") == NamespaceSettings(64, 1, "c", True)
    assert await store.settings(NamespaceSettings(64, 1, "d"), "there") == NamespaceSettings(64, 1, "c")


async def test_each_different_text_is_a_new_version(store):
    assert await store.save_workflow("orders", b"one") == (1, True)
    assert await store.save_workflow("orders", b"one") == (1, False)
    assert await store.save_workflow("orders", b"two") == (2, True)
    assert await store.save_workflow("orders", b"one") == (3, True)
    assert await store.save_workflow("bills", b"one") == (1, True)


async def test_versions_stay_readable(store):
    for text in (b"one", b"two"):
        await store.save_workflow("orders", text)
    assert await store.workflow("orders") == StoredWorkflow("orders", 2, b"two")
    assert await store.workflow("orders", 1) == StoredWorkflow("orders", 1, b"one")
    assert await store.workflow("orders", 3) is None
    assert await store.workflow("orders", 0) is None
    assert await store.workflow("bills") is None
    assert await store.workflow("bills", 1) is None
    assert await store.latest_version("orders") == 2
    assert await store.latest_version("bills") is None


async def test_a_deleted_workflow_is_readable_only_by_version(store):
    await store.save_workflow("orders", b"one")
    assert await store.delete_workflow("orders")
    assert not await store.delete_workflow("orders")
    assert await store.workflow("orders") is None
    assert await store.latest_version("orders") is None
    assert await store.workflows() == []
    assert await store.workflow("orders", 1) == StoredWorkflow("orders", 1, b"one")


async def test_a_version_number_is_never_used_twice(store):
    await store.save_workflow("orders", b"one")
    await store.delete_workflow("orders")
    assert await store.save_workflow("orders", b"one") == (2, True)
    assert await store.workflows() == [StoredWorkflow("orders", 2, b"one")]


async def test_deleting_an_unknown_name_returns_false(store):
    assert not await store.delete_workflow("orders")
    assert not await store.delete_action("pay")


async def test_workflows_are_listed_by_name_in_their_newest_version(store):
    for name in ("orders", "bills", "Orders", "a:b", "höflich", "latest", "1"):
        await store.save_workflow(name, b"old")
        await store.save_workflow(name, name.encode())
    assert await store.workflows() == [
        StoredWorkflow(name, 2, name.encode())
        for name in ("1", "Orders", "a:b", "bills", "höflich", "latest", "orders")
    ]


async def test_many_workflows_are_listed(store):
    names = [f"workflow-{number:03}" for number in range(120)]
    for name in names:
        await store.save_workflow(name, b"text")
    assert [workflow.name for workflow in await store.workflows()] == names


async def test_actions_are_kept_by_name(store):
    assert await store.actions() == {}
    assert await store.save_action("pay", b"one")
    assert not await store.save_action("pay", b"two")
    assert await store.save_action("a:b", b"\x00\xff")
    assert await store.actions() == {"pay": b"two", "a:b": b"\x00\xff"}
    assert await store.delete_action("pay")
    assert await store.actions() == {"a:b": b"\x00\xff"}


async def test_workflows_have_a_limit_that_a_delete_does_not_lift(store):
    await store.save_workflow("a", b"1", FEW)
    await store.save_workflow("b", b"1", FEW)
    await store.delete_workflow("a")
    for _ in range(2):
        with pytest.raises(LimitReached, match=r"'c' would be one more than 2.*--workflow-limit"):
            await store.save_workflow("c", b"1", FEW)
    assert await store.save_workflow("a", b"1", FEW) == (2, True)
    assert await store.save_workflow("c", b"1") == (1, True)


async def test_versions_of_a_workflow_have_a_limit(store):
    for number in range(3):
        await store.save_workflow("a", b"%d" % number, FEW)
    with pytest.raises(LimitReached, match=r"'a' has 3 versions already.*--workflow-version-limit"):
        await store.save_workflow("a", b"3", FEW)
    assert await store.save_workflow("a", b"2", FEW) == (3, False)
    assert await store.latest_version("a") == 3
    await store.delete_workflow("a")
    with pytest.raises(LimitReached):
        await store.save_workflow("a", b"2", FEW)
    assert await store.save_workflow("a", b"3") == (4, True)


async def test_versions_of_a_workflow_have_a_limit_in_bytes(store):
    await store.save_workflow("a", b"x" * 60, FEW)
    with pytest.raises(LimitReached, match="more than 100 bytes"):
        await store.save_workflow("a", b"x" * 41, FEW)
    assert await store.save_workflow("a", b"x" * 40, FEW) == (2, True)
    assert await store.save_workflow("b", b"x" * 100, FEW) == (1, True)
    assert await store.workflow("a", 1) == StoredWorkflow("a", 1, b"x" * 60)


async def test_actions_have_a_limit(store):
    for name in ("a", "b"):
        assert await store.save_action(name, b"1", FEW)
    with pytest.raises(LimitReached, match=r"'c' would be one more than 2.*--action-limit"):
        await store.save_action("c", b"1", FEW)
    assert not await store.save_action("a", b"2", FEW)
    await store.delete_action("b")
    assert await store.save_action("c", b"1", FEW)
    assert await store.actions() == {"a": b"2", "c": b"1"}
