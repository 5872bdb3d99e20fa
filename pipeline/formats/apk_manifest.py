"""What AndroidManifest.xml says, as the platform reads it: by resource ids of attributes, elements only at their places.

Facts only: raw values, and references to resources that `arsc.py` resolves. Left to `apk.py`: what to think of them.

Sources: developer.android.com, App manifest overview; AOSP apksig, `ApkUtils` (minSdkVersion, codenames); AOSP
frameworks/base, public resource ids.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.formats.axml import Attribute, Element, Value
from pipeline.formats.facts import Malformed, Rule, Severity

NO_PACKAGE: Final = Rule(
    "apk.no-package",
    Severity.ERROR,
    "AndroidManifest.xml names no package.",
    "Set `namespace` (and `applicationId`) in build.gradle and build again.",
    "developer.android.com, <manifest>",
)
MIN_SDK: Final = Rule(
    "apk.min-sdk",
    Severity.ERROR,
    "minSdkVersion is no version of Android that can be told: {evidence}.",
    "Set minSdk to a released API level and build again.",
    "AOSP apksig, ApkUtils.getMinSdkVersionFromBinaryAndroidManifest",
)
RULES: Final = (NO_PACKAGE, MIN_SDK)

LABEL: Final = 0x01010001
ICON: Final = 0x01010002
NAME: Final = 0x01010003
DEBUGGABLE: Final = 0x0101000F
ENABLED: Final = 0x0101000E
MIN_SDK_VERSION: Final = 0x0101020C
VERSION_CODE: Final = 0x0101021B
VERSION_NAME: Final = 0x0101021C
TARGET_SDK_VERSION: Final = 0x01010270
TEST_ONLY: Final = 0x01010272
GL_ES_VERSION: Final = 0x01010281
REQUIRED: Final = 0x0101028E
TARGET_SANDBOX_VERSION: Final = 0x0101054C
ROUND_ICON: Final = 0x0101052C
VERSION_CODE_MAJOR: Final = 0x01010576

SINCE_ANDROID_6: Final = ("uses-permission-sdk-23", "uses-permission-sdk-m")
MAIN: Final = "android.intent.action.MAIN"
LAUNCHERS: Final = frozenset(
    {"android.intent.category.LAUNCHER", "android.intent.category.LEANBACK_LAUNCHER"}
)

# First letter of a preview's codename → API level of the release before it; letters after the last count on.
_CODENAMES: Final = {
    "C": 2, "D": 3, "E": 4, "F": 7, "G": 8, "H": 10, "I": 13, "J": 15, "K": 18, "L": 20, "M": 22, "N": 23, "O": 25,
}  # fmt: skip
_ALL_LEVELS: Final = 1 << 31  # no API level is as high
_PERMISSION: Final = "android.permission."
# What is implied, by which permission (None: by none), for apps that target an API level before this one. In this order:
# what is implied may imply more. Source: Android's PackageParser (NEW_PERMISSIONS, SPLIT_PERMISSIONS); aapt, `Command.cpp`.
_IMPLIED: Final = (
    (f"{_PERMISSION}WRITE_EXTERNAL_STORAGE", None, 4),
    (f"{_PERMISSION}READ_PHONE_STATE", None, 4),
    (f"{_PERMISSION}READ_EXTERNAL_STORAGE", f"{_PERMISSION}WRITE_EXTERNAL_STORAGE", _ALL_LEVELS),
    (f"{_PERMISSION}READ_CALL_LOG", f"{_PERMISSION}READ_CONTACTS", 16),
    (f"{_PERMISSION}WRITE_CALL_LOG", f"{_PERMISSION}WRITE_CONTACTS", 16),
)
_LIST_MAX: Final = 2_000  # permissions or features; a real manifest has at most some hundred

Text = str | int | None
"""A text, or the resource id that stands for one."""


@dataclass(slots=True)
class Manifest:
    """The facts. Texts may be an int: the id of a resource."""

    package: str
    split: str | None
    version_code: int | None
    long_version_code: int | None
    version_name: Text
    min_sdk: int
    min_sdk_text: str
    target_sdk: int
    target_sdk_text: str
    sandbox: int
    label: Text = None
    icons: list[int] = field(default_factory=list)
    debuggable: bool | int = False
    test_only: bool | int = False
    permissions: list[str] = field(default_factory=list)
    permissions_sdk_23: list[str] = field(default_factory=list)
    permission_elements: int = 0
    features: list[dict[str, Any]] = field(default_factory=list)
    main_activity: str | None = None
    main_label: Text = None

    @property
    def permissions_implied(self) -> list[str]:
        """What Android grants to old apps although they do not ask for it, as `aapt dump badging` lists it."""
        has = set(self.permissions) - set(self.permissions_sdk_23)
        for permission, needs, before in _IMPLIED:
            if self.target_sdk < before and (needs is None or needs in has):
                has.add(permission)
        return sorted(has - set(self.permissions))

    @property
    def references(self) -> list[int]:
        """The resources that are needed to say what the manifest says."""
        texts = (self.version_name, self.label, self.main_label)
        found = [one for one in texts if isinstance(one, int)] + self.icons
        flags = (self.debuggable, self.test_only)
        return found + [one for one in flags if not isinstance(one, bool)]


def read(root: Element) -> Manifest:
    """The facts of a parsed AndroidManifest.xml; raises `Malformed`."""
    package = root.by_name("package")
    if root.name != "manifest" or package is None or not package.text:
        raise Malformed(NO_PACKAGE)
    split = root.by_name("split")
    min_sdk, min_text = _min_sdk(root)
    target_sdk, target_text = _target_sdk(root, min_sdk, min_text)
    sandbox = _number(root.by_id(TARGET_SANDBOX_VERSION))
    manifest = Manifest(
        package=package.text,
        split=split.text if split is not None else None,
        version_code=_version_code(root),
        long_version_code=_long_version_code(root),
        version_name=_text(root.by_id(VERSION_NAME)),
        min_sdk=min_sdk,
        min_sdk_text=min_text,
        target_sdk=target_sdk,
        target_sdk_text=target_text,
        sandbox=1 if sandbox is None else sandbox,
    )
    since_6 = [element for name in SINCE_ANDROID_6 for element in root.named(name)]
    declared = root.named("uses-permission") + since_6
    manifest.permission_elements = len(declared)
    manifest.permissions = _names(declared)
    manifest.permissions_sdk_23 = _names(since_6)
    manifest.features = _features(root)
    for application in root.named("application")[:1]:
        _application(application, manifest)
    return manifest


def _application(application: Element, manifest: Manifest) -> None:
    manifest.label = _text(application.by_id(LABEL))
    manifest.debuggable = _flag(application.by_id(DEBUGGABLE))
    manifest.test_only = _flag(application.by_id(TEST_ONLY))
    icons = [application.by_id(ICON), application.by_id(ROUND_ICON)]
    main = _main_activity(application)
    if main is not None:
        name = main.by_id(NAME)
        manifest.main_activity = _class_name(name.text if name is not None else None, manifest.package)
        manifest.main_label = _text(main.by_id(LABEL))
        icons.append(main.by_id(ICON))
    manifest.icons = [one.reference for one in icons if one is not None and one.reference is not None]


def _main_activity(application: Element) -> Element | None:
    """The first activity, or alias of one, that a launcher shows."""
    for activity in application.children:
        if (
            activity.name not in ("activity", "activity-alias")
            or _flag(activity.by_id(ENABLED), default=True) is False
        ):
            continue
        for intents in activity.named("intent-filter"):
            actions = {_name(one) for one in intents.named("action")}
            categories = {_name(one) for one in intents.named("category")}
            if MAIN in actions and LAUNCHERS & categories:
                return activity
    return None


def _class_name(name: str | None, package: str) -> str | None:
    """Names that begin with a dot, or have none, are within the package."""
    if not name:
        return None
    if name.startswith("."):
        return package + name
    return name if "." in name else f"{package}.{name}"


def _min_sdk(root: Element) -> tuple[int, str]:
    """The greatest of all uses-sdk, as the platform checks each; 1 when there is none."""
    best, text = 1, "1"
    for element in root.named("uses-sdk"):
        attribute = element.by_id(MIN_SDK_VERSION)
        if attribute is None:
            continue
        value = attribute.value
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise Malformed(MIN_SDK, "neither a number nor a codename")
        level = value if isinstance(value, int) else _codename(value)
        if level > best or text == "1":
            best, text = max(best, level), str(value)
    return best, text


def _codename(text: str) -> int:
    first = text[:1]
    if not "A" <= first <= "Z":
        raise Malformed(MIN_SDK, text)
    older = [letter for letter in _CODENAMES if letter <= first]
    return _CODENAMES[older[-1]] + ord(first) - ord(older[-1]) if older else 1


def _target_sdk(root: Element, min_sdk: int, min_text: str) -> tuple[int, str]:
    """The first targetSdkVersion; minSdk when there is none."""
    for element in root.named("uses-sdk"):
        attribute = element.by_id(TARGET_SDK_VERSION)
        value = None if attribute is None else attribute.value
        if isinstance(value, str) and value[:1].isascii() and value[:1].isupper():
            return _codename(value), value
        if isinstance(value, int) and not isinstance(value, bool):
            return value, str(value)
    return min_sdk, min_text


def _version_code(root: Element) -> int | None:
    code = _number(root.by_id(VERSION_CODE))
    return None if code is None else code & 0xFFFFFFFF


def _long_version_code(root: Element) -> int | None:
    """With versionCodeMajor as the upper half: what Android 9 and later compare."""
    code = _version_code(root)
    major = _number(root.by_id(VERSION_CODE_MAJOR)) or 0
    return None if code is None else (major & 0xFFFFFFFF) << 32 | code


def _features(root: Element) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for element in root.named("uses-feature")[:_LIST_MAX]:
        required = _flag(element.by_id(REQUIRED), default=True) is not False
        version = element.by_id(GL_ES_VERSION)
        name = _name(element)
        if name:
            rows.append({"name": name, "required": required})
        elif version is not None:
            rows.append(
                {"name": f"OpenGL ES {version.data >> 16}.{version.data & 0xFFFF}", "required": required}
            )
    return sorted(rows, key=lambda row: str(row["name"]))


def _names(elements: list[Element]) -> list[str]:
    return sorted({name for name in map(_name, elements[:_LIST_MAX]) if name})


def _name(element: Element) -> str | None:
    attribute = element.by_id(NAME)
    return None if attribute is None else attribute.text


def _text(attribute: Attribute | None) -> Text:
    if attribute is None:
        return None
    if attribute.reference is not None:
        return attribute.reference
    value: Value = attribute.value
    return value if isinstance(value, str) else None if value is None else str(value)


def _number(attribute: Attribute | None) -> int | None:
    value = None if attribute is None else attribute.value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(attribute: Attribute | None, *, default: bool = False) -> bool | int:
    """A truth, or the id of the resource that is one."""
    if attribute is None:
        return default
    if attribute.reference is not None:
        return attribute.reference
    value = attribute.value
    return value is True or (isinstance(value, int) and value != 0) or value == "true"
