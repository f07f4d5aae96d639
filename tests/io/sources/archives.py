"""Small archives of a few lines, which can be told to lie, to break off, or to be full."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from socketserver import BaseServer
from urllib.parse import parse_qs, urlsplit

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from medssl.io.sources.receiver import tame_pynetdicom

BOUNDARY = "a-boundary"


def encoded(ds):
    buffer = BytesIO()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def element(value, vr="UI"):
    return {"vr": vr, "Value": [value]}


class WebArchive(ThreadingHTTPServer):
    """One study of one series behind QIDO-RS and WADO-RS."""

    daemon_threads = True

    def __init__(self, slices):
        super().__init__(("127.0.0.1", 0), Handler)
        self.study, self.series = slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID
        self.files = {str(ds.SOPInstanceUID): encoded(ds) for ds in slices}
        self.listed = list(self.files)
        self.count = len(slices)
        self.asked = []
        self.headers = []
        self.override = lambda handler: False
        """Called with every request; answers it itself where it returns True."""

    @property
    def url(self):
        return f"dicomweb+http://127.0.0.1:{self.server_address[1]}/dicom-web"

    def rows(self, path):
        if path.endswith("/instances"):
            return [{"00080018": element(uid)} for uid in self.listed]
        row = {"0020000D": element(self.study)}
        if path.endswith("/series"):
            row["0020000E"] = element(self.series)
            row["00201209"] = element(self.count, "IS")
        return [row]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        archive, parts = self.server, urlsplit(self.path)
        query = parse_qs(parts.query)
        path = parts.path.removeprefix("/dicom-web")
        archive.asked.append(path)
        archive.headers.append(dict(self.headers))
        if archive.override(self):
            return
        if "limit" in query:
            start, limit = int(query["offset"][0]), int(query["limit"][0])
            rows = archive.rows(path)[start : start + limit]
            self.answer("application/dicom+json", json.dumps(rows).encode())
            return
        uid = path.rpartition("/instances/")[2]
        wanted = [archive.files[uid]] if "/instances/" in path else list(archive.files.values())
        self.multipart(wanted)

    def multipart(self, wanted, *, kind="application/dicom", end=None):
        body = b"".join(
            f"\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + content
            for content in wanted
        )
        body += f"\r\n--{BOUNDARY}--\r\n".encode()
        header = f'multipart/related; type="{kind}"; boundary={BOUNDARY}'
        self.answer(header, body, end=end)

    def answer(self, kind, body, *, status=200, end=None):
        """Send ``body``, or its first ``end`` bytes before the connection dies."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:end])
        if end is not None:
            self.close_connection = True


@contextmanager
def web_archive(slices, tls=None):
    archive = WebArchive(slices)
    if tls is not None:
        archive.socket = tls.wrap_socket(archive.socket, server_side=True)
    thread = threading.Thread(target=archive.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        archive.shutdown()
        archive.server_close()
        thread.join()


class DicomArchive:
    """One study of one series behind C-FIND, C-MOVE and C-GET."""

    def __init__(self, slices):
        self.slices, self.count = slices, len(slices)
        self.destination = None
        self.sent = []
        self.statuses = []
        self.port = None

    @property
    def url(self):
        return f"dimse://ARCHIVE@127.0.0.1:{self.port}"

    def find(self, event):
        level = event.identifier.QueryRetrieveLevel
        for ds in self.slices if level == "IMAGE" else self.slices[:1]:
            row = Dataset()
            row.QueryRetrieveLevel = level
            row.StudyInstanceUID = ds.StudyInstanceUID
            row.SeriesInstanceUID = ds.SeriesInstanceUID
            row.SOPInstanceUID, row.SOPClassUID = ds.SOPInstanceUID, ds.SOPClassUID
            row.NumberOfSeriesRelatedInstances = self.count
            yield 0xFF00, row

    def wanted(self, event):
        uids = event.identifier.get("SOPInstanceUID")
        named = [uids] if isinstance(uids, str) else uids
        chosen = [ds for ds in self.slices if named is None or ds.SOPInstanceUID in named]
        self.sent.append(len(chosen))
        return chosen

    def move(self, event):
        if self.destination is None:
            yield None, None
            return
        yield "127.0.0.1", self.destination
        yield from self.give(event)

    def give(self, event):
        wanted = self.wanted(event)
        yield len(wanted)
        for ds in wanted:
            yield 0xFF00, ds


@contextmanager
def dicom_archive(slices, *, models=("find", "move", "get"), tls=None, **options):
    tame_pynetdicom()
    archive = DicomArchive(slices)
    entity = AE("ARCHIVE")
    for name, value in options.items():
        setattr(entity, name, value)
    contexts = {
        "find": StudyRootQueryRetrieveInformationModelFind,
        "move": StudyRootQueryRetrieveInformationModelMove,
        "get": StudyRootQueryRetrieveInformationModelGet,
    }
    for model in models:
        entity.add_supported_context(contexts[model])
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, scu_role=True, scp_role=True)
    entity.requested_contexts = [build_context(slices[0].SOPClassUID)]
    handlers = [
        (evt.EVT_C_FIND, archive.find),
        (evt.EVT_C_MOVE, archive.move),
        (evt.EVT_C_GET, archive.give),
    ]
    server = entity.make_server(("127.0.0.1", 0), evt_handlers=handlers, ssl_context=tls)
    archive.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield archive
    finally:
        BaseServer.shutdown(server)
        server.server_close()
