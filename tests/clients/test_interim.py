"""103 Early Hints reach curl before the response, over HTTP/1.1 and HTTP/2 (RFC 8297)."""

import io

import certificates
import pycurl
import pytest
from proxy import S3cors, route
from upstreams import Upstream


class Hinting(Upstream):
    def answer(self, connection, method, target, fields):
        connection.rfile.read(int(fields.get("content-length", 0)))
        connection.head("103 Early Hints", Link="</style.css>; rel=preload")
        connection.head("200 OK", Content_Length=2)
        connection.wfile.write(b"ok")


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "name, version, tls",
    [
        ("HTTP/1.1", pycurl.CURL_HTTP_VERSION_1_1, False),
        ("HTTP/1.1", pycurl.CURL_HTTP_VERSION_1_1, True),
        ("HTTP/2", pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE, False),
        ("HTTP/2", pycurl.CURL_HTTP_VERSION_2TLS, True),
    ],
)
def test_hints_come_before_the_response(folder, name, version, tls, method):
    certificates.write(folder)
    listener = {"tls": [{"certificate": "site.pem", "key": "site.pem"}]} if tls else {}
    with Hinting() as upstream:
        hinting = route("photos", ["photos.example"], f"http://127.0.0.1:{upstream.port}")
        with S3cors(folder, hinting, listener=listener) as proxy:
            lines, body = [], io.BytesIO()
            curl = pycurl.Curl()
            scheme = "https" if tls else "http"
            curl.setopt(curl.URL, f"{scheme}://photos.example:{proxy.port}/k")
            curl.setopt(curl.RESOLVE, [f"photos.example:{proxy.port}:127.0.0.1"])
            curl.setopt(curl.HTTP_VERSION, version)
            curl.setopt(curl.SSL_VERIFYPEER, 0)
            curl.setopt(curl.SSL_VERIFYHOST, 0)
            curl.setopt(curl.HEADERFUNCTION, lambda line: lines.append(line.decode().strip()))
            curl.setopt(curl.WRITEDATA, body)
            if method == "PUT":
                curl.setopt(curl.UPLOAD, 1)
                curl.setopt(curl.READDATA, io.BytesIO(b"body"))
                curl.setopt(curl.INFILESIZE, 4)
                curl.setopt(curl.HTTPHEADER, ["Expect:"])
            curl.perform()
            curl.close()
    heads = "\n".join(lines).split("\n\n")
    hints, response = heads[0].lower().splitlines(), heads[1].lower().splitlines()
    assert hints[0].startswith(f"{name.lower()} 103"), lines
    assert hints[1:] == ["link: </style.css>; rel=preload"]
    assert response[0].startswith(f"{name.lower()} 200"), lines
    assert not any(line.startswith("link:") for line in response)
    assert body.getvalue() == b"ok"
