"""Archives by classic DICOM: C-FIND says what there is; C-MOVE or C-GET brings it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pynetdicom import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from medssl.config.base import Config
from medssl.errors import RejectedFileError
from medssl.io.sources.base import SourceError
from medssl.io.sources.caller import Caller, FailedError, RefusedError, is_pending
from medssl.io.sources.query import SERIES_COUNT, of_series, of_study
from medssl.io.sources.receiver import (
    AE_TITLE,
    Deliver,
    Peer,
    Receiver,
    ReceiverConfig,
)
from medssl.io.sources.retrieval import (
    Patience,
    PictureArchive,
    SeriesFolder,
    SeriesUid,
    as_count,
    checked_uid,
    persist,
)
from medssl.io.untrusted import untrusted

T = TypeVar("T")
_MOST_CONTEXTS = 127  # 128, less the one of C-GET itself
_STUDIES_AT_ONCE, _UIDS_AT_ONCE = 100, 50
_SYNTAXES = (
    *(f"1.2.840.10008.1.2.4.{number}" for number in (70, 57, 80, 81, 90, 91, 201, 202, 203)),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51)),
    *(f"1.2.840.10008.1.2{part}" for part in (".5", ".1", "", ".1.99", ".2")),
)
"""What C-GET offers to take, each in a context of its own so that nothing is transcoded."""
_USUAL = tuple(f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "2.1", "4", "4.1", "7", "128"))
"""CT, enhanced CT, MR, enhanced MR, secondary capture, PET: where an archive does not tell."""


class DimseConfig(Config):
    """How an archive is asked by classic DICOM."""

    ae_title: Annotated[str, Field(pattern=f"^{AE_TITLE}$")] = "MEDSSL"
    """What we call ourselves; the archive must know this title."""
    retrieve: Literal["auto", "move", "get"] = "auto"
    """By C-MOVE the archive connects to us, at the address it has on file for our title; by C-GET
    it answers on our own connection. auto: C-MOVE, and C-GET where that is refused."""
    host: str = "0.0.0.0"  # noqa: S104  the archive is another machine
    """Address of this machine at which C-MOVE delivers; default: all it has."""
    port: Annotated[int, Field(ge=1, le=65535)] = 11112
    """Port at which C-MOVE delivers."""
    receiver: ReceiverConfig = ReceiverConfig()
    """Whose images are taken during a C-MOVE, and the certificates in use."""
    encrypted: bool = False
    """Ask over TLS, with the certificates of `receiver.tls`. Unless `retrieve` is get, it needs
    `receiver.encrypted` too: the images of a C-MOVE come on connections of their own."""
    longest_move_s: Annotated[float, Field(gt=0)] = 900.0
    """Some archives say nothing until a C-MOVE is done; silence longer than this is failure."""
    patience: Patience = Patience()
    """When to give up."""

    @model_validator(mode="after")
    def _images_are_encrypted_too(self) -> Self:
        if self.encrypted and not self.receiver.encrypted and self.retrieve != "get":
            raise ValueError(
                "encrypted: images of a C-MOVE would still come unencrypted; set "
                "receiver.encrypted too, or retrieve: get"
            )
        return self


class DimseSource(PictureArchive):
    """A picture archive that speaks classic DICOM."""

    def __init__(self, url: str, config: DimseConfig, query: Mapping[str, str]) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            url: ``dimse://TITLE@host:port`` of the archive.
            config: how to ask.
            query: which series, by DICOM keyword.

        Raises:
            SourceError: the address is not understood.
        """
        self.label = url.rstrip("/")
        self._peer, self._config, self._query = Peer.of_url(url), config, query
        self.patience = config.patience
        self._caller = Caller(
            self._peer,
            config.ae_title,
            timeout_s=config.patience.timeout_s,
            tls=config.receiver.tls if config.encrypted else None,
        )
        self._by_get = config.retrieve == "get"

    def series(self) -> Iterator[tuple[SeriesUid, int | None]]:
        """Yield the series that fit the query, and how many images the archive counts in each."""
        (studies,) = self._find("STUDY", [{"StudyInstanceUID": ""} | of_study(self._query)])
        asked = {"SeriesInstanceUID": "", SERIES_COUNT: ""} | of_series(self._query)
        wanted = [{"StudyInstanceUID": checked_uid(row["StudyInstanceUID"])} for row in studies]
        for some in _batches(wanted, _STUDIES_AT_ONCE):
            answers = self._find("SERIES", [study | asked for study in some])
            for study, rows in zip(some, answers, strict=True):
                for row in rows:
                    uid = SeriesUid.checked(study["StudyInstanceUID"], row["SeriesInstanceUID"])
                    yield uid, as_count(row[SERIES_COUNT])

    def instances(self, series: SeriesUid) -> set[str]:
        """Return the UIDs of the instances of ``series``."""
        return set(self._classes(series))

    def retrieve(
        self, series: SeriesUid, missing: Sequence[str] | None, inbox: SeriesFolder
    ) -> None:
        """Add instances to ``inbox`` while they arrive."""
        for uids in [None] if missing is None else _batches(missing, _UIDS_AT_ONCE):
            wanted = _identifier(series, uids)
            if self._by_get:
                self._get(wanted, series, inbox)
                continue
            try:
                self._move(wanted, inbox)
            except (RefusedError, FailedError) as failure:
                if self._config.retrieve == "move" or inbox.held():
                    raise
                try:
                    self._get(wanted, series, inbox)
                except RefusedError:
                    raise failure from None
                self._by_get = True

    def _classes(self, series: SeriesUid) -> dict[str, str]:
        """Return the kind (SOP class) of every instance, by its UID."""
        fixed = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.series}
        (rows,) = self._find("IMAGE", [{**fixed, "SOPInstanceUID": "", "SOPClassUID": ""}])
        return {checked_uid(row["SOPInstanceUID"]): row["SOPClassUID"] for row in rows}

    def _find(self, level: str, queries: Sequence[Mapping[str, str]]) -> list[list[dict[str, str]]]:
        """Return the rows that answer each of ``queries``; all go over one connection."""
        return persist(lambda: self._find_once(level, queries), self.patience)

    def _find_once(
        self, level: str, queries: Sequence[Mapping[str, str]]
    ) -> list[list[dict[str, str]]]:
        model = StudyRootQueryRetrieveInformationModelFind
        with self._caller.connected([build_context(model)]) as link:
            return [
                [
                    _texts(row, query)
                    for status, row in link.send_c_find(_question(level, query), model)
                    if is_pending(status) and row is not None
                ]
                for query in queries
            ]

    def _move(self, wanted: Dataset, inbox: SeriesFolder) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        here = Peer(self._config.ae_title, self._config.host, self._config.port)
        with (
            Receiver(here, self._config.receiver, _into(inbox)),
            self._caller.connected([build_context(model)], self._config.longest_move_s) as link,
        ):
            for status, _ in link.send_c_move(wanted, self._config.ae_title, model):
                is_pending(status, self._unreachable())

    def _unreachable(self) -> str:
        here = f"port {self._config.port} of this machine"
        return f"can the archive reach {here}, and has it registered {self._config.ae_title} there?"

    def _get(self, wanted: Dataset, series: SeriesUid, inbox: SeriesFolder) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        kinds = sorted(set(self._classes(series).values()) - {""}) or _USUAL
        offered = [build_context(uid, syntax) for syntax in _SYNTAXES for uid in kinds]
        contexts = [build_context(model), *offered[:_MOST_CONTEXTS]]
        taker = Receiver(self._peer, self._config.receiver, _into(inbox))
        with self._caller.connected(contexts, self._config.longest_move_s, taker) as link:
            for status, _ in link.send_c_get(wanted, model):
                is_pending(status)


def _batches(everything: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


def _question(level: str, query: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    with disable_value_validation():  # a range or a wildcard is no valid date or name
        identifier.QueryRetrieveLevel = level
        if not all(value.isascii() for value in query.values()):
            identifier.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in query.items():
            setattr(identifier, keyword, value)
    return identifier


def _identifier(series: SeriesUid, uids: Sequence[str] | None) -> Dataset:
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "SERIES" if uids is None else "IMAGE"
    wanted.StudyInstanceUID, wanted.SeriesInstanceUID = series.study, series.series
    if uids is not None:
        wanted.SOPInstanceUID = list(uids)
    return wanted


def _into(inbox: SeriesFolder) -> Deliver:
    return lambda content, _: inbox.add([content])


def _texts(row: Dataset, keywords: Iterable[str]) -> dict[str, str]:
    """Return what a row of an answer says to each of ``keywords``, "" where it says nothing."""
    try:
        with untrusted("damaged_header"):
            return {keyword: str(row.get(keyword) or "") for keyword in keywords}
    except RejectedFileError:
        raise SourceError("the archive's answer is damaged") from None
