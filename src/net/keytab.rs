//! The principals of a Kerberos keytab. Its keys are only read over.
//!
//! The format is that of MIT Kerberos ("Keytab file format" of its documentation), which Heimdal and Java write too.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The largest keytab that is read, in bytes. One of a thousand keys has less than a tenth of it.
const MAX_SIZE: u64 = 1 << 20;
/// The first two bytes: the format and its version.
const START: [u8; 2] = [5, 2];

/// The principals of a keytab, each once, in the order of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Keytab(Vec<String>);

#[derive(Debug, thiserror::Error)]
pub enum KeytabError {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("it is not a keytab")]
    NoKeytab,
    #[error("it is a keytab that was cut off, or is damaged")]
    Damaged,
    #[error("it is larger than 1 MiB")]
    TooLarge,
}

impl Keytab {
    pub fn read(path: &Path) -> Result<Self, KeytabError> {
        let mut bytes = Vec::new();
        let read = File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
        if u64::try_from(read).is_ok_and(|read| read > MAX_SIZE) {
            return Err(KeytabError::TooLarge);
        }
        let entries = bytes.strip_prefix(&START).ok_or(KeytabError::NoKeytab)?;
        principals(entries).map(Self).ok_or(KeytabError::Damaged)
    }

    #[must_use]
    pub fn principals(&self) -> &[String] {
        &self.0
    }

    /// Whether there is a key of that principal. Without `@REALM` it may be of any realm.
    #[must_use]
    pub fn has(&self, principal: &str) -> bool {
        self.0
            .iter()
            .any(|known| known == principal || known.rsplit_once('@').is_some_and(|(name, _)| name == principal))
    }
}

/// Entries: each a size in four bytes, and so many bytes. A negative size is that of a removed entry, zero ends the list.
fn principals(mut rest: &[u8]) -> Option<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk() {
        let size = i32::from_be_bytes(*size);
        if size == 0 {
            break;
        }
        let (entry, next) = after.split_at_checked(usize::try_from(size.unsigned_abs()).ok()?)?;
        rest = next;
        if size > 0 {
            let principal = principal(entry)?;
            if !all.contains(&principal) {
                all.push(principal);
            }
        }
    }
    Some(all)
}

/// The number of the name's parts, the realm, and the parts. What follows is not read: the time, the version and the key.
fn principal(entry: &[u8]) -> Option<String> {
    let (parts, mut rest) = entry.split_first_chunk()?;
    let mut text = || {
        let (size, after) = rest.split_first_chunk()?;
        let (text, next) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = next;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let realm = text()?;
    let parts: Vec<_> = (0..u16::from_be_bytes(*parts)).map(|_| text()).collect::<Option<_>>()?;
    Some(format!("{}@{realm}", parts.join("/")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A keytab with one key of each principal, which has a realm.
    pub(crate) fn keytab(of: &[&str]) -> Vec<u8> {
        let counted = |text: &[u8]| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat();
        let mut all = START.to_vec();
        for principal in of {
            let (name, realm) = principal.split_once('@').unwrap();
            let parts: Vec<_> = name.split('/').collect();
            let mut entry = u16::try_from(parts.len()).unwrap().to_be_bytes().to_vec();
            entry.extend(counted(realm.as_bytes()));
            for part in parts {
                entry.extend(counted(part.as_bytes()));
            }
            // The type of the name, the time, the version of the key, its type, and the key.
            entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 17]);
            entry.extend(counted(b"key-of-16-bytes!"));
            all.extend(i32::try_from(entry.len()).unwrap().to_be_bytes());
            all.extend(entry);
        }
        all
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Keytab::read(file.path()).map(|keytab| keytab.0).map_err(|error| error.to_string())
    }

    #[test]
    fn principals_are_found_with_and_without_their_realm() {
        let mut bytes = keytab(&["relay@A.ORG", "relay/host@A.ORG", "relay@A.ORG"]);
        // A removed entry and the end of the list.
        bytes.extend([0xff, 0xff, 0xff, 0xfe, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(read(&bytes).unwrap(), ["relay@A.ORG", "relay/host@A.ORG"]);
        let keytab = Keytab(vec!["relay@A.ORG".to_owned(), "relay/host@A.ORG".to_owned()]);
        for (principal, is_there) in
            [("relay", true), ("relay@A.ORG", true), ("relay/host", true), ("relay@B.ORG", false), ("host", false)]
        {
            assert_eq!(keytab.has(principal), is_there, "{principal}");
        }
    }

    #[test]
    fn other_files_and_damaged_ones_are_told() {
        assert_eq!(read(b"").unwrap_err(), "it is not a keytab");
        assert_eq!(read(b"-----BEGIN CERTIFICATE-----").unwrap_err(), "it is not a keytab");
        let whole = keytab(&["relay@A.ORG"]);
        assert_eq!(read(&whole[..2]).unwrap(), [""; 0]);
        for end in 6..whole.len() {
            assert_eq!(read(&whole[..end]).unwrap_err(), "it is a keytab that was cut off, or is damaged", "{end}");
        }
        // A realm that is longer than its entry.
        let mut wrong = whole.clone();
        wrong[8] = 0xff;
        assert!(read(&wrong).unwrap_err().contains("damaged"));
        assert!(read(&vec![5; (1 << 20) + 1]).unwrap_err().contains("1 MiB"));
    }
}
