//! Secrets: texts that are never shown, and whose files are read again at every use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mask::STARS;
use crate::event::percent_encode;

/// A text after interpolation, which is never shown.
///
/// It holds the values of its `${VAR}`. The files of its `${file:PATH}` are read at each [`reveal`](Self::reveal), so that the
/// next connection uses a rotated secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[Part]>);

/// A piece of a [`Secret`].
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    Text(String),
    /// The content of a file, without its last newline.
    File {
        path: PathBuf,
        /// Whether its content is percent-encoded, as it is a part of a URL.
        encode: bool,
    },
}

/// A file named by `${file:…}` can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the file {path} of a secret can't be read: {error}")]
pub struct SecretError {
    path: String,
    error: std::io::Error,
}

/// The largest file of a secret, in bytes. No password or key is longer.
const MAX_SECRET_FILE: u64 = 1024 * 1024;

impl Secret {
    /// A secret without a file in it.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self(Arc::new([Part::Text(text.into())]))
    }

    #[must_use]
    pub fn parts(parts: Vec<Part>) -> Self {
        Self(parts.into())
    }

    /// The files it refers to.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::File { path, .. } => Some(path.as_path()),
        })
    }

    /// The text as it is now. Reads the files it refers to, which blocks.
    pub fn reveal(&self) -> Result<String, SecretError> {
        let mut whole = String::new();
        for part in &*self.0 {
            match part {
                Part::Text(text) => whole.push_str(text),
                Part::File { path, encode } => {
                    let text = read(path).map_err(|error| SecretError { path: path.display().to_string(), error })?;
                    if *encode {
                        whole.push_str(&encoded(&text));
                    } else {
                        whole.push_str(&text);
                    }
                }
            }
        }
        Ok(whole)
    }
}

/// Texts that may be secret: they are masked wherever they occur in something that is shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Masks(Vec<String>);

/// Shorter texts are not masked, in bytes: they are hardly secrets, and occur in many words.
const MIN_MASKED: usize = 6;

impl Masks {
    /// Masks all of these texts in `text`.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), STARS))
    }

    /// The same for a text that may have been cut: the first part of a secret at its end is masked too.
    #[must_use]
    pub fn apply_to_beginning(&self, text: &str) -> String {
        let mut text = self.apply(text);
        let cut = self.0.iter().filter_map(|secret| {
            let beginnings = secret.char_indices().map(|(at, _)| at).rev().take_while(|at| *at >= MIN_MASKED);
            beginnings.filter(|at| secret.get(..*at).is_some_and(|beginning| text.ends_with(beginning))).max()
        });
        if let Some(cut) = cut.max() {
            text.truncate(text.len() - cut);
            text.push_str(STARS);
        }
        text
    }

    /// These masks and further ones.
    #[must_use]
    pub(crate) fn with<'t>(&self, more: impl Iterator<Item = &'t str>) -> Self {
        let Self(more) = more.collect();
        let mut texts: Vec<_> = self.0.iter().cloned().chain(more).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(texts)
    }
}

impl<'t> FromIterator<&'t str> for Masks {
    fn from_iter<I: IntoIterator<Item = &'t str>>(texts: I) -> Self {
        let secrets = texts.into_iter().filter(|text| text.len() >= MIN_MASKED);
        let mut texts: Vec<_> =
            secrets.flat_map(|text| [text.to_owned(), in_json(text), in_template_json(text)]).collect();
        // A secret may be a part of another one: the longest is masked first.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.dedup();
        Self(texts)
    }
}

/// The text escaped, for a JSON string.
fn in_json(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.get(1..json.len() - 1).unwrap_or_default().to_owned()
}

/// The text as the filter `tojson` of templates writes it.
fn in_template_json(text: &str) -> String {
    let escapes = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\'', "\\u0027")];
    escapes.iter().fold(in_json(text), |json, (char, escape)| json.replace(*char, escape))
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

/// The text percent-encoded, for a part of a URL.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    percent_encode(&mut encoded, text);
    encoded
}

/// The content of a file without its last newline.
pub fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    // Reading a pipe could block forever, and gives its content only once.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_SECRET_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_SECRET_FILE {
        return Err(std::io::Error::other(format!("it is longer than {MAX_SECRET_FILE} bytes")));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_cut_off_at_the_end_is_masked_too() {
        let masks: Masks = ["s3cret-token", "other-s3cret"].into_iter().collect();
        for (text, masked) in [
            ("a s3cret-token b", "a *** b"),
            ("it said s3cret-t", "it said ***"),
            ("it said s3cret", "it said ***"),
            ("it said s3cre", "it said s3cre"),
            ("it said other-s3cre", "it said ***"),
            ("s3cret-t and more", "s3cret-t and more"),
        ] {
            assert_eq!(masks.apply_to_beginning(text), masked);
        }
    }
}
