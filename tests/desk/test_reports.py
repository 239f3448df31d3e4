"""Reports: every form and language, figures of the installation, roles over HTTP."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import get_args

import httpx
import pypdf
import pytest

from common.taxonomy import PrivacyUnit, Purpose, Role
from policies.notices import Locale
from server.api.app import create_app
from server.api.services import Services
from server.reports.document import ReportName, report_csv, report_json
from server.reports.pdf import report_pdf
from server.reports.service import make_report
from tests.desk.conftest import Client, key_of

NAMES = get_args(ReportName)
RELATIVE = {
    "en": ("δ", "unit", "relation", "trust", "composition"),
    "zh-CN": ("δ", "单位", "相邻关系", "信任模型", "组合"),
}


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
@pytest.mark.parametrize("name", NAMES)
def test_every_form_says_the_same(reading: Services, name: ReportName, locale: Locale) -> None:
    report = make_report(reading, name, locale)
    assert json.loads(report_json(report))["sections"]
    rows = list(csv.reader(io.StringIO(report_csv(report).decode("utf-8-sig"))))
    assert {len(row) for row in rows} == {4}
    pdf = pypdf.PdfReader(io.BytesIO(report_pdf(report)))
    printed = re.sub(r"\s+", "", "".join(page.extract_text() for page in pdf.pages))
    for section in report.sections:
        assert re.sub(r"\s+", "", section.heading) in printed
        assert any(row[0] == section.heading for row in rows)


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
@pytest.mark.parametrize("name", ["dpia", "pipia"])
def test_no_epsilon_without_what_it_is_relative_to(reading: Services, name: ReportName, locale: Locale) -> None:
    report = make_report(reading, name, locale)
    texts = [text for section in report.sections for text in section.paragraphs]
    texts += [cell for section in report.sections for table in section.tables for row in table.rows for cell in row]
    stated = [text for text in texts if re.search(r"ε ?[=≥≤] ?\d", text)]
    assert len(stated) >= 4
    known = RELATIVE[locale]
    short = ("unit", "单位", "relation", "相邻关系")  # the audit's sentence names the unit itself
    for text in stated:
        audit = "attack" in text or "攻击" in text
        assert [word for word in known if word not in text and not (audit and word in short)] == []


def test_figures_are_real(reading: Services) -> None:
    dpia = json.loads(report_json(make_report(reading, "dpia", "en")))
    text = json.dumps(dpia, ensure_ascii=False)
    line = next(row for row in reading.budgets.overview().lines if row.line.unit is PrivacyUnit.USER)
    assert f"ε = {line.standings[0].spent_max:.3g} at δ = 1e-05" in text
    assert "ε ≥ 2.63" in text
    assert reading.policies.digests["privacy_budget"] in text
    ropa = json.dumps(json.loads(report_json(make_report(reading, "ropa", "en"))), ensure_ascii=False)
    for purpose in Purpose:
        assert purpose.value in ropa
    given = sum(rate.states["given"] for rate in reading.consent.rates() if rate.purpose is Purpose.TRAIN_LOCAL)  # type: ignore[index]
    consent = make_report(reading, "consent", "en")
    row = next(row for row in consent.sections[0].tables[0].rows if "(train.local)" in row[0])
    assert int(row[2]) == given
    assert dpia["draft"] is True
    assert any(section["open_points"] for section in dpia["sections"])


def test_over_http(reading: Services) -> None:
    client = Client(reading, "http://127.0.0.1", "en")
    for role, allowed in (
        (Role.PRIVACY_OFFICER, True),
        (Role.AUDITOR, True),
        (Role.ADMIN, False),
        (Role.APP_BACKEND, False),
    ):
        headers = {"authorization": f"Bearer {key_of(reading, role)}"}
        for name in NAMES:
            answer = client.get(f"/v1/reports/{name}", headers=headers)
            assert answer.status_code == (200 if allowed else 403)
    headers = {"authorization": f"Bearer {key_of(reading, Role.AUDITOR)}"}
    pdf: httpx.Response = client.get("/v1/reports/pipia?format=pdf&locale=zh-CN", headers=headers)
    assert pdf.content.startswith(b"%PDF")
    assert pdf.headers["content-disposition"].endswith('"reticent-pipia-zh-CN.pdf"')
    assert client.get("/v1/reports/secrets", headers=headers).status_code == 422
    assert client.get("/v1/reports/ropa").status_code == 401
    assert create_app(services=reading).openapi()["paths"]["/v1/reports/{name}"]
