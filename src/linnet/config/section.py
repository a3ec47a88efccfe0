"""What every section of a recipe is made of: strict types and errors that point to the mend.

A `Section` refuses unknown keys and wrong types. The one line that a person reads says
which key, in which file and line (or on the command line), and what was probably meant.
Names that people bring along from other trainers are listed beside the section they
would land in (`habits`), so that typing one is answered with the name that is used here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from linnet.config.errors import RequestError
from linnet.config.layers import COMMAND_LINE, Layers, dotted

SectionT = TypeVar("SectionT", bound="Section")


class Section(BaseModel):
    """A typed, immutable, strict group of settings.

    `habits` maps a name used by other trainers to what to write instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
    habits: ClassVar[Mapping[str, str]] = {}


def validate(section: type[SectionT], layers: Layers) -> SectionT:
    """Build a section from layered values.

    Raises:
        RequestError: one line for the first mistake, with its place and the mend.
    """
    try:
        return section.model_validate(layers.values)
    except ValidationError as error:
        raise _explained(section, layers, error) from None


def _explained(section: type[Section], layers: Layers, error: ValidationError) -> RequestError:
    # An unknown key often explains a missing one, so it is told first.
    details = sorted(error.errors(), key=lambda d: d["type"] != "extra_forbidden")
    first, more = details[0], len(details) - 1
    path = tuple(str(part) for part in first["loc"])
    where = layers.origin(path)
    key = dotted(path)
    if first["type"] == "extra_forbidden":
        what, mend = f"unknown key {key!r}", _meant(section, path)
    elif first["type"] == "missing":
        what, mend = f"{key!r} is missing", "add it"
    elif first["type"] == "value_error":
        reason = first.get("ctx", {}).get("error", first["msg"])
        if isinstance(reason, RequestError):
            what, mend = (f"{key}: {reason.what}" if key else reason.what), reason.mend
        else:
            what, mend = (f"{key}: {reason}" if key else str(reason)), ""
            where = _places_named(section, path, str(reason), layers) or where
    else:
        message = first["msg"][0].lower() + first["msg"][1:]
        what, mend = f"{key}: {message}, not {first['input']!r}", ""
    if more:
        mend = f"{mend} ({more} more like this)" if mend else f"({more} more mistakes follow)"
    return RequestError(what, where, mend)


def _places_named(section: type[Section], path: tuple[str, ...], reason: str, layers: Layers) -> str:
    """Where the values were written that a rule of the section at `path` names in its reason.

    A rule over several values fails for the whole section, and which of them conflict only its reason says.
    """
    parent = _section_at(section, path)
    if parent is None:
        return ""
    places = []
    for word in re.findall(r"[A-Za-z_][\w.]*\w", reason):
        inner = (*path, *word.split("."))
        if inner[len(path)] not in parent.model_fields or inner not in layers.places:
            continue
        # At the top "a model to begin with" is not the section of that name.
        if path or "." in word or inner_section(parent.model_fields[word].annotation) is None:
            places.append(layers.origin(inner))
    files = [place for place in dict.fromkeys(places) if not place.startswith(COMMAND_LINE)]
    typed = [place.removeprefix(COMMAND_LINE) for place in dict.fromkeys(places) if place not in files]
    return " and ".join([*files, *([COMMAND_LINE + " and ".join(typed)] if typed else [])])


def _meant(section: type[Section], path: tuple[str, ...]) -> str:
    """What an unknown key was probably meant to be."""
    parent = _section_at(section, path[:-1])
    name = path[-1]
    if parent is not None:
        if name in parent.habits:
            return parent.habits[name]
        close = difflib.get_close_matches(name, list(parent.model_fields), n=1, cutoff=0.7)
        if close:
            return f"did you mean {dotted((*path[:-1], close[0]))!r}?"
    elsewhere = [place for place in _all_keys(section) if place[-1] == name]
    if elsewhere:
        return f"it belongs at {dotted(elsewhere[0])!r}"
    for place, inner in _all_sections(section):
        if name in inner.habits:
            return f"in {dotted(place)!r}: {inner.habits[name]}" if place else inner.habits[name]
    everywhere = {place[-1]: place for place in _all_keys(section)}
    close = difflib.get_close_matches(name, list(everywhere), n=1, cutoff=0.75)
    if close:
        return f"did you mean {dotted(everywhere[close[0]])!r}?"
    known = ", ".join(sorted(parent.model_fields)) if parent is not None else ""
    return f"known here: {known}" if known else "remove it"


def inner_section(annotation: Any) -> type[Section] | None:
    """The Section type inside an annotation such as `X`, `X | None` or `list[X]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for argument in get_args(annotation):
        found = inner_section(argument)
        if found is not None:
            return found
    return None


def _section_at(section: type[Section], path: tuple[str, ...]) -> type[Section] | None:
    current: type[Section] | None = section
    named = False  # whether this part is a name of the person's own, a key of a mapping
    for part in path:
        if part.isdigit() or named:
            named = False
            continue
        if current is None or part not in current.model_fields:
            return None
        annotation = current.model_fields[part].annotation
        current, named = inner_section(annotation), get_origin(annotation) is dict
    return current


def _all_sections(
    section: type[Section], place: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], type[Section]]]:
    found = [(place, section)]
    for name, field in section.model_fields.items():
        inner = inner_section(field.annotation)
        if inner is not None:
            found += _all_sections(inner, (*place, name))
    return found


def _all_keys(section: type[Section]) -> list[tuple[str, ...]]:
    return [(*place, name) for place, inner in _all_sections(section) for name in inner.model_fields]
