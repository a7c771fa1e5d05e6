"""`decoder acl`: the server's ACL file, for logins with passwords of one's own."""

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

    Each kind of user gets the least rights that do its work. FILE has a line LOGIN:PASSWORD for each login that is to be
    on; the others are off, and so is the default one. What is printed holds the passwords' SHA-256 alone. It is for
    `aclfile`, or for the key users.acl of the chart's Secret.

    \b
    Example:
      decoder acl passwords.txt > users.acl
    """
    given: dict[str, str] = {}
    try:
        lines = passwords.read().splitlines()
    except UnicodeDecodeError:
        raise SettingsError(f"{passwords.name}: is no text in UTF-8") from None
    for number, line in enumerate(lines, 1):
        name, _, password = line.strip().partition(":")
        if not line.strip():
            continue
        if name not in LOGINS or name in given or not (password and password.isprintable()):
            # The line is not repeated: it may be a password whose login was lost.
            raise SettingsError(
                f"{passwords.name}, line {number}: takes LOGIN:PASSWORD, once for each of {', '.join(LOGINS)}"
            )
        given[name] = password
    if not given:
        raise SettingsError(f"{passwords.name}: got no login; takes a line LOGIN:PASSWORD for each that is to be on")
    say(*acl_lines(given))
