"""Policies that carry the version of their file, and ways to replace files."""

import os
import shutil
import time

import proxy

ORIGIN = "https://app.example"
FIRST = 1000


def text(number):
    """A policy with its number in two fields, so that a mixture would be noticed."""
    return proxy.policy(
        proxy.rule([ORIGIN], ["GET", "PUT"], expose=[f"x-generation-{number}"], max_age=number)
    )


class Reader:
    """Finds out, on one kept-alive connection, which version the proxy uses."""

    def __init__(self, running, host="p.example"):
        self.connection = running.connect()
        self.connection.connect()
        self.socket = self.connection.sock
        self.fields = {"Host": host, "Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}

    def answer(self):
        self.connection.request("OPTIONS", "/key", headers=self.fields)
        response = self.connection.getresponse()
        response.read()
        assert self.connection.sock is self.socket, "the proxy closed the connection"
        return response

    def number(self):
        """The version in force; `None` if the preflight is refused."""
        response = self.answer()
        if response.status != 200:
            return None
        age = int(response.headers["Access-Control-Max-Age"])
        assert response.headers["Access-Control-Expose-Headers"] == f"x-generation-{age}"
        return age

    def seconds_until(self, expected, patience=5.0):
        """The time until the proxy uses `expected`."""
        start = time.monotonic()
        while (found := self.number()) != expected:
            passed = time.monotonic() - start
            assert passed < patience, f"after {passed:.1f} s still {found}, not {expected}"
        return time.monotonic() - start

    def close(self):
        self.connection.close()


def rewrite_in_place(path, content):
    with open(path, "r+", encoding="utf-8") as file:
        file.write(content)
        file.truncate()


def rename_over(path, content):
    fresh = path.with_name(f".{path.name}.swp")
    fresh.write_text(content)
    os.replace(fresh, path)


def delete_and_create(path, content):
    path.unlink()
    path.write_text(content)


class ConfigMap:
    """A folder like the kubelet's: files are links through `..data`, which is swapped."""

    def __init__(self, folder, **files):
        self.folder = folder
        self.count = 0
        self.current = None
        folder.mkdir(exist_ok=True)
        self.swap(**files)
        for name in self._names(files):
            (folder / name).symlink_to(f"..data/{name}")

    @staticmethod
    def _names(files):
        return [f"{name}.xml" for name in files]

    def swap(self, **files):
        self.count += 1
        fresh = self.folder / f"..2026_11_24_10_00_00.{self.count}"
        fresh.mkdir()
        for name, content in zip(self._names(files), files.values()):
            (fresh / name).write_text(content)
        link = self.folder / "..data_tmp"
        link.symlink_to(fresh.name)
        os.replace(link, self.folder / "..data")
        if self.current:
            shutil.rmtree(self.current)
        self.current = fresh
