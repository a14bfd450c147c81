"""Notes: one SQLite database per tenant, standard library only.

GET /            all notes, one a line
POST /           body = the note's text
GET /health      200 once the database answers
"""

import os
import signal
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = os.path.join(os.environ["DATA_DIR"], "notes.db")


def connect():
    db = sqlite3.connect(DATABASE, timeout=5)
    db.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    return db


class Notes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        db = connect()
        try:
            if self.path == "/health":
                db.execute("SELECT 1")
                return self.reply(200, "ok\n")
            rows = db.execute("SELECT text FROM notes ORDER BY id").fetchall()
            self.reply(200, "".join(text + "\n" for (text,) in rows))
        finally:
            db.close()

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        db = connect()
        try:
            with db:
                db.execute("INSERT INTO notes (text) VALUES (?)", (text,))
        finally:
            db.close()
        self.reply(201, "saved\n")

    def log_message(self, format, *args):
        print(self.command, self.path, args[1], flush=True)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Notes)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("notes of", os.environ["TENANT"], "ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
