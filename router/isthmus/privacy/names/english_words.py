"""Words that tell names from other things in English: titles, verbs of people, streets, firms."""

from __future__ import annotations

import re

from isthmus.privacy.detectors.vocabulary import NAMING


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


STREET = _words("""
    street road avenue lane drive court square boulevard highway crescent terrace suite
    apt box apartment floor building st ave rd blvd rua via calle ul av avenida strasse
    straße platz
""")
FIRM = _words("""
    inc ltd llc corp corporation company co gmbh group bank sons university college
    school institute hospital church committee office department ministry association
    foundation league club team fc the party council agency airlines studios records
    magazine times news tv radio channel orchestra band partners holdings technologies
    systems software consulting services solutions media press museum
""")
CALENDAR = _words("""
    monday tuesday wednesday thursday friday saturday sunday january day february march
    april may june july august september october november december christmas easter
""")
PERSON_AFTER = _words("""
    is was has had did does do said say says lives lived loves loved likes liked looks
    looked talks told tells went goes got gets made makes knew knows thinks thought
    wants wanted needs came comes plays played sings sang began started asked asks and
    shouted should would could will can deserves seems sounds just really always never
""")
PERSON_BEFORE = _words("""
    hi hey hello dear thanks thank love by with and told tell asked called named miss
    congrats congratulations bye ask poor wow call when does did is was mr mrs ms dr for
    meet met to than like how about hope because
""")
OTHER_BEFORE = _words("""
    in at from near of the into on an a this that these his her my your our their its
""")
"""A place, a firm or a thing follows these more often than a person."""

NO_NAME = NAMING | _words("""
    pin dob otp ein cvc id hr ceo cto cfo coo pto faq eta api url pdf sms gps atm asap diy ssid
    wifi hotline venmo zelle paypal skype whatsapp telegram cashapp
""")
"""Names of values and other abbreviations, which stand where names stand: "my SSN", "Tel."."""

CONTRACTED = re.compile(
    r"\w{1,8}n['’]t|(?:i|you|we|they|he|she|it|that|what|who|there|here|let|how|where)['’](?:m|re|ve|d|ll|s)",
    re.IGNORECASE,
)
"""A pronoun with its verb, before a name ("I'm Priya"), or a verb with its "not"."""

_NAME = r"[A-Z][^\W\d_]*(?:['’-][^\W\d_]+)*\.?"
_TITLES = (
    r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Madam|Lady|Lord|Rev|Capt|Captain|Lt|Sgt|President"
    r"|Senator|Judge|Uncle|Aunt|Auntie|Grandma|Grandpa)\.?"
)
INTRODUCED = re.compile(
    rf"(?<!\w){_TITLES} ({_NAME}(?: {_NAME}){{0,2}})"
    r"|(?<!\w)(?:[Mm]y name(?: is|'s|:)|[Tt]he name is|[Nn]amed|[Cc]all me|[Nn]ame ?:"
    r"|[Ii] am called|[Dd]ear|[Ss]incerely,?|[Rr]egards,?|[Cc]heers,?|[Yy]ours,?"
    r"|[Ss]igned(?: by)?:?|[Aa]ttn:?"
    r"|[Pp]atient:?|[Cc]ontact:?|[Cc]ustomer:?|[Ee]mployee:?)"
    rf"\s{{1,3}}({_NAME}(?: {_NAME}){{0,3}})"
    rf"|(?<![\w.])({_NAME}(?: {_NAME}){{1,2}}) <[\w.+-]{{1,64}}@"
    r"|(?<!\w)[Mm]y name is ([a-z]{3,12})(?= and | from |[.,!]|$)"
)
"""A title, a greeting, a signature or a form, and the name that it announces."""

NO_INTRODUCTION = _words("""
    sir madam all team customer friend friends colleagues everyone us hiring the parents
    students god diary reader support sales me information number name service details
    id your our not santa guy guys angel honey yall ppl gurl bruh fam dude bestie
    chatgpt siri alexa google cortana
""")

ADDRESS_LIKE = re.compile(
    r"[\w.+-]{1,64}@[\w.-]{1,80}|https?://\S{1,200}|www\.\S{1,200}|[#@/]\w{1,60}"
    r"|(?m:^[ \t]*(?:from [\w.]{1,80} )?import .{1,200})"
)
NUMBER_AFTER = re.compile(r" ?\d")
NUMBER_BEFORE = re.compile(r"\d[A-Za-z]?,? (?:[A-Z][a-z]{0,3}\.? )?$")
"""A house's number stands beside a street, not beside a person."""
