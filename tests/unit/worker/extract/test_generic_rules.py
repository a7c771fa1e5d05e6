from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from time import monotonic

import pytest

from mission.model import Cut
from worker.extract.catalog import catalog
from worker.extract.detectors import GENERIC, GENERIC_RULES, Detectors
from worker.extract.engine import RuleScanner, load

pytest.importorskip("kingfisher_sdk", reason="no wheel of the engine on this platform")

# Concatenated, so that no scanner takes this file for a leak; none of these was ever issued.
PASSWORD = "Kana" + "ria7!pq"
SIMPLE = "mon" + "key2019"
TOKEN = "q7Zx" + "81LmTb" + "40VnRw" + "5KcD"
HEX = "9f86d0" + "81884c7d" + "659a2fea" + "a0c55ad0"
HASH = "$2y$10$" + "N9qo8uLOickgx2ZMRZoMye" + "IjZAgcfl7p92ldGxad68LJZdL17lhWy"
KEY_LINE = "MIIEpAIBAAKCAQEA" + "7bq0" * 12
JWT = "eyJhbGciOiJIUzI1NiJ9" + "." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0" + "." + "dozjgNryP4J3jVmNHl0w5N"
VALUES = {"P": PASSWORD, "S": SIMPLE, "T": TOKEN, "H": HEX, "$": HASH, "K": KEY_LINE, "J": JWT}


@dataclass(frozen=True)
class Examples:
    """A rule's cases: texts with `{P}` and the value for it, texts in which no rule may find anything, and units of worst cases."""

    found: tuple[str, ...]
    not_found: tuple[str, ...]
    worst: tuple[str, ...]


