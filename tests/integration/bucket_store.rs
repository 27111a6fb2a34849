//! `store = { bucket = … }`: policies in a bucket of the object store, for several replicas.

use std::fs;
use std::time::{Duration, Instant};

use crate::bucket_api::time;
use crate::support::binary::{Process, run};
use crate::support::client::{RawClient, RawResponse};
use crate::support::folder::Folder;
use crate::support::object_store::{Fault, ObjectStore};
use crate::support::sigv4::{Unsigned, checksum};

fn document(origin: &str) -> String {
    format!(
        "<CORSConfiguration><CORSRule><AllowedOrigin>https://{origin}.example</AllowedOrigin>\
         <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    )
}

/// The files of a replica.
fn folder(store: &ObjectStore) -> Folder {
    let folder = Folder::new();
    folder.write(
        "keys.toml",
        "[[key]]\nid = \"client\"\nsecret = \"s\"\nbuckets = [\"*\"]\n",
    );
    folder.write(
        "store-key.toml",
        "id = \"store-id\"\nsecret = \"store-secret\"\n",
    );
    folder.write(
        "s3cors.toml",
        &format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nname = \"s3\"\nhost = \"s3.example\"\nupstream = \"http://{}\"\n\
             buckets = {{ address = \"path\" }}\n\
             [route.cors_api]\nauthorize = \"keys\"\nkeys = \"keys.toml\"\n\
             store = {{ bucket = \"s3cors-policies\", key = \"store-key.toml\", poll_seconds = 1, cache = \"cache\" }}\n",
            store.address
        ),
    );
    folder
}

struct Replica {
    process: Process,
    folder: Folder,
}

impl Replica {
    fn start(store: &ObjectStore) -> Self {
        Self::in_folder(folder(store))
    }

    fn in_folder(folder: Folder) -> Self {
        let config = folder.path("s3cors.toml");
        let process = Process::start(&["run", "--config", config.to_str().unwrap()]);
        Self { process, folder }
    }

    fn send(&self, method: &str, request: impl AsRef<[u8]>) -> RawResponse {
        let mut client = RawClient::connect(self.process.address);
        client.send(request);
        client.receive(method)
    }

    fn api(&self, method: &str, bucket: &str, body: &str) -> RawResponse {
        let (now, sum) = (time(0), checksum(body.as_bytes()));
        let fields = [("x-amz-checksum-sha256", &*sum)];
        let request = Unsigned {
            method,
            host: "s3.example",
            path: &format!("/{bucket}"),
            query: "cors",
            body: body.as_bytes(),
            key_id: "client",
            secret: "s",
            region: "us-east-1",
            time: &now,
            signs_body: true,
            fields: if method == "PUT" { &fields } else { &[] },
        };
        self.send(method, request.sign())
    }

    fn allows(&self, bucket: &str, origin: &str) -> bool {
        let request = format!(
            "OPTIONS /{bucket}/k HTTP/1.1\r\nHost: s3.example\r\nOrigin: https://{origin}.example\r\n\
             Access-Control-Request-Method: GET\r\n\r\n"
        );
        self.send("OPTIONS", request).status == 200
    }

    /// Waits until the policy in force allows this origin; `None`: no policy.
    #[track_caller]
    fn converges(&self, bucket: &str, origin: Option<&str>, origins: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let allowed: Vec<_> = origins
                .iter()
                .filter(|origin| self.allows(bucket, origin))
                .collect();
            if allowed.iter().map(|origin| **origin).eq(origin) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{bucket}: {allowed:?}, not {origin:?}"
            );
        }
    }

    fn store_status(&self) -> serde_json::Value {
        self.process.status()["routes"][0]["cors_api"]["store"].clone()
    }
}

