//! The values of the header `Authorization`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

/// The value for that user and password (RFC 7617).
#[must_use]
pub fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// The value for the user and password of a URL, decoded; `None` if it has none.
#[must_use]
pub fn of_user_in(url: &Url) -> Option<String> {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
    (!url.username().is_empty() || url.password().is_some())
        .then(|| basic(&decoded(url.username()), &decoded(url.password().unwrap_or_default())))
}

/// Removes user and password from the URL, which would be sent, shown or logged with it.
pub fn remove_user(url: &mut Url) {
    // They fail only for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// A header's value that is never logged.
pub fn sensitive(text: String) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(text)?;
    value.set_sensitive(true);
    Ok(value)
}