EXAMPLES = {
    "password": Examples(
        (
            'password = "{P}"',
            "'password' => '{P}',",
            '"db_password": "{S}"',
            'props.put("ssl.keystore.password", "{P}");',
            'cfg.setPassword("{P}");',
            'password: str = "{P}"',
            '"password = \\"{P}\\"\\n",',
            'let(:password) {{ "{P}" }}',
            '<add key="SmtpPassword" value="{P}" />',
            'if (password.equals("{P}"))',
            "page.fill('#password', '{P}')",
            '#define PASSWORD "{P}"',
            'var password string = "{P}"',
            "$ENV{{PASSWORD}} = '{P}';",
            "$db['default']['password'] = '{P}';",
        ),
        (
            'password = "hunter"',
            'password = "with white space 1"',
            'password = "changeme1"',
            'password = "${{DB_PASSWORD_1}}"',
            'password = "{{{{ vault_password_1 }}}}"',
            'password = "<password1>"',
            'password = "your-password-1"',
            'password = "test123"',
            'password = os.environ["DB_PASSWORD_1"]',
            'password = "config.password1"',
            'passwordField = "{P}"',
            'password_file: "/run/secrets/db1"',
            '"password": "required|min:8"',
            '<input type="password" id="password1">',
        ),
        (
            "password",
            'pw="',
            'pw="a1b2c3",',
            "password=" + "'" * 3,
            'password"])=',
            "password" + " " * 24,
            "password:",
            'pw="a1xxpw"=',
        ),
    ),
    "password-bare": Examples(
        (
            "DB_PASSWORD={P}\n",
            "export PGPASSWORD={S}",
            "  password: {P}\n",
            "spring.mail.password = {P}\n",
            "Server=a;User Id=b;Password={T};Encrypt=True",
            "jdbc:postgresql://db1/a?user=b&password={T}&ssl=true",
            "- MYSQL_ROOT_PASSWORD={S}\n",
            "helm upgrade a . --set db.password={T}\n",
        ),
        (
            "PASSWORD=$1\nPASSWORD=${{PASSWORD_1:-}}\n",
            "DB_PASSWORD=%DB_PASSWORD1%\n",
            "this.password = password1;",
            "password = self.settings.db2\n",
            "password = request.form2.value\n",
            "PASSWORD_MIN_LENGTH=12345678a\n",
            "let password = e1f2g3h4;",
            "password: string1;",
            "password=********\n",
        ),
        ("pass=", "password=abc123x;", "pw: a1", "password=" + "a" * 120 + "1"),
    ),
    "password-element": Examples(
        (
            "<password>{P}</password>",
            '<property name="connection.password">{P}</property>',
            '<string name="api_key">{H}</string>',
        ),
        (
            "<password>${{db.password1}}</password>",
            '<string name="password_hint">Eight1</string>',
            "<label>Password1</label>",
            '<label for="password">Password1</label>',
        ),
        ("password>", "<password>abc123x</", 'password">a1b2c3password</', "<password>" + "a" * 200),
    ),
    "password-sql": Examples(
        (
            "CREATE USER 'a'@'%' IDENTIFIED BY '{P}';",
            "CREATE USER a IDENTIFIED WITH mysql_native_password BY '{P}'",
            "ALTER USER a WITH ENCRYPTED PASSWORD '{S}'",
        ),
        ("IDENTIFIED BY 'letters'", "CREATE ROLE a PASSWORD NULL", "IDENTIFIED BY '<password1>'"),
        ("IDENTIFIED BY '", "IDENTIFIED BY 'abc123x'", "identified with a by ", "password "),
    ),
    "password-call": Examples(
        (
            'DriverManager.getConnection("jdbc:mysql://a/b", "c", "{P}")',
            'mysqli_connect("localhost", "root", "{P}", "shop");',
            'new NetworkCredential("svc", "{P}");',
            'auth=("deploy", "{P}")',
        ),
        (
            'login("a", "b")',
            'login("index", "/home/page1")',
            'auth=("user", "{{0}}1")',
            'authenticate("a", "kind.of.v1")',
        ),
        ("login(", "login('", 'login("a","a1b2c3d4"', "getConnection(a,'b',"),
    ),
    "password-command": Examples(
        (
            "sshpass -p '{P}' ssh a@b",
            "mysql -u root -p{T} shop",
            "docker login -u a -p {P} registry.example.org",
            "sqlcmd -S a -U sa -P {P} -Q x",
            "openssl rsa -in a -passin pass:{T}",
            "shop login --password {P}",
            "redis-server --requirepass {P}",
            'ConvertTo-SecureString "{P}" -AsPlainText',
        ),
        (
            "mysql -u root -p shop2",
            "docker login -u $USER1 -p $PASSWORD1",
            "shop login --password-file pw1.txt",
            "docker login --password-stdin",
            "sshpass -p $PASS1 ssh a@b",
        ),
        ("mysql ", "mysql -pabc123x ", "docker login ", "net use /user:", "htpasswd -b ", " --password a1"),
    ),
    "user-password": Examples(
        (
            "fetch -u ci:{T} https://files.example.org/",
            'echo "root:{P}" | chpasswd',
            'dsn := "shop:{T}@tcp(10.0.0.1:3306)/shop"',
        ),
        ('echo "a:{P}" | cat', "run -u $USER1:$PASS1 x", "tool -u root:root x", "chown -u a:b file1"),
        (" -u a:", "echo a:b1c2d3e", '"a:b1c2d3e@', " -u a:b1c2d3e"),
    ),
    "password-url": Examples(
        ("git+foo://a:{T}@example.org/x", "clickhouse://a:{T}@db1/x"),
        ("foo://a:${{PASS1}}@example.org", "foo://example.org:8080/a@b1", "foo://user:password@example.org"),
        ("http://a:", "a://b:c1d2e3@", "a+a.a-"),
    ),
    "password-netrc": Examples(
        ("machine a login b password {T}\n", "machine a\n  login b\n  password {P}\n"),
        ("default login anonymous password a1@example.org\n", "login a password letters\n"),
        ("login a ", "login a password ", "login a password b1c2d3e "),
    ),
    "password-hash": Examples(
        ("anna:{$}\n", "'{$}'"),
        ("$2y$10$short", "{{SHA}}abc="),
        ("$2y$10$", "$6$", "{SHA}", "$argon2id$v=19$m=1,t=1,p=1$"),
    ),
    "password-prose": Examples(
        (
            "sure, the password for staging is {P}\n",
            "user `demo` and password `{P}`.",
            "login with anna / {P}\n",
        ),
        (
            "the password for staging2 does not work\n",
            "password: see ticket SHOP-1234\n",
            "token expired at 10:05\n",
            "password is required1\n",
        ),
        ("password is ", "password is x1!y2?z3\n", "pw is a1xxpw ", "pw for a is "),
    ),
    "secret": Examples(
        (
            'API_KEY = "{H}"',
            "clientSecret: '{T}',",
            '"access_token":"{T}"',
            'secret := []byte("{T}")',
            'headers["X-Auth-Token"] = "{H}"',
            "const secret = process.env.SECRET || '{T}';",
        ),
        (
            'csrf_token = "{H}"',
            'public_token = "{T}"',
            'TOKEN_HEADER = "X-Token-V2"',
            'token_type = "bearer_v2"',
            'secretName = "shop-secret-v1"',
            'token = "https://id.example.org/token1"',
            'token = "auth.token.invalid2"',
            'secret = "AAAAAAAAAA11"',
            'secret = getenv("SHOP_SECRET_1")',
            'API_KEY = "YOUR_API_KEY_1"',
        ),
        ("secret", 'secret_token="aB3dE6gH9kLmN2pQ",', "token.key.", "secret" * 3 + "_key_1", 'auth="' + "a1" * 200),
    ),
    "secret-bare": Examples(
        (
            "PAYMENT_API_KEY={T}\n",
            "jwt.secret={T}\n",
            "client-secret: {T}\n",
            "GET /a?api_key={H}&b=c",
            "X-Api-Key: {H}\n",
            "ENV API_KEY {T}\n",
        ),
        (
            "token: str\nsecret: config.secret1\n",
            "TOKEN_URL=https://id.example.org/v2/token\n",
            "SECRET_NAME=app-prod-db1\n",
            "SEARCH_TOKEN=${{SEARCH_TOKEN}}\n",
            "token = generate_token_v2(user1)\n",
            "secret_key = data.vault_secret.s1\n",
            "CSRF_TOKEN={H}\n",
            "the secret garden2024 opens\n",
        ),
        ("token ", "token=aB3dE6gH9kLmN2pQ&", "secret=" + "a1" * 300, "token key ", "secret:"),
    ),
    "pair": Examples(
        (
            '- name: DB_PASSWORD\n  value: "{P}"\n',
            '{{"key": "apiToken", "value": "{T}"}}',
        ),
        (
            "- name: DB_HOST\n  value: {T}\n",
            "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef1: a\n",
            '<input name="csrf_token" value="{H}">',
            '<input name="password" value="letters">',
        ),
        ('name="password" value="', "name: token\nvalue: a1b2c3\n", "name: " + "a" * 60, 'name="password"' + " " * 40),
    ),
    "secret-default": Examples(
        ('variable "admin_password" {{\n  type = string\n  default = "{P}"\n}}',),
        ('variable "region" {{\n default = "{P}"\n}}', 'variable "token" {{\n default = ""\n}}'),
        ('variable "token" { ', 'variable "token" { default = '),
    ),
    "key": Examples(
        ('key = "{H}"', "encodingkey: {T}\n", 'decryptionKey="{H}"', "maps/js?key={T}&b=c"),
        (
            'public_key = "{T}"',
            'key = "user-profile-cache-v2"',
            "gpg_key={H}\n",
            'key: "linux-npm-v1-2024-02"',
            "key: x25519.X25519PrivateKey\n",
            "Sec-WebSocket-Key: {T}\n",
        ),
        ("key_", "key=aB3dE6gH9kLmN2pQ,", "key=" + "a1" * 200),
    ),
    "authorization": Examples(
        ('"Authorization": "Bearer {T}"', 'auth = "Basic {T}";', "authorization: token {H}\n"),
        ('"Authorization": "Bearer " + token1', "Authorization: Bearer ****1234", "Authorization: Bearer $TOKEN1"),
        ('"Basic ', "authorization: bearer ", "authorization: bearer aB3dE6gH9kLmN2pQ\n"),
    ),
    "jwt": Examples(
        ("id={J}&state=1", "<a>{J}</a>"),
        ("eyJhbGciOiJI.eyJzdWIi.abc",),
        ("ey", "eyA.", "ey" + "a" * 17 + "."),
    ),
    "private-key": Examples(
        ("-----BEGIN RSA PRIVATE" + " KEY-----\n{K}\n", "-----BEGIN PRIVATE" + " KEY-----\\n{K}\\n"),
        ("-----BEGIN PUBLIC KEY-----\n{K}\n", "-----BEGIN RSA PRIVATE" + " KEY-----\n...\n"),
        ("-----BEGIN RSA PRIVATE" + " KEY-----\n", "PuTTY-User-Key-File-2:", '"d":"'),
    ),
}
FOUND = [(rule, text) for rule, examples in EXAMPLES.items() for text in examples.found]
NOT_FOUND = [(rule, text) for rule, examples in EXAMPLES.items() for text in examples.not_found]
WORST = [(rule, unit) for rule, examples in EXAMPLES.items() for unit in examples.worst]


