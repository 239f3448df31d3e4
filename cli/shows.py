"""What trainings look like in a terminal: progress bars and tables. Prints only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.evaluation import Quality
from cli.training import Trained, Watch
from common.privacy.parameters import PrivacyStatement
from server.rounds.training import RoundReport

console = Console()


def bars() -> Progress:
    """The progress bars of all commands."""
    return Progress(
        TextColumn("{task.description:<31}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


@contextmanager
def training_progress(rounds: int) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], Watch]]]:
    """Bars for building a population and for each training: (progress callback, watcher by training name)."""
    with bars() as progress:
        tasks: dict[str, TaskID] = {}

        def building(what: str, done: int, total: int) -> None:
            name = f"building {what}"
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total or None, note="")
            progress.update(tasks[name], completed=done, total=total or None)

        def watch(name: str) -> Watch:
            task = progress.add_task(f"training {name}", total=rounds, note="starting workers")

            def seen(report: RoundReport, measured: dict[str, Quality]) -> None:
                progress.update(task, completed=report.round_number, note=round_note(report, measured))

            return seen

        yield building, watch


def round_note(report: RoundReport, measured: dict[str, Quality]) -> str:
    """One line about a round."""
    line = report.privacy
    spent = "no privacy" if line.epsilon == float("inf") else f"{line.unit.value} ε {line.epsilon:.2f}"
    seen = f"AUC {measured['personal'].auc:.3f}, " if measured else ""
    return f"{seen}{report.record.contributions} devices, {spent}"


def quality_rows(results: Sequence[Trained]) -> list[list[str]]:
    """Rows of (training, held-out rows, view, AUC, log loss, the base rate's log loss, calibration, ε)."""
    rows = []
    for trained in results:
        spent = " / ".join(_epsilon(line) for line in trained.finished.lines)
        parts = ({"later": trained.seen} if trained.seen else {}) | (
            {"unseen": trained.unseen} if trained.unseen else {}
        )
        for where, views in parts.items():
            for view, found in views.items():
                figures = [f"{found.auc:.4f}", f"{found.log_loss:.4f}", f"{found.base_log_loss:.4f}"]
                rows.append([trained.plan.name, where, view, *figures, f"{found.calibration:.2f}", spent])
        paid = trained.paid
        if paid is not None:
            figures = [paid.auc.text(), paid.log_loss.text(), f"{paid.base_log_loss:.4f}", paid.calibration.text(2)]
            rows.append([trained.plan.name, f"paid, {paid.devices} devices", "personal", *figures, spent])
    return rows


def _epsilon(line: PrivacyStatement) -> str:
    return "∞" if line.epsilon == float("inf") else f"{line.epsilon:.2f} per {line.unit.value}"


def statements(results: Sequence[Trained]) -> list[tuple[str, PrivacyStatement]]:
    """Every line of every training, each whole; a paid evaluation beside a training under a name of its own."""
    found = []
    for trained in results:
        found += [(trained.plan.name, line) for line in trained.finished.lines]
        found += [(f"{trained.plan.name}, its paid evaluation", line) for line in trained.evaluation]
    return found


QUALITY_COLUMNS = ("training", "rows", "view", "AUC", "log loss", "of base", "calib.", "ε")
QUALITY_NOTE = (
    "rows: 'later' is held-out time of devices that trained, 'unseen' are devices that never train; both are exact and "
    "only a simulation can measure them. 'paid' came back from devices as noisy, charged sums; its 95 % intervals hold "
    "the noise. of base: log loss of the base rate. calib.: mean prediction ÷ rate, 1 is right. ε: see the statements."
)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_trained(results: Sequence[Trained], folder: Path) -> None:
    """Quality of every training, the privacy statement of the one that is kept, and where it is."""
    show_table("Quality on held-out rows", QUALITY_COLUMNS, quality_rows(results))
    console.print(QUALITY_NOTE, style="dim")
    kept = results[-1].finished
    console.print(f"Kept: {results[-1].plan.name}, model version {kept.manifest.version}.")
    for line in kept.lines:
        console.print(line.sentence())
    console.print(f"Model folder: {folder}   (use it: reticent predict-csv TABLE --model {folder})")
