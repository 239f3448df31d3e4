"""Problems, limits, caching and health: what the service answers when it cannot or need not answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from common.crypto.signing import PublicKey, key_ring
from common.taxonomy import Role
from common.wire.documents import open_document
from common.wire.messages import Catalogue
from server.api import errors
from server.api.errors import problem_type, status_of
from tests.service.world import World, catalogue, register_model


def all_errors(root: type[errors.ReticentError]) -> set[type[errors.ReticentError]]:
    return {root}.union(*(all_errors(child) for child in root.__subclasses__()))


def test_every_error_of_ours_has_a_status_and_a_type() -> None:
    for kind in all_errors(errors.ReticentError):
        error = kind.__new__(kind)
        assert 400 <= status_of(error) <= 503
        assert problem_type(kind.__name__).removeprefix("urn:reticent:problem:").replace("-", "").isalpha()
    assert problem_type("NoticeExpired") == "urn:reticent:problem:notice-expired"


def test_malformed_json_is_a_named_400_everywhere(world: World) -> None:
    device, admin = world.enrol(), world.key(Role.ADMIN)
    for method, path, headers in (
        ("POST", "/v1/subjects", {}),
        ("POST", "/v1/consents", device.headers),
        ("POST", "/v1/consents/withdraw", device.headers),
        ("POST", "/v1/events", {}),
        ("POST", "/v1/api-keys", admin),
        ("PUT", "/v1/catalog", admin),
        ("POST", "/v1/decisions", device.headers),
    ):
        for body in (b'{"handle": "canary-in-the-body"', b"[" * 30_000, b"\xff"):
            sent = headers | {"content-type": "application/json"}
            answer = world.http.request(method, path, content=body, headers=sent)
            assert (answer.status_code, answer.json()["title"]) == (400, "MalformedInput"), (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:reticent:problem:malformed-input"
            assert "canary" not in answer.text


def test_nothing_that_was_sent_comes_back(world: World) -> None:
    device = world.enrol()
    body = {
        "handle": device.handle,
        "notice_digest": "canary-value",
        "decisions": {"canary-purpose": "canary-answer"},
        "locale": "canary",
        "surface": "",
        "canary-field": {"canary-deep": ["canary"]},
    }
    answer = world.http.post("/v1/consents", json=body, headers=device.headers)
    assert answer.status_code == 422
    assert "canary" not in answer.text
    assert device.handle not in answer.text
    assert {line["where"] for line in answer.json()["errors"]} >= {"body.notice_digest", "body.locale", "body.*"}
    for path in ("/v1/canary", "/v1/models/canary", "/v1/notices/canary", "/static/creative/canary.svg"):
        answer = world.http.get(path)
        assert answer.status_code in {404, 422}
        assert answer.headers["content-type"] == "application/problem+json"
        assert "canary" not in answer.text


def test_wrong_methods_and_paths_are_problems_too(world: World) -> None:
    assert world.http.delete("/v1/consents").json()["title"] == "MethodNotAllowed"
    assert world.http.get("/").json()["title"] == "NotFound"


def test_bodies_are_capped_whether_or_not_their_length_is_declared(world: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1024

    for body in (b" " * (64 * 1024 + 1), endless()):
        answer = world.http.post("/v1/subjects", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["title"]) == (413, "BodyTooLarge")
    answer = world.http.post("/v1/decisions", content=b" " * 70_000, headers=world.key(Role.APP_BACKEND))
    assert answer.status_code == 413
    fitting = b'{"slots": [{"slot_id": "a"}]}' + b" " * 60_000
    answer = world.http.post("/v1/decisions", content=fitting, headers=world.key(Role.APP_BACKEND))
    assert answer.status_code == 200


def test_public_documents_have_etags_and_are_the_same_for_everybody(furnished: World) -> None:
    device = furnished.consenting()
    for path in (
        "/v1/catalog/current",
        "/v1/policy/current",
        "/v1/models/current",
        "/v1/models/1",
        "/v1/models/current/arrays",
        "/v1/notices/current",
    ):
        first = furnished.http.get(path)
        assert first.status_code == 200, path
        assert "public" in first.headers["cache-control"]
        again = furnished.http.get(path, headers=device.headers | {"if-none-match": f'"x", {first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert furnished.http.get(path, headers=device.headers).content == first.content
    for answer in (furnished.http.get("/v1/consents/me", headers=device.headers), furnished.http.get("/nothing")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_published_keys_verify_the_catalogue(furnished: World) -> None:
    keys = [PublicKey(key["x"]) for key in furnished.http.get("/.well-known/jwks.json").json()["keys"]]
    signed = furnished.http.get("/v1/catalog/current").text
    assert open_document(signed, Catalogue, key_ring(*keys)).creatives == catalogue().creatives


def test_catalogues_are_numbered_by_the_service_and_unchanged_ones_are_not_new(world: World) -> None:
    admin = world.key(Role.ADMIN)
    body = json.loads(catalogue().model_dump_json())

    def put(content: object, **headers: str) -> tuple[int, object]:
        answer = world.http.put("/v1/catalog", json=content, headers=admin | headers)
        return answer.status_code, answer.json().get("version", answer.json().get("title"))

    assert put(body, **{"if-match": "*"}) == (412, "PreconditionFailed")
    assert put(body | {"version": 7}) == (200, 1)
    assert put(body) == (200, 1)
    body["creatives"] = body["creatives"][:3]
    assert put(body, **{"if-match": '"7"'}) == (412, "PreconditionFailed")
    assert put(body, **{"if-match": '"1"'}) == (200, 2)
    tag = world.http.get("/v1/catalog/current").headers["etag"]
    body["creatives"] = body["creatives"][:2]
    for wrong in (f"W/{tag}", '"1"', f'"{"0" * 64}"', "nonsense", ""):
        assert put(body, **{"if-match": wrong}) == (412, "PreconditionFailed"), wrong
    assert put(body, **{"if-match": f'"x", {tag}'}) == (200, 3)
    assert put(body, **{"if-match": tag}) == (412, "PreconditionFailed")
    assert put(body, **{"if-match": "*"}) == (200, 3)
    body["creatives"] = [*body["creatives"], body["creatives"][0]]
    assert put(body) == (400, "MalformedInput")
    body["creatives"] = [body["creatives"][0] | {"landing_url": "javascript:alert(1)"}]
    assert put(body) == (422, "InvalidRequest")


def test_health_says_what_is_there(world: World) -> None:
    assert world.http.get("/healthz").json() == {"status": "ok"}
    ready = world.http.get("/readyz")
    assert (ready.status_code, ready.json()["catalogue"], ready.json()["model"]) == (200, "none", "none")
    world.furnish()
    register_model(world.services, seed=1)
    ready = world.http.get("/readyz").json()
    assert (ready["catalogue"], ready["model"]) == ("version 1", "version 2")
    with world.services.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
        connection.exec_driver_sql("DROP TABLE notice")
    ready = world.http.get("/readyz")
    assert (ready.status_code, ready.json()["database"]) == (503, "not migrated")
    assert ready.json()["notices"] == "StorageUnavailable"
