"""What campaigns and creatives may say: fields, landing pages, templates, and the preview of what will be shown."""

from __future__ import annotations

from typing import Final

from tests.service.campaigning import Agency, campaign_body, creative_body

NO_CAMPAIGNS: Final[tuple[dict[str, object], ...]] = (
    {"landing_url": "http://nuts.example"},
    {"landing_url": "https://nuts.example@evil.example/"},
    {"landing_url": "https://nuts.example\\@evil.example/"},
    {"landing_url": 'https://nuts.example/" onmouseover=alert(1)'},
    {"landing_url": "javascript:alert(1)"},
    {"landing_url": "https://"},
    {"ends_at": 0},
    {"budget_micros": -1},
    {"bid_micros": -5},
    {"bid_micros": 10**13},
    {"budget_micros": 10**30},
    {"budget_micros": 1.5},
    {"daily_budget_micros": 600_000_000},
    {"name": "a\x00b"},
    {"name": "abc\u202egnp.exe"},
    {"payer": ""},
    {"regions": ["Bavaria"]},
    {"caps": [{"views_max": 0, "window_hours": 24}]},
    {"caps": [{"views_max": 1, "window_hours": 24}] * 2},
    {"price": 3},
    {"tags": ["pregnancy"]},
    {"name": "Credit score check"},
)
NO_CREATIVES: Final[tuple[tuple[dict[str, object], str], ...]] = (
    ({"landing_url": "https://evil.example/"}, "MalformedInput"),
    ({"landing_url": "https://nuts.example.evil.example/"}, "MalformedInput"),
    ({"landing_url": "https://nuts.example:444/"}, "MalformedInput"),
    ({"category": "diabetes care"}, "PolicyError"),
    ({"attributes": {"religion": "any"}}, "PolicyError"),
    ({"texts": {}}, "InvalidRequest"),
    ({"label": {"en": "Tip"}}, "InvalidRequest"),
    ({"image_url": "https://evil.example/pixel.gif"}, "InvalidRequest"),
    ({"numbers": {"x": "1"}}, "InvalidRequest"),
)


def test_what_is_no_campaign_or_creative_is_refused(agency: Agency) -> None:
    for wrong in NO_CAMPAIGNS:
        answer = agency.ask("POST", "/v1/campaigns", campaign_body(agency.world, **wrong))
        assert answer.status_code == 422, (wrong, answer.text)
    assert agency.done("GET", "/v1/campaigns")["items"] == []
    campaign = agency.campaign()
    for changes, title in NO_CREATIVES:
        answer = agency.ask("POST", "/v1/creatives", creative_body(campaign, **changes))
        assert (answer.status_code // 100, answer.json()["title"]) == (4, title), changes
    assert agency.done("GET", "/v1/creatives")["items"] == []


def test_a_registered_landing_page_does_not_move_from_under_its_creatives(agency: Agency) -> None:
    campaign = agency.campaign()
    agency.creative(campaign, landing_url="https://nuts.example/roasted")
    body = campaign_body(agency.world, landing_url="https://elsewhere.example/")
    headers = agency.advertiser | {"if-match": '"1"'}
    answer = agency.world.http.put(f"/v1/campaigns/{campaign}", json=body, headers=headers)
    assert answer.json()["title"] == "MalformedInput"


def test_templates_are_filled_for_every_product_or_for_none(agency: Agency) -> None:
    campaign = agency.campaign()
    order = {
        "campaign_id": campaign,
        "template": {
            "name": "product",
            "title": {"en": "{product} today", "zh-CN": "今日{product}"},
            "description": {"en": "By {brand|our own}", "zh-CN": "{brand|自有}品牌"},
            "image_alt": {"en": "{product}", "zh-CN": "{product}"},
            "call_to_action": {"en": "Buy"},
            "landing_url": "https://nuts.example/items/{item}",
            "tags": ["weekly"],
        },
        "products": [
            {
                "item_id": "1",
                "category": "snacks",
                "attributes": {"product": "<b>Nuts</b>"},
                "numbers": {"discount": 1},
            },
            {"item_id": "../2", "category": "snacks", "attributes": {"product": "Figs", "brand": "X" * 190}},
        ],
    }
    first, second = agency.done("POST", "/v1/creatives/from-template", order)["items"]
    assert first["terms"]["texts"]["en"]["title"] == "<b>Nuts</b> today"  # text stays text: escaped where it is shown
    assert first["terms"]["texts"]["zh-CN"]["title"] == "今日<b>Nuts</b>"
    assert second["terms"]["landing_url"] == "https://nuts.example/items/..%2F2"
    assert second["terms"]["texts"]["en"]["title"] == "Figs today"
    assert second["terms"]["texts"]["en"]["call_to_action"] == "Buy"
    for attributes in ({}, {"product": "Figs\u202e"}):
        order["products"][1]["attributes"] = attributes  # type: ignore[index]
        assert agency.ask("POST", "/v1/creatives/from-template", order).status_code == 400
    assert len(agency.done("GET", f"/v1/creatives?campaign_id={campaign}")["items"]) == 2


def test_the_preview_is_what_will_be_shown(agency: Agency) -> None:
    _, creative = agency.running()
    shown = agency.world.decide(None, agency.backend, locale="zh-CN")["slots"][0]["creative"]
    preview = agency.done("GET", f"/v1/creatives/{creative}/preview?locale=zh-CN")
    assert preview["html"] == shown["html"]
    texts = {asset["id"]: asset for asset in preview["native"]["assets"]}
    assert texts[1]["title"]["text"] == "炒货"
    assert texts[4]["data"] == {"type": 1, "value": "Nuts & Sons Ltd."}
    assert texts[5]["data"] == {"type": 12, "value": "立即选购"}
    assert preview["native"]["ext"] == {"label": "广告"}
