//! Resolves names, and removes the addresses that the relay must not connect to. The addresses that are checked are those
//! that are connected to, so no name, and no change of its DNS entry, evades the check.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::net::{Network, address};

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Resolves names to addresses that the relay may connect to.
#[derive(Clone)]
pub struct FilteringResolver {
    lookup: Arc<Lookup>,
    deny: Arc<[Network]>,
}

impl FilteringResolver {
    /// Uses the resolver of the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }))
    }

    fn new(lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), deny: Arc::new([]) }
    }

    /// The same resolver, which also removes addresses of these networks only.
    #[must_use]
    pub fn denying(&self, deny: &[Network]) -> Self {
        Self { lookup: Arc::clone(&self.lookup), deny: deny.into() }
    }

    /// A resolver that returns the same address for every name.
    #[cfg(test)]
    #[must_use]
    pub fn to(address: std::net::IpAddr) -> Self {
        Self::new(move |_| Box::pin(async move { Ok(vec![SocketAddr::new(address, 0)]) }))
    }
}

/// All addresses of a name are ones that the relay must not connect to.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {address}, to which the relay never connects: {why}")]
pub(super) struct ForbiddenAddress {
    name: String,
    address: std::net::IpAddr,
    why: &'static str,
}

impl Service<Name> for FilteringResolver {
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

/// The addresses that the relay may connect to. If the name has no address, the caller reports the error.
fn filter(name: &str, found: Vec<SocketAddr>, deny: &[Network]) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
    let mut refused = None;
    let allowed: Vec<_> = found
        .into_iter()
        .filter(|address| match address::forbidden(address.ip()).or_else(|| address::denied(address.ip(), deny)) {
            Some(why) => {
                refused = Some(ForbiddenAddress { name: name.to_owned(), address: address.ip(), why });
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
    fn forbidden_addresses_are_removed_and_a_name_without_others_is_an_error() {
        let allowed = filter("partner", addresses(&["169.254.169.254", "10.0.0.1", "fe80::1"]), &[]).unwrap();
        assert_eq!(allowed, addresses(&["10.0.0.1"]));
        let error = filter("rebound", addresses(&["169.254.169.254"]), &[]).unwrap_err();
        expect_test::expect![
            "rebound resolves to 169.254.169.254, to which the relay never connects: it is link-local, where clouds keep their metadata service"
        ]
        .assert_eq(&error.to_string());
    }

    #[test]
    fn denied_networks_are_removed_in_every_form_of_the_address() {
        let deny = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let found = addresses(&["10.1.2.3", "::ffff:10.1.2.3", "::1", "192.168.0.1"]);
        assert_eq!(filter("partner", found, &deny).unwrap(), addresses(&["192.168.0.1"]));
        let error = filter("partner", addresses(&["10.1.2.3"]), &deny).unwrap_err();
        assert!(error.to_string().ends_with("never connects: `deny` of its sink contains it"), "{error}");
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let found: Vec<_> = FilteringResolver::system().call("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(found.iter().any(|address| address.ip().is_loopback()), "{found:?}");
    }
}
