"""PutBucketCors and related operations with real clients, and Signature V4 against botocore's signer."""

import base64
import datetime
import hashlib
import http.client
import random
import time
import urllib.parse

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions
import pytest
import seaweedfs
from proxy import S3cors, policy, route, rule

CASES = 10_000
REGION = "us-east-1"
# Slashes and plus signs, because IDs and secrets may have them.
KEYS = {"AKIAPLAIN": "secret", "AK/I+A": "s/e+c=r/e+t", "minioadmin": "minio admin ü"}
APP = "https://app.example"


def table_of_keys():
    lines = []
    for key_id, secret in KEYS.items():
        lines += ["[[key]]", f'id = "{key_id}"', f'secret = "{secret}"', 'buckets = ["*"]']
    return "\n".join([*lines, "[[key]]", 'id = "one"', 'secret = "1"', 'buckets = ["logs-*"]', ""])


@pytest.fixture
def running(folder):
    (folder / "buckets").mkdir()
    (folder / "keys.toml").write_text(table_of_keys())
    # The upstream is never used.
    api = {"authorize": "keys", "keys": "keys.toml"}
    buckets = {"directory": "buckets", "address": "both"}
    hosts = ["127.0.0.1", "localhost", "*.localhost"]
    with S3cors(folder, route("s3", hosts, "http://127.0.0.1:1", buckets=buckets, cors_api=api)) as proxy:
        yield proxy


def client(running, key_id="AKIAPLAIN", secret=None, **settings):
    return boto3.client(
        "s3",
        endpoint_url=running.url,
        region_name=settings.pop("region", REGION),
        aws_access_key_id=key_id,
        aws_secret_access_key=secret or KEYS.get(key_id, "1"),
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **settings),
    )


RULES = {"CORSRules": [{"AllowedOrigins": [APP], "AllowedMethods": ["GET", "PUT"], "MaxAgeSeconds": 60}]}


def code_of(call, *arguments, **keys):
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        call(*arguments, **keys)
    return raised.value.response["Error"]["Code"], raised.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_boto3_puts_reads_and_removes(running, folder):
    for key_id in KEYS:
        # HTTP fields have no letters beyond ASCII, and no field contains this secret.
        s3 = client(running, key_id)
        for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
            try:
                s3.put_bucket_cors(Bucket="photos", CORSConfiguration=RULES, ChecksumAlgorithm=algorithm)
            except botocore.exceptions.MissingDependencyException:
                continue
        assert s3.get_bucket_cors(Bucket="photos")["CORSRules"] == RULES["CORSRules"]
        assert APP in (folder / "buckets/photos.xml").read_text()
        s3.delete_bucket_cors(Bucket="photos")
        s3.delete_bucket_cors(Bucket="photos")
        assert code_of(s3.get_bucket_cors, Bucket="photos") == ("NoSuchCORSConfiguration", 404)
        assert not (folder / "buckets/photos.xml").exists()


def test_what_a_client_puts_is_in_force_within_a_second(running):
    client(running).put_bucket_cors(Bucket="photos", CORSConfiguration=RULES)
    fields = {"Origin": APP, "Access-Control-Request-Method": "PUT"}
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=5)
    while running.request("OPTIONS", "/photos/k", fields)[0] != 200:
        assert datetime.datetime.now() < deadline
    assert running.metric("s3cors_cors_api_requests_total", operation="PutBucketCors", code="OK") == 1


