"""Signatures of whole bundles: the seal, what lies beside it, and the code inside."""

from collections.abc import Callable

import pytest

from pipeline.formats.bundle import FileTree, Member
from pipeline.formats.bundle_signature import MAX_DEPTH, BundleSignature, verify_bundle
from pipeline.formats.content import Content, MemoryContent
from pipeline.formats.facts import Malformed, SignatureStatus, Unjudgeable
from tests.support.build_app import IOS, App, Files, Link, framework, replace
from tests.support.build_cms import family
from tests.support.build_macho import Signing, cdhash, fat, sign, signed, thin


class MadeTree(FileTree):
    def __init__(self, files: Files) -> None:
        self.files = files
        super().__init__(
            {
                path: Member(path, 0, content.target)
                if isinstance(content, Link)
                else Member(path, len(content))
                for path, content in files.items()
            }
        )

    def open(self, path: str) -> Content:
        content = self.files[path]
        assert isinstance(content, bytes)
        return MemoryContent(content)


def by_family(**changes: object) -> Signing:
    return Signing(family().leaf, (family().authority,), **changes)


NOTES = App(signing=by_family())


def verified(app: App, change: Callable[[Files], object] | None = None) -> BundleSignature:
    files = app.build()
    if change is not None:
        change(files)
    return verify_bundle(MadeTree(files), app.name)


def rules(result: BundleSignature) -> set[str]:
    return {finding.rule for finding in result.code.findings}


def nested_framework(signing: Signing | None = None) -> App:
    """An app with a framework that its seal names by cdhash, and a tool beside its executable."""
    inner, files = framework(signing or by_family(identifier="com.example.core"))
    executable = files[inner.executable]
    assert isinstance(executable, bytes)
    tool = signed(b"\x92" * 4000, signing=by_family(identifier="tool"))
    return replace(
        NOTES,
        nested={
            "Frameworks/Core.framework": (
                {"cdhash": cdhash(executable), "requirement": "identifier core"},
                {f"/{path}": content for path, content in files.items()},
            ),
            "MacOS/tool": ({"cdhash": cdhash(tool), "requirement": "identifier tool"}, {"": tool}),
        },
    )


@pytest.mark.parametrize("app", [NOTES, replace(IOS, signing=by_family()), nested_framework()])
def test_an_intact_bundle_is_valid(app):
    result = verified(app)
    assert not result.code.findings
    assert result.code.status is SignatureStatus.VALID
    assert result.sealed_files == len(app.files) + len(app.nested)
    assert len(result.nested) == len(app.nested)
    assert all(row.code.status is SignatureStatus.VALID for row in result.nested)
    assert len(result.cdhashes) == 1 + len(app.nested)


def test_the_bundle_may_be_the_whole_tree():
    files = {path.removeprefix("Notes.app/"): content for path, content in NOTES.build().items()}
    assert verify_bundle(MadeTree(files)).code.status is SignatureStatus.VALID


def test_a_changed_file_is_found():
    result = verified(NOTES, lambda files: files.update({"Notes.app/Contents/Resources/notes.txt": b"lies"}))
    assert rules(result) == {"codesign.file-changed"}
    assert result.code.status is SignatureStatus.INVALID


def test_a_missing_file_is_found():
    result = verified(NOTES, lambda files: files.pop("Notes.app/Contents/Resources/notes.txt"))
    assert rules(result) == {"codesign.file-missing"}


@pytest.mark.parametrize("path", ["Resources/added.txt", "MacOS/added", "added", "Resources/de.lproj/added"])
def test_an_added_file_is_found(path):
    result = verified(NOTES, lambda files: files.update({f"Notes.app/Contents/{path}": b"x"}))
    assert rules(result) == {"codesign.file-added"}


@pytest.mark.parametrize(
    "path",
    ["PkgInfo", ".DS_Store", "Resources/.DS_Store", "Resources/de.lproj/locversion.plist", "_MASReceipt/receipt",
     "CodeResources", "_CodeSignature/CodeDirectory"],
)  # fmt: skip
def test_files_that_every_seal_leaves_out_may_be_there(path):
    result = verified(NOTES, lambda files: files.update({f"Notes.app/Contents/{path}": b"x"}))
    assert result.code.status is SignatureStatus.VALID


