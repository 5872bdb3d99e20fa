"""What an app allows: pure decisions over what is known of an artifact. Values in, findings out; no database, no clock.

    policy = Policy.parse({"rules": {"debuggable": "error"}, "channels": {"stable": {"rules": {"unsigned": "error"}}}})
    findings = decide(subject, policy.entering("stable"), known)

    rules.py      the table: every rule, its default, what it says and what to do
    document.py   an app's policy: a level for each rule, limits, and channels that are stricter
    subject.py    an artifact as policy looks at it: who signed it, what it is called, how its build compares
    decide.py     the rules applied
    preview.py    the same over past releases, for a policy that is not set yet

Left to others: where policies, pins and past builds are kept, and when they are asked (`pipeline.judging`, `pipeline.pins`).
"""

from pipeline.policy.decide import Known, Past, decide, highest, refuses, slot
from pipeline.policy.document import Effective, Policy, RuleSet
from pipeline.policy.preview import PastArtifact, PastRelease, World, preview
from pipeline.policy.rules import CONFIGURABLE, LIMITS, RULES, Level
from pipeline.policy.subject import FAMILIES, Subject, subject

__all__ = [
    "CONFIGURABLE",
    "FAMILIES",
    "LIMITS",
    "RULES",
    "Effective",
    "Known",
    "Level",
    "Past",
    "PastArtifact",
    "PastRelease",
    "Policy",
    "RuleSet",
    "Subject",
    "World",
    "decide",
    "highest",
    "preview",
    "refuses",
    "slot",
    "subject",
]
