"""Secrets: what only an issuer writes, what a word names, what looks random; and what does not.

The values are made up here; forms are the issuers'. Pieces are joined at run time, so that no
scanner of repositories takes this file for a leak.
"""

from __future__ import annotations

import random
import string

import pytest

from isthmus.privacy.detectors.secret_values import changes, entropy, random_looking, stand_in
from isthmus.privacy.detectors.secrets import SecretDetector
from isthmus.privacy.normalise import normalise
from isthmus.privacy.scanner import CHUNK_CHARS, Scanner

_made = random.Random(5)
HEX = "0123456789abcdef"
WORD = string.ascii_letters + string.digits


def made(count: int, alphabet: str = WORD) -> str:
    return "".join(_made.choices(alphabet, k=count))


def found(text: str) -> list[tuple[str, float]]:
    read = normalise(text).text
    return [(read[s.start : s.end], s.score) for s in SecretDetector().detect(read)]


def best(text: str) -> float:
    return max((score for _, score in found(text)), default=0.0)


FAMILY_MEMBERS = {
    "aws": "AKIA" + made(16, string.ascii_uppercase + "234567"),
    "alibaba": "LTAI" + made(20),
    "heroku": "HRKU-AA" + made(58),
    "supabase": "sbp_" + made(40, HEX),
    "cloudflare": "v1.0-" + made(24, HEX) + "-" + made(146, HEX),
    "gitlab, routable": "glpat-" + made(27) + ".01." + made(9, HEX),
    "buildkite": "bkua_" + made(40, HEX),
    "hubspot": "pat-na1-" + "-".join(made(size, HEX) for size in (8, 4, 4, 4, 12)),
    "contentful": "CFPAT-" + made(43),
    "elevenlabs": "sk_" + made(48, HEX),
    "asana": "1/" + "7" * 16 + ":" + made(32, HEX),
    "tencent": "AKID" + made(32),
    "google": "AIza" + made(35),
    "github": "gh" + "p_" + made(36),
    "gitlab": "glpat-" + made(20),
    "slack": "xox" + "b-" + made(12, "0123456789") + "-" + made(24),
    "stripe": "sk_" + "live_" + made(24),
    "openai": "sk-" + made(20) + "T3BlbkFJ" + made(20),
    "anthropic": "sk-ant-" + "api03-" + made(93) + "AA",
    "hugging_face": "hf_" + made(34, string.ascii_letters),
    "sendgrid": "SG." + made(22) + "." + made(43),
    "telegram": made(10, "123456789") + ":AA" + made(33),
    "npm": "npm_" + made(36),
    "digitalocean": "dop_" + "v1_" + made(64, HEX),
    "mailchimp": made(32, HEX) + "-us12",
}


@pytest.mark.parametrize("family", FAMILY_MEMBERS)
@pytest.mark.parametrize("frame", ["{}", "我的密钥{}，别外传", "see ({}), ok", 'x="{}"'])
def test_a_key_of_a_known_form_is_certain_wherever_it_stands(family: str, frame: str) -> None:
    value = FAMILY_MEMBERS[family]
    assert any(got == value and score >= 0.85 for got, score in found(frame.format(value)))


@pytest.mark.parametrize("family", ["aws", "github", "stripe", "npm"])
def test_a_key_within_a_longer_run_is_no_key_of_that_form(family: str) -> None:
    assert best("test" + FAMILY_MEMBERS[family]) < 0.85


NAMED = {
    "password=Tr0ub4dor&3": "Tr0ub4dor&3",
    "DB_PASSWORD: s3cr3t-prod-2024": "s3cr3t-prod-2024",
    '"client_secret": "a8f5f167f44f4964e6c998dee827110c"': "a8f5f167f44f4964e6c998dee827110c",
    "if (db_pass != 'k3!xx0Pq') {": "k3!xx0Pq",
    "if ('k3!xx0Pq' == my_password) {": "k3!xx0Pq",
    'char secret[25] = "k3!xx0Pq";': "k3!xx0Pq",
    "<password>xK9#mm21</password>": "xK9#mm21",
    "--password S3cur3P@ss": "S3cur3P@ss",
    'config.set("apiKey", "b7e23ec29af22b0b4e41da31e868d572")': "b7e23ec29af22b0b4e41da31e868d572",
    'passwd: "correct horse battery staple"': "correct horse battery staple",
    "postgres://admin:hX9k2LmQ@db.internal:5432/app": "hX9k2LmQ",
    "https://x.com/cb?state=1&access_token=9fK22xPqLm": "9fK22xPqLm",
    "Authorization: Basic YWRtaW46UGFzc3cwcmQh": "YWRtaW46UGFzc3cwcmQh",
    "curl -u admin:Sup3rS3cret https://api.x.com": "Sup3rS3cret",
    "mysql -u root -pQ9HzvCXC7j db": "Q9HzvCXC7j",
    "sshpass -p tGz0Z5LbJ ssh host": "tGz0Z5LbJ",
    "Server=db;User ID=sa;Password=Zx9!kkLw22;": "Zx9!kkLw22",
    "my password is hunter2, do not tell": "hunter2",
    "the passphrase is 'purple monkey dishwasher'": "purple monkey dishwasher",
    "wifi密码是blue7788": "blue7788",
    "密码：Ｑｗｅｒ1234！": "Qwer1234",
    "验证码是 482913，5分钟内有效": "482913",
    "我的PIN码是4821": "4821",
    "新token=9fK22xPqLm,请保存": "9fK22xPqLm",
    'secretKey: "k3!xx0Pq"': "k3!xx0Pq",
    "password=letmein": "letmein",
    '<add key="DbPassword" value="k3!xx0Pq" />': "k3!xx0Pq",
    "htpasswd -nb admin k3!xx0Pq": "k3!xx0Pq",
}


