//! AMQP 0-9-1 by hand, for the one message that no client library writes: a header nested as deep as a frame can carry.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Of `RabbitMQ`'s frames, by default.
const FRAME_MAX: u32 = 131_072;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;

/// The properties `content-type` and `headers` are there.
const WITH_CONTENT_TYPE_AND_HEADERS: u16 = 1 << 15 | 1 << 13;

/// Where and as whom to publish.
pub struct Login<'a> {
    pub port: u16,
    pub vhost: &'a str,
    pub user: &'a str,
    pub password: &'a str,
}

/// Publishes one message whose header `deep` is an array in an array in an array, `depth` times, beside a
/// `regards.tenant`. Back when the broker has confirmed it.
pub fn publish_nested(login: &Login<'_>, exchange: &str, tenant: &str, depth: usize, body: &[u8]) {
    let mut broker = Broker::open(login);
    let publish = [&[0, 60, 0, 40, 0, 0][..], &short(exchange), &short(""), &[0]].concat();
    broker.send(METHOD, 1, &publish);
    broker.send(HEADER, 1, &content_header(tenant, depth, body.len()));
    broker.send(BODY, 1, body);
    broker.expect(60, 80, "basic.ack");
    broker.send(METHOD, 0, &[&[0, 10, 0, 50, 0, 200][..], &short("done"), &[0, 0, 0, 0]].concat());
    broker.expect(10, 51, "connection.close-ok");
}

struct Broker(TcpStream);

impl Broker {
    fn open(login: &Login<'_>) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", login.port)).expect("the broker");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        let mut broker = Self(socket);
        broker.0.write_all(b"AMQP\x00\x00\x09\x01").expect("sent");
        broker.expect(10, 10, "connection.start");
        let response = format!("\0{}\0{}", login.user, login.password);
        let start_ok = [&[0, 10, 0, 11][..], &long(b""), &short("PLAIN"), &long(response.as_bytes()), &short("en_US")];
        broker.send(METHOD, 0, &start_ok.concat());
        broker.expect(10, 30, "connection.tune");
        let channels_frame_and_heartbeat = [&1_u16.to_be_bytes()[..], &FRAME_MAX.to_be_bytes(), &[0, 0]].concat();
        broker.send(METHOD, 0, &[&[0, 10, 0, 31][..], &channels_frame_and_heartbeat].concat());
        broker.send(METHOD, 0, &[&[0, 10, 0, 40][..], &short(login.vhost), &short(""), &[0]].concat());
        broker.expect(10, 41, "connection.open-ok");
        broker.send(METHOD, 1, &[0, 20, 0, 10, 0]);
        broker.expect(20, 11, "channel.open-ok");
        broker.send(METHOD, 1, &[0, 85, 0, 10, 0]);
        broker.expect(85, 11, "confirm.select-ok");
        broker
    }

    fn send(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let frame = [&[kind][..], &channel.to_be_bytes(), &size_of_bytes(payload), payload, &[FRAME_END]].concat();
        assert!(frame.len() <= FRAME_MAX as usize, "a frame of {} bytes", frame.len());
        self.0.write_all(&frame).expect("sent");
    }

    fn expect(&mut self, class: u16, method: u16, name: &str) {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).expect(name);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.0.read_exact(&mut payload).expect(name);
        let expected = [class.to_be_bytes(), method.to_be_bytes()].concat();
        assert_eq!(head[0], METHOD, "{name}");
        assert_eq!(payload[..4], expected, "{name}: {}", String::from_utf8_lossy(&payload));
    }
}

fn content_header(tenant: &str, depth: usize, body: usize) -> Vec<u8> {
    // Each level is a tag and a length before what is in it; the innermost array is empty.
    let mut deep = Vec::with_capacity(depth * 5);
    for inside in (0..depth).rev() {
        deep.push(b'A');
        deep.extend(u32::try_from(inside * 5).expect("it fits a frame").to_be_bytes());
    }
    let tenant = [&short("regards.tenant")[..], b"S", &long(tenant.as_bytes())].concat();
    let table = [&tenant[..], &short("deep"), &deep].concat();
    let body = u64::try_from(body).expect("a length").to_be_bytes();
    let flags = WITH_CONTENT_TYPE_AND_HEADERS.to_be_bytes();
    [&[0, 60, 0, 0][..], &body, &flags, &short("application/json"), &long(&table)].concat()
}

fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short string");
    [&[length][..], text.as_bytes()].concat()
}

/// A long string, or a table.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&size_of_bytes(bytes)[..], bytes].concat()
}

fn size_of_bytes(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("it fits a frame").to_be_bytes()
}
