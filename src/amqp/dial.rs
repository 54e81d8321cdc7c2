//! A TCP connection to whichever address of a name answers (RFC 8305, "Happy Eyeballs").

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// One address gets this long before the next is tried beside it (RFC 8305, 5: 250 ms recommended).
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);
/// So many addresses of a name are tried. The last is begun well before a connection's deadline.
const MAX_ADDRESSES: usize = 16;

/// Connects to `host`: one address after the other, without giving up an earlier one. The caller has a deadline.
pub(super) async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?.collect();
    let socket = first_to_answer(by_turns(addresses)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The resolver's order, but with both families by turns, so that one that leads nowhere costs one wait (RFC 8305, 4).
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (ours, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let mut turns = Vec::new();
    while turns.len() < MAX_ADDRESSES {
        let before = turns.len();
        turns.extend(ours.next());
        turns.extend(others.next());
        if turns.len() == before {
            break;
        }
    }
    turns.truncate(MAX_ADDRESSES);
    turns
}

/// All attempts go on until one answers. If none does, the first failure is told.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => break,
            None => {}
        }
        let answer = if waiting.len() == 0 {
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

    /// A port on which nothing is answered: its queue of connections is full, so the kernel drops whatever else comes.
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
        let connected = first_to_answer(vec![silent, also_silent, good]);
        let connected = tokio::time::timeout(Duration::from_secs(30), connected).await.expect("in time").unwrap();
        assert_eq!(connected.peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn addresses_that_refuse_are_passed_over_at_once_and_the_first_failure_is_told() {
        let closed = |host: [u8; 4]| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::from(host), 0)).unwrap();
            listener.local_addr().unwrap()
        };
        let (one, two) = (closed([127, 0, 0, 1]), closed([127, 0, 0, 2]));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        assert_eq!(first_to_answer(vec![one, two, good]).await.unwrap().peer_addr().unwrap(), good);
        let refused = first_to_answer(vec![one, two]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first_to_answer(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn both_families_are_tried_by_turns_beginning_with_the_resolvers_first() {
        let addresses =
            |text: &[&str]| text.iter().map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"]);
        assert_eq!(by_turns(given), addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]));
        let many = vec![addresses(&["127.0.0.1:1"])[0]; 100];
        assert_eq!(by_turns(many).len(), MAX_ADDRESSES);
    }
}
