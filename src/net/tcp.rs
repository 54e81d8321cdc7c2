//! A TCP connection to the first address of a name that answers (RFC 8305, "Happy Eyeballs").

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// The time that an address gets before the next is tried beside it (RFC 8305, 5: 250 ms recommended).
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);
/// The number of addresses of a name that are tried: the last attempt starts well before a connection's deadline.
const MAX_ADDRESSES: usize = 16;

/// Connects to `host`. Its addresses are tried one after the other, and earlier attempts continue meanwhile. The caller sets the deadline.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?.collect();
    let socket = connect_first(alternate_families(addresses)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The resolver's order, but with IPv6 and IPv4 alternating, so that a family that doesn't work costs one wait (RFC 8305, 4).
fn alternate_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (preferred, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut alternating = Vec::new();
    while alternating.len() < MAX_ADDRESSES {
        let before = alternating.len();
        alternating.extend(preferred.next());
        alternating.extend(others.next());
        if alternating.len() == before {
            break;
        }
    }
    alternating.truncate(MAX_ADDRESSES);
    alternating
}

/// All attempts continue until one succeeds. If none does, the first error is returned.
async fn connect_first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut remaining = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match remaining.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => break,
            None => {}
        }
        let answer = if remaining.len() == 0 {
            attempts.next().await
        } else {
            match tokio::time::timeout(BETWEEN_ATTEMPTS, attempts.next()).await {
                Ok(answer) => answer,
                Err(_) => continue,
            }
        };
        match answer {
            Some(Ok(socket)) => return Ok(socket),
            Some(Err(error)) => failure = failure.or(Some(error)),
            None => {}
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address")))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A port that never answers: its queue of connections is full, so the kernel drops further ones.
    async fn black_hole(address: Ipv4Addr) -> (SocketAddr, impl Sized) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((address, 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut inside = Vec::new();
        loop {
            match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
                Ok(connected) => inside.push(connected.unwrap()),
                Err(_) => return (address, (listener, inside)),
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_never_answers_does_not_hide_one_that_does() {
        let (silent, _silent) = black_hole(Ipv4Addr::LOCALHOST).await;
        let (also_silent, _also_silent) = black_hole(Ipv4Addr::new(127, 0, 0, 2)).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let connected = connect_first(vec![silent, also_silent, good]);
        let connected = tokio::time::timeout(Duration::from_secs(30), connected).await.expect("in time").unwrap();
        assert_eq!(connected.peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn addresses_that_refuse_are_skipped_at_once_and_the_first_error_is_returned() {
        let closed = |host: [u8; 4]| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::from(host), 0)).unwrap();
            listener.local_addr().unwrap()
        };
        let (one, two) = (closed([127, 0, 0, 1]), closed([127, 0, 0, 2]));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        assert_eq!(connect_first(vec![one, two, good]).await.unwrap().peer_addr().unwrap(), good);
        let refused = connect_first(vec![one, two]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect_first(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn ipv6_and_ipv4_alternate_beginning_with_the_resolvers_first_address() {
        let addresses =
            |text: &[&str]| text.iter().map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"]);
        assert_eq!(alternate_families(given), addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]));
        let many = vec![addresses(&["127.0.0.1:1"])[0]; 100];
        assert_eq!(alternate_families(many).len(), MAX_ADDRESSES);
    }
}
