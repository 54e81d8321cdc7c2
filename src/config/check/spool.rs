//! The key `spool:`.

use std::path::Path;

use super::common::{GIB, MIB, size};
use super::postgres;
use crate::config::model::{OnCorrupt, SpoolConfig, SqliteConfig, StoreConfig};
use crate::config::own::DEFAULT_SPOOL;
use crate::config::raw;
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;

pub(super) fn spool(raw: Option<&At<raw::Spool>>, data_dir: &Path, reader: &mut Reader<'_>) -> Option<SpoolConfig> {
    let default = SpoolConfig::at(data_dir.join(DEFAULT_SPOOL));
    let Some(raw) = raw.map(|raw| &raw.value) else { return Some(default) };
    let max_size = size(reader, raw.max_size.as_ref(), default.max_size, MIB..=1024 * GIB);
    let max_share = raw.max_share.as_ref().map_or(default.max_share, |at| at.value.0);
    let store = match &raw.postgres {
        Some(at) => {
            reject_keys_of_a_file(at, raw, reader);
            StoreConfig::Postgres(Box::new(postgres::postgres(at, reader)?))
        }
        None => StoreConfig::Sqlite(SqliteConfig {
            path: data_dir.join(raw.path.as_ref().map_or(DEFAULT_SPOOL, |path| path.value.text.as_str())),
            on_corrupt: raw.on_corrupt.as_ref().map_or(OnCorrupt::Stop, |at| at.value.0),
        }),
    };
    Some(SpoolConfig { store, max_size, max_share })
}

fn reject_keys_of_a_file(postgres: &At<raw::Postgres>, raw: &raw::Spool, reader: &mut Reader<'_>) {
    let path = raw.path.as_ref().map(|path| ("path", path.span));
    let on_corrupt = raw.on_corrupt.as_ref().map(|at| ("on_corrupt", at.span));
    for (key, span) in path.into_iter().chain(on_corrupt) {
        let message = format!("`{key}` is for a spool in a file, and this one is in PostgreSQL");
        reader.report(
            Diagnostic::error("two-stores", span, message)
                .also(postgres.head, "the spool")
                .help(format!("remove `{key}`, or remove `postgres`")),
        );
    }
}
