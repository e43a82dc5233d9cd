"""The families of keys and tokens whose form alone tells what they are.

Prefixes, alphabets and lengths are facts that the issuers publish. Where they were gathered: the
rule lists of gitleaks (MIT) and of Yelp's detect-secrets (Apache-2.0), and the issuers' own pages
(GitHub, GitLab, Slack, AWS, Google, Stripe, OpenAI, Anthropic, Alibaba Cloud, Tencent Cloud).
"""

from __future__ import annotations

import re
from typing import NamedTuple

UNIQUE, USUAL = 0.97, 0.85
"""Scores: a form that nothing else has; one that something else could have by chance."""


class Family(NamedTuple):
    """One issuer's form. `literal` is in every member, so a text without it needs no search."""

    literal: str
    form: re.Pattern[str]
    score: float


def _family(literal: str, form: str, score: float = UNIQUE) -> Family:
    # No letter or digit beside it: a piece of a longer run is no member.
    return Family(literal, re.compile(rf"(?<![A-Za-z0-9])(?:{form})(?![A-Za-z0-9])"), score)


def _plain(prefix: str, tail: str, score: float = UNIQUE) -> Family:
    """A fixed prefix and what follows it."""
    return _family(prefix, re.escape(prefix) + tail, score)


_HEX, _WORD, _DASHED = "[0-9a-f]", "[A-Za-z0-9]", "[A-Za-z0-9_-]"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