#[test]
fn a_policy_put_on_one_replica_is_in_force_on_all() {
    let store = ObjectStore::start();
    let replicas = [0; 3].map(|_| Replica::start(&store));
    for (number, replica) in replicas.iter().enumerate() {
        for bucket in ["photos", "logs", "films", "music", "texts"] {
            let response = replica.api("PUT", bucket, &document(&format!("app{number}")));
            assert_eq!(response.status, 200, "{}", response.text());
        }
        for other in &replicas {
            for bucket in ["photos", "texts"] {
                other.converges(
                    bucket,
                    Some(&format!("app{number}")),
                    &["app0", "app1", "app2"],
                );
            }
        }
    }
    // GetBucketCors asks the store, so that every replica answers the same at once.
    for replica in &replicas {
        let response = replica.api("GET", "photos", "");
        assert!(
            response.text().contains("https://app2.example"),
            "{}",
            response.text()
        );
    }
    assert_eq!(replicas[1].api("DELETE", "photos", "").status, 204);
    assert_eq!(replicas[0].api("GET", "photos", "").status, 404);
    for replica in &replicas {
        replica.converges("photos", None, &["app2"]);
        replica.converges("logs", Some("app2"), &["app2"]);
    }
    assert_eq!(store.object("photos"), None);
    assert_eq!(replicas[2].store_status()["error"], serde_json::Value::Null);
}

#[test]
fn a_store_that_fails_at_any_step_of_a_write_leaves_a_whole_policy() {
    let store = ObjectStore::start();
    let replicas = [0; 2].map(|_| Replica::start(&store));
    assert_eq!(
        replicas[0].api("PUT", "photos", &document("old")).status,
        200
    );
    for (at, is_done) in [0, 1, 2, 3]
        .into_iter()
        .flat_map(|at| [(at, false), (at, true)])
    {
        let before = store.object("photos").unwrap();
        let origin = format!("at{at}{is_done}");
        store.set(Fault::Close { at, is_done });
        let response = replicas[at % 2].api("PUT", "photos", &document(&origin));
        store.set(Fault::Nothing);
        let after = store.object("photos").unwrap();
        assert!([&before, &document(&origin)].contains(&&after), "{after}");
        if response.status == 200 {
            assert_eq!(after, document(&origin));
        } else {
            assert_eq!(response.status, 503, "{}", response.text());
        }
        let name = after
            .split("https://")
            .nth(1)
            .unwrap()
            .split(".example")
            .next()
            .unwrap();
        for replica in &replicas {
            replica.converges("photos", Some(name), &[name]);
        }
    }
}

#[test]
fn of_two_concurrent_writers_the_last_one_wins_completely() {
    for knows_conditions in [true, false] {
        let store = ObjectStore::start();
        store.with(|state| state.knows_conditions = knows_conditions);
        let replicas = [0; 2].map(|_| Replica::start(&store));
        for round in 0..5 {
            let names = [format!("a{round}"), format!("b{round}")];
            std::thread::scope(|scope| {
                for (replica, name) in replicas.iter().zip(&names) {
                    scope.spawn(move || {
                        let response = replica.api("PUT", "photos", &document(name));
                        assert_eq!(response.status, 200, "{}", response.text());
                    });
                }
            });
            let stored = store.object("photos").unwrap();
            let winner = names.iter().find(|name| stored == document(name)).unwrap();
            for replica in &replicas {
                replica.converges("photos", Some(winner), &[&names[0], &names[1]]);
            }
        }
    }
}

#[test]
fn without_the_store_the_last_good_copy_is_served_and_a_restart_keeps_it() {
    for fault in [
        Fault::Down,
        Fault::Answer(500, "InternalError"),
        Fault::Answer(503, "SlowDown"),
    ] {
        let store = ObjectStore::start();
        let mut replica = Replica::start(&store);
        assert_eq!(replica.api("PUT", "photos", &document("app")).status, 200);
        replica.converges("photos", Some("app"), &["app"]);
        store.set(fault);
        replica.process.logged("cannot read the store of policies");
        let response = replica.api("PUT", "photos", &document("other"));
        assert_eq!(response.status, 503, "{}", response.text());
        assert_eq!(replica.api("GET", "photos", "").status, 200);
        assert!(replica.allows("photos", "app"));
        let status = replica.store_status();
        assert!(status["out_of_date_since"].is_string(), "{status}");
        assert_eq!(status["policies"], 1);

        let Replica { process, folder } = replica;
        drop(process);
        let replica = Replica::in_folder(folder);
        assert!(replica.allows("photos", "app"), "{fault:?}");
        store.set(Fault::Nothing);
        assert_eq!(replica.api("PUT", "photos", &document("other")).status, 200);
        replica.converges("photos", Some("other"), &["app", "other"]);
    }
}

