"""Runs the server for a long time under mixed load, in front of the simulator, and checks its books at the end.

    tests/soak/soak.py PROGRAM [--minutes 60] [--rate 4]

Callers chat, leave answers half read, call tools, make pictures and videos, and send bad requests. Meanwhile the owner's
page is used, the cookie file is edited, the server is asked to stop and started again, and is killed. At the end

- usage has counted each request once (a request that a kill may have cut off is allowed both ways),
- the upstream has no chat of ours left,
- the memory of the last process did not grow after its first quarter.

Needs Python 3.9 and nothing else. Prints a line each minute, and exits with 1 when a check fails.
"""

import argparse
import base64
import collections
import datetime
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import uuid

OWNER = "owner-of-the-soak"
KEYS = ["sk-laptop-of-the-soak", "sk-phone-of-the-soak"]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
# Chats that each account had before; the simulator makes them, and they have to be there at the end.
OLD_CHATS = 3
# Counters are written at least once a second: what ended this long before a kill may be lost.
LOST_AT_KILL_SECONDS = 1.5


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Simulator:
    """The simulated upstream, with the cookies of its accounts."""

    def __init__(self, program, folder):
        faults = [
            {"fail": {"status": {"code": 503}}},
            {"stream": {"cut": {"after": 3, "how": "reset"}}},
            {"fail": {"error": {"code": "RequestInProgress"}}},
            {"stream": {"cut": {"after": 2}}},
        ]
        answer = {"fail": {"status": {"code": 502}}}
        scenario = {
            "port": free_port(),
            "auth_port": free_port(),
            "pace_ms": 5,
            "accounts": [
                {"name": "ada", "era": "A", "old_chats": OLD_CHATS},
                {"name": "bob", "era": "B", "old_chats": OLD_CHATS, "access_token_seconds": 120},
                {
                    "name": "eve",
                    "era": "B",
                    "old_chats": OLD_CHATS,
                    "access_token_seconds": 300,
                    "refresh_rotation": "new",
                },
                {"name": "dan", "era": "A", "old_chats": OLD_CHATS, "defaults": {"completions": answer}},
            ],
            "replies": {"completions": faults},
        }
        path = folder / "scenario.json"
        path.write_text(json.dumps(scenario))
        self.process = subprocess.Popen(
            [program, "simulate", "--scenario", str(path), "--state-dir", str(folder / "simulator")],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addresses, self.cookies, self.key = {}, {}, None
        for line in self.process.stdout:
            line = line.strip()
            if match := re.match(r"(QWEN_\w+)=(.*)", line):
                self.addresses[match[1]] = match[2]
            elif match := re.match(r"(ada|bob|eve|dan): (.*)", line):
                self.cookies[match[1]] = match[2]
            elif match := re.match(r"kay: (.*)", line):
                self.key = match[1]
            elif line.startswith("Ctrl-C"):
                break
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def chats(self, name):
        """How many chats the account has now."""
        headers = {"cookie": self.cookies[name], "version": "0.3.12", "source": "web"}
        token = re.search(r"\btoken=([^;]*)", self.cookies[name])
        headers["authorization"] = "Bearer " + (token[1] if token else self.refreshed(name))
        return len(self.read("QWEN_WEB_BASE_URL", "/api/v2/chats/?page=1", headers))

    def refreshed(self, name):
        """A new access token of an account whose refresh token stays as it is."""
        web = "https://chat.qwen.ai"
        headers = {"cookie": self.cookies[name], "x-request-origin": web, "origin": web, "referer": web + "/"}
        headers.update({"x-request-id": str(uuid.uuid4()), "timezone": "UTC", "version": "0.3.12", "source": "web"})
        return self.read("QWEN_AUTH_BASE_URL", "/api/v2/auths/refresh", headers)["access_token"]

    def read(self, base, path, headers):
        url = urllib.parse.urlsplit(self.addresses[base])
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
        connection.request("GET", path, headers=headers)
        body = json.loads(connection.getresponse().read())
        if not body.get("success"):
            raise SystemExit(f"the simulator refuses {path}: {body}")
        return body["data"]


class Server:
    """The server as a process that is stopped and started again."""

    def __init__(self, program, folder, simulator):
        self.program, self.folder, self.simulator = program, folder, simulator
        self.port = free_port()
        self.process = None
        self.is_up = threading.Event()
        self.memory = []
        self.write_cookies(["ada", "bob", "eve"])

    def write_cookies(self, names):
        path = self.folder / "cookie.txt"
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(self.simulator.cookies[name] + "\n" for name in names))
        fresh.chmod(0o600)
        fresh.replace(path)

    def start(self):
        settings = dict(
            self.simulator.addresses,
            SERVER_PORT=str(self.port),
            API_KEY=",".join(f"{name}={key}" for name, key in zip(["laptop", "phone"], KEYS)),
            ADMIN_SECRET_KEY=OWNER,
            STATE_DIR=str(self.folder / "data"),
            COOKIE_FILE=str(self.folder / "cookie.txt"),
            # Chats that can be continued are deleted soon, so that the end needs no long wait.
            CONTINUE_IDLE="20s",
            LOG_LEVEL="warn",
            PATH=os.environ["PATH"],
        )
        log = open(self.folder / "server.log", "ab")
        self.process = subprocess.Popen(
            [self.program, "serve"], cwd=self.folder, env=settings, stdout=log, stderr=log
        )
        log.close()
        self.memory = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.call("GET", "/health")[0] == 200:
                    self.is_up.set()
                    return
            except OSError:
                time.sleep(0.05)
            if self.process.poll() is not None:
                break
        raise SystemExit(f"the server does not start, see {self.folder}/server.log")

    def end(self, how):
        self.is_up.clear()
        at = time.monotonic()
        self.process.send_signal(how)
        code = self.process.wait(timeout=120)
        if how != signal.SIGKILL and code != 0:
            raise SystemExit(f"the server ended with {code}")
        return at

    def connection(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, headers=None, timeout=60):
        """One request with the owner's key; gives the status and the body."""
        connection = self.connection(timeout)
        try:
            sent = {"authorization": "Bearer " + OWNER, **(headers or {})}
            if body is not None:
                sent["content-type"] = "application/json"
                body = json.dumps(body)
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def resident(self):
        """Resident memory in KiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


class Books:
    """What callers know of their requests."""

    def __init__(self):
        self.lock = threading.Lock()
        # When each request that was answered had ended, and what became of it.
        self.sure, self.unsure = [], []
        self.outcomes = collections.Counter()

    def note(self, kind, outcome, is_sure):
        with self.lock:
            self.outcomes[f"{kind}: {outcome}"] += 1
            (self.sure if is_sure else self.unsure).append(time.monotonic())


def chat(text, **more):
    return {"model": "qwen3-max", "messages": [{"role": "user", "content": text}], **more}


def requests(dice, talk):
    """One request of a caller: name, path, body, and after how many bytes the caller leaves (None: reads all). `talk`
    is the caller's conversation so far."""
    text = dice.choice(["Say something.", "echo: 你好", "echo: " + "long words " * dice.randrange(400)])
    picture = "data:image/png;base64," + base64.b64encode(PIXEL + dice.randbytes(8)).decode()
    tool = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object", "properties": {}}}}
    user = {"role": "user", "content": text}
    seen = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": picture}}]
    return dice.choices(
        [
            ("stream", "/v1/chat/completions", chat(text, stream=True), None),
            ("whole", "/v1/chat/completions", chat(text), None),
            ("turn", "/v1/chat/completions", {"model": "qwen3-max", "messages": [*talk, user]}, None),
            ("left", "/v1/chat/completions", chat(text, stream=True), dice.randrange(1, 400)),
            ("tools", "/v1/chat/completions", chat("call: ls {}", tools=[tool]), None),
            ("vision", "/v1/chat/completions", chat(seen, stream=True), None),
            ("responses", "/v1/responses", {"model": "qwen3-max", "input": text, "stream": True}, None),
            (
                "messages",
                "/v1/messages",
                {"model": "qwen3-max", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]},
                None,
            ),
            ("images", "/v1/images/generations", {"prompt": "a boat", "n": 1}, None),
            ("bad", "/v1/chat/completions", {"model": "qwen3-max", "messages": "nonsense"}, None),
            ("unknown model", "/v1/chat/completions", {**chat(text), "model": "no-such-model"}, None),
        ],
        weights=[30, 10, 20, 12, 8, 8, 10, 8, 3, 3, 3],
    )[0]


