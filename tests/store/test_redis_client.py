"""The Redis client against real servers that are killed, paused, full, read-only or not Redis at all."""

from __future__ import annotations

import datetime
import ipaddress
import os
import random
import signal
import ssl
import subprocess

import pytest
import redis as sync_redis
import trio

from orchy.errors import OutcomeUnknown, StartupError, StoreError, StoreRefused, StoreUnavailable
from orchy.store.redis import RedisSettings, TcpAddress, open_redis
from orchy.store.redis.checks import check_info, check_servers
from orchy.store.redis.client import Script
from orchy.store.redis.embedded import find_binary, open_embedded_redis

pytestmark = pytest.mark.real

ADD = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


def settings_for(port, **more):
    return RedisSettings((TcpAddress("127.0.0.1", port),), **more)


class Killable:
    """A Valkey that can be restarted on the same port with its data."""

    def __init__(self, port, folder):
        self.port, self.folder, self.process = port, folder, None

    def start(self, *flags):
        command = [str(find_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def call(self, *command):
        with sync_redis.Redis(port=self.port) as client:
            return client.execute_command(*command)


@pytest.fixture
def killable(tmp_path, request):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Killable(port, tmp_path)
    yield server
    if server.process and server.process.poll() is None:
        server.kill()


async def test_replies_reach_their_callers_when_others_are_cancelled(valkey_port):
    chance = random.Random(7)
    wrong = []

    async with open_redis(settings_for(valkey_port)) as redis:

        async def echo(number):
            with trio.move_on_after(chance.choice([0, 0.0005, 0.002, 10])):
                reply = await redis.execute("ECHO", str(number), safe=True)
                if reply != str(number).encode():
                    wrong.append((number, reply))

        async with trio.open_nursery() as nursery:
            for number in range(2_000):
                nursery.start_soon(echo, number)
        assert wrong == []
        assert await redis.execute("ECHO", "last", safe=True) == b"last"


async def test_large_and_small_replies_reach_their_callers(valkey_port):
    """A lone command is written at once, others go through the writer: they must not overtake each other."""
    chance = random.Random(11)
    done = 0

    async with open_redis(settings_for(valkey_port)) as redis:

        async def echo(number):
            nonlocal done
            text = str(number).encode() * chance.choice([1, 1, 100, 500_000])
            assert await redis.execute("ECHO", text, safe=True) == text
            done += 1

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(echo, number)
                if chance.random() < 0.5:
                    await trio.sleep(chance.choice([0.0001, 0.001, 0.01]))
    assert done == 300


async def test_a_server_that_is_killed_under_load_loses_no_count(killable):
    killable.start()
    done, unknown = 0, 0
    async with open_redis(settings_for(killable.port, command_timeout_seconds=10)) as redis:

        async def add():
            nonlocal done, unknown
            for _ in range(200):
                try:
                    await redis.script(ADD, [b"count"], [1], safe=False)
                    done += 1
                except OutcomeUnknown:
                    unknown += 1
                except StoreUnavailable:
                    pass

        async def kill():
            for _ in range(3):
                await trio.sleep(0.15)
                await trio.to_thread.run_sync(killable.kill)
                killable.start()
                await trio.sleep(0.3)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            for _ in range(20):
                nursery.start_soon(add)
        count = int(await redis.execute("GET", "count", safe=True))
        assert done <= count <= done + unknown
        assert redis.reconnects_total >= 1


async def test_a_safe_command_is_repeated_when_the_server_is_back(killable):
    killable.start()
    async with open_redis(settings_for(killable.port, command_timeout_seconds=15)) as redis:
        await redis.execute("SET", "key", "value", safe=False)
        killable.kill()
        async with trio.open_nursery() as nursery:

            async def get():
                assert await redis.execute("GET", "key", safe=True) == b"value"

            nursery.start_soon(get)
            await trio.sleep(0.5)
            killable.start()


async def test_a_stopped_server_is_reported_in_time(killable):
    killable.start()
    async with open_redis(settings_for(killable.port, command_timeout_seconds=0.5)) as redis:
        killable.kill()
        with trio.fail_after(20):
            for _ in range(2):
                with pytest.raises(StoreError):
                    await redis.execute("SET", "a", 1, safe=False)


async def test_a_server_that_does_not_answer(killable):
    killable.start()
    async with open_redis(settings_for(killable.port, command_timeout_seconds=0.5)) as redis:
        killable.call("CLIENT", "PAUSE", 60_000, "ALL")
        with trio.fail_after(20), pytest.raises(OutcomeUnknown):
            await redis.execute("INCR", "a", safe=False)


async def test_a_script_that_the_server_has_forgotten(valkey_port):
    async with open_redis(settings_for(valkey_port)) as redis:
        await redis.execute("DEL", "forgotten", safe=False)
        for expected in (1, 2):
            await redis.execute("SCRIPT", "FLUSH", safe=True)
            assert await redis.script(ADD, [b"forgotten"], [1], safe=False) == expected


async def test_credentials_and_rights(killable):
    killable.start()
    async with open_redis(settings_for(killable.port)) as redis:
        user = ("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+get", "+ping", "+info", "+client|setname")
        await redis.execute(*user, safe=False)
    async with open_redis(settings_for(killable.port, username="worker", password="secret")) as redis:
        assert await redis.execute("GET", "nothing", safe=True) is None
        with pytest.raises(StoreRefused, match="right"):
            await redis.execute("SET", "a", 1, safe=False)
    wrong = settings_for(killable.port, username="worker", password="wrong", command_timeout_seconds=0.5)
    with pytest.raises(StoreUnavailable, match="WRONGPASS"):
        async with open_redis(wrong):
            pass


async def test_a_server_that_is_full_or_a_replica_refuses(killable):
    killable.start()
    async with open_redis(settings_for(killable.port)) as redis:
        await redis.execute("CONFIG", "SET", "maxmemory", "1", safe=False)
        with pytest.raises(StoreRefused, match="memory"):
            await redis.execute("SET", "a", "b", safe=False)
        await redis.execute("CONFIG", "SET", "maxmemory", "0", safe=False)
        await redis.execute("SET", "a", "b", safe=False)
        await redis.execute("REPLICAOF", "127.0.0.1", "1", safe=False)
        with pytest.raises(StoreRefused, match="replica"):
            await redis.execute("SET", "a", "b", safe=False)
        with pytest.raises(StartupError, match="master"):
            await check_servers(redis)


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\xff" * 100, b"+OK\r\n" * 100, b""])
async def test_a_peer_that_is_not_a_redis(nonsense, nursery):
    async def handle(stream):
        await stream.receive_some()
        await stream.send_all(nonsense)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handle, listeners)
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(20), pytest.raises(StoreUnavailable):
        async with open_redis(settings_for(port, command_timeout_seconds=0.5)):
            pass


async def test_slots_that_move_are_followed(cluster_ports):
    addresses = tuple(TcpAddress("127.0.0.1", port) for port in cluster_ports)
    async with open_redis(RedisSettings(addresses)) as redis:
        slot = 5  # of the first master
        key = next(f"key-{n}" for n in range(100_000) if sync_redis.crc.key_slot(f"key-{n}".encode()) == slot).encode()
        clients = [sync_redis.Redis(port=port) for port in cluster_ports]
        ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]
        owner = 0
        await redis.execute("SET", key, "1", key=key, safe=False)
        clients[1].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[owner])
        clients[0].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        try:
            clients[0].execute_command("MIGRATE", "127.0.0.1", cluster_ports[1], key, 0, 5_000)
            # Not where the client expects it: ASK.
            assert await redis.script(ADD, [key], [1], safe=False) == 2
        finally:
            for client in clients[:2]:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
        # And now MOVED.
        assert await redis.script(ADD, [key], [1], safe=False) == 3
        clients[1].execute_command("DEL", key)
        for client in clients:
            client.close()


