"""A receiver of Switchhook's deliveries in Python's standard library: run it as it is, or take its functions.

    SWITCHHOOK_SIGNING_SECRET=whsec_... python receiver.py 8100 inbox

It listens on loopback; your TLS proxy stands in front. `Inbox` is where your database goes: a table with a unique
`webhook-id` does the same.
"""

import base64
import hmac
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

TOLERANCE_SECONDS = 300
# A recording is at most 64 MiB when Switchhook takes it; the envelope comes on top.
MAX_BODY_BYTES = 65 * 1024 * 1024
# A call goes forward only. What arrives behind a later step of its session is old news.
STEPS = {"retell.call_started": 1, "retell.transcript_updated": 2, "retell.call_ended": 3, "retell.call_analyzed": 4}


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether Switchhook sent these bytes in the last five minutes (Standard Webhooks 1.0). Names in lower case."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, "sha256")
    expected = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, signature) for signature in given)


class Inbox:
    """Deliveries on disk, one file each, named by webhook-id: emptied once handled, and kept to know repeats by."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.waiting: SimpleQueue[Path] = SimpleQueue()
        for path in sorted(directory.glob("evt_*"), key=lambda path: path.stat().st_mtime_ns):
            if path.stat().st_size:
                self.waiting.put(path)

    def keep(self, webhook_id: str, delivery: bytes) -> None:
        """Store a delivery whole, or not at all if its id is there already."""
        place = self.directory / webhook_id
        with tempfile.NamedTemporaryFile(dir=self.directory) as file:
            file.write(delivery)
            file.flush()
            try:
                os.link(file.name, place)  # atomic, and refused if the name is taken
            except FileExistsError:
                return
        self.waiting.put(place)

    def work(self) -> None:
        """Handle what waits, one after the other, for ever."""
        reached: dict[str, int] = {}  # session -> step; in your database, a column of the session's row
        while True:
            path = self.waiting.get()
            head, _, body = path.read_bytes().partition(b"\n")
            event = json.loads(head)
            step = STEPS.get(event["type"], 0)
            if 0 < step < reached.get(event["session"], 0):
                logging.info("stale %s %s", path.name, event["type"])
            else:
                reached[event["session"]] = max(step, reached.get(event["session"], 0))
                try:
                    handle(event["type"], event["session"], body)
                except Exception as error:
                    logging.info("failed %s %s", path.name, type(error).__name__)
                    continue  # it stays on disk, and is tried again at the next start
                logging.info("handled %s %s", path.name, event["type"])
            os.truncate(path, 0)


def handle(event_type: str, session: str, body: bytes) -> None:
    """Your work goes here. It may take its time: the answer was given long ago."""


class Handler(BaseHTTPRequestHandler):
    """Verify, store, answer; everything else happens later."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    secret: str
    inbox: Inbox

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        size = headers.get("content-length", "")
        if not re.fullmatch("[0-9]{1,9}", size) or int(size) > MAX_BODY_BYTES:
            self.answer(413)
            return
        body = self.rfile.read(int(size))
        webhook_id = headers.get("webhook-id", "")
        if not verify(headers, body, self.secret) or not re.fullmatch("evt_[a-z0-9]{1,60}", webhook_id):
            self.answer(401)
            return
        event = {"type": headers["switchhook-event"], "session": headers["switchhook-session"]}
        self.inbox.keep(webhook_id, json.dumps(event).encode() + b"\n" + body)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Requests are not logged: `handled` and `stale` say what became of them."""


def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    port, directory = int(sys.argv[1]), Path(sys.argv[2])
    Handler.secret = os.environ["SWITCHHOOK_SIGNING_SECRET"]
    Handler.inbox = Inbox(directory)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    logging.info("listening on %d", server.server_port)
    threading.Thread(target=Handler.inbox.work, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