FAMILIES: tuple[Family, ...] = (
    # Clouds
    _family("A3T", "A3T[A-Z0-9]{17}"),
    *(
        _plain(prefix, "[A-Z0-9]{16}")
        for prefix in ("AKIA", "ASIA", "ABIA", "ACCA", "AGPA", "AROA")
    ),
    _plain("LTAI", f"{_WORD}{{12,26}}"),
    _plain("AKID", f"{_WORD}{{32}}"),
    _plain("AIza", rf"{_DASHED}{{35}}(?!-)"),
    _plain("ya29.", f"{_DASHED}{{20,512}}"),
    _plain("GOCSPX-", f"{_DASHED}{{28}}"),
    _plain("1//0", f"{_DASHED}{{40,120}}", USUAL),
    _family("Q~", r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    *(_plain(f"do{kind}_v1_", f"{_HEX}{{64}}") for kind in "opr"),
    _plain("dapi", f"{_HEX}{{32}}(?:-\\d)?"),
    _plain("4b1d", f"{_WORD}{{38}}", USUAL),
    _plain("sha256~", f"{_DASHED}{{43}}"),
    _plain("hvs.", f"{_DASHED}{{24,120}}"),
    _plain("hvb.", f"{_DASHED}{{100,300}}"),
    _family(".atlasv1.", f"{_WORD}{{14}}\\.atlasv1\\.[A-Za-z0-9_=-]{{60,70}}"),
    *(_plain(prefix, f"{_DASHED}{{32,64}}") for prefix in ("pscale_tkn_", "pscale_pw_")),
    _plain("pscale_oauth_", f"{_DASHED}{{32,64}}"),
    _plain("pul-", f"{_HEX}{{40}}"),
    _plain("dp.pt.", f"{_WORD}{{43}}"),
    _plain("dt0c01.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _plain("CLOJARS_", f"{_WORD}{{60}}"),
    _plain("fo1_", f"{_DASHED}{{43}}"),
    _family("fm2_", "fm2_[A-Za-z0-9+/]{100,1000}={0,3}"),
    _plain("API-", "[A-Z0-9]{26}", USUAL),
    _plain("tk-us-", f"{_DASHED}{{48}}"),
    _plain("HRKU-", f"(?:AA{_DASHED}{{58}}|{_UUID})"),
    _family("s.", r"s\.(?=[a-zA-Z]{0,23}\d)(?=[a-z0-9]{0,23}[A-Z])[A-Za-z0-9]{24}", USUAL),
    _plain("v1.0-", f"{_HEX}{{24}}-{_HEX}{{146}}"),
    _plain("sbp_", f"{_HEX}{{40}}"),
    _plain("sb_secret_", f"{_DASHED}{{22}}_{_DASHED}{{8}}"),
    _plain("nfp_", f"{_WORD}{{36}}"),
    _plain("tskey-", f"[a-z]{{3,10}}-{_WORD}{{10,24}}-{_WORD}{{20,40}}"),
    _family("t1.", f"t1\\.[A-Z0-9a-z_-]{{20,60}}\\.{_DASHED}{{86}}={{0,2}}"),
    _plain("AKLT", f"{_WORD}{{40,60}}", USUAL),
    _plain("ALTAK-", f"{_WORD}{{21}}/{_HEX}{{40}}"),
    _plain("dnkey-", f"{_DASHED}{{26}}-{_DASHED}{{52}}"),
    _plain("ico-", f"{_WORD}{{32}}"),
    # Code hosting and packages
    _family("glpat-", rf"glpat-{_DASHED}{{27,300}}\.\w{{2}}\.\w{{7,9}}"),
    _plain("bkua_", f"{_HEX}{{40}}"),
    _plain("CCIPAT_", f"{_WORD}{{22}}_{_HEX}{{40}}"),
    *(_plain(f"sq{kind}_", f"{_HEX}{{40}}") for kind in "apu"),
    _plain("cio", f"{_WORD}{{32}}", USUAL),
    *(
        _family(f"{kind}.", rf"{kind}\.{_DASHED}{{22}}\.{_HEX}{{24}}\.{_WORD}{{20}}")
        for kind in ("pat", "sat")
    ),
    # Software that is sold by a key: five groups of five.
    _family(
        "-",
        r"(?<!-)(?=[A-Z-]{0,28}\d)(?=[\d-]{0,28}[A-Z])[A-Z0-9]{5}(?:-[A-Z0-9]{5}){4}(?!-)",
        USUAL,
    ),
    *(_plain(f"gh{kind}_", f"{_WORD}{{36,255}}") for kind in "pousr"),
    _plain("github_pat_", r"\w{82}"),
    *(
        _plain(prefix, f"{_DASHED}{{20}}(?!-)")
        for prefix in ("glpat-", "gldt-", "glft-", "glrt-", "glffct-")
    ),
    _plain("glcbt-", rf"(?:{_WORD}{{1,5}}_)?{_DASHED}{{20}}(?!-)"),
    _plain("glimt-", f"{_DASHED}{{25}}(?![_-])"),
    _plain("glptt-", f"{_DASHED}{{40}}(?![_-])"),
    _plain("glagent-", f"{_DASHED}{{50,1024}}"),
    _plain("glsoat-", f"{_DASHED}{{20}}(?:{_DASHED}{{30}})?(?![_-])"),
    _plain("gloas-", f"{_DASHED}{{64}}(?![_-])"),
    _plain("GR1348941", f"{_DASHED}{{20,50}}(?![_-])"),
    _plain("npm_", f"{_WORD}{{36}}"),
    _family("pypi-Ag", f"pypi-Ag(?:EIcHlwaS5vcmc|ENdGVzdC5weXBpLm9yZw){_DASHED}{{70,1000}}"),
    _plain("rubygems_", f"{_HEX}{{48}}"),
    _plain("AKC", f"{_WORD}{{10,90}}", USUAL),
    _family("AP", f"AP[0-9A-F]{_WORD}{{8,90}}", USUAL),
    _plain("cmVmd", f"{_WORD}{{59}}"),
    _plain("dckr_pat_", f"{_DASHED}{{27}}"),
    _plain("PMAK-", f"{_HEX}{{24}}-{_HEX}{{34}}"),
    _plain("sgp_", f"(?:(?:{_HEX}{{16}}|local)_)?{_HEX}{{40}}"),
    _family("_mmk", f"{_WORD}{{6}}_{_WORD}{{29}}_mmk"),
    # Models
    _family("T3BlbkFJ", f"sk-(?:[a-z]{{4,8}}-)?{_DASHED}{{20,90}}T3BlbkFJ{_DASHED}{{20,90}}"),
    _plain("sk-ant-", f"(?:api|admin|oat|ort)\\d\\d-{_DASHED}{{20,110}}"),
    *(
        _plain(f"sk-{kind}-", f"{_DASHED}{{32,180}}", USUAL)
        for kind in ("proj", "svcacct", "or-v1")
    ),
    _plain("sk-", f"{_WORD}{{32,64}}", USUAL),
    _plain("hf_", "[A-Za-z]{34}"),
    _plain("api_org_", "[A-Za-z]{34}"),
    _plain("gsk_", f"{_WORD}{{52}}"),
    _plain("xai-", f"{_WORD}{{80}}"),
    _plain("pplx-", f"{_WORD}{{48}}"),
    _plain("r8_", f"{_WORD}{{37}}"),
    *(_plain(f"lsv2_{kind}_", f"{_HEX}{{32}}_{_HEX}{{10}}") for kind in ("pt", "sk")),
    _plain("tvly-", f"(?:dev-|prod-)?{_WORD}{{32}}"),
    _plain("csk-", "[a-z0-9]{48}"),
    _plain("nvapi-", f"{_DASHED}{{60,70}}"),
    _plain("e2b_", f"{_HEX}{{40}}"),
    _plain("sk_", f"{_HEX}{{48}}"),
    _plain("key_", f"{_HEX}{{64}}"),
    _family(".", rf"{_HEX}{{32}}\.[A-Za-z0-9]{{16}}", USUAL),
    # Payment and shops
    *(_plain(f"{mode}_", f"{_HEX}{{35}}") for mode in ("live", "test")),
    *(
        _plain(f"{kind}_{mode}_", f"{_WORD}{{10,99}}")
        for kind in ("sk", "rk")
        for mode in ("live", "test", "prod")
    ),
    _plain("whsec_", "[A-Za-z0-9+/=]{32,64}"),
    _plain("sq0atp-", f"{_DASHED}{{22,60}}"),
    _plain("sq0csp-", f"{_DASHED}{{40,43}}"),
    _plain("EAAA", f"{_DASHED}{{56,60}}", USUAL),
    *(_plain(f"shp{kind}_", "[0-9a-fA-F]{32}") for kind in ("at", "ca", "pa", "ss")),
    _family("FLWSECK", "FLWSECK(?:_TEST)?-[0-9a-h]{12,32}(?:-X)?"),
    *(_plain(f"shippo_{mode}_", f"{_HEX}{{40}}") for mode in ("live", "test")),
    *(_plain(f"duffel_{mode}_", f"{_DASHED}{{43}}") for mode in ("live", "test")),
    *(_plain(prefix, f"{_WORD}{{54}}") for prefix in ("EZAK", "EZTK")),
    _family("$production$", rf"access_token\$production\$[0-9a-z]{{16}}\${_HEX}{{32}}"),
    *(_plain(f"access-{mode}-", _UUID) for mode in ("sandbox", "development", "production")),
    # Messages and post
    _family("xox", r"xox[abeoprs]-(?:\d{1,14}-){0,4}[A-Za-z0-9-]{8,200}"),
    _family("xoxe.", r"xoxe\.xox[bp]-\d-[A-Za-z0-9]{100,200}"),
    _family("xapp-", r"xapp-\d-[A-Z0-9]{6,20}-\d{6,20}-[a-z0-9]{20,80}"),
    _family(
        "hooks.slack.com",
        r"(?:https?://)?hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/_]{20,60}",
    ),
    _family(
        "/api/webhooks/",
        rf"https://(?:\w{{2,8}}\.)?discord(?:app)?\.com/api/webhooks/\d{{15,20}}/{_DASHED}{{60,80}}",
    ),
    _family(
        ".webhook.office.com",
        rf"https://\w{{2,60}}\.webhook\.office\.com/webhookb2/{_UUID}@{_UUID}/IncomingWebhook/{_HEX}{{32}}/{_UUID}",
    ),
    _family(
        "qyapi.weixin.qq.com", rf"https://qyapi\.weixin\.qq\.com/cgi-bin/webhook/send\?key={_UUID}"
    ),
    _family(
        "oapi.dingtalk.com", rf"https://oapi\.dingtalk\.com/robot/send\?access_token={_HEX}{{64}}"
    ),
    _family("open.feishu.cn", rf"https://open\.feishu\.cn/open-apis/bot/v2/hook/{_UUID}"),
    # Discord's bots: an id in base64, a time, a signature.
    _family(".", rf"[MNO][A-Za-z\d]{{23,25}}\.[A-Za-z\d_-]{{6}}\.{_DASHED}{{27,38}}(?!-)"),
    # Telegram's bots, alone or in the address of a call.
    Family(
        ":AA",
        re.compile(rf"(?:(?<![A-Za-z0-9])|(?<=/bot))\d{{8,10}}:AA{_DASHED}{{33}}(?![A-Za-z0-9_-])"),
        UNIQUE,
    ),
    _plain("SG.", rf"{_DASHED}{{16,32}}\.{_DASHED}{{16,64}}(?![.-])"),
    _family("-us", rf"{_HEX}{{32}}-us\d{{1,2}}"),
    _family("key-", f"key-{_HEX}{{32}}"),
    _plain("xkeysib-", f"{_HEX}{{64}}-{_WORD}{{16}}"),
    _plain("AC", r"[0-9a-z]{32}", USUAL),
    _plain("SK", r"[0-9a-z]{32}", USUAL),
    _plain("xsmtpsib-", f"{_HEX}{{64}}-{_WORD}{{16}}"),
    _family("|", rf"\d{{15,16}}\|{_DASHED}{{27}}", USUAL),
    # Work and observation
    *(_plain(f"pat-{place}1-", _UUID) for place in ("na", "eu", "ap")),
    _family("/", rf"[0-2]/\d{{16}}(?:/\d{{16}})?:{_HEX}{{32}}"),
    _plain("CFPAT-", f"{_DASHED}{{43}}"),
    _plain("ph" + "x_", f"{_WORD}{{40,50}}"),
    _family("s-s4t2", f"s-s4t2(?:ud|af)-{_HEX}{{64}}"),
    _plain("ATATT3", r"[A-Za-z0-9_=-]{100,250}"),
    _plain("ATCTT3", r"[A-Za-z0-9_=-]{100,250}"),
    _plain("lin_api_", f"{_WORD}{{40}}"),
    _plain("ntn_", f"{_WORD}{{40,50}}"),
    _plain("secret_", f"{_WORD}{{43}}"),
    _family("pat", rf"pat{_WORD}{{14}}\.{_HEX}{{64}}"),
    _plain("figd_", f"{_DASHED}{{40}}"),
    _plain("tfp_", r"[A-Za-z0-9_.=-]{40,60}"),
    _plain("rdme_", "[a-z0-9]{70}"),
    _plain("pnu_", f"{_WORD}{{36}}"),
    _plain("glc_", r"[A-Za-z0-9+/]{32,400}={0,3}"),
    _plain("glsa_", f"{_WORD}{{32}}_[0-9A-Fa-f]{{8}}"),
    _plain("sntryu_", f"{_HEX}{{64}}"),
    _plain("sntrys_", r"[A-Za-z0-9+/=_]{60,400}"),
    *(_plain(prefix, f"{_WORD}{{27}}") for prefix in ("NRAK-", "NRAA-")),
    _plain("NRII-", f"{_DASHED}{{32}}"),
    _plain("NRJS-", f"{_HEX}{{19}}"),
    *(_plain(f"sm_{kind}_", f"{_WORD}{{16}}") for kind in ("aat", "pat", "sat")),
    _plain("p8e-", "[a-z0-9]{32}"),
    _plain("EAAM", f"{_WORD}{{100,300}}"),
    _plain("EAAC", f"{_WORD}{{100,300}}"),
    _plain("AQVN", f"{_DASHED}{{35,38}}"),
    # Keys of cryptography
    _plain("AGE-SECRET-KEY-1", "[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    _plain("ops_eyJ", "[A-Za-z0-9+/]{100,2000}={0,3}"),
    _family("A3-", "A3-[A-Z0-9]{6}(?:-[A-Z0-9]{11}|-[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}"),
)
