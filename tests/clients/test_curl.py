"""HTTP with curl, and with bare sockets where curl would not misbehave."""

import json
import subprocess
import tempfile
import unittest

from testbed import MESSAGE_BYTES, NEIGHBOUR, TENANT, Login, SiteTest, as_base64

TIMEOUT_S = 15


class CurlTest(SiteTest):
    def curl(self, method, path, login=None, data=None, headers=(), extra=()):
        """One request; status, headers (lower case) and body."""
        with tempfile.NamedTemporaryFile() as head:
            command = ["curl", "--silent", "--show-error", "--request", method, "--dump-header", head.name,
                       "--max-time", str(TIMEOUT_S), f"http://{self.site.host}:{self.site.http_port}{path}"]  # fmt: skip
            if login:
                command += ["--user", f"{login.username}:{login.password}"]
            if data is not None:
                command += ["--data-binary", "@-"]
            for header in headers:
                command += ["--header", header]
            done = subprocess.run([*command, *extra], input=data, capture_output=True, timeout=TIMEOUT_S + 5)
            self.assertEqual(done.returncode, 0, done.stderr)
            lines = head.read().decode().strip().splitlines()
        # A body announced with Expect is preceded by "100 Continue".
        statuses = [index for index, line in enumerate(lines) if line.startswith("HTTP/1.1 ")]
        fields = (line.split(":", 1) for line in lines[statuses[-1] + 1 :] if ":" in line)
        status = int(lines[statuses[-1]].split(" ")[1])
        return status, {name.strip().lower(): value.strip() for name, value in fields}, done.stdout

    def assert_error(self, answer, status):
        """A refusal has its status and a JSON body that says why."""
        self.assertEqual(answer[0], status, answer)
        self.assertEqual(answer[1]["content-type"], "application/json; charset=utf-8")
        self.assertTrue(json.loads(answer[2])["error"])
        return answer

    def test_an_event_is_accepted_when_it_is_stored(self):
        content = ["Content-Type: application/json"]
        answer = self.curl("POST", "/event", self.login("curl"), b'{"t":21}', content)
        self.assertEqual((answer[0], answer[2]), (202, b""))
        record = self.assert_arrives("curl", b'{"t":21}')
        self.assertEqual(record["contentType"], "application/json")
        self.assertEqual((record["origAdapter"], record["origAddress"]), ("hono-http", "/event"))

    def test_telemetry_is_accepted_while_somebody_takes_it(self):
        # The uplink is up, so the tenant's stream takes it.
        for level in ("0", "1"):
            headers = ["Content-Type: text/plain", f"QoS-Level: {level}"]
            answer = self.curl("POST", "/telemetry", self.login("curl"), f"live {level}".encode(), headers)
            self.assertEqual(answer[0], 202, answer)
            self.assert_arrives("curl", f"live {level}".encode(), classes=("telemetry",))

    def test_put_names_the_device_itself_or_one_behind_the_gateway(self):
        content = ["Content-Type: text/plain"]
        own = self.curl("PUT", f"/event/{TENANT}/curl", self.login("curl"), b"put by itself", content)
        self.assertEqual(own[0], 202, own)
        self.assert_arrives("curl", b"put by itself")
        for path, payload in ((f"/event/{TENANT}/behind-gateway", b"put one"), ("/event//behind-gateway", b"put two")):
            answer = self.curl("PUT", path, self.login("gateway"), payload, content)
            self.assertEqual(answer[0], 202, answer)
            self.assertEqual(self.assert_arrives("behind-gateway", payload)["gateway"], "gateway")

    def test_who_may_not_is_told_so(self):
        content = ["Content-Type: text/plain"]
        curl = self.login("curl")
        no_one = self.assert_error(self.curl("POST", "/event", None, b"x", content), 401)
        self.assertEqual(no_one[1]["www-authenticate"], 'Basic realm="Hono"')
        wrong = Login(curl.username, "wrong")
        self.assert_error(self.curl("POST", "/event", wrong, b"x", content), 401)
        unknown = Login(f"nobody@{TENANT}", "x")
        self.assert_error(self.curl("POST", "/event", unknown, b"x", content), 401)
        self.assert_error(self.curl("POST", "/event", self.login("disabled"), b"x", content), 404)
        self.assert_error(self.curl("PUT", f"/event/{NEIGHBOUR}/next-door", curl, b"x", content), 403)
        self.assert_error(self.curl("PUT", f"/event/{TENANT}/paho", self.login("gateway"), b"x", content), 403)
        self.assert_error(self.curl("PUT", f"/event/{TENANT}/nobody", self.login("gateway"), b"x", content), 404)

    def test_what_is_not_there_or_not_valid_is_told_so(self):
        curl = self.login("curl")
        content = ["Content-Type: text/plain"]
        self.assert_error(self.curl("POST", "/nothing", curl, b"x", content), 404)
        self.assert_error(self.curl("POST", "/event", curl, b"", ["Content-Type:"]), 400)
        self.assert_error(self.curl("POST", "/event", curl, b"x", [*content, "QoS-Level: 0"]), 400)
        self.assert_error(self.curl("POST", "/telemetry", curl, b"x", [*content, "QoS-Level: 2"]), 400)
        self.assert_error(self.curl("POST", "/command/res/zz", curl, b"x", [*content, "hono-cmd-status: 200"]), 400)

    def test_a_body_above_the_limit_is_refused_without_being_read(self):
        body = b"x" * (MESSAGE_BYTES + 1)
        answer = self.curl("POST", "/event", self.login("curl"), body, ["Content-Type: text/plain", "Expect:"])
        self.assert_error(answer, 413)

    def test_one_connection_carries_many_requests(self):
        url = f"http://{self.site.host}:{self.site.http_port}/event"
        login = self.login("curl")
        done = subprocess.run(
            ["curl", "--silent", "--user", f"{login.username}:{login.password}", "--data-binary", "kept alive",
             "--header", "Content-Type: text/x-kept", "--write-out", "%{http_code} %{num_connects}\\n", url, url, url],
            capture_output=True, text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        self.assertEqual(done.stdout.split("\n")[:3], ["202 1", "202 0", "202 0"], done)

    def test_pipelined_requests_are_answered_in_order(self):
        authorization = as_base64(f"{self.login('curl').username}:{self.login('curl').password}".encode())

        def request(path, payload):
            head = (
                f"POST {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Basic {authorization}\r\n"
                f"Content-Type: text/plain\r\nContent-Length: {len(payload)}\r\n\r\n"
            )
            return head.encode() + payload

        wanted = []
        with self.site.connect_socket(self.site.http_port) as connection:
            out = b""
            for number in range(20):
                missing = number % 5 == 4
                out += request("/nothing" if missing else "/event", f"piped {number}".encode())
                wanted.append(404 if missing else 202)
            connection.sendall(out)
            answers = b""
            while answers.count(b"HTTP/1.1 ") < len(wanted) or not answers.endswith((b"\r\n\r\n", b"}")):
                part = connection.recv(65536)
                self.assertTrue(part, f"closed after {answers!r}")
                answers += part
        got = [int(part.split(b" ")[0]) for part in answers.split(b"HTTP/1.1 ")[1:]]
        self.assertEqual(got, wanted)
        sequences = [self.assert_arrives("curl", f"piped {n}".encode())["sequence"] for n in range(20) if n % 5 != 4]
        self.assertEqual(sequences, sorted(sequences))

    def test_something_that_is_not_http_is_answered_and_ends(self):
        with self.site.connect_socket(self.site.http_port) as connection:
            connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)


if __name__ == "__main__":
    unittest.main()
