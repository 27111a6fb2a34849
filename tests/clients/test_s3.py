"""boto3 through the proxy to a server that checks signatures: nothing that is signed may change."""

import hashlib
import http.client
import io
import pathlib
import random
import socket
import tempfile
import urllib.parse

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

import proxy
import seaweedfs

MIB = 1024 * 1024
BUCKET = "photos"
APP = "https://app.example"
STRANGER = "https://stranger.example"

POLICY = proxy.policy(
    proxy.rule(
        [APP],
        methods=["GET", "HEAD", "PUT", "POST", "DELETE"],
        headers=["*"],
        expose=["ETag", "x-amz-request-id"],
        max_age=600,
    )
)

# Each has something that a proxy would break if it decoded, encoded or normalized paths.
KEYS = [
    "plain.txt",
    "with space.txt",
    "a+b=c&d.txt",
    "100% sure, 50%25 not %2F.txt",
    "folder/with/slashes.txt",
    "über/日本語/☃.txt",
    "q?uestion#mark;semi:colon@at!*'()~$,.txt",
]


@pytest.fixture(scope="module")
def through(seaweed_port):
    """The proxy in front of SeaweedFS."""
    with tempfile.TemporaryDirectory(prefix="s3cors-") as path:
        folder = pathlib.Path(path)
        (folder / "photos.xml").write_text(POLICY)
        route = proxy.route("s3", ["*"], f"http://127.0.0.1:{seaweed_port}", cors="photos.xml")
        with proxy.S3cors(folder, route) as running:
            client(running.url).create_bucket(Bucket=BUCKET)
            yield running


@pytest.fixture
def s3(through):
    """boto3, which only knows the proxy."""
    return client(through.url)


def client(url, style="path", **keys):
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=seaweedfs.ACCESS_KEY,
        aws_secret_access_key=seaweedfs.SECRET_KEY,
        config=Config(
            s3={"addressing_style": style},
            signature_version="s3v4",
            # A failure is a finding, so it is not retried.
            retries={"total_max_attempts": 1},
            **keys,
        ),
    )


def fetch(url, method="GET", body=None, headers=None, port=None):
    """One plain HTTP exchange, with the target exactly as in `url`."""
    parts = urllib.parse.urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection("127.0.0.1", port or parts.port, timeout=30)
    try:
        connection.request(method, target, body=body, headers={"Host": parts.netloc, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def noise(size, seed):
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_any_characters_is_put_listed_read_copied_and_deleted(s3, key):
    content = key.encode() * 3
    s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content
    assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == len(content)
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
    assert [each["Key"] for each in listed["Contents"]] == [key]
    s3.copy_object(Bucket=BUCKET, Key=f"copies/{key}", CopySource={"Bucket": BUCKET, "Key": key})
    s3.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(ClientError) as missing:
        s3.head_object(Bucket=BUCKET, Key=key)
    assert missing.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


@pytest.mark.parametrize("key", ["a//b.txt", "/first.txt", "a/./b.txt", "a/../b.txt"])
def test_slashes_and_dot_segments_get_the_same_response_as_without_the_proxy(through, seaweed_port, key):
    def outcome(url):
        s3 = client(url)
        try:
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"bytes")
            return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except ClientError as error:
            return error.response["Error"]["Code"]

    straight = outcome(f"http://127.0.0.1:{seaweed_port}")
    assert outcome(through.url) == straight
    assert straight != "SignatureDoesNotMatch"


@pytest.mark.parametrize("key", KEYS)
def test_presigned_put_and_get_of_any_key_carry_the_policys_fields(s3, key):
    content = b"presigned " + key.encode()
    parameters = {"Bucket": BUCKET, "Key": key}
    put = s3.generate_presigned_url("put_object", Params=parameters)
    status, fields, text = fetch(put, "PUT", content, {"Origin": APP})
    assert status == 200, text
    assert fields["Access-Control-Allow-Origin"] == APP
    assert fields["ETag"]
    get = s3.generate_presigned_url("get_object", Params=parameters)
    status, fields, body = fetch(get, headers={"Origin": APP})
    assert (status, body) == (200, content)
    assert fields["Access-Control-Expose-Headers"] == "ETag, x-amz-request-id"
    assert fields["Access-Control-Allow-Credentials"] == "true"


def test_a_presigned_request_that_was_tampered_with_is_refused(s3, through):
    s3.put_object(Bucket=BUCKET, Key="signed.txt", Body=b"signed")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "signed.txt"})
    assert fetch(url)[0] == 200

    other_path = url.replace("signed.txt", "signed.tx%74")
    other_query = url.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601")
    other_key = url.replace("signed.txt", "other.txt")
    other_host = url.replace("127.0.0.1", "localhost")
    assert len({url, other_query, other_key, other_host, other_path}) == 5
    for tampered in [other_query, other_key, other_host]:
        status, _, text = fetch(tampered, port=through.port)
        assert (status, b"SignatureDoesNotMatch" in text) == (403, True), (tampered, text)
    # Another spelling of the same path has the same signature, because S3 decodes first.
    assert fetch(other_path)[0] == 200


