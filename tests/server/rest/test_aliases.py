from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.model.aliases import CreateAlias, RenameAlias
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import NotFound
from headrace.service.service import Service
from tests.server.rest.rest_server import Rest


def change(rest: Rest, *actions: Any) -> Any:
    return rest.result("POST", "/collections/aliases", {"actions": actions})


def create(name: str, alias: str) -> Any:
    return {"create_alias": {"collection_name": name, "alias_name": alias}}


def rename(old: str, new: str) -> Any:
    return {"rename_alias": {"old_alias_name": old, "new_alias_name": new}}


def delete(alias: str) -> Any:
    return {"delete_alias": {"alias_name": alias}}


def targets(rest: Rest) -> dict[str, str]:
    aliases = rest.result("GET", "/aliases")["aliases"]
    return {one["alias_name"]: one["collection_name"] for one in aliases}


def test_an_alias_stands_for_its_collection_in_reads_and_writes(
    rest: Rest, collection: str
) -> None:
    alias = f"{collection}-a"
    assert change(rest, create(collection, alias)) is True
    point = {"id": 1, "vector": [1, 0, 0, 0]}
    rest.result("PUT", f"/collections/{alias}/points", {"points": [point]})
    assert rest.result("POST", f"/collections/{collection}/points/count", {})["count"] == 1
    assert rest.result("GET", f"/collections/{alias}")["points_count"] == 1
    assert rest.result("GET", f"/collections/{alias}/exists") == {"exists": True}
    assert alias not in str(rest.result("GET", "/collections"))
    found = rest.result("GET", f"/collections/{collection}/aliases")
    assert found == {"aliases": [{"alias_name": alias, "collection_name": collection}]}


def test_actions_are_taken_in_order(rest: Rest, new_collection: Callable[..., str]) -> None:
    first, second = new_collection(), new_collection()
    change(rest, create(first, f"{first}-a"), create(first, f"{first}-b"))
    change(
        rest,
        create(second, f"{first}-a"),
        rename(f"{first}-b", f"{first}-a"),
        create(second, f"{first}-c"),
        delete(f"{first}-gone"),
    )
    found = {alias: name for alias, name in targets(rest).items() if alias.startswith(first)}
    assert found == {f"{first}-a": first, f"{first}-c": second}


def test_actions_are_taken_all_or_none(rest: Rest, collection: str) -> None:
    body = {"actions": [create(collection, f"{collection}-a"), rename("gone", "b")]}
    status, text = rest.error("POST", "/collections/aliases", body)
    assert (status, text) == (404, "Not found: Alias gone does not exists!")
    assert f"{collection}-a" not in targets(rest)


def test_a_collections_name_is_no_alias_and_an_alias_no_collection(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    first, second = new_collection(), new_collection()
    body = {"actions": [create(first, second)]}
    status, text = rest.error("POST", "/collections/aliases", body)
    assert (status, text) == (409, f"Wrong input: Collection `{second}` already exists!")
    change(rest, create(first, f"{first}-a"))
    status, text = rest.error("PUT", f"/collections/{first}-a", {})
    assert status == 400
    assert "Alias with the same name already exists" in text


def test_the_collection_of_an_alias_must_be_there(rest: Rest) -> None:
    body = {"actions": [create("gone", "a")]}
    status, text = rest.error("POST", "/collections/aliases", body)
    assert (status, text) == (404, "Not found: Collection `gone` doesn't exist!")


def test_deleting_takes_aliases_along_and_does_not_take_an_alias_for_a_name(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    name = new_collection()
    change(rest, create(name, f"{name}-a"))
    assert rest.result("DELETE", f"/collections/{name}-a") is False
    assert rest.result("DELETE", f"/collections/{name}") is True
    assert f"{name}-a" not in targets(rest)


@pytest.mark.parametrize("alias", ["", "a/b", "x" * 256])
def test_an_alias_must_fit_into_a_path(rest: Rest, collection: str, alias: str) -> None:
    body = {"actions": [create(collection, alias)]}
    assert rest.error("POST", "/collections/aliases", body)[0] == 422


def test_aliases_and_changes_outlive_the_process(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    for name in ("one", "two"):
        service.create_collection(name, CollectionConfig())
        service.change_aliases([CreateAlias(name, f"{name}-a")])
    service.change_aliases([RenameAlias("one-a", "one-b")])
    service.delete_collection("two")
    service.close()
    reopened = Service.open(tmp_path)
    assert [alias.alias_name for alias in reopened.aliases()] == ["one-b"]
    assert reopened.collection_exists("one-b")
    with pytest.raises(NotFound):
        reopened.collection_config("one-a")
    reopened.close()
