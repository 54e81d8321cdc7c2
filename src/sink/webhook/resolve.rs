//! Names become addresses, without those the relay never connects to: the check is on what is connected to, so that no
//! name, and no change of what it resolves to, leads around it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::config::address::{self, Network};

/// What resolves names.
type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// A resolver, filtered.
#[derive(Clone)]
pub(super) struct Filtered {
    lookup: Arc<Lookup>,
    deny: Arc<[Network]>,
}

impl Filtered {
    /// The system's.
    pub(super) fn system() -> Self {
        Self::by(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }))
    }

    fn by(lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), deny: Arc::new([]) }
    }

    /// The same, without these networks and no others.
    pub(super) fn denying(&self, deny: &[Network]) -> Self {
        Self { lookup: Arc::clone(&self.lookup), deny: deny.into() }
    }

    /// One that gives every name the same address.
    #[cfg(test)]
    pub(super) fn to(address: std::net::IpAddr) -> Self {
        Self::by(move |_| Box::pin(async move { Ok(vec![SocketAddr::new(address, 0)]) }))
    }
}

/// A name that resolves to nothing the relay may connect to.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {address}, which the relay never connects to: {why}")]
pub(super) struct Forbidden {
    name: String,
    address: std::net::IpAddr,
    why: &'static str,
}

impl Service<Name> for Filtered {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = (self.lookup)(name.as_str().to_owned());
        let deny = Arc::clone(&self.deny);
        async move { Ok(filter(name.as_str(), found.await?, &deny)?.into_iter()) }.boxed()
    }
}

/// The addresses that may be connected to. No address at all is the caller's own error.
fn filter(name: &str, found: Vec<SocketAddr>, deny: &[Network]) -> Result<Vec<SocketAddr>, Forbidden> {
    let mut refused = None;
    let allowed: Vec<_> = found
        .into_iter()
        .filter(|address| match address::forbidden(address.ip()).or_else(|| address::denied(address.ip(), deny)) {
            Some(why) => {
                refused = Some(Forbidden { name: name.to_owned(), address: address.ip(), why });
                false
            }
            None => true,
        })
        .collect();
    match refused {
        Some(refused) if allowed.is_empty() => Err(refused),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ips: &[&str]) -> Vec<SocketAddr> {
        ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn forbidden_addresses_are_left_out_and_a_name_with_no_other_is_an_error() {
        let kept = filter("partner", addresses(&["169.254.169.254", "10.0.0.1", "fe80::1"]), &[]).unwrap();
        assert_eq!(kept, addresses(&["10.0.0.1"]));
        let error = filter("rebound", addresses(&["169.254.169.254"]), &[]).unwrap_err();
        expect_test::expect![
            "rebound resolves to 169.254.169.254, which the relay never connects to: it is link-local, where clouds keep their metadata service"
        ]
        .assert_eq(&error.to_string());
    }

    #[test]
    fn what_a_sink_denies_is_left_out_in_whatever_form() {
        let deny = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let found = addresses(&["10.1.2.3", "::ffff:10.1.2.3", "::1", "192.168.0.1"]);
        assert_eq!(filter("partner", found, &deny).unwrap(), addresses(&["192.168.0.1"]));
        let error = filter("partner", addresses(&["10.1.2.3"]), &deny).unwrap_err();
        assert!(error.to_string().ends_with("never connects to: its sink's `deny` has it"), "{error}");
    }

    #[tokio::test]
    async fn names_of_the_machine_itself_resolve() {
        let found: Vec<_> = Filtered::system().call("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(found.iter().any(|address| address.ip().is_loopback()), "{found:?}");
    }
}
