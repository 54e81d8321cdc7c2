//! The webhook of the torture: plain HTTP without a library, so that it can do what a well-behaved server never would,
//! and knows for every answer whether it was sent.
//!
//! It writes each request to its journal and syncs it before it answers. The relay cannot know the result of a request
//! without an answer: it may come again, and is counted.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::owners::AttemptStart;
use super::plan::REFUSE;

const MOST_BYTES: usize = 1 << 20;
const MOST_HEADERS: usize = 64;
const REFUSED: &str = "422 Unprocessable Content";
const FAILED: &str = "500 Internal Server Error";
const EVENTS_PATH: &str = "/hooks/regards";
const DIGESTS_PATH: &str = "/hooks/digests";

/// How the webhook handles requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Answers after half a second or more, with 500 if the mood is failing by then.
    Slow,
    /// Accepts requests and never answers.
    Silent,
    /// Answers every request with 500.
    Failing,
    /// Answers every third request with 403, which must not affect the other events.
    Forbidding,
    /// Answers with 429 and a retry after one second.
    Busy,
    /// Closes the connection. For every second request, it accepts the request first.
    Cutting,
    /// Answers every request with 422, and a digest with 500: it refuses no event on its own.
    Refusing,
    /// The port is closed, and so is every connection.
    Down,
}

/// The server stops on drop.
pub struct Receiver {
    shared: Arc<Shared>,
    port: u16,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    mood: watch::Sender<Mood>,
    events: Endpoint,
    digests: Endpoint,
    /// Whether it accepts events with [`REFUSE`].
    takes_all: AtomicBool,
    /// The attempts with a single event, of relays that are told apart by their places.
    attempts: Mutex<Vec<AttemptStart>>,
}

/// One of the two paths.
struct Endpoint {
    journal: mpsc::UnboundedSender<(Vec<u8>, oneshot::Sender<()>)>,
    /// The number of completely read requests.
    received: AtomicU64,
    /// The number of accepted requests whose answer was not sent.
    unknown: AtomicU64,
}

impl Endpoint {
    fn of(journal: &Path) -> Self {
        let journal = keep_journal(journal.to_owned());
        Self { journal, received: AtomicU64::new(0), unknown: AtomicU64::new(0) }
    }
}

/// Accepted requests whose answer was not sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct UnknownEnds {
    pub events: u64,
    pub digests: u64,
}

struct Request {
    is_digest: bool,
    attempt: Option<AttemptStart>,
    id: String,
    body: Vec<u8>,
}

impl Receiver {
    /// A server that accepts requests and writes its journals to these paths: one body per line for single events, and
    /// `ID BODY` for digests.
    pub async fn start(events: &Path, digests: &Path) -> Self {
        let shared = Arc::new(Shared {
            mood: watch::Sender::new(Mood::Well),
            events: Endpoint::of(events),
            digests: Endpoint::of(digests),
            takes_all: AtomicBool::new(false),
            attempts: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(serve(Arc::clone(&shared), listener, address));
        Self { shared, port: address.port(), server }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{EVENTS_PATH}", self.port)
    }

    pub fn digests_url(&self) -> String {
        format!("http://127.0.0.1:{}{DIGESTS_PATH}", self.port)
    }

    pub fn set(&self, mood: Mood) {
        self.shared.mood.send_replace(mood);
    }

    /// From now on the server also accepts events with [`REFUSE`].
    pub fn take_all(&self) {
        self.shared.takes_all.store(true, SeqCst);
    }

    /// The number of requests with a single event.
    pub fn received(&self) -> u64 {
        self.shared.events.received.load(SeqCst)
    }

    pub fn attempts(&self) -> Vec<AttemptStart> {
        self.shared.attempts.lock().expect("no holder panics").clone()
    }

    pub fn unknown(&self) -> UnknownEnds {
        let Shared { events, digests, .. } = &*self.shared;
        UnknownEnds { events: events.unknown.load(SeqCst), digests: digests.unknown.load(SeqCst) }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.set(Mood::Down);
        self.server.abort();
    }
}

/// The URL of the relay at that place, with the port of a proxy.
pub fn url_of(place: usize, port: u16) -> String {
    format!("http://127.0.0.1:{port}{EVENTS_PATH}/{place}")
}

/// A thread that appends one body per line and reports when it is on disk. One fsync serves all waiting requests.
fn keep_journal(path: PathBuf) -> mpsc::UnboundedSender<(Vec<u8>, oneshot::Sender<()>)> {
    let (give, mut take) = mpsc::unbounded_channel::<(Vec<u8>, oneshot::Sender<()>)>();
    std::thread::spawn(move || {
        let mut file = File::create(path).expect("a journal");
        while let Some((mut lines, first)) = take.blocking_recv() {
            lines.push(b'\n');
            let mut waiting = vec![first];
            while let Ok((body, next)) = take.try_recv() {
                lines.extend(body);
                lines.push(b'\n');
                waiting.push(next);
            }
            file.write_all(&lines).and_then(|()| file.sync_data()).expect("a line in the journal");
            for kept in waiting {
                // The request may have been cancelled. Its body is in the journal nevertheless.
                let _ = kept.send(());
            }
        }
    });
    give
}

async fn serve(shared: Arc<Shared>, first: TcpListener, address: SocketAddr) {
    let mut mood = shared.mood.subscribe();
    let mut open = Some(first);
    loop {
        // `self` owns the sender, so the receive cannot fail.
        let _ = mood.wait_for(|mood| *mood != Mood::Down).await;
        let listener = match open.take() {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.expect("the port it had"),
        };
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(Arc::clone(&shared), stream));
                },
                _ = mood.wait_for(|mood| *mood == Mood::Down) => break,
            }
        }
    }
}

