//! A config's limits on clients, and its drain settings.

use std::time::Duration;

use crate::server::{DrainSettings, Limits};

use super::file::Reader;
use super::numbers::usize_of;
use super::table::Table;

/// Reads `[limits]`.
pub(super) fn limits(root: &mut Table<'_>, reader: &mut Reader<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(mut table) = root.table("limits", reader) else {
        return limits;
    };
    let mut size = |key, least, most, limit: &mut usize| {
        if let Some(value) = table.integer(key, least, most, reader) {
            *limit = usize_of(*value.get_ref());
        }
    };
    // The `http` crate accepts no target longer than 65534 bytes.
    size(
        "request_head_bytes",
        8 * 1024,
        16 * 1024 * 1024,
        &mut limits.request_head_bytes,
    );
    for (key, limit) in [
        ("unfinished_head_bytes", &mut limits.unfinished_head_bytes),
        (
            "unfinished_head_bytes_per_client",
            &mut limits.unfinished_head_bytes_per_client,
        ),
    ] {
        size(key, 64 * 1024, 1 << 40, limit);
    }
    size("header_count", 1, 10_000, &mut limits.header_count);
    size("uri_bytes", 64, 65_534, &mut limits.uri_bytes);
    size(
        "connections_per_client",
        1,
        10_000_000,
        &mut limits.connections_per_client,
    );
    size(
        "requests_per_connection",
        1,
        1_000_000_000,
        &mut limits.requests_per_connection,
    );
    for (key, most, limit) in [
        ("http2_streams", 10_000, &mut limits.http2_streams),
        ("http2_resets", 1_000_000, &mut limits.http2_resets),
        (
            "http2_control_frames",
            1_000_000,
            &mut limits.http2_control_frames,
        ),
    ] {
        let mut value = usize::try_from(*limit).unwrap_or(usize::MAX);
        size(key, 1, most, &mut value);
        *limit = u32::try_from(value).unwrap_or(u32::MAX);
    }
    size(
        "http2_send_buffer_bytes",
        16 * 1024,
        16 * 1024 * 1024,
        &mut limits.http2_send_buffer_bytes,
    );
    let connections = table.integer("connections", 1, 10_000_000, reader);
    limits.connections = connections.map(|connections| usize_of(*connections.get_ref()));
    let least = Duration::from_millis(100);
    if let Some(seconds) = table.seconds("handshake_seconds", least, reader) {
        limits.handshake = seconds;
    }
    if let Some(seconds) = table.seconds("head_read_seconds", least, reader) {
        limits.head_read = seconds;
    }
    if let Some(seconds) = table.seconds("keep_alive_idle_seconds", least, reader) {
        limits.keep_alive_idle = seconds;
    }
    table.finish(reader);
    limits
}

/// Reads `[drain]`.
pub(super) fn drain(root: &mut Table<'_>, reader: &mut Reader<'_>) -> DrainSettings {
    let mut drain = DrainSettings::default();
    let Some(mut table) = root.table("drain", reader) else {
        return drain;
    };
    if let Some(seconds) = table.seconds("delay_seconds", Duration::ZERO, reader) {
        drain.delay = seconds;
    }
    if let Some(seconds) = table.seconds("deadline_seconds", Duration::ZERO, reader) {
        drain.deadline = seconds;
    }
    table.finish(reader);
    drain
}
