//! Text that may be secret, or hold the content of files that are read anew at every use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mask::STARS;

/// A scalar of `routes.yaml` after interpolation; never printed.
///
/// What `${VAR}` stood for is in it; what `${file:PATH}` stands for is read at each [`reveal`](Self::reveal), so that a
/// rotated secret is taken up at the next connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[Part]>);

/// A piece of a [`Secret`].
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// The content of a file, without one trailing newline.
    File {
        /// Which.
        path: PathBuf,
        /// It is a part of a URL: percent-encoded.
        encode: bool,
    },
}

/// A file named by `${file:…}` can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the file {path} of a secret can't be read: {cause}")]
pub struct SecretError {
    path: String,
    cause: std::io::Error,
}

/// Secrets longer than this are refused: no password or key is.
const MAX_SECRET_FILE: u64 = 1024 * 1024;

impl Secret {
    /// A text that no file is a part of.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self(Arc::new([Part::Text(text.into())]))
    }

    /// Several pieces.
    #[must_use]
    pub fn parts(parts: Vec<Part>) -> Self {
        Self(parts.into())
    }

    /// The files it refers to.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::File { path, .. } => Some(path.as_path()),
        })
    }

    /// The text now. Reads the files it refers to, which blocks.
    pub fn reveal(&self) -> Result<String, SecretError> {
        let mut whole = String::new();
        for part in &*self.0 {
            match part {
                Part::Text(text) => whole.push_str(text),
                Part::File { path, encode } => {
                    let text = read(path).map_err(|cause| SecretError { path: path.display().to_string(), cause })?;
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

/// Texts that may be secret, and are masked wherever they are found in what is shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Masks(Vec<String>);

/// A shorter text is no secret, and may be in much that is to be shown, in bytes.
const MIN_MASKED: usize = 6;

impl Masks {
    /// That text without them.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), STARS))
    }

    /// The same for a text whose end may have been cut off: the beginning of one at its end is masked, too.
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

    /// Those and more.
    #[must_use]
    pub(super) fn with<'t>(&self, more: impl Iterator<Item = &'t str>) -> Self {
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
        // One may be a part of another.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.dedup();
        Self(texts)
    }
}

/// As it stands within a JSON string.
fn in_json(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.get(1..json.len() - 1).unwrap_or_default().to_owned()
}

/// The same as the filter `tojson` of templates writes it.
fn in_template_json(text: &str) -> String {
    let escapes = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\'', "\\u0027")];
    escapes.iter().fold(in_json(text), |json, (char, escape)| json.replace(*char, escape))
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

/// As it stands in a part of a URL: everything but letters, digits and `-._*` percent-encoded.
pub(super) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).map(|piece| piece.replace('+', "%20")).collect()
}

/// The content of a file without one trailing newline.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    // A pipe could be waited for without end, and has nothing left the next time.
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
