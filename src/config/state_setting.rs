//! The config's `state_directory`: where the last good policies are kept.

use std::path::{Path, PathBuf};

use super::file::Reader;
use super::table::Table;

/// What the config says of the state folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateSetting {
    /// Nothing: systemd's folder, if there is one.
    #[default]
    Default,
    /// No policy is kept.
    Off,
    /// This folder.
    Folder(PathBuf),
}

/// Reads `state_directory`.
pub(super) fn setting(root: &mut Table<'_>, base: &Path, reader: &mut Reader<'_>) -> StateSetting {
    let Some(written) = root.string("state_directory", reader) else {
        return StateSetting::Default;
    };
    match *written.get_ref() {
        "" => {
            let message = "`state_directory` is a folder or \"off\"";
            reader.error("invalid-value", written.span(), message);
            StateSetting::Off
        }
        "off" => StateSetting::Off,
        folder => StateSetting::Folder(base.join(folder)),
    }
}
