"""`decoder acl`: print the server's ACL file for logins with given passwords."""

from __future__ import annotations

from typing import TextIO

import click

from mission.cli.console import say
from mission.cli.help import Command
from mission.errors import SettingsError
from mission.store.acl import LOGINS, acl_lines


@click.command(cls=Command, epilog=f"Logins: {', '.join(LOGINS)}.")
@click.argument("passwords", type=click.File("r"), metavar="FILE|-")
def acl(passwords: TextIO) -> None:
    """Print the ACL file of the Redis server.

    Each login gets the least rights that it needs. FILE has a line LOGIN:PASSWORD for each login to enable; all others,
    and the default user, are off. The output holds only the SHA-256 of each password. Use it as Redis' `aclfile`, or as
    the key users.acl of the chart's Secret.

    \b
    Example:
      decoder acl passwords.txt > users.acl
    """
    given: dict[str, str] = {}
    try:
        lines = passwords.read().splitlines()
    except UnicodeDecodeError:
        raise SettingsError(f"{passwords.name}: not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        name, _, password = line.strip().partition(":")
        if not line.strip():
            continue
        if name not in LOGINS or name in given or not (password and password.isprintable()):
            # The message does not repeat the line: it may be a password without its login.
            raise SettingsError(
                f"{passwords.name}, line {number}: takes LOGIN:PASSWORD, once for each of {', '.join(LOGINS)}"
            )
        given[name] = password
    if not given:
        raise SettingsError(f"{passwords.name}: got no login; takes a line LOGIN:PASSWORD for each login to enable")
    say(*acl_lines(given))
