"""A NATS server with accounts, so that tests share it without sharing streams. No tests here."""

import secrets
from pathlib import Path

from devstack.nats import Nats

ACCOUNT = '  {user} {{ jetstream: enabled, users: [{{ user: {user}, password: "{password}" }}] }}\n'


class NatsWithAccounts(Nats):
    """A NATS server with accounts, each with its own streams, a user and a random password."""

    def __init__(self, store: Path, accounts: int) -> None:
        self._passwords = [secrets.token_hex(16) for _ in range(accounts)]
        super().__init__(store)

    def _settings(self, port: int) -> str:
        users = [
            ACCOUNT.format(user=_user(number), password=password)
            for number, password in enumerate(self._passwords)
        ]
        return super()._settings(port) + "accounts {\n" + "".join(users) + "}\n"

    def account_url(self, number: int) -> str:
        """The address with the user and the password of one account, counted from 0."""
        return f"nats://{_user(number)}:{self._passwords[number]}@127.0.0.1:{self.port}"


def _user(number: int) -> str:
    return f"account_{number}"
