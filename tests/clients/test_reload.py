"""A change on disk is in force within a second, however it was made, without disturbing clients."""

import re
import shutil
import time

import pytest

import generations
import proxy
import upstreams
from generations import FIRST, ORIGIN, ConfigMap, Reader
from programs import Program

TIMES = 20
LIVE_SECONDS = 1.0

SWAPS = 1000
# If the next version is not in force after this time, another one replaces it.
SWAP_EVERY_SECONDS = 0.05
CONNECTIONS = 64


@pytest.fixture
def upstream():
    with upstreams.Small() as running:
        yield running


@pytest.fixture
def started(folder, upstream):
    """Starts a proxy with one route and these keys; it is stopped when the test ends."""
    running = []

    def start(**keys):
        hosts = ["*.p.example", "*"]
        running.append(proxy.S3cors(folder, proxy.route("photos", hosts, upstream.url, **keys)))
        return running[-1]

    yield start
    for each in running:
        assert each.stop() == 0, each.output


@pytest.fixture
def judge(figure):
    """Compares the duration of changes with the limit."""

    def judge(took):
        assert max(took) < LIVE_SECONDS, took
        figure(f"{len(took)} changes, live after {max(took):.3f} s at most")

    return judge


@pytest.mark.parametrize(
    "replace",
    [generations.rewrite_in_place, generations.rename_over, generations.delete_and_create],
    ids=lambda way: way.__name__,
)
def test_a_policy_file_is_live_within_a_second(folder, started, judge, replace):
    file = folder / "cors.xml"
    file.write_text(generations.text(FIRST))
    reader = Reader(started(cors="cors.xml"))
    assert reader.number() == FIRST
    took = []
    for number in range(FIRST + 1, FIRST + 1 + TIMES):
        replace(file, generations.text(number))
        took.append(reader.seconds_until(number))
    judge(took)
    reader.close()


def test_a_config_map_swap_is_live_within_a_second(folder, started, judge):
    mounted = ConfigMap(folder / "mounted", cors=generations.text(FIRST))
    reader = Reader(started(cors="mounted/cors.xml"))
    took = []
    for number in range(FIRST + 1, FIRST + 1 + TIMES):
        mounted.swap(cors=generations.text(number))
        took.append(reader.seconds_until(number))
    judge(took)
    reader.close()


def test_a_folder_that_is_removed_and_created_again_is_watched(folder, started):
    mounted = folder / "mounted"
    mounted.mkdir()
    (mounted / "cors.xml").write_text(generations.text(FIRST))
    running = started(cors="mounted/cors.xml")
    reader = Reader(running)
    for number in range(FIRST + 1, FIRST + 4):
        shutil.rmtree(mounted)
        mounted.mkdir()
        (mounted / "cors.xml").write_text(generations.text(number))
        # A network file system sends no notifications either: polling finds the change.
        reader.seconds_until(number, patience=30)
    reader.close()


def test_the_config_itself_is_live_within_a_second(folder, started, judge, upstream):
    for number in range(FIRST, FIRST + TIMES + 1):
        (folder / f"{number}.xml").write_text(generations.text(number))
    running = started(cors=f"{FIRST}.xml")
    written = running.config.read_text()
    reader = Reader(running)
    took = []
    for number in range(FIRST + 1, FIRST + 1 + TIMES):
        generations.rename_over(running.config, written.replace(f"{FIRST}.xml", f"{number}.xml"))
        took.append(reader.seconds_until(number))
    judge(took)
    reader.close()


def test_a_new_file_is_a_new_bucket_and_a_deleted_one_a_bucket_without_cors(folder, started, judge):
    buckets = folder / "buckets"
    buckets.mkdir()
    running = started(buckets={"directory": "buckets", "address": "host"})
    reader = Reader(running, host="photos.p.example")
    assert reader.number() is None
    took = []
    for number in range(FIRST + 1, FIRST + 1 + TIMES):
        (buckets / "photos.xml").write_text(generations.text(number))
        took.append(reader.seconds_until(number))
        (buckets / "photos.xml").unlink()
        took.append(reader.seconds_until(None))
    judge(took)
    reader.close()


