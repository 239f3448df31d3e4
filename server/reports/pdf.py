"""Reports as PDF. Owns page, fonts and tables; computes and words nothing.

English is set in the DejaVu Sans that matplotlib ships, because the standard fonts of PDF have no ε; Chinese in
STSong-Light, which every reader knows and nothing embeds.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from policies.notices import Locale
from server.reports.document import Report, Section, Table

_MARGIN_MM: Final = 18
_INK, _MUTED, _EDGE, _HEAD = "#16222e", "#526070", "#c9d2db", "#eef2f5"


def report_pdf(report: Report) -> bytes:
    """The report as a PDF, A4."""
    from reportlab.lib.units import mm
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

    styles = _styles(report.locale)
    flow: list[Any] = [
        Paragraph(escape(report.title), styles["title"]),
        Paragraph(escape(f"{report.controller} · {report.generated_at}"), styles["muted"]),
        Spacer(1, 3 * mm),
        Paragraph(escape(report.summary), styles["body"]),
    ]
    for section in report.sections:
        flow += _section(section, styles)
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        title=report.title,
        author=report.controller,
        leftMargin=_MARGIN_MM * mm,
        rightMargin=_MARGIN_MM * mm,
        topMargin=_MARGIN_MM * mm,
        bottomMargin=_MARGIN_MM * mm,
        lang=report.locale,
    )
    footer = _footer(report, _fonts(report.locale)[0])
    document.build(flow, onFirstPage=footer, onLaterPages=footer)
    return out.getvalue()


def table_pdf(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], locale: Locale) -> bytes:
    """One long table as a PDF, A4 landscape."""
    from reportlab.lib.pagesizes import A4, landscape
    from reportlab.platypus import Paragraph, SimpleDocTemplate

    styles, out = _styles(locale), io.BytesIO()
    table = Table(caption="", columns=tuple(columns), rows=tuple(tuple(row) for row in rows))
    flow = [Paragraph(escape(title), styles["title"]), *_table(table, styles, width_mm=297 - 2 * _MARGIN_MM)]
    SimpleDocTemplate(out, title=title, pagesize=landscape(A4), lang=locale).build(flow)
    return out.getvalue()


def _section(section: Section, styles: dict[str, Any]) -> list[Any]:
    from reportlab.platypus import Paragraph

    flow: list[Any] = [Paragraph(escape(section.heading), styles["heading"])]
    flow += [Paragraph(escape(text), styles["body"]) for text in section.paragraphs]
    if section.facts:
        facts = Table(caption="", columns=("", ""), rows=tuple((fact.label, fact.value) for fact in section.facts))
        flow += _table(facts, styles, head=False)
    for table in section.tables:
        flow += _table(table, styles)
    flow += [
        Paragraph("☐ " + escape(text) if styles["box"] else "□ " + escape(text), styles["open"])
        for text in section.open_points
    ]
    return flow


def _table(
    table: Table, styles: dict[str, Any], *, head: bool = True, width_mm: float = 210 - 2 * _MARGIN_MM
) -> list[Any]:
    """A table that may run over pages; its head is repeated."""
    from reportlab.lib.colors import HexColor
    from reportlab.lib.units import mm
    from reportlab.platypus import LongTable, Paragraph, Spacer

    if not table.rows:
        return []
    body = [[Paragraph(escape(cell), styles["cell"]) for cell in row] for row in table.rows]
    if head:
        body.insert(0, [Paragraph(escape(name), styles["head"]) for name in table.columns])
    widths = [width * width_mm * mm for width in _widths(table)]
    made = LongTable(body, colWidths=widths, repeatRows=int(head), hAlign="LEFT")
    rules: list[Any] = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(_EDGE)),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ]
    if head:
        rules.append(("BACKGROUND", (0, 0), (-1, 0), HexColor(_HEAD)))
    made.setStyle(rules)
    caption = [Paragraph(escape(table.caption), styles["muted"])] if table.caption else []
    return [*caption, made, Spacer(1, 3 * mm)]


def _widths(table: Table) -> list[float]:
    """Shares of the width by how much each column has to say, none below a tenth."""
    rows = [table.columns, *table.rows]
    sizes = [max(6.0, min(60.0, max(_cells(row[index]) for row in rows))) for index in range(len(table.columns))]
    total = sum(sizes)
    return [size / total for size in sizes]


def _cells(text: str) -> int:
    return sum(2 if ord(character) > 0x2E7F else 1 for character in text)


def _footer(report: Report, font: str) -> Any:  # noqa: ANN401 - the library calls it with its own objects
    def draw(canvas: Any, document: Any) -> None:  # noqa: ANN401 - the library's
        canvas.saveState()
        canvas.setFont(font, 7.5)
        canvas.setFillColor(_MUTED)
        canvas.drawString(51, 28, report.title)
        canvas.drawRightString(544, 28, str(document.page))
        canvas.restoreState()

    return draw


@functools.cache
def _fonts(locale: Locale) -> tuple[str, str]:
    """Names of the regular and the bold face, registered once."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfbase.ttfonts import TTFont

    if locale == "zh-CN":
        pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
        return "STSong-Light", "STSong-Light"
    import matplotlib as mpl

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont("DejaVuSans", str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont("DejaVuSans-Bold", str(folder / "DejaVuSans-Bold.ttf")))
    return "DejaVuSans", "DejaVuSans-Bold"


@functools.cache
def _styles(locale: Locale) -> dict[str, Any]:
    from reportlab.lib.styles import ParagraphStyle

    regular, bold = _fonts(locale)
    wrap = "CJK" if locale == "zh-CN" else None

    def style(name: str, **more: object) -> Any:  # noqa: ANN401 - the library's
        base = {"fontName": regular, "fontSize": 9, "leading": 13, "textColor": _INK, "wordWrap": wrap}
        return ParagraphStyle(name, **(base | more))

    return {
        "title": style("title", fontName=bold, fontSize=16, leading=21, spaceAfter=2),
        "heading": style("heading", fontName=bold, fontSize=11.5, leading=16, spaceBefore=10, spaceAfter=3),
        "body": style("body", spaceAfter=4),
        "muted": style("muted", fontSize=8, leading=11, textColor=_MUTED, spaceAfter=2),
        "cell": style("cell", fontSize=7.6, leading=10),
        "head": style("head", fontName=bold, fontSize=7.6, leading=10),
        "open": style("open", leftIndent=10, firstLineIndent=-10, textColor="#744b00"),
        "box": locale != "zh-CN",
    }