#[test]
fn a_manually_uploaded_object_is_read_and_an_invalid_one_changes_nothing() {
    let store = ObjectStore::start();
    let mut replica = Replica::start(&store);
    let put = |document: &str| {
        store.with(|state| {
            state
                .objects
                .insert("cors/photos.xml".to_owned(), document.as_bytes().to_vec());
            state
                .objects
                .insert("cors/../x.xml".to_owned(), b"x".to_vec());
            state
                .objects
                .insert("cors/UPPER.xml".to_owned(), b"x".to_vec());
        });
    };
    put(&document("hand"));
    replica.converges("photos", Some("hand"), &["hand"]);
    // Larger than the limit, and the first object: it does not hold up the others.
    store.with(|state| {
        state
            .objects
            .insert("cors/aaa.xml".to_owned(), vec![b' '; 2 << 20])
    });
    put("<CORSConfiguration>");
    replica.process.logged("a policy in the store is invalid");
    assert!(replica.allows("photos", "hand"));
    put(&document("again"));
    replica.converges("photos", Some("again"), &["hand", "again"]);
    let files: Vec<_> = fs::read_dir(replica.folder.path("cache"))
        .unwrap()
        .collect();
    assert!(files.len() <= 2, "{files:?}");
}

#[test]
fn a_start_gives_advice_about_a_store_that_refuses() {
    let store = ObjectStore::start();
    let start = |change: &dyn Fn(&Folder)| {
        let folder = folder(&store);
        change(&folder);
        let config = folder.path("s3cors.toml");
        run(&["run", "--config", config.to_str().unwrap()])
    };
    store.set(Fault::Answer(403, "AccessDenied"));
    let (code, _, error) = start(&|_| {});
    assert_eq!(code, 2, "{error}");
    for part in [
        "s3cors-policies",
        "store-id",
        "403 AccessDenied",
        "s3:ListBucket",
        "s3:PutObject",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    store.set(Fault::Answer(404, "NoSuchBucket"));
    let (code, _, error) = start(&|_| {});
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("create it"), "{error}");
    store.set(Fault::Nothing);
    let (code, _, error) = start(&|folder| fs::remove_file(folder.path("store-key.toml")).unwrap());
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("store-key.toml"), "{error}");
    let (code, _, error) = start(&|folder| folder.write("store-key.toml", "id = \"a\"\n"));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("`secret`"), "{error}");
}

#[test]
fn files_of_the_directory_are_defaults_for_the_bucket() {
    let store = ObjectStore::start();
    let folder = folder(&store);
    let config = fs::read_to_string(folder.path("s3cors.toml")).unwrap();
    let config = config.replace("buckets = { ", "buckets = { directory = \"buckets\", ");
    folder.write("s3cors.toml", &config);
    folder.write("buckets/photos.xml", &document("file"));
    let replica = Replica::in_folder(folder);
    assert!(replica.allows("photos", "file"));
    assert_eq!(replica.api("PUT", "photos", &document("api")).status, 200);
    replica.converges("photos", Some("api"), &["file", "api"]);
    assert_eq!(replica.api("DELETE", "photos", "").status, 204);
    replica.converges("photos", Some("file"), &["file", "api"]);
    assert!(
        replica
            .api("GET", "photos", "")
            .text()
            .contains("https://file.example")
    );
}

#[test]
fn the_shipped_config_is_valid() {
    let folder = Folder::new();
    for place in ["deploy/cors-api", "deploy/cors-api/kubernetes"] {
        let shipped = |name: &str| {
            let path = format!("{}/{place}/{name}", env!("CARGO_MANIFEST_DIR"));
            fs::read_to_string(path).unwrap()
        };
        let config = shipped("s3cors.toml")
            .replace("/etc/s3cors/secret/", "")
            .replace("/var/lib/s3cors/", "");
        folder.write("s3cors.toml", &config);
        folder.write("store-key.toml", &shipped("store-key.toml"));
        let path = folder.path("s3cors.toml");
        let (code, said, error) = run(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(code, 0, "{place}: {said}{error}");
    }
}