def test_an_unauthorized_client_is_refused_like_in_s3(running, folder):
    put = {"Bucket": "photos", "CORSConfiguration": RULES}
    cases = [
        (client(running, "AKIAPLAIN", "other"), put, ("SignatureDoesNotMatch", 403)),
        (client(running, "nobody"), put, ("InvalidAccessKeyId", 403)),
        (client(running, "one"), put, ("AccessDenied", 403)),
        (client(running), {**put, "ExpectedBucketOwner": "123456789012"}, ("AccessDenied", 403)),
        (
            client(running),
            {**put, "CORSConfiguration": {"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]}]}},
            ("InvalidRequest", 400),
        ),
    ]
    for s3, arguments, expected in cases:
        assert code_of(s3.put_bucket_cors, **arguments) == expected
    assert not list((folder / "buckets").glob("*.xml"))
    client(running, "one").put_bucket_cors(**{**put, "Bucket": "logs-a"})


def test_a_client_learns_the_region_from_the_refusal(running):
    # botocore reads the element Region of AuthorizationHeaderMalformed, and signs again.
    client(running, region="eu-west-1").put_bucket_cors(Bucket="photos", CORSConfiguration=RULES)
    refused = running.metric("s3cors_cors_api_requests_total", code="AuthorizationHeaderMalformed")
    assert refused >= 1


def test_a_presigned_request_is_accepted(running):
    # Without it, botocore presigns with Signature V2.
    s3 = client(running, signature_version="s3v4")
    s3.put_bucket_cors(Bucket="photos", CORSConfiguration=RULES)
    url = s3.generate_presigned_url("get_bucket_cors", Params={"Bucket": "photos"}, ExpiresIn=60)
    target = url.removeprefix(running.url)
    status, _, body = running.request("GET", target)
    assert status == 200 and APP.encode() in body
    assert running.request("GET", target.replace("photos", "other"))[0] == 403
    # The signature does not cover this document. botocore's client does not presign it, but its
    # signer does.
    request = botocore.awsrequest.AWSRequest("PUT", f"{running.url}/photos?cors=")
    credentials = botocore.credentials.Credentials("AKIAPLAIN", KEYS["AKIAPLAIN"])
    botocore.auth.S3SigV4QueryAuth(credentials, "s3", REGION, expires=60).add_auth(request)
    target = request.prepare().url.removeprefix(running.url)
    status, _, body = running.request("PUT", target, body=policy(rule(["*"])))
    assert status == 400 and b"Content-MD5 OR x-amz-checksum-*" in body
    fields = {"Content-MD5": base64.b64encode(hashlib.md5(policy(rule(["*"])).encode()).digest()).decode()}
    status, _, body = running.request("PUT", target, fields, body=policy(rule(["*"])))
    assert status == 403 and b"<HeadersNotSigned>content-md5</HeadersNotSigned>" in body


ORIGIN_RULES = [
    {"AllowedMethods": ["GET"], "AllowedOrigins": ["*suffix"]},
    {"AllowedMethods": ["GET"], "AllowedOrigins": ["start*end"]},
    {"AllowedMethods": ["GET"], "AllowedOrigins": ["prefix*"]},
    {"AllowedMethods": ["PUT"], "AllowedOrigins": ["*.put"]},
]

# Method, fields, and what the response allows: origin, methods.
ORIGIN_ROWS = [
    ("GET", {}, None, None),
    ("GET", {"Origin": "foo.suffix"}, "foo.suffix", "GET"),
    ("GET", {"Origin": "foo.bar"}, None, None),
    ("GET", {"Origin": "foo.suffix.get"}, None, None),
    ("GET", {"Origin": "startend"}, "startend", "GET"),
    ("GET", {"Origin": "start1end"}, "start1end", "GET"),
    ("GET", {"Origin": "0start12end"}, None, None),
    ("GET", {"Origin": "prefix.suffix"}, "prefix.suffix", "GET"),
    ("GET", {"Origin": "bla.prefix"}, None, None),
    ("PUT", {"Origin": "foo.suffix"}, None, None),
    ("PUT", {"Origin": "foo.put"}, "foo.put", "PUT"),
    ("OPTIONS", {"Origin": "foo.suffix", "Access-Control-Request-Method": "GET"}, "foo.suffix", "GET"),
    ("OPTIONS", {"Origin": "foo.bar", "Access-Control-Request-Method": "GET"}, None, None),
    ("OPTIONS", {"Origin": "foo.put", "Access-Control-Request-Method": "PUT"}, "foo.put", "PUT"),
]


def test_the_proxy_and_a_store_look_like_one_s3(folder, seaweed_port):
    """Buckets and objects are in the store, CORS is in the proxy: `test_set_cors` and `test_cors_origin_response`
    of ceph/s3-tests, which these rows come from."""
    (folder / "buckets").mkdir()
    keys = f'[[key]]\nid = "{seaweedfs.ACCESS_KEY}"\nsecret = "{seaweedfs.SECRET_KEY}"\nbuckets = ["*"]\n'
    (folder / "keys.toml").write_text(keys)
    served = route(
        "s3",
        ["127.0.0.1"],
        f"http://127.0.0.1:{seaweed_port}",
        buckets={"directory": "buckets", "address": "path"},
        cors_api={"authorize": "keys", "keys": "keys.toml"},
    )
    with S3cors(folder, served) as running:
        s3 = client(running, seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY)
        s3.create_bucket(Bucket="suite")
        assert code_of(s3.get_bucket_cors, Bucket="suite") == ("NoSuchCORSConfiguration", 404)
        s3.put_bucket_cors(Bucket="suite", CORSConfiguration={"CORSRules": ORIGIN_RULES})
        assert s3.get_bucket_cors(Bucket="suite")["CORSRules"] == ORIGIN_RULES
        deadline = time.monotonic() + 10
        probe = {"Origin": "foo.put", "Access-Control-Request-Method": "PUT"}
        while running.request("OPTIONS", "/suite", probe)[0] != 200:
            assert time.monotonic() < deadline
        for method, fields, origin, methods in ORIGIN_ROWS:
            _, headers, _ = running.request(method, "/suite/key" if method == "PUT" else "/suite", fields)
            assert headers["Access-Control-Allow-Origin"] == origin, (method, fields)
            assert headers["Access-Control-Allow-Methods"] == methods, (method, fields)
        s3.put_object(Bucket="suite", Key="key", Body=b"body")
        assert s3.get_object(Bucket="suite", Key="key")["Body"].read() == b"body"
        s3.delete_bucket_cors(Bucket="suite")
        assert code_of(s3.get_bucket_cors, Bucket="suite") == ("NoSuchCORSConfiguration", 404)


class Signed:
    """A request signed by botocore, and which of its parts matter."""

    def __init__(self, random, host):
        self.method = random.choice(["GET", "GET", "PUT", "DELETE"])
        bucket = "".join(random.choices("abcxyz019-.", k=random.randint(1, 20)))
        self.path = f"/b{bucket}z" + random.choice(["", "/"])
        query = [("cors", "")]
        names = ["a", "x-id", "ä", "b c", "d+e", "f%g", "h/i", "j=k", "~", "_.-"]
        for name in random.sample(names, random.randint(0, 3)):
            query.append((name, random.choice(["", "1", "a b", "ü", "+", "%20", "a=b", "/", "*"])))
        random.shuffle(query)
        self.body = b""
        headers = {}
        if self.method == "PUT":
            self.body = policy(rule([f"https://{random.randint(0, 999)}.example"])).encode()
            digest = base64.b64encode(hashlib.md5(self.body).digest()).decode()
            headers["Content-MD5"] = digest
        for name in random.sample(["x-amz-meta-a", "x-amz-acl", "x-custom", "range", "content-language"], 2):
            headers[name] = random.choice(["1", "a  b", " a ", "é", "a,b", "a=b;c", '"a  b"'])
        encoded = "&".join(
            urllib.parse.quote(name, safe="-_.~") + "=" + urllib.parse.quote(value, safe="-_.~")
            for name, value in query
        )
        key_id = random.choice(list(KEYS))
        credentials = botocore.credentials.Credentials(key_id, KEYS[key_id])
        self.presigned = random.random() < 0.4
        if self.presigned and self.method == "PUT":
            # A presigned document needs a signed digest, and botocore signs only what it is given.
            headers = {"Content-MD5": headers["Content-MD5"]}
        request = botocore.awsrequest.AWSRequest(
            # The signer of URLs would parse the body as parameters.
            self.method, f"http://{host}{self.path}?{encoded}", headers=headers, data=b"" if self.presigned else self.body
        )
        request.context["payload_signing_enabled"] = not self.presigned
        if self.presigned:
            botocore.auth.S3SigV4QueryAuth(credentials, "s3", REGION, expires=random.choice([60, 3600])).add_auth(request)
        else:
            botocore.auth.S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
        prepared = request.prepare()
        self.target = prepared.url.split(host, 1)[1]
        self.headers = [(str(name), self.text(value)) for name, value in prepared.headers.items()]
        self.headers = [(name, value) for name, value in self.headers if name.lower() != "content-length"]

    @staticmethod
    def text(value):
        return value.decode() if isinstance(value, bytes) else str(value)

    def mutated(self, random):
        """The same request with one signed part changed."""
        headers, target, method, body = list(self.headers), self.target, self.method, self.body
        names = [name.lower() for name, _ in headers]
        signed = self.signed_names()
        choices = ["path", "query", "method", "amz"]
        fields = [index for index, name in enumerate(names) if name in signed]
        if fields:
            choices += ["field", "remove"]
        if "authorization" in names:
            choices += ["signature"]
        if body and not self.presigned:
            choices += ["body"]
        what = random.choice(choices)
        path, _, query = target.partition("?")
        if what == "path":
            target = f"{path.rstrip('/')}x?{query}"
        elif what == "query":
            kind = random.randint(0, 2)
            if kind == 0:
                target += "&extra=1"
            elif kind == 1:
                target = f"{path}?zz&{query}"
            else:
                target = target.replace("cors=", "cors=1", 1)
        elif what == "method":
            method = random.choice([each for each in ["GET", "PUT", "DELETE"] if each != method])
        elif what == "amz":
            headers.append(("x-amz-unsigned", "1"))
        elif what == "field":
            index = random.choice(fields)
            headers[index] = (headers[index][0], headers[index][1] + "x")
        elif what == "remove":
            del headers[random.choice(fields)]
        elif what == "signature":
            index = names.index("authorization")
            value = headers[index][1]
            at = len(value) - 1 - random.randint(0, 63)
            flipped = random.choice([each for each in "0123456789abcdef" if each != value[at]])
            headers[index] = (headers[index][0], value[:at] + flipped + value[at + 1 :])
        elif what == "body":
            at = random.randrange(len(body))
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        return what, method, target, headers, body

    def signed_names(self):
        for name, value in self.headers:
            if name.lower() == "authorization":
                return value.split("SignedHeaders=")[1].split(",")[0].split(";")
        names = urllib.parse.parse_qs(self.target.partition("?")[2])["X-Amz-SignedHeaders"][0]
        return names.split(";")


class Sender:
    """Sends requests unchanged, on one connection as long as possible."""

    def __init__(self, port):
        self.port = port
        self.connection = None

    def send(self, method, target, headers, body):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection = self.connection
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value.encode())
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        text = response.read()
        if response.will_close:
            connection.close()
            self.connection = None
        return response.status, text


def test_every_signature_of_botocore_is_accepted_and_every_changed_one_refused(running, figure):
    generator = random.Random(20261130)
    host = f"127.0.0.1:{running.port}"
    sender = Sender(running.port)
    accepted = refused = 0
    for _ in range(CASES):
        signed = Signed(generator, host)
        status, text = sender.send(signed.method, signed.target, signed.headers, signed.body)
        expected = {"GET": (200, 404), "PUT": (200,), "DELETE": (204,)}[signed.method]
        assert status in expected, (signed.method, signed.target, signed.headers, text)
        accepted += 1
        what, *changed = signed.mutated(generator)
        status, text = sender.send(*changed)
        assert status in (400, 403), (what, changed, signed.headers, status, text)
        refused += 1
    figure(f"{accepted} generated requests accepted, {refused} changed ones refused")