/// Serves requests one after another until either side closes the connection.
async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut mood = shared.mood.subscribe();
    let mut stream = BufReader::new(stream);
    let requests = async {
        while let Ok(Some(request)) = read_request(&mut stream).await {
            if !answer(&shared, &mut stream, request).await {
                break;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        _ = mood.wait_for(|mood| *mood == Mood::Down) => {}
    }
}

/// The next request. None if the client closed the connection.
async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let (mut length, mut id, mut is_digest) = (0, String::new(), false);
    let (mut place, mut began) = (None, None);
    for number in 0..MOST_HEADERS {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let attempt = place.zip(began).map(|(place, began)| AttemptStart { place, began });
            return Ok(Some(Request { is_digest, attempt, id, body }));
        }
        if number == 0 {
            let path = line.split(' ').nth(1).unwrap_or_default();
            is_digest = path == DIGESTS_PATH;
            place = path.strip_prefix(EVENTS_PATH).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| io::Error::other(name.to_owned()))?;
            assert!(length <= MOST_BYTES, "a body of {length} bytes");
        } else if name.eq_ignore_ascii_case("webhook-id") {
            value.trim().clone_into(&mut id);
        } else if name.eq_ignore_ascii_case("webhook-timestamp") {
            began = value.trim().parse().ok();
        }
    }
    Err(io::Error::other("too many headers"))
}

/// Handles a request as the mood requires. Returns false if the connection must be closed.
async fn answer(shared: &Shared, stream: &mut BufReader<TcpStream>, request: Request) -> bool {
    let Request { is_digest, attempt, id, body } = request;
    shared.attempts.lock().expect("no holder panics").extend(attempt);
    let endpoint = if is_digest { &shared.digests } else { &shared.events };
    let number = endpoint.received.fetch_add(1, SeqCst);
    let mut rng = fastrand::Rng::with_seed(number);
    let mut mood = shared.mood.subscribe();
    let now = *mood.borrow_and_update();
    match now {
        Mood::Failing => return say(stream, FAILED, "").await,
        Mood::Refusing if is_digest => return say(stream, FAILED, "").await,
        Mood::Refusing => return say(stream, REFUSED, "").await,
        Mood::Busy => return say(stream, "429 Too Many Requests", "retry-after: 1\r\n").await,
        Mood::Down => return false,
        Mood::Cutting if number.is_multiple_of(2) => return false,
        Mood::Slow => {
            tokio::time::sleep(Duration::from_millis(rng.u64(500..1_500))).await;
            if *mood.borrow() == Mood::Failing {
                return say(stream, FAILED, "").await;
            }
        }
        Mood::Forbidding if number.is_multiple_of(3) => return say(stream, "403 Forbidden", "").await,
        Mood::Well | Mood::Forbidding | Mood::Silent | Mood::Cutting => {}
    }
    let is_refused = body.windows(REFUSE.len()).any(|part| part == REFUSE.as_bytes());
    if is_refused && !is_digest && !shared.takes_all.load(SeqCst) {
        return say(stream, REFUSED, "").await;
    }
    let mut end = UnknownEnd { endpoint, answered: false };
    let (kept, wait) = oneshot::channel();
    let line = if is_digest { [id.as_bytes(), b" ", &body].concat() } else { body };
    if endpoint.journal.send((line, kept)).is_err() || wait.await.is_err() {
        return false;
    }
    match now {
        Mood::Silent => {
            let _ = mood.wait_for(|mood| *mood != Mood::Silent).await;
            return false;
        }
        Mood::Cutting => return false,
        _ => tokio::time::sleep(Duration::from_millis(rng.u64(2..12))).await,
    }
    end.answered = say(stream, "204 No Content", "").await;
    end.answered
}

/// Returns whether the answer was sent.
async fn say(stream: &mut BufReader<TcpStream>, status: &str, headers: &str) -> bool {
    let length = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
    stream.write_all(format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n").as_bytes()).await.is_ok()
}

/// Counts an accepted request as one with an unknown result unless it was answered, even if its task is cancelled.
struct UnknownEnd<'a> {
    endpoint: &'a Endpoint,
    answered: bool,
}

impl Drop for UnknownEnd<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.endpoint.unknown.fetch_add(1, SeqCst);
        }
    }
}
