"""A server on this machine that resumes, ignores Range, drops lines or refuses."""

import contextlib
import hashlib
import http.server
import re
import threading

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@contextlib.contextmanager
def serving(files, *, ranges=True, announce=True, chunked=False, drops=(), status=200):
    """A server of `files` by name; yields its address and the Range of every request it got.

    Args:
        ranges: Whether it answers to Range.
        announce: Whether it sends Content-Length.
        chunked: Whether it sends 100,000 bytes a chunk, as servers do that do not know the length.
        drops: After how many bytes the first, second ... answer breaks off.
        status: What it answers instead of 200.
    """
    requests, drops = [], list(drops)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if chunked else "HTTP/1.0"

        def do_GET(self):
            asked = self.headers.get("Range")
            requests.append(asked)
            content = files.get(self.path.lstrip("/"))
            if content is None or status != 200:
                return self.send_error(404 if status == 200 else status)
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return None
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif announce:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            end = drops.pop(0) if drops else len(body)
            if not chunked:
                self.wfile.write(body[:end])
                return None
            for i in range(0, end, 100_000):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece := body[i : i + 100_000]), piece))
            self.wfile.write(b"0\r\n\r\n" if end == len(body) else b"")
            self.close_connection = True
            return None

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()
