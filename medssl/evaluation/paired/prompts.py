"""What a model is asked in words: whether findings are there, and which of several answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from medssl.config.base import Config
from medssl.config.load import load

PLACE: Final = "{}"


def _with_one_place(text: str) -> str:
    if text.count(PLACE) != 1:
        raise ValueError(f"a template needs {PLACE} once, where the words of a finding go")
    return text


Text = Annotated[str, Field(min_length=1)]
Words = Annotated[tuple[Text, ...], Field(min_length=1)]
OnePlace = Annotated[str, AfterValidator(_with_one_place)]


class Template(Config):
    """How to say that something is there, and that it is not."""

    present: OnePlace
    """Such as `{} is present.`"""
    absent: OnePlace
    """Such as `{} is not present.`"""

    def prompts(self, words: Sequence[str], *, present: bool) -> list[str]:
        """Return one prompt for each of several words for the same."""
        return [fill(self.present if present else self.absent, word) for word in words]


class Finding(Config):
    """Something that an image may show."""

    name: Text
    """What labels of the pairs call it."""
    words: Words
    """What reports call it: in lower case, as it stands within a sentence."""
    descriptors: tuple[Text, ...] = ()
    """Signs by which it is recognised; each is asked for on its own."""


class Question(Config):
    """A question with one true answer of several."""

    name: Text
    """What it is called on the page."""
    truth: Literal["labels", "modality"] = "labels"
    """Where the true answer is known from: `labels`: the answer that the pairs' labels call
    present, if it is one; `modality`: what the crop store says of a study's volumes."""
    templates: Annotated[tuple[OnePlace, ...], Field(min_length=1)] = ("{}.",)
    """How an answer is said."""
    answers: Annotated[dict[str, Words], Field(min_length=2)]
    """Answer, by the name that the truth has: what reports call it."""

    def prompts(self, answer: str) -> list[str]:
        """Return every way to say an answer."""
        return [fill(text, word) for text in self.templates for word in self.answers[answer]]


class PromptSet(Config):
    """A file of findings and questions, for one part of the body or several."""

    templates: Annotated[dict[str, Template], Field(min_length=1)]
    """Name -> how to say that a finding is there or not; all together are an ensemble."""
    descriptor: Template = Template(present="There is {}.", absent="There is no {}.")
    """How to say that a descriptor is there or not."""
    findings: tuple[Finding, ...] = ()
    """What is asked for one by one."""
    questions: tuple[Question, ...] = ()
    """What has one of several answers."""

    @model_validator(mode="after")
    def _something_is_asked_once(self) -> Self:
        names = [one.name for one in self.findings] + [one.name for one in self.questions]
        if not names:
            raise ValueError("there is nothing to ask: give findings or questions")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"asked more than once: {', '.join(twice)}")
        return self


def read_prompts(path: Path) -> PromptSet:
    """Return the prompts of a YAML file.

    Raises:
        ConfigError: The file is missing or says something else.
    """
    return load(PromptSet, path)


def fill(template: str, words: str) -> str:
    """Return a template with words in their place: "no" takes no article, a sentence a capital."""
    if template[: template.index(PLACE)].casefold().endswith("no "):
        words = words.removeprefix("a ").removeprefix("an ")
    text = template.replace(PLACE, words, 1)
    return text[:1].upper() + text[1:]