def test_twenty_mebibytes_are_uploaded_and_downloaded_in_parts(s3):
    content = noise(20 * MIB, seed=20)
    parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(content), BUCKET, "big.bin", Config=parts)
    tag = s3.head_object(Bucket=BUCKET, Key="big.bin")["ETag"]
    assert tag.endswith('-4"'), f"{tag} is not the tag of four parts"
    back = io.BytesIO()
    s3.download_fileobj(BUCKET, "big.bin", back, Config=parts)
    assert hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(content).digest()


def test_a_multipart_upload_can_be_listed_and_aborted(s3):
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="dropped.bin")["UploadId"]
    part = dict(Bucket=BUCKET, Key="dropped.bin", UploadId=upload)
    s3.upload_part(**part, PartNumber=1, Body=noise(5 * MIB, seed=1))
    assert [each["PartNumber"] for each in s3.list_parts(**part)["Parts"]] == [1]
    s3.abort_multipart_upload(**part)
    with pytest.raises(ClientError):
        s3.list_parts(**part)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=5-9", 5, 9), ("bytes=-7", 993, 999), ("bytes=990-", 990, 999)],
)
def test_a_range_is_answered_with_206_and_the_policys_fields(s3, asked, first, last):
    content = noise(1000, seed=5)
    s3.put_object(Bucket=BUCKET, Key="ranged.bin", Body=content)
    answer = s3.get_object(Bucket=BUCKET, Key="ranged.bin", Range=asked)
    assert answer["Body"].read() == content[first : last + 1]
    assert answer["ContentRange"] == f"bytes {first}-{last}/1000"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "ranged.bin"})
    status, fields, body = fetch(url, headers={"Origin": APP, "Range": asked})
    assert (status, body) == (206, content[first : last + 1])
    assert fields["Access-Control-Allow-Origin"] == APP


def test_not_modified_and_precondition_failed_come_through(s3):
    tag = s3.put_object(Bucket=BUCKET, Key="tagged.txt", Body=b"tagged")["ETag"]
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "tagged.txt"})
    status, fields, body = fetch(url, headers={"Origin": APP, "If-None-Match": tag})
    assert (status, body) == (304, b"")
    assert fields["Access-Control-Allow-Origin"] == APP
    status, fields, _ = fetch(url, headers={"Origin": APP, "If-Match": '"other"'})
    assert status == 412
    assert fields["Access-Control-Allow-Origin"] == APP


