//! A route's checked settings for fields added to forwarded messages.

use crate::routing::snapshot::Forwarding;

use super::file::Reader;
use super::table::Table;

/// Reads `via` and `forwarded`.
pub(super) fn read(table: &mut Table<'_>, reader: &mut Reader<'_>) -> Forwarding {
    let mut forwarding = Forwarding::default();
    if let Some(via) = table.boolean("via", reader) {
        forwarding.via = via.into_inner();
    }
    let forms = [
        ("off", (false, false, false)),
        ("x-forwarded", (true, false, false)),
        ("forwarded", (false, true, false)),
        ("both", (true, true, false)),
        ("x-real-ip", (false, false, true)),
    ];
    for chosen in table
        .choices("forwarded", &forms, reader)
        .unwrap_or_default()
    {
        let (x_forwarded, forwarded, x_real_ip) = chosen.into_inner();
        forwarding.x_forwarded |= x_forwarded;
        forwarding.forwarded |= forwarded;
        forwarding.x_real_ip |= x_real_ip;
    }
    forwarding
}
