"""``reticent demo``: from raw behaviour to a consented placement, all real. Owns the order of the story."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.progress import Progress

from cli.catalogue import catalogue_items
from cli.demo_report import Story, decision_rows, follow_up_rows, withdrawal_rows, write_story
from cli.evaluation import Holdouts, gather
from cli.people import Future, Shop, Visits, Withdrawal, agents, decide_all, install, visit, withdraw
from cli.policy_value import slate_values
from cli.service import Service
from cli.shows import QUALITY_COLUMNS, QUALITY_NOTE, console, quality_rows, round_note, show_table, statements
from cli.shows import bars as progress_bars
from cli.training import Plan, Trained, copy_nodes, evaluate_paid, train
from client.population.build import Population, Request, build_population
from client.population.description import load_description
from common.model.network import choose_device
from common.taxonomy import Profile
from server.settings import Settings

VISITORS = 120
VISIT_AFTER_S = 7 * 86_400.0
STRANGERS = (None, "AAAAAAAAAAAAAAAAAAAAAA", "not a handle")


class Tick(Protocol):
    """Moves a progress bar by one."""

    def __call__(self, note: str = "") -> None:
        """Advance, with a word about it."""


@dataclass(slots=True)
class Demo:
    """The demonstration.

    Attributes:
        devices: households in the subset; None is all.
        out: where everything of this run goes; replaced.
        cache: where populations are kept between runs.
    """

    devices: int | None
    rounds: int
    seed: int
    out: Path
    cache: Path

    def run(self) -> None:
        """Tell the whole story and print where the report is."""
        began = time.monotonic()
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        console.print(f"Computing on {choose_device()} ({platform.machine()}); writing below {self.out}/.")
        with progress_bars() as progress:
            story = self._live(progress)
        page = write_story(story, self.out)
        self._say(story, page, time.monotonic() - began)

    def _live(self, progress: Progress) -> Story:
        description = load_description("completejourney")
        spec = description.feature_spec()
        population = self._populate(progress)
        with _step(progress, "reading held-out weeks", 2) as tick:
            seen = gather(population.node_directories, spec, "holdout")
            tick()
            holdouts = Holdouts(seen, gather([population.unseen_directory], spec, "holdout"))
        directories = sorted(copy_nodes(population.node_directories, self.out / "nodes").iterdir())
        settings = Settings.at(self.out / "server")
        with Service(settings, catalogue_items(population)) as service:
            install(directories, service)
            with _step(progress, "people enrol and decide", population.training_devices) as tick:
                attitudes = decide_all(directories, service, tick)
            trained = self._train(progress, directories, settings, holdouts, description.base_rate)
            visits, withdrawal = self._visits(progress, directories, service, population)
        values = slate_values([t for t in trained if t.seen], holdouts.seen, spec)
        return Story(population, self.rounds, attitudes, trained, visits, withdrawal, values)

    def _populate(self, progress: Progress) -> Population:
        request = Request(load_description("completejourney"), devices=self.devices, seed=self.seed)
        task = progress.add_task("building the population", total=self.devices, note="reading tables")

        def watch(_what: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, note="encrypting")

        population = build_population(request, self.cache, watch)
        count = population.training_devices + population.unseen_devices
        progress.update(task, total=count, completed=count, note=f"{population.events:,} events in encrypted vaults")
        return population

    def _train(
        self, progress: Progress, directories: list[Path], settings: Settings, holdouts: Holdouts, base_rate: float
    ) -> list[Trained]:
        """Two references on copies, kept away from the service; then the model that is served.

        Only the non-private reference is measured on rows that a simulation alone has. What is said about the others
        came back as paid, noisy releases.
        """
        plans = [
            Plan("non-private", Profile.NON_PRIVATE, base_rate, self.rounds, seed=self.seed),
            Plan("record DP", Profile.RECORD_LOCAL, base_rate, self.rounds, seed=self.seed),
            Plan("user DP", Profile.USER_DISTRIBUTED, base_rate, self.rounds, seed=self.seed),
        ]
        spec, trained = load_description("completejourney").feature_spec(), []
        for plan in plans:
            served, apart = plan is plans[-1], self.out / plan.name.replace(" ", "-")
            nodes = self.out / "nodes" if served else copy_nodes(directories, apart / "nodes")
            server = dataclasses.replace(
                settings if served else Settings.simulated(apart / "server"),
                signing_key=settings.signing_key,
                authority_key=settings.authority_key,
            )
            measured = holdouts if plan.profile is Profile.NON_PRIVATE else None
            with _step(progress, f"training, {plan.name}", self.rounds) as tick:
                result = train(
                    plan,
                    nodes,
                    spec=spec,
                    holdouts=measured,
                    settings=server,
                    watch=lambda report, measured, tick=tick: tick(round_note(report, measured)),  # type: ignore[misc]
                )
            if plan.profile is Profile.RECORD_LOCAL:
                with _step(progress, f"paid evaluation, {plan.name}", 1):
                    result = evaluate_paid(result, nodes, spec=spec, settings=server)
            trained.append(result)
        return trained

    def _visits(
        self, progress: Progress, directories: list[Path], service: Service, population: Population
    ) -> tuple[Visits, Withdrawal | None]:
        visits, withdrawal = Visits(), None
        moment = population.holdout_start + VISIT_AFTER_S
        visitors = min(VISITORS, population.training_devices)
        with ExitStack() as stack:
            shop = Shop(service)
            stack.callback(shop.close)
            tick = stack.enter_context(_step(progress, "placements asked for and shown", visitors))
            crowd = agents(directories, service)
            stack.callback(crowd.close)
            equipment = None
            for number, agent in enumerate(crowd):
                equipment = equipment or agent.fetch()
                if number < visitors:
                    future = Future.of(agent.node, agent.device, moment)
                    visit(agent, shop, equipment, future, visits, gpc=number % 20 == 19)
                    tick()
                elif withdrawal is not None:
                    break
                withdrawal = withdrawal or withdraw(agent, shop, equipment, moment)
            for stranger in STRANGERS:
                answer = shop.ask(stranger)
                visits.decisions[answer["mode"], answer["slots"][0]["reason"]] += 1
        return visits, withdrawal

    def _say(self, story: Story, page: Path, seconds: float) -> None:
        show_table("Model quality on held-out rows", QUALITY_COLUMNS, quality_rows(story.trained))
        console.print(QUALITY_NOTE, style="dim")
        show_table("Decisions", ("mode", "reason", "placements"), decision_rows(story))
        show_table("What followed", ("mode", "impressions", "clicks", "conversions"), follow_up_rows(story))
        show_table("One withdrawal", ("what", "result"), withdrawal_rows(story))
        for name, line in statements(story.trained):
            console.print(f"[bold]{name}[/]: {line.sentence()}", soft_wrap=True)
        console.print(f"Ledger:      reticent ledger show --home {self.out / 'nodes' / 'node-0'}", soft_wrap=True)
        console.print(f"TensorBoard: tensorboard --logdir {self.out / 'tensorboard'}", soft_wrap=True)
        console.print(f"Report:      {page.resolve()}", soft_wrap=True)
        console.print(f"Done in {seconds:.0f} s.")


@contextmanager
def _step(progress: Progress, name: str, total: int) -> Iterator[Tick]:
    task = progress.add_task(name, total=total, note="")

    def tick(note: str = "") -> None:
        progress.update(task, advance=1, note=note)

    yield tick
    progress.update(task, completed=total)