@cache
def rules() -> RuleScanner:
    return load(GENERIC, Detectors().cache, [GENERIC_RULES])


def found(text: str, cut: set[Cut] | None = None) -> list[tuple[str, str]]:
    matches = rules().matches(text, monotonic() + 60, set() if cut is None else cut)
    return [(match.category, match.value) for match in matches]


def test_each_rule_has_examples() -> None:
    assert sorted(EXAMPLES) == [rule.id for rule in catalog(Detectors((GENERIC,)))]


@pytest.mark.parametrize(("rule", "text"), FOUND)
def test_a_rule_finds_the_value_alone(rule: str, text: str) -> None:
    value = next(value for name, value in VALUES.items() if f"{{{name}}}" in text)

    assert (rule, value) in found(text.format(**VALUES))


@pytest.mark.parametrize(("rule", "text"), NOT_FOUND)
def test_what_holds_no_credential_is_no_finding(rule: str, text: str) -> None:
    assert rule not in [name for name, _ in found(text.format(**VALUES))]


@pytest.mark.parametrize("characters", [64 * 1024, pytest.param(1024 * 1024, marks=pytest.mark.full)])
@pytest.mark.parametrize(("rule", "unit"), WORST)
def test_a_piece_of_the_worst_text_of_a_rule_comes_to_an_end(rule: str, unit: str, characters: int) -> None:
    cut: set[Cut] = set()

    found((unit * (characters // len(unit) + 1))[:characters], cut)  # each takes less than a tenth of its limit

    assert not cut