def test_a_changed_info_plist_is_found():
    result = verified(
        NOTES, lambda files: files.update({"Notes.app/Contents/Info.plist": NOTES.info_bytes() + b" "})
    )
    assert rules(result) == {"codesign.part-changed"}


def test_a_changed_seal_is_found():
    other = replace(NOTES, files={"Resources/notes.txt": b"lies"})

    def change(files: Files) -> None:
        files |= {path: content for path, content in other.build().items() if "/MacOS/" not in path}

    assert rules(verified(NOTES, change)) == {"codesign.part-changed"}


def test_a_seal_that_is_gone_is_found():
    result = verified(NOTES, lambda files: files.pop("Notes.app/Contents/_CodeSignature/CodeResources"))
    assert "codesign.part-changed" in rules(result)


def test_an_executable_signed_without_its_bundle_is_found():
    assert rules(verified(replace(NOTES, sealed=False))) == {"codesign.no-seal"}


def test_links_are_held_against_their_targets():
    app = replace(NOTES, files={"Resources/a.txt": b"a", "Resources/link": Link("a.txt")})
    assert verified(app).code.status is SignatureStatus.VALID
    moved = verified(app, lambda files: files.update({"Notes.app/Contents/Resources/link": Link("b.txt")}))
    assert rules(moved) == {"codesign.file-changed"}
    copied = verified(app, lambda files: files.update({"Notes.app/Contents/Resources/link": b"a"}))
    assert rules(copied) == {"codesign.file-changed"}


def test_optional_files_may_be_missing_but_not_changed():
    seal_row = {"Resources/de.lproj/a.strings": ({"hash2": bytes(32), "optional": True}, {})}
    app = replace(NOTES, nested=seal_row)
    assert verified(app).code.status is SignatureStatus.VALID
    changed = verified(
        app, lambda files: files.update({"Notes.app/Contents/Resources/de.lproj/a.strings": b"x"})
    )
    assert rules(changed) == {"codesign.file-changed"}


def test_rules_of_the_publisher_are_never_run_and_make_the_seal_weak():
    hostile = {"^.*": True, "^(a+)+$": {"omit": True, "weight": 5000.0}}
    app = replace(NOTES, rules=hostile)
    result = verified(app, lambda files: files.update({f"Notes.app/Contents/{'a' * 60}!": b"x"}))
    assert rules(result) == {"codesign.weak-rules"}
    assert result.code.status is SignatureStatus.UNVERIFIED


def test_rules_that_cover_nothing_make_the_seal_weak():
    assert "codesign.weak-rules" in rules(verified(replace(NOTES, rules={"^.*": {"omit": True}})))


def test_a_seal_of_the_first_version_covers_resources_only():
    app = replace(NOTES, version=1, rules={"^Resources/": True, "^version.plist$": True})
    assert verified(app).code.status is SignatureStatus.VALID
    beside = verified(app, lambda files: files.update({"Notes.app/Contents/Other/x": b"x"}))
    assert beside.code.status is SignatureStatus.VALID
    inside = verified(app, lambda files: files.update({"Notes.app/Contents/Resources/x": b"x"}))
    assert rules(inside) == {"codesign.file-added"}


def test_files_beside_contents_are_found():
    assert rules(verified(NOTES, lambda files: files.update({"Notes.app/payload": b"x"}))) == {
        "codesign.unsealed-root"
    }


def test_a_framework_whose_links_became_copies_is_found():
    def change(files: Files) -> None:
        root = "Notes.app/Contents/Frameworks/Core.framework/"
        for path in [path for path in files if path.startswith(root)]:
            if isinstance(files[path], Link):
                del files[path]
        files |= {
            path.replace("Versions/A/", "Versions/Current/"): content
            for path, content in files.items()
            if path.startswith(root)
        }

    assert "codesign.nested-invalid" in rules(verified(nested_framework(), change))


def test_changed_nested_code_is_found():
    def change(files: Files) -> None:
        path = "Notes.app/Contents/Frameworks/Core.framework/Versions/A/Core"
        content = files[path]
        assert isinstance(content, bytes)
        files[path] = content[:300] + b"\xcc" + content[301:]

    result = verified(nested_framework(), change)
    assert rules(result) == {"codesign.nested-invalid"}
    assert result.code.status is SignatureStatus.INVALID


