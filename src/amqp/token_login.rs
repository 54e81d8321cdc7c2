//! Logins by access token: the token is the password, and the broker gets each new one on the open connection.

use std::sync::{Arc, Weak};

use super::{BrokerAddress, await_reply};
use crate::oauth::{AccessToken, TokenSource};

/// Why the broker's log has this update.
const REASON: &str = "the access token was renewed";

/// Gives the broker each new token. Ends with the connection. `current` is the token of the login.
pub(super) async fn keep_logged_in(
    connection: Weak<lapin::Connection>,
    address: BrokerAddress,
    tokens: Arc<TokenSource>,
    mut current: AccessToken,
) {
    let mut issued = tokens.subscribe();
    loop {
        let latest = issued.borrow_and_update().clone();
        if let Some(token) = latest.filter(|latest| !latest.is(&current)) {
            let Some(connection) = connection.upgrade() else { return };
            if current.has_ended() {
                // The broker has ended the session, or will do so: the machine slept, or the token server was away.
                tracing::info!(
                    "an access token ended before there was a new one; the relay closes its connection to the broker {}:{} and makes a new one",
                    address.host,
                    address.port
                );
                // The owner of the connection sees that it is closed.
                let _ =
                    await_reply(&address, "closing the connection", connection.close(200, "token ended".into())).await;
                return;
            }
            let updating = connection.update_secret(token.secret().into(), REASON.into());
            if let Err(error) = await_reply(&address, "connection.update-secret", updating).await {
                let error = tokens.mask(&error.to_string());
                if !connection.status().connected() {
                    tracing::debug!(error, "the connection ended while it got a new access token");
                    return;
                }
                tracing::warn!(
                    error,
                    "the broker did not take a new access token; the relay uses the connection as long as the broker allows"
                );
            }
            current = token;
        }
        if issued.changed().await.is_err() {
            return;
        }
    }
}
