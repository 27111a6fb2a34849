"""Policies in a bucket of SeaweedFS, shared by three replicas; and a store that must get no `?cors`."""

import pathlib
import signal
import subprocess
import sys
import threading
import time

import boto3
import botocore.config
import botocore.exceptions
import pytest
import seaweedfs
from programs import Program, free_ports
from proxy import BINARY, S3cors, policy, route, rule

POLL_SECONDS = 1
ORIGIN = "https://{}.example"


def client(port, key_id, secret):
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def replica(folder, name, store_port):
    place = folder / name
    if not place.exists():
        place.mkdir()
        (place / "keys.toml").write_text('[[key]]\nid = "client"\nsecret = "s"\nbuckets = ["*"]\n')
        key = f'id = "{seaweedfs.ACCESS_KEY}"\nsecret = "{seaweedfs.SECRET_KEY}"\n'
        (place / "store-key.toml").write_text(key)
    store = {
        "bucket": "s3cors-policies",
        "key": "store-key.toml",
        "poll_seconds": POLL_SECONDS,
        "cache": "cache",
    }
    served = route(
        "s3",
        ["127.0.0.1"],
        f"http://127.0.0.1:{store_port}",
        buckets={"address": "path"},
        cors_api={"authorize": "keys", "keys": "keys.toml", "store": store},
    )
    return S3cors(place, served)


def rules(name):
    return {"CORSRules": [{"AllowedOrigins": [ORIGIN.format(name)], "AllowedMethods": ["GET"]}]}


def put(running, bucket, name):
    client(running.port, "client", "s").put_bucket_cors(Bucket=bucket, CORSConfiguration=rules(name))


def allows(running, bucket, name):
    fields = {"Origin": ORIGIN.format(name), "Access-Control-Request-Method": "GET"}
    return running.request("OPTIONS", f"/{bucket}/k", fields)[0] == 200


def converge(replicas, bucket, name):
    """Waits until the policy is in force on all replicas; returns how long it took."""
    start = time.monotonic()
    for running in replicas:
        while not allows(running, bucket, name):
            assert time.monotonic() < start + 30, name
    return time.monotonic() - start


class Load:
    """Sends preflights to each replica, as fast as one thread each can."""

    def __init__(self, replicas):
        self.stopping = False
        self.requests = 0
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=[running]) for running in replicas]

    def run(self, running):
        connection = running.connect()
        fields = {"Origin": "https://load.example", "Access-Control-Request-Method": "GET"}
        while not self.stopping:
            connection.request("OPTIONS", "/load/k", headers=fields)
            response = connection.getresponse()
            response.read()
            self.requests += 1
            if response.status != 200:
                self.failures.append(response.status)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join()


@pytest.fixture
def store(folder):
    with seaweedfs.start(folder / "store") as server:
        s3 = client(server.port, seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY)
        s3.create_bucket(Bucket="s3cors-policies")
        yield server, s3


def stored(s3, bucket):
    return s3.get_object(Bucket="s3cors-policies", Key=f"cors/{bucket}.xml")["Body"].read().decode()


def test_three_replicas_converge_under_load(folder, store, figure):
    server, s3 = store
    with replica(folder, "a", server.port) as a, replica(folder, "b", server.port) as b:
        with replica(folder, "c", server.port) as c:
            replicas = [a, b, c]
            put(a, "load", "load")
            converge(replicas, "load", "load")
            took = []
            with Load(replicas) as load:
                for number in range(15):
                    put(replicas[number % 3], "photos", f"app{number}")
                    took.append(converge(replicas, "photos", f"app{number}"))
            assert not load.failures
            figure(f"worst of 15 changes: {max(took):.2f} s on all replicas, {load.requests} preflights meanwhile")
            # Two concurrent writers: all replicas get the last one's complete document.
            for number in range(10):
                names = [f"x{number}", f"y{number}"]
                threads = [
                    threading.Thread(target=put, args=[running, "photos", name])
                    for running, name in zip(replicas, names)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                (winner,) = [name for name in names if ORIGIN.format(name) in stored(s3, "photos")]
                converge(replicas, "photos", winner)


def test_a_replica_killed_during_a_write_leaves_a_complete_policy(folder, store, figure):
    server, s3 = store
    killed = 0
    with replica(folder, "b", server.port) as b:
        put(b, "photos", "first")
        before = "first"
        for number in range(20):
            name = f"app{number}"
            a = replica(folder, "a", server.port)
            try:
                killer = threading.Timer(number * 0.002, a.process.send_signal, [signal.SIGKILL])
                killer.start()
                try:
                    put(a, "photos", name)
                except botocore.exceptions.BotoCoreError:
                    killed += 1
                killer.join()
            finally:
                a.process.kill()
                a.wait()
            document = stored(s3, "photos")
            (after,) = [each for each in {before, name} if ORIGIN.format(each) in document]
            converge([b], "photos", after)
            before = after
    figure(f"{killed} of 20 writes were cut off by SIGKILL; every policy was whole")


def test_without_the_store_its_last_policies_are_served(folder, store):
    server, _ = store
    with replica(folder, "a", server.port) as a:
        put(a, "photos", "app")
        converge([a], "photos", "app")
        server.process.kill()
        server.process.wait()
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            put(a, "photos", "other")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert allows(a, "photos", "app")
        deadline = time.monotonic() + 20
        while a.metric("s3cors_cors_api_store_out_of_date_seconds") < 1:
            assert time.monotonic() < deadline
    with replica(folder, "a", server.port) as a:
        assert allows(a, "photos", "app")


def test_rclone_never_gets_a_request_for_a_configuration(folder):
    """It ignores the query: a DELETE of a bucket's configuration deletes the bucket."""
    (folder / "data/photos").mkdir(parents=True)
    (folder / "buckets").mkdir()
    (port,) = free_ports(1)
    rclone = pathlib.Path(sys.executable).parent / "rclone"
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", str(folder / "data")]
    with Program("rclone", command, cwd=folder) as server:
        server.wait_for(r"Starting s3 server")
        buckets = {"directory": "buckets", "address": "path"}
        upstream = f"http://127.0.0.1:{port}"
        with S3cors(folder, route("s3", ["127.0.0.1"], upstream, buckets=buckets)) as running:
            for target in ["/photos?cors", "/photos//?cors", "//photos?cors", "/%70hotos/?%63ors", "/x/../photos?cors"]:
                assert running.request("DELETE", target)[0] == 405
            assert running.request("GET", "/photos")[0] == 200
        api = {"authorize": "upstream"}
        undeclared = S3cors(folder, route("s3", ["127.0.0.1"], upstream, buckets=buckets, cors_api=api), ready=False)
        assert undeclared.wait() == 2
        checked = subprocess.run([BINARY, "check", "--config", "s3cors.toml"], cwd=folder, capture_output=True, text=True)
        assert checked.returncode == 1 and "upstream_kind" in checked.stdout + checked.stderr
        # Declared, and not MinIO: the API stays off.
        api["upstream_kind"] = "minio"
        with S3cors(folder, route("s3", ["127.0.0.1"], upstream, buckets=buckets, cors_api=api)) as running:
            with pytest.raises(botocore.exceptions.ClientError) as refused:
                client(running.port, "any", "key").delete_bucket_cors(Bucket="photos")
            assert refused.value.response["Error"]["Code"] == "NotImplemented"
    assert (folder / "data/photos").is_dir()