def caller(server, books, dice, pause, over):
    talk = []
    while not over.is_set():
        over.wait(dice.expovariate(1 / pause))
        if over.is_set() or not server.is_up.wait(timeout=1):
            continue
        kind, path, body, leaves_after = requests(dice, talk)
        connection = server.connection()
        status = None
        try:
            headers = {"authorization": "Bearer " + dice.choice(KEYS), "content-type": "application/json"}
            connection.request("POST", path, body=json.dumps(body), headers=headers)
            answer = connection.getresponse()
            status = answer.status
            text = answer.read(leaves_after) if leaves_after else answer.read()
            if leaves_after is None and status == 200 and b"error" in text[-400:] and b'"error"' in text:
                books.note(kind, "200 with an error", True)
            else:
                books.note(kind, str(status), True)
                if kind == "turn" and status == 200:
                    talk = [*body["messages"], json.loads(text)["choices"][0]["message"]]
                    talk = [] if len(talk) > 12 else talk
        except (OSError, http.client.HTTPException) as error:
            books.note(kind, f"{status} {type(error).__name__}", status is not None)
        finally:
            connection.close()


def owner(server, dice, over):
    """Uses the page: its files, its data, its live events, a key that comes and goes, a reload."""
    paths = ["/admin", "/admin/assets/admin.js", "/admin/accounts", "/admin/requests", "/admin/usage?by=key"]
    paths += ["/admin/settings", "/admin/keys", "/admin/models", "/admin/gallery", "/admin/audit", "/metrics", "/"]
    while not over.is_set():
        over.wait(dice.expovariate(1 / 0.5))
        if not server.is_up.wait(timeout=1):
            continue
        try:
            status, body = server.call("GET", dice.choice(paths))
            if status >= 500:
                raise SystemExit(f"the page got {status}: {body[:300]}")
            if dice.random() < 0.05:
                name = f"made-{dice.randrange(10**9)}"
                server.call("POST", "/admin/keys", {"name": name})
                server.call("DELETE", f"/admin/keys/{name}")
            if dice.random() < 0.05:
                server.call("POST", "/admin/reload", {})
        except (OSError, http.client.HTTPException):
            # The server is being stopped.
            continue