def test_a_thousand_swaps_under_load_fail_close_and_mix_nothing(folder, started, figure):
    mounted = ConfigMap(folder / "mounted", cors=generations.text(FIRST))
    running = started(cors="mounted/cors.xml")
    reader = Reader(running)
    lua = proxy.ROOT / "tests/clients/swaps.lua"
    # The test stops wrk after all swaps; wrk then reports as if its time were over. On a busy
    # machine, a response may take longer than wrk's default timeout of two seconds.
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d600s", "--timeout=60s", "-s", lua, running.url]
    with Program("wrk", command) as load:
        while running.metric("s3cors_connections") < CONNECTIONS:
            assert load.process.poll() is None, load.output
        replaced_at = {}
        oldest = FIRST
        seen = {FIRST}
        for number in range(FIRST + 1, FIRST + 1 + SWAPS):
            mounted.swap(cors=generations.text(number))
            swapped = replaced_at[number - 1] = time.monotonic()
            # Compared by the time of the request, because the proxy decides later than that.
            while (asked := time.monotonic()) and (found := reader.number()) != number:
                seen.add(found)
                assert oldest <= found, "an older version came back"
                oldest = found
                late = asked - replaced_at[found]
                assert late < LIVE_SECONDS, f"{found} was replaced {late:.2f} s ago\n{running.output}"
                if asked - swapped > SWAP_EVERY_SECONDS:
                    break
        reader.seconds_until(FIRST + SWAPS, patience=LIVE_SECONDS)
        load.signal(2)
        code = load.wait()
    reader.close()
    assert code == 0, load.output
    said = {name: int(value) for name, value in re.findall(r"^(\w+)=(\d+)$", load.output, re.MULTILINE)}
    figure(f"{len(seen)} versions seen by one client; wrk: {said}")
    wrong = {name: value for name, value in said.items() if name.startswith("error_") or name in WRONG}
    assert len(wrong) == len(WRONG) + 5 and not any(wrong.values()), load.output
    assert said["answers"] > SWAPS
    assert said["versions"] > SWAPS / 100
    assert running.metric("s3cors_config_reloads_total", result="rejected") == 0
    assert running.metric("s3cors_config_last_reload_successful") == 1


WRONG = ("failed", "mixed", "closing")


def test_one_broken_file_leaves_its_route_as_it_was_and_lets_the_others_change(folder, upstream):
    routes = [
        proxy.route(name, [f"{name}.example"], upstream.url, cors=f"{name}.xml")
        for name in ["photos", "videos"]
    ]
    for name in ["photos", "videos"]:
        (folder / f"{name}.xml").write_text(generations.text(FIRST))
    broken = generations.text(FIRST + 1).replace("<AllowedMethod>PUT", "<AllowedMethod>PATCH")
    with proxy.S3cors(folder, *routes) as running:
        photos = Reader(running, host="photos.example")
        videos = Reader(running, host="videos.example")
        before = running.metric("s3cors_config_reloads_total", result="partial")
        generations.rename_over(folder / "photos.xml", broken)
        generations.rename_over(folder / "videos.xml", generations.text(FIRST + 2))
        assert videos.seconds_until(FIRST + 2) < LIVE_SECONDS
        assert photos.number() == FIRST
        running.wait_for(r"photos\.xml")
        running.wait_for("unsupported HTTP method")
        assert running.metric("s3cors_config_reloads_total", result="partial") > before
        assert running.metric("s3cors_config_out_of_date") == 1
        assert running.metric("s3cors_config_last_reload_successful") == 0
        assert "PATCH" in str(running.route_status("photos")), running.status()
        assert "PATCH" not in str(running.route_status("videos")), running.status()
        # Others still change.
        generations.rename_over(folder / "videos.xml", generations.text(FIRST + 3))
        assert videos.seconds_until(FIRST + 3) < LIVE_SECONDS
        assert photos.number() == FIRST
        photos.close()
        videos.close()

    # A new process has no last good policy: it reports the error with its place, and does not
    # start.
    with proxy.S3cors(folder, ready=False) as refused:
        assert refused.wait() == 2, refused.output
        line, column = place(broken, "PATCH")
        assert re.search(rf"photos\.xml:{line}:{column}\b", refused.output), refused.output
        assert "Found unsupported HTTP method in CORS config. Unsupported method is PATCH" in refused.output
        assert re.findall(r"^error", refused.output, re.MULTILINE) == ["error"], refused.output

    # Unless it is allowed to: then that route is served without CORS, and says so.
    with proxy.S3cors(folder, arguments=["--config", "s3cors.toml", "--keep-going"]) as running:
        assert Reader(running, host="videos.example").number() == FIRST + 3
        assert Reader(running, host="photos.example").number() is None
        status, fields, body = running.request("GET", "/k", {"Host": "photos.example", "Origin": ORIGIN})
        assert (status, body) == (200, b"ok")
        assert fields["Access-Control-Allow-Origin"] is None
        assert "PATCH" in str(running.route_status("photos")), running.status()
        # Once it is fixed, it is a route like any other.
        generations.rename_over(folder / "photos.xml", generations.text(FIRST + 4))
        assert Reader(running, host="photos.example").seconds_until(FIRST + 4) < LIVE_SECONDS
        assert "PATCH" not in str(running.route_status("photos")), running.status()


def place(text, value):
    """The line and column of `value`, counted from one."""
    before = text[: text.index(value)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def test_sighup_reads_everything_again(folder, started):
    (folder / "cors.xml").write_text(generations.text(FIRST))
    running = started(cors="cors.xml")
    before = running.metric("s3cors_config_generation")
    reader = Reader(running)
    running.signal(1)
    (folder / "cors.xml").write_text(generations.text(FIRST + 1))
    running.signal(1)
    assert reader.seconds_until(FIRST + 1) < LIVE_SECONDS
    assert running.metric("s3cors_config_generation") > before
    reader.close()