def test_streamed_uploads_with_checksums_in_trailers_are_accepted(through):
    for checksums in ["when_supported", "when_required"]:
        s3 = client(through.url, request_checksum_calculation=checksums)
        content = noise(300_000, seed=checksums)
        s3.upload_fileobj(io.BytesIO(content), BUCKET, "streamed.bin")
        assert s3.get_object(Bucket=BUCKET, Key="streamed.bin")["Body"].read() == content
        s3.put_object(Bucket=BUCKET, Key="summed.bin", Body=io.BytesIO(content), ChecksumAlgorithm="SHA256")
        assert s3.get_object(Bucket=BUCKET, Key="summed.bin")["Body"].read() == content


def test_a_form_upload_is_accepted_and_marked(s3, through):
    post = s3.generate_presigned_post(BUCKET, "form.txt")
    boundary = "s3cors-form"
    fields = {**post["fields"], "file": "from a form"}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        + ('; filename="form.txt"' if name == "file" else "")
        + f"\r\n\r\n{value}\r\n"
        for name, value in fields.items()
    ]
    body = ("".join(parts) + f"--{boundary}--\r\n").encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Origin": APP}
    status, answered, text = fetch(post["url"], "POST", body, kind)
    assert status == 204, text
    assert answered["Access-Control-Allow-Origin"] == APP
    assert s3.get_object(Bucket=BUCKET, Key="form.txt")["Body"].read() == b"from a form"


def test_the_bucket_in_the_host_works_as_well(through, monkeypatch):
    resolve = socket.getaddrinfo

    def localhost(host, *rest, **keys):
        # RFC 6761 makes every name under localhost loopback; libc does not implement that.
        name = "127.0.0.1" if str(host).endswith(".localhost") else host
        return resolve(name, *rest, **keys)

    monkeypatch.setattr(socket, "getaddrinfo", localhost)
    s3 = client(f"http://{seaweedfs.DOMAIN}:{through.port}", style="virtual")
    key = "host style/a+b ü.txt"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"by host")
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"by host"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key})
    assert urllib.parse.urlsplit(url).hostname == f"{BUCKET}.{seaweedfs.DOMAIN}"
    assert fetch(url, port=through.port)[2] == b"by host"
    # The same object, addressed by path: both styles name the same bucket.
    assert client(through.url).get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"by host"


def test_the_upstreams_own_cors_fields_never_pass(s3, through, seaweed_port):
    s3.put_object(Bucket=BUCKET, Key="seen.txt", Body=b"seen")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "seen.txt"})
    # Control: SeaweedFS allows any origin, so there is something to remove.
    status, fields, _ = fetch(url, headers={"Origin": STRANGER}, port=seaweed_port)
    assert (status, fields["Access-Control-Allow-Origin"]) == (200, STRANGER)

    missing = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "no such key"})
    for target, expected in [(url, 200), (missing, 404), (f"{through.url}/{BUCKET}/unsigned", 403)]:
        status, fields, _ = fetch(target, headers={"Origin": STRANGER})
        cors = [name for name in fields if name.lower().startswith("access-control-")]
        assert (status, cors) == (expected, [])
        status, fields, _ = fetch(target, headers={"Origin": APP})
        assert (status, fields.get_all("Access-Control-Allow-Origin")) == (expected, [APP])
        names = [name.strip().lower() for line in fields.get_all("Vary") for name in line.split(",")]
        assert len(names) == len(set(names)), names
        assert "origin" in names


def test_a_preflight_is_answered_by_the_policy_and_never_by_the_upstream(s3, through):
    url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "new.txt"})
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
    status, fields, body = fetch(url, "OPTIONS", headers={"Origin": APP, **asked})
    assert (status, body) == (200, b"")
    assert fields["Access-Control-Allow-Methods"] == "GET, HEAD, PUT, POST, DELETE"
    assert fields["Access-Control-Allow-Headers"] == "content-type"
    assert fields["Access-Control-Max-Age"] == "600"
    # SeaweedFS answers 200 to any preflight.
    status, fields, body = fetch(url, "OPTIONS", headers={"Origin": STRANGER, **asked})
    assert (status, b"AccessForbidden" in body) == (403, True)
    assert fields["Access-Control-Allow-Origin"] is None