def test_nested_code_by_somebody_else_is_found():
    def change(files: Files) -> None:
        files["Notes.app/Contents/MacOS/tool"] = signed(b"\xcc" * 4000)

    assert rules(verified(nested_framework(), change)) == {"codesign.nested-invalid"}


def test_unsigned_nested_code_is_found():
    def change(files: Files) -> None:
        files["Notes.app/Contents/MacOS/tool"] = thin(signature_bytes=None)

    assert rules(verified(nested_framework(), change)) == {"codesign.nested-invalid"}


def test_a_nested_script_is_said_to_be_unchecked():
    def change(files: Files) -> None:
        files["Notes.app/Contents/MacOS/tool"] = b"#!/bin/sh\n"

    result = verified(nested_framework(), change)
    assert rules(result) == {"codesign.nested-script"}


def test_a_frameworks_older_version_is_code_too():
    def change(files: Files) -> None:
        root = "Notes.app/Contents/Frameworks/Core.framework/Versions/"
        for path, content in list(files.items()):
            if path.startswith(f"{root}A/"):
                files[path.replace("/A/", "/B/")] = content
        files[f"{root}B/Core"] = thin(b"\xcc" * 99, signature_bytes=None)

    assert "codesign.nested-invalid" in rules(verified(nested_framework(), change))


def test_nested_code_of_an_unsigned_app_is_only_warned_of():
    app = replace(nested_framework(), signing=None, sealed=False)

    def change(files: Files) -> None:
        files["Notes.app/Contents/Frameworks/Core.framework/Versions/A/Resources/core.txt"] = b"changed"

    result = verified(app, change)
    assert rules(result) == {"codesign.nested-stale"}
    assert result.code.status is SignatureStatus.UNSIGNED


def test_libraries_and_extensions_of_an_ios_app_are_verified():
    extension = replace(
        IOS, name="Share.appex", executable="Share", files={}, signing=by_family(identifier="share")
    )
    files = {
        f"PlugIns/{path}": content
        for path, content in extension.build().items()
        if isinstance(content, bytes)
    }
    files["Frameworks/libswiftCore.dylib"] = signed(signing=by_family(identifier="swift"))
    app = replace(IOS, signing=by_family(), files={**IOS.files, **files})
    result = verified(app)
    assert result.code.status is SignatureStatus.VALID
    assert {row.path.rpartition("/")[2] for row in result.nested} == {"Share.appex", "libswiftCore.dylib"}
    stale = dict(files)
    stale["PlugIns/Share.appex/Info.plist"] = extension.info_bytes() + b" "
    result = verified(replace(app, files={**IOS.files, **stale}))
    assert rules(result) == {"codesign.nested-invalid"}


def test_a_bundle_that_only_the_linker_signed_is_unsigned():
    result = verified(replace(NOTES, signing=Signing(flags=0x20000), sealed=False))
    assert result.code.status is SignatureStatus.UNSIGNED
    assert result.code.reason


def test_ad_hoc_bundles_are_nobodys():
    result = verified(replace(NOTES, signing=Signing()))
    assert result.code.status is SignatureStatus.UNVERIFIED
    assert result.code.ad_hoc
    changed = verified(
        replace(NOTES, signing=Signing()),
        lambda files: files.update({"Notes.app/Contents/Resources/notes.txt": b"lies"}),
    )
    assert changed.code.status is SignatureStatus.INVALID


def test_a_script_as_executable_is_no_signature():
    def change(files: Files) -> None:
        files["Notes.app/Contents/MacOS/Notes"] = b"#!/bin/sh\n"

    assert verified(replace(NOTES, sealed=False), change).code.status is SignatureStatus.UNSIGNED
    assert verified(NOTES, change).code.status is SignatureStatus.UNVERIFIED


def test_what_is_no_bundle_is_refused():
    with pytest.raises(Malformed):
        verified(NOTES, lambda files: files.pop("Notes.app/Contents/Info.plist"))
    with pytest.raises(Malformed):
        verified(NOTES, lambda files: files.pop("Notes.app/Contents/MacOS/Notes"))


