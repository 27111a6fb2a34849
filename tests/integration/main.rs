//! All integration tests: one binary, with a module for each subject.

#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that goes wrong shall say so, and its scripts share what they saw"
)]

mod access_log;
mod admin;
mod bindings;
mod bucket_api;
mod bucket_api_minio;
mod bucket_cors;
mod bucket_store;
mod buckets;
mod cli;
mod client_share;
mod cold_start;
mod descriptors;
mod diagnose;
mod diagnostics;
mod drain;
mod edge;
mod expectations;
mod explain;
mod explain_header;
mod explain_reach;
mod extensions;
mod faults;
mod forwarded_bytes;
mod forwarding;
mod fuzz_smoke;
mod graceful_drain;
mod half_closed;
mod handover;
mod handshakes;
mod health_command;
mod heartbeat;
mod hints;
mod http1;
mod http1_to_http2;
mod http2;
mod http2_answers;
mod http2_bodies;
mod http2_interim;
mod http2_to_http1;
mod http2_trailers;
mod import;
mod live;
mod log;
mod log_output;
mod loops;
mod odd_upstreams;
mod probe;
mod proxy_protocol;
mod recorded;
mod reference;
mod refused_heads;
mod refused_streams;
mod reload;
mod resolver;
mod room;
mod shipped_files;
mod signals;
mod slow_readers;
mod smuggling;
mod start_check;
mod support;
mod terminal;
mod tls;
mod tools;
#[cfg(feature = "otlp")]
mod traces;
mod traffic_metrics;
mod troubleshooting;
mod trust;
mod tunnels;
mod unfinished_heads;
mod upstream_tls;
mod upstreams;
mod vectors;
mod verdict;
mod verdicts;
mod websocket;
mod wpt;
