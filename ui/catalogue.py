"""What the console says, in each language: a text in English is its own key, another language is one file in `catalogues/`.

    {"language": "中文", "texts": {"Overview": "概览", "{count} releases": "{count} 个发布"}}

A text is plain; what is put into its {places} is escaped unless it is markup already. Left to others: which texts there are (the
templates and pages; a test holds every catalogue against them).
"""

import json
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup, escape

ENGLISH: Final = "en"
FOLDER: Final = Path(__file__).parent / "catalogues"
Translate = Callable[..., Markup]


def _alone(value: Any) -> Markup:
    """What is put into a text, escaped; letters that run from right to left are kept from moving what stands beside them."""
    if any(unicodedata.bidirectional(char) in {"R", "AL"} for char in str(value)):
        return Markup("\u2068{}\u2069").format(value)
    return escape(value)


class Catalogue:
    """Every language that there is a file for, and English."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.languages = {ENGLISH: "English"}
        self._texts: dict[str, Mapping[str, str]] = {ENGLISH: {}}
        for file in sorted(folder.glob("*.json")):
            content = json.loads(file.read_text("utf-8"))
            self.languages[file.stem] = content["language"]
            self._texts[file.stem] = content["texts"]

    def choose(self, chosen: str | None, accept: str) -> str:
        """A language by the visitor's own choice, else by Accept-Language (RFC 9110, 12.5.4), else English."""
        if chosen in self.languages:
            return chosen
        offers: list[tuple[float, int, str]] = []
        for part in accept.split(",")[:20]:
            tag, _, rest = part.strip().partition(";")
            weight = rest.strip().removeprefix("q=")
            try:
                offers.append((-float(weight or 1), len(offers), tag.split("-")[0].lower()))
            except ValueError:
                continue
        return next((tag for rank, _, tag in sorted(offers) if tag in self.languages and rank < 0), ENGLISH)

    def translator(self, language: str) -> Translate:
        """`_("text", place=value)` for templates: the text in this language, as markup that is safe to show."""
        texts = self._texts[language]

        def translate(text: str, /, **places: Any) -> Markup:
            shown = str(escape(texts.get(text, text)))
            return Markup(shown.format(**{name: _alone(value) for name, value in places.items()}))  # noqa: S704 - all parts are escaped

        return translate
