//! Turns `routes.yaml` into a [`Config`], or reports every mistake at its line with what to write instead.
//!
//! The raw values of the file keep their places, and are checked once: a `Config` needs no further validation.
//!
//! - `load`: reads a file into a configuration, with the next modules;
//! - `text`: YAML to typed values with their places, `${…}` replaced;
//! - `raw`, `values`: the keys of `routes.yaml`, and the types of their values; `examples`: an example of each key;
//! - `check`: raw values to a [`Config`], which `model` defines;
//! - `cases`: the test cases of a configuration.

mod cases;
mod check;
mod examples;
mod files;
mod files_of;
mod kafka_settings;
mod load;
mod model;
mod own;
mod postgres_url;
mod raw;
mod sink_masks;
mod text;
mod topic;
mod values;

#[cfg(test)]
mod tests;

pub use cases::{Case, CaseMessage, Expectation};
pub use check::RESERVED_WEBHOOK_HEADERS;
pub use files::NamedFiles;
pub use kafka_settings::producer_settings;
pub use model::*;
pub use own::{DEFAULT_SPOOL, control_socket, is_own, spool_lock};
pub use text::diagnostic::{Diagnostic, Diagnostics, Severity};
pub use text::environment::{Options, Strictness};
pub use text::mask::STARS;
pub use text::secret::{Masks, Part, Secret, SecretError};
pub use text::units::{duration, rate, written_duration};
pub use text::words::{similar, unknown_name};
pub use topic::check_topic;

/// The JSON Schema of `routes.yaml`.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(raw::Root)
}
