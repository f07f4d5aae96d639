"""Files to volumes, batch by batch: what lies here at once, what is fetched as room allows."""

import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medssl.ingest.config import IngestConfig
from medssl.ingest.convert import Conversion, convert, crashed, rejected
from medssl.ingest.isolation import map_isolated
from medssl.ingest.items import Item
from medssl.ingest.look import BIDS_PATIENT, NiftiLabels
from medssl.ingest.scan import Scanner
from medssl.ingest.state import State
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.folder import FileRef
from medssl.io.sources.staging import Delivery, Ledger, Staged, Staging
from medssl.library.identity import identity_path
from medssl.library.outcomes import FileOutcome
from medssl.runs.progress import task
from medssl.runs.workers import prepare_workers, threads_per_worker


@dataclass
class Filling:
    """One run: everything listed goes into the library."""

    config: IngestConfig
    pseudonymizer: Pseudonymizer
    state: State
    staging: Staging
    deliveries: Sequence[Delivery]
    """Every parcel of the sources, done or not."""
    failed: list[Delivery] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)
    """Keys of the volumes that were made."""
    seen: set[str] = field(default_factory=set)
    orphans: int = 0
    """Items that stay though other content took the names of their files."""

    def __post_init__(self) -> None:
        config = self.config
        self._settings = config.settings_digest()
        self._ledger = Ledger(config.library)
        self._of_key = {delivery.key: delivery for delivery in self.deliveries}
        self._recalled: list[Delivery] = []
        labels = NiftiLabels(
            patient=re.compile(config.patient_pattern or BIDS_PATIENT),
            modalities=config.modalities,
        )
        self._scanner = Scanner(
            self.pseudonymizer,
            config.limits,
            labels,
            config.exclude,
            ocr=config.ocr,
            workers=config.workers,
        )

    def run(self, refs: Sequence[FileRef]) -> None:
        """Take in ``refs``, files of this machine, and then every parcel that is not done."""
        if refs:
            stamped = [ref.stamped(self.pseudonymizer, self._settings) for ref in refs]
            self._take_in(stamped, {ref.file_key: str(ref.path) for ref in refs})
        todo = []
        for delivery in self.deliveries:
            if self._ledger.is_done(delivery):
                self.staging.drop(delivery)  # a kill may have come between noting and dropping
            else:
                todo.append(delivery)
        self.staging.sweep(keep=todo)
        for batch in self.staging.batches(todo, self.config.staging_gib, self.failed):
            self._take_in_parcels(batch)

    def _take_in_parcels(self, batch: Sequence[Staged]) -> None:
        refs, refused = [], []
        for staged in batch:
            refs += [ref.stamped(self.pseudonymizer, self._settings) for ref in staged.refs]
            for ref, error in staged.refused:
                stamped = ref.stamped(self.pseudonymizer, self._settings)
                refused.append(rejected(stamped, error, ""))
        named = [ref for staged in batch for ref in staged.refs]
        named += [ref for staged in batch for ref, _ in staged.refused]
        places = {ref.file_key: f"{ref.label}/{ref.name}" for ref in named}
        self._take_in(refs, places, refused)
        self.state.save()
        for staged in batch:
            self._ledger.note(staged)
        for delivery in [*(staged.delivery for staged in batch), *self._recalled]:
            self.staging.drop(delivery)
        self._recalled = []

    def _take_in(
        self,
        refs: Sequence[FileRef],
        places: dict[str, str],
        refused: Sequence[FileOutcome] = (),
    ) -> None:
        """Convert what is not yet there, and make the records agree."""
        if not all(map(self.state.is_unchanged, refs)):
            prepare_workers(convert, self.config.workers)
        self.state.place(places)
        self.state.save_paths()
        scan = self._scanner.scan(refs, self.state, self._locate)
        self._convert(scan.items)
        touched = scan.touched | {
            row.file_key: FileRef(Path(), "", row.file_key, row.bytes, 0, "", row.stamp)
            for row in refused
        }
        current = {item.key for item in scan.items} | scan.kept
        self.orphans += self.state.settle(touched, [*scan.settled, *refused], current)
        self.seen |= places.keys()

    def _convert(self, items: Sequence[Item]) -> None:
        todo = [item for item in items if not self.state.is_done(item)]
        conversion = Conversion(
            library=self.config.library,
            pseudonymizer=self.pseudonymizer,
            limits=self.config.limits,
            ocr=self.config.ocr,
            threads=threads_per_worker(self.config.workers, len(todo)),
        )
        work = partial(convert, conversion)
        folders = filter(Path.is_dir, map(Path, self.config.sources))
        shared = [identity_path(self.config.library), *folders]
        results = map_isolated(work, crashed, todo, workers=self.config.workers, shared=shared)
        done = len(items) - len(todo)
        with closing(results), task("Converting", len(items), done=done) as progress:
            for result in results:
                self.state.add(result)
                self.fresh |= {str(row["volume_key"]) for row in result.volumes}
                progress.advance()

    def _locate(self, keys: Collection[str]) -> Iterable[FileRef]:
        """Yield files of earlier runs: where they lay, or out of their parcel, fetched again."""
        parcels: dict[str, Delivery] = {}
        for key in sorted(keys):
            path = Path(self.state.paths.get(key, ""))
            parcel = self._ledger.parcel_of.get(key, "")
            if path.is_absolute() and path.is_file():
                facts = path.stat()
                ref = FileRef(path, path.as_posix(), key, facts.st_size, facts.st_mtime_ns)
                yield ref.stamped(self.pseudonymizer, self._settings)
            elif parcel in self._of_key:
                parcels[parcel] = self._of_key[parcel]
        room_gib = self.config.staging_gib
        for batch in self.staging.batches(list(parcels.values()), room_gib, self.failed):
            for staged in batch:
                self._recalled.append(staged.delivery)
                wanted = [ref for ref in staged.refs if ref.file_key in keys]
                yield from (ref.stamped(self.pseudonymizer, self._settings) for ref in wanted)