SPOKEN = {
    "PIN: 4821": "4821",
    "Your OTP 449201 is valid for a minute": "449201",
    "enter code 449-201 to sign in": "449-201",
    "the door code 4471# changed": "4471",
    "my passcode's 7788": "7788",
    "the pwd is Summer2024!": "Summer2024",
    "My netflix password is fluffybunny": "fluffybunny",
    "login: bob / B0bIsUncle!": "B0bIsUncle!",
    "支付密码135790": "135790",
    "开机密码1234qwer，别忘": "1234qwer",
    "账号admin 密码Admin@123": "Admin@123",
    "jdbc:oracle:thin:scott/t1g3rX9@h:1521": "t1g3rX9",
    "助记词：" + "cat dog sun moon " * 2 + "tree leaf rain wind": "cat dog sun moon " * 2
    + "tree leaf rain wind",
    "ADMIN_KEY=" + "7d9e35fc15c0737c" * 2: "7d9e35fc15c0737c" * 2,
    "passwd Gl@cier*46x": "Gl@cier*46x",
    "passwd Glacier46*x": "Glacier46*x",
    "scp root:Gl@cier*46x@10.0.0.3:/x": "Gl@cier*46x",
    "密码改成了p!Kach%84，记一下": "p!Kach%84",
    "用户名zhangsan，密码p!Kach%84": "p!Kach%84",
    "my netflix password, it's Fluffy5294": "Fluffy5294",
    "debit card 4111111111111111 pin 3449": "3449",
    "2FA backup codes: nkie-m49o-jw03-s9i4": "nkie-m49o-jw03-s9i4",
    "docker login -u dana -p k3!xx0Pq": "k3!xx0Pq",
    "the hmac key " + "7d9e35fc15c0737c" * 2: "7d9e35fc15c0737c" * 2,
    "user dwhit, pw Winter%49x": "Winter%49x",
    "login with bob / Winter%49x": "Winter%49x",
    "the root password Winter%49x works": "Winter%49x",
    "授权码：ycvrsslfznunjiht（QQ邮箱）": "ycvrsslfznunjiht",
    "session_token: 'kX9vQ2mT7bL4'": "kX9vQ2mT7bL4",
}


@pytest.mark.parametrize(("text", "secret"), SPOKEN.items())
def test_what_a_sentence_calls_a_password_is_found_however_it_is_put(
    text: str, secret: str
) -> None:
    assert secret in [value for value, _ in found(text)]


