//! What the SQLite files of the relay have in common: the disk and the file system they are on, and how they are created and
//! identified.
//!
//! It knows no table and no content of any file.

mod disk;
mod file;
mod file_system;

pub use disk::{DiskSpace, LOG_OF_CHANGE, SMALL_BATCH};
pub use file::{BUSY_TIMEOUT, FileKind, OpenError, create_private, create_private_directory, log_of, quarantine};
pub use file_system::{in_memory_warning, network_file_system};