def listener(server, over):
    """Follows the live events of the page, and begins anew when they end."""
    while not over.is_set():
        if not server.is_up.wait(timeout=1):
            continue
        connection = server.connection(timeout=30)
        try:
            connection.request("GET", "/admin/events", headers={"authorization": "Bearer " + OWNER})
            answer = connection.getresponse()
            while not over.is_set() and answer.read1(65536):
                pass
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()


def counted(server):
    today = datetime.datetime.now(datetime.timezone.utc).date()
    before = today - datetime.timedelta(days=2)
    status, body = server.call("GET", f"/admin/usage?from={before}&to={today}&by=key")
    if status != 200:
        raise SystemExit(f"usage answers {status}: {body[:300]}")
    return json.loads(body)["total"]["requests"]


def waiting(server):
    """Own chats that the server has yet to delete."""
    text = server.call("GET", "/metrics")[1].decode()
    return int(float(re.search(r"^qwen_bridge_own_chats\S* (\S+)", text, re.M)[1]))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--rate", type=float, default=4, help="requests a second, of all callers")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    program = str(pathlib.Path(chosen.program).resolve())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
    simulator = Simulator(program, folder)
    server = Server(program, folder, simulator)
    try:
        server.start()
        failed = soak(server, simulator, chosen)
    finally:
        simulator.process.kill()
        if server.process:
            server.process.kill()
    for line in failed:
        print(f"FAILED: {line}")
    if failed:
        print(f"the log of the server and its state are in {folder}")
        raise SystemExit(1)
    shutil.rmtree(folder)
    print("the books are balanced")


