//! The client's side of the control socket. It blocks, because a command does nothing else meanwhile.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{Request, Response};

/// The longest response, in bytes.
const MAX_RESPONSE: u64 = 4 * 1024 * 1024;
/// The longest line after a response, in bytes: a sample of the longest message.
const MAX_LINE: u64 = 4 * 1024 * 1024 * 1024;

/// Sends a request to the relay whose socket is at `path`, and waits for the response without a time limit. `None`: no relay
/// listens there.
pub fn request(path: &Path, request: &Request) -> io::Result<Option<Response>> {
    request_job(path, request, |_, _| {})
}

/// As [`request`]; until the response arrives, it calls `progress` with the number done and the total.
pub fn request_job(path: &Path, request: &Request, mut progress: impl FnMut(u64, u64)) -> io::Result<Option<Response>> {
    let Some((mut response, mut from)) = send(path, request)? else { return Ok(None) };
    while let Response::Progress { done, total } = response {
        progress(done, total);
        response = read_response(&mut from)?;
    }
    Ok(Some(response))
}

/// As [`request`], then calls `each` with every line that follows the response, until the relay closes the connection or
/// `each` returns an error.
pub fn request_lines(
    path: &Path,
    request: &Request,
    mut each: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<Option<Response>> {
    let Some((response, mut from)) = send(path, request)? else { return Ok(None) };
    let mut line = String::new();
    loop {
        line.clear();
        if from.by_ref().take(MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(Some(response));
        }
        each(&line)?;
    }
}

fn send(path: &Path, request: &Request) -> io::Result<Option<(Response, BufReader<UnixStream>)>> {
    // InvalidInput: the path is too long for a socket, so no relay can listen there.
    use io::ErrorKind::{ConnectionRefused, InvalidInput, NotFound};
    let mut stream = match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), ConnectionRefused | NotFound | InvalidInput) => return Ok(None),
        connected => connected?,
    };
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut from = BufReader::new(stream);
    Ok(Some((read_response(&mut from)?, from)))
}

fn read_response(from: &mut impl BufRead) -> io::Result<Response> {
    let mut response = String::new();
    from.take(MAX_RESPONSE).read_line(&mut response)?;
    if response.is_empty() {
        return Err(io::Error::other("the relay closed the connection before it answered"));
    }
    Ok(serde_json::from_str(&response)?)
}