@pytest.mark.parametrize(
    "text",
    [
        "My password is compromised.",
        "my password is too short",
        "密钥AES256加密",
        "密码2024年更新过",
        "the error code 4471 again",
        "zip code 94107",
        "pin 12 of the chip",
        "the recovery phrase has twelve words",
    ],
)
def test_what_only_speaks_of_passwords_and_codes_is_no_secret(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize("text", NAMED)
def test_what_a_word_names_is_found_in_code_configuration_and_prose(text: str) -> None:
    assert NAMED[text] in [value for value, score in found(text) if score >= 0.5]


BENIGN = [
    "How do I reset my password?",
    "The password must be at least 8 characters long.",
    'password = getpass.getpass("Password: ")',
    "token = self.tokenizer.encode(text)",
    "key = sorted(d.items(), key=lambda x: x[1])",
    "if password == confirm_password:",
    "def login(username: str, password: str) -> Token:",
    'password_field = driver.find_element_by_id("password")',
    "the password is incorrect",
    "max_tokens: 4096",
    "API_KEY=${API_KEY}",
    "export TOKEN=$(cat token.txt)",
    "password: <your password>",
    'api_key = "YOUR_API_KEY"',
    'primary_key = "user_id"',
    'access_token_url = "https://auth.example.com/oauth/token"',
    "git commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    'secret = get_secret("projects/demo/secrets/db")',
    "cache key: users:list:v2:page=7:sort=desc",
    "golang.org/x/text v0.14.0 h1:ScX5w1eTa3QqT8oi6+ziP7dTV1S2+ALU0bI+0zXKWiQ=",
    "pass a1*b2*c3 to it",
    "密码改成了功能，密码强度100%才行",
    "the password, it is said, was weak",
    "htpasswd -c /etc/apache2/.htpasswd user1",
    "login as root / sudo, or use password OAuth2.0",
    '<add key="DbPassword" value="${DB}" />',
    "密码是什么？",
    "密码长度不能少于8位",
    "请输入验证码",
]


@pytest.mark.parametrize("text", BENIGN)
def test_names_of_secrets_templates_and_digests_are_no_secrets(text: str) -> None:
    assert found(text) == []


def test_a_bare_random_string_is_less_sure_than_a_named_one() -> None:
    value = "Zq8wK2mR7tY4pL9xV3nB6cD1"
    assert 0 < best(f"see {value} there") < best(f'secret_key = "{value}"')


def test_an_example_of_a_known_form_is_less_sure_than_a_real_one() -> None:
    assert 0 < best("AKIAIOSFODNN7EXAMPLE") < best(FAMILY_MEMBERS["aws"])


def test_a_private_key_is_one_span_and_its_header_alone_is_none() -> None:
    body = "\n".join(made(64) for _ in range(6))
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert (key, 0.97) in found(f"here: {key} thanks")
    assert found("the line '-----BEGIN PRIVATE KEY-----' starts it") == []


def test_a_private_key_that_is_cut_off_is_still_found() -> None:
    cut = "-----BEGIN EC PRIVATE KEY-----\n" + made(64) + "\n" + made(40)
    assert any(cut.startswith(value[:60]) and score >= 0.5 for value, score in found(cut))


def test_random_text_changes_its_kind_often_and_identifiers_seldom() -> None:
    assert changes(made(400)) > 0.35
    assert changes("myVeryLongCamelCaseIdentifierName2") < 0.15
    assert random_looking("Zq8wK2mR7tY4pL9xV3nB6cD1")
    assert not random_looking("internationalization_of_1_thing")


def test_entropy_is_that_of_shannon() -> None:
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
    assert entropy("aabb") == 1


@pytest.mark.parametrize("value", ["${LINK}", "{{ token }}", "<secret>", "********", "xxxxxxxx"])
def test_templates_and_masks_stand_in_for_a_secret(value: str) -> None:
    assert stand_in(value)


@pytest.mark.parametrize("value", ["your-api-key-" + "b7" * 90, "b7" * 40 + "-EXAMPLE"])
def test_a_long_stand_in_is_told_by_its_beginning(value: str) -> None:
    assert stand_in(value)
    assert not stand_in("b7Xq" * 40 + "-EXAMPLE")


def test_an_encrypted_private_key_is_found_with_its_headers() -> None:
    kind = "RSA PRIVATE " + "KEY-----"
    head = f"-----BEGIN {kind}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{made(32, HEX)}\n\n"
    body = "\n".join(made(64) for _ in range(8))
    assert found(f"{head}{body}\n-----END {kind}")[0] == (f"{head}{body}\n-----END {kind}", 0.97)
    assert found(head + body)[0] == (head + body, 0.8)


def putty_key(lines: int = 14) -> str:
    body = "".join(made(64) + "\n" for _ in range(lines))
    return (
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: me@home\n"
        f"Public-Lines: 2\n{made(64)}\n{made(40)}\nPrivate-Lines: {lines}\n{body}"
        f"Private-MAC: {made(64, HEX)}"
    )


def test_a_key_of_putty_is_one_span_and_its_end_or_beginning_alone_is_found_too() -> None:
    key = putty_key()
    assert (key, 0.97) in found(f"my key:\n{key}\nthanks")
    private = key.index("Private-Lines")
    assert any(text.startswith("Private-Lines") for text, _ in found(key[private:-90]))
    rest = key[private + 40 :]
    assert (rest, 0.97) in found(rest)
    assert not found("PuTTY-User-Key-File-3: is how such a file begins")


def test_a_key_of_putty_is_covered_wherever_a_long_text_is_cut_in_it() -> None:
    key = putty_key(80)
    for before in range(CHUNK_CHARS - 12_000, CHUNK_CHARS, 1_500):
        text = "a b " * (before // 4) + "\n" + key + "\n" + "c d " * 200
        start = text.index(key)
        covered: set[int] = set()
        for span in Scanner((SecretDetector(),)).find(text):
            covered.update(range(span.start, span.end))
        assert covered >= set(range(start, start + len(key)))