def soak(server, simulator, chosen):
    books, over, dice = Books(), threading.Event(), random.Random(chosen.seed)
    callers = max(4, round(chosen.rate * 2))
    threads = [
        threading.Thread(
            target=caller, args=(server, books, random.Random(chosen.seed + 1 + n), callers / chosen.rate, over)
        )
        for n in range(callers)
    ]
    threads.append(threading.Thread(target=owner, args=(server, random.Random(chosen.seed + 1000), over)))
    threads.append(threading.Thread(target=listener, args=(server, over)))
    for thread in threads:
        thread.start()
    began, kills, restarts = time.monotonic(), [], 0
    ends = began + chosen.minutes * 60
    # Restarts stop after two thirds, so that the last process runs long enough to see whether its memory grows.
    restless_until = began + chosen.minutes * 60 * 2 / 3
    minute = 0
    while time.monotonic() < ends:
        over.wait(min(15, max(1, chosen.minutes)))
        if time.monotonic() < restless_until:
            event = dice.choice(["reload", "reload", "stop", "stop", "kill", "none", "none", "none"])
        else:
            event = dice.choice(["reload", "none", "none", "none"])
        if event == "reload":
            server.write_cookies(["ada", "bob", "eve"] + dice.choice([[], ["dan"]]))
        elif event == "stop":
            server.end(signal.SIGTERM)
            server.start()
            restarts += 1
        elif event == "kill":
            kills.append(server.end(signal.SIGKILL))
            server.start()
        server.memory.append(server.resident())
        if time.monotonic() - began > minute * 60:
            sent = len(books.sure) + len(books.unsure)
            print(
                f"{minute:3} min: {sent} requests, {restarts} restarts, {len(kills)} kills, "
                f"{server.memory[-1] / 1024:.1f} MiB",
                flush=True,
            )
            minute += 1
    over.set()
    for thread in threads:
        thread.join()
    return checks(server, simulator, books, kills)


def checks(server, simulator, books, kills):
    failed = []
    for outcome, count in sorted(books.outcomes.items()):
        print(f"  {count:6} {outcome}")
    # Memory first: what follows is not load.
    memory = server.memory
    if len(memory) >= 16:
        quarter = len(memory) // 4
        early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
        print(f"memory of the last process: {early / 1024:.1f} MiB in its second quarter, {late / 1024:.1f} at the end")
        if late > early * 1.1 + 2048:
            failed.append(f"memory grew from {early} to {late} KiB")
    # Answers that were left are ended by the server a moment later.
    deadline = time.monotonic() + 90
    near_kill = sum(any(0 <= kill - at < LOST_AT_KILL_SECONDS for kill in kills) for at in books.sure)
    fewest, most = len(books.sure) - near_kill, len(books.sure) + len(books.unsure)
    while counted(server) < fewest and time.monotonic() < deadline:
        time.sleep(0.5)
    count = counted(server)
    print(f"usage has {count} requests, callers know of {fewest} to {most}")
    if not fewest <= count <= most:
        failed.append(f"usage counted {count} requests, not {fewest} to {most}")
    # Stopping closes chats that could have been continued, starting again deletes what is left.
    server.end(signal.SIGTERM)
    server.start()
    server.write_cookies(["ada", "bob", "eve", "dan"])
    left = None
    while time.monotonic() < deadline:
        # The refresh tokens of `eve` change, and only the server has the newest.
        left = {name: simulator.chats(name) - OLD_CHATS for name in simulator.cookies if name != "eve"}
        left["waiting"] = waiting(server)
        if not any(left.values()):
            break
        time.sleep(1)
    print(f"chats of ours that are left: {left}")
    if any(left.values()):
        failed.append(f"chats are left: {left}")
    accounts = json.loads(server.call("GET", "/admin/accounts")[1])["accounts"]
    states = {account["id"]: f"{account['status']} {account['reason'] or ''}" for account in accounts}
    print(f"accounts: {states}")
    lost = [label for label, state in states.items() if "login" in state]
    if lost:
        failed.append(f"sessions were lost: {lost}")
    return failed


if __name__ == "__main__":
    main()
