"""Every command of docs/campaigns.md is run as it stands there, in its order, and answers as the text says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import httpx

from common.taxonomy import Role
from tests.service.world import World, register_model

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "campaigns.md"
BLOCK: Final = re.compile(r"```sh\n(.*?)```", re.DOTALL)
COMMAND: Final = re.compile(
    r"(?:(?P<name>[A-Z]+)=\$\()?curl (?P<words>.*?)(?: \| jq -r \.(?P<field>\w+)\))?\s*", re.DOTALL
)
KEYS: Final = {
    "ADVERTISER": (Role.ADVERTISER, "nuts-and-sons"),
    "OFFICER": (Role.PRIVACY_OFFICER, "ana"),
    "ADMIN": (Role.ADMIN, "root"),
    "BACKEND": (Role.APP_BACKEND, "grocer-app"),
}


class Shell:
    """As much of a shell as the document uses: variables, quotes, curl and jq."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.variables = {"URL": ""} | {
            name: world.key(role, holder=holder)["authorization"].removeprefix("Bearer ")
            for name, (role, holder) in KEYS.items()
        }

    def run(self, command: re.Match[str]) -> httpx.Response:
        words = iter(shlex.split(self.filled(command["words"])))
        method, url, headers, body = "GET", "", {}, None
        for word in words:
            if word == "-sX":
                method = next(words)
            elif word == "-H":
                name, value = next(words).split(": ", 1)
                headers[name] = value
            elif word == "-d":
                body = next(words)
            elif word != "-s":
                url = word
        answer = self.world.http.request(method, url, headers=headers, content=body)
        if command["name"]:
            self.variables[command["name"]] = answer.json()[command["field"]]
        return answer

    def filled(self, text: str) -> str:
        return re.sub(r"\$([A-Z]+)", lambda found: self.variables[found[1]], text)


def commands() -> list[re.Match[str]]:
    blocks = BLOCK.findall(DOCUMENT.read_text("utf-8"))
    texts = [text for block in blocks for text in re.split(r"\n(?=curl |[A-Z]+=\$\()", block)]
    found = [COMMAND.fullmatch(text) for text in texts]
    assert all(found)
    return [one for one in found if one]


def test_the_documents_commands_work(world: World) -> None:
    register_model(world.services)
    shell, answers = Shell(world), []
    for command in commands():
        answer = shell.run(command)
        assert answer.status_code in {200, 201, 204}, (command[0], answer.text)
        answers.append((command["words"].split()[1].strip('"'), command["words"], answer))
    assert len(answers) == len(re.findall(r"\bcurl -s", DOCUMENT.read_text("utf-8"))) > 15
    decision = next(answer for _, words, answer in answers if "/v1/decisions" in words).json()
    assert decision["slots"][0]["creative"]["title"] == "炒货"
    made = next(answer for _, words, answer in answers if "from-template" in words).json()["items"]
    assert made[1]["terms"]["texts"]["en"]["description"] == "From our own range."
    found = next(answer for _, words, answer in answers if "v1/ad-repository" in words).json()["items"]
    assert {line["advertiser"] for line in found} == {"nuts-and-sons"}
