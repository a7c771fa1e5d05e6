"""The table of rights matches the functions' commands. tests/security/test_acl.py tests it on real servers."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from mission.store.acl import FUNCTIONS, LOGINS

LUA = {file.name[:-4]: file.read_text() for file in (files("mission.store") / "lua").iterdir()}


def test_every_file_is_a_function_with_rights_of_its_own() -> None:
    assert {*LUA, "library"} - {"common"} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_rights_of_a_function_hold_no_command_that_it_does_not_send(name: str) -> None:
    calls = re.findall(r"redis\.p?call\('(\w+)'(?:, '(\w+)')?", LUA["common"] + LUA.get(name, ""))
    sent = {command for command, _ in calls} | {"|".join(call) for call in calls}
    assert {command.upper() for commands in FUNCTIONS[name].values() for command in commands.split()} <= sent


def test_each_login_that_works_may_call_what_it_needs_and_none_may_load() -> None:
    for name, login in LOGINS.items():
        rules = login.rules()
        assert not re.search(
            r"\+(eval|evalsha|eval_ro|evalsha_ro|script|fcall|fcall_ro|function)\b(?!\|)|script\|", rules
        )
        assert ("function|load" in rules) == (name == "deployer")