def make_certificate(folder):
    """A certificate for 127.0.0.1 that is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "redis.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return pem


async def test_tls(valkey_port, tmp_path, nursery):
    pem = make_certificate(tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(pem)

    async def pump(source, sink):
        while data := await source.receive_some(65_536):
            await sink.send_all(data)

    async def handle(stream):
        async with await trio.open_tcp_stream("127.0.0.1", valkey_port) as inner:
            try:
                async with trio.open_nursery() as pumps:
                    pumps.start_soon(pump, inner, stream)
                    await pump(stream, inner)
                    pumps.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    listeners = await trio.open_ssl_over_tcp_listeners(0, server_context, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handle, listeners)
    port = listeners[0].transport_listener.socket.getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(pem))
    async with open_redis(settings_for(port, tls=trusting)) as redis:
        assert await redis.execute("ECHO", "over TLS", safe=True) == b"over TLS"
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        async with open_redis(settings_for(port, tls=ssl.create_default_context(), command_timeout_seconds=0.5)):
            pass


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"redis_version": "6.2.9"}, "too old"),
        ({"redis_version": "7.2.4", "valkey_version": "7.0.1"}, "too old"),
        ({"redis_version": "7.2.4", "role": "slave"}, "replica"),
        ({"redis_version": "7.2.4", "maxmemory_policy": "allkeys-lru"}, "noeviction"),
    ],
)
def test_unsuitable_servers_are_refused(info, words):
    with pytest.raises(StartupError, match=words):
        check_info(info, TcpAddress("host", 1))


async def test_the_report_says_how_durable_the_settings_are(killable):
    killable.start()
    async with open_redis(settings_for(killable.port)) as redis:
        report = await check_servers(redis)
        assert "each write" in report.promises[0]
        for setting, value, words in [
            ("appendfsync", "everysec", "each second"),
            ("appendfsync", "no", "leaves it to the system"),
            ("appendonly", "no", "no append-only file"),
        ]:
            await redis.execute("CONFIG", "SET", setting, value, safe=False)
            assert words in (await check_servers(redis)).promises[0]


async def test_the_embedded_store_is_restarted_with_its_data_when_it_dies(tmp_path):
    folder = tmp_path / "a" / "data"
    async with open_embedded_redis(folder) as address:
        async with open_redis(RedisSettings((address,), command_timeout_seconds=15)) as redis:
            await redis.execute("SET", "key", "value", safe=False)
            info = (await redis.execute("INFO", "server", safe=True)).decode()
            pid = int(next(line for line in info.splitlines() if line.startswith("process_id")).partition(":")[2])
            await trio.sleep(1.2)  # the append-only file is synced each second
            os.kill(pid, signal.SIGKILL)
            with trio.fail_after(30):
                assert await redis.execute("GET", "key", safe=True) == b"value"
        with pytest.raises(StartupError, match="data-dir"):
            async with open_embedded_redis(folder):
                pass
    async with open_embedded_redis(folder) as address, open_redis(RedisSettings((address,))) as redis:
        assert await redis.execute("GET", "key", safe=True) == b"value"


async def test_a_data_directory_that_can_not_be_created(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="data-dir"):
        async with open_embedded_redis(tmp_path / "file" / "data"):
            pass


async def test_a_second_node_on_a_data_directory_is_refused_at_once_and_the_first_notices_nothing(tmp_path):
    async with open_embedded_redis(tmp_path / "data") as address, open_redis(RedisSettings((address,))) as redis:
        began = trio.current_time()
        with pytest.raises(StartupError, match="another node uses the data directory"):
            async with open_embedded_redis(tmp_path / "data"):
                pass
        assert trio.current_time() - began < 8  # it does not wait as it would for the server of a node that is gone
        async with open_redis(RedisSettings((address,))) as late:  # the socket is where it was
            assert await late.execute("PING", safe=True) == b"PONG"
        assert await redis.execute("PING", safe=True) == b"PONG"


async def test_the_data_directory_is_closed_to_other_users(tmp_path):
    async with open_embedded_redis(tmp_path / "a" / "data") as address, open_redis(RedisSettings((address,))) as redis:
        await redis.execute("SET", "key", "value", safe=False)
    for path in (tmp_path / "a" / "data", *(tmp_path / "a" / "data").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_data_directory_of_an_earlier_version_is_closed_to_others(tmp_path):
    data = tmp_path / "data"
    (data / "appendonlydir").mkdir(parents=True)
    for file in (data / "lock", data / "appendonlydir" / "kept"):
        file.write_text("")
        file.chmod(0o644)
    data.chmod(0o755)
    async with open_embedded_redis(data):
        pass
    for path in (data, *data.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_directory_with_other_files_is_not_changed(tmp_path, caplog):
    tmp_path.chmod(0o755)
    (tmp_path / "mine.txt").write_text("")
    mode = (tmp_path / "mine.txt").stat().st_mode
    async with open_embedded_redis(tmp_path):
        pass
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "mine.txt").stat().st_mode == mode
    assert "chmod 700" in caplog.text