def test_a_damaged_seal_is_a_finding():
    def change(files: Files) -> None:
        seal = b"<plist><dict><key>files2</key><string/></dict></plist>"
        files["Notes.app/Contents/_CodeSignature/CodeResources"] = seal
        info = NOTES.info_bytes()
        files["Notes.app/Contents/MacOS/Notes"] = sign(
            thin(), replace(by_family(), info=info, resources=seal)
        )

    result = verified(NOTES, change)
    assert rules(result) == {"codesign.seal-malformed"}
    assert result.code.status is SignatureStatus.INVALID


def test_links_that_lead_out_or_in_circles_are_not_followed():
    for target in ("../../../../etc", "Notes", "/bin/sh"):
        with pytest.raises(Malformed):
            verified(
                NOTES,
                lambda files, target=target: files.update({"Notes.app/Contents/MacOS/Notes": Link(target)}),
            )


def test_a_file_below_a_link_is_refused():
    with pytest.raises(Malformed):
        MadeTree({"a.app/Contents": Link("b"), "a.app/Contents/Info.plist": b"x"})


def test_nesting_has_a_limit():
    files: Files = {}
    root = "Notes.app"
    for depth in range(MAX_DEPTH + 2):
        app = replace(NOTES, name=root, signing=None, sealed=False, files={})
        files |= app.build()
        root += f"/Contents/PlugIns/In{depth}.app"
    with pytest.raises(Unjudgeable):
        verify_bundle(MadeTree(files), "Notes.app")


def test_without_its_files_a_bundle_is_not_called_valid():
    files = NOTES.build()
    files["Notes.app/Contents/Resources/notes.txt"] = b"lies"
    result = verify_bundle(MadeTree(files), "Notes.app", whole=False)
    assert result.code.status is SignatureStatus.UNVERIFIED


def test_a_nested_bundle_of_resources_may_keep_its_signature_in_separate_files():
    folder = "/Contents/"
    files: Files = {
        f"{folder}Info.plist": b"<plist><dict/></plist>",
        f"{folder}_CodeSignature/CodeDirectory": b"x",
    }
    app = replace(NOTES, nested={"PlugIns/Help.bundle": ({"cdhash": bytes(20), "requirement": "x"}, files)})
    result = verified(app)
    assert not result.code.findings
    assert result.nested[0].code.status is SignatureStatus.UNVERIFIED
    files.pop(f"{folder}_CodeSignature/CodeDirectory")
    assert rules(verified(app)) == {"codesign.nested-invalid"}


def test_what_the_app_store_adds_is_no_added_file():
    def change(files: Files) -> None:
        files["Payload/Demo.app/SC_Info/Demo.sinf"] = b"x"
        files["Payload/Demo.app/Frameworks/Core.framework/SC_Info/Core.sinf"] = b"x"

    assert verified(replace(IOS, signing=by_family()), change).code.status is SignatureStatus.VALID


def test_a_static_library_is_no_code_to_verify():
    archive = fat(b"!<arch>\n" + bytes(500), archs=("arm64",))
    app = replace(
        NOTES, nested={"Frameworks/lib.a": ({"cdhash": bytes(20), "requirement": "x"}, {"": archive})}
    )
    assert rules(verified(app)) == {"codesign.nested-script"}
    static = replace(IOS, name="Core.framework", executable="Core", files={}, signing=None, sealed=False)
    files = {f"Frameworks/{path}": content for path, content in static.build().items()}
    files["Frameworks/Core.framework/Core"] = archive
    result = verified(replace(IOS, signing=by_family(), files={**IOS.files, **files}))
    assert result.code.status is SignatureStatus.VALID


def test_a_framework_that_lost_its_current_version_is_no_error_where_nothing_is_signed():
    app = replace(nested_framework(), signing=None, sealed=False)

    def change(files: Files) -> None:
        root = "Notes.app/Contents/Frameworks/Core.framework/"
        del files[f"{root}Versions/Current"], files[f"{root}Resources"]
        files[f"{root}Resources/Info.plist"] = files.pop(f"{root}Versions/A/Resources/Info.plist")

    result = verified(app, change)
    assert not result.code.findings
