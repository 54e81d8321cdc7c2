//! AMQP 0-9-1 without a client library, for messages that none would write: headers nested as deep as a frame allows,
//! and bytes that are not UTF-8.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// RabbitMQ's default frame size.
const FRAME_MAX: u32 = 131_072;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;

/// Flags of the properties `content-type`, `headers` and `delivery-mode`.
const CONTENT_TYPE: u16 = 1 << 15;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PERSISTENT: u8 = 2;

/// The address and the credentials of the publisher.
pub struct Login<'a> {
    pub port: u16,
    pub vhost: &'a str,
    pub user: &'a str,
    pub password: &'a str,
}

/// One message whose bytes are published unchanged.
pub struct RawMessage<'a> {
    pub routing_key: &'a [u8],
    /// The part of the content header after the body size: flags and properties.
    pub properties: Vec<u8>,
    pub body: &'a [u8],
}

/// The kind of nested values and the nesting depth.
#[derive(Clone, Copy)]
pub enum Nested {
    Arrays(usize),
    Tables(usize),
}

impl Nested {
    /// A header `deep` with this nested value.
    pub fn header(self) -> Vec<u8> {
        let (kind, name, depth) = match self {
            Self::Arrays(depth) => (b'A', &b""[..], depth),
            Self::Tables(depth) => (b'F', &b"\0"[..], depth),
        };
        // Each level is a tag and a length before its content; the innermost level is empty.
        let level = name.len() + 5;
        let mut header = short(b"deep");
        for inside in (0..depth).rev() {
            header.push(kind);
            header.extend(u32::try_from(inside * level).expect("it fits a frame").to_be_bytes());
            header.extend(if inside > 0 { name } else { b"" });
        }
        header
    }
}

/// The deepest nesting that fits one frame of 128 KiB.
pub const DEEPEST: [Nested; 2] = [Nested::Arrays(26_000), Nested::Tables(21_000)];

/// Publishes one message with a nested array or table in the header `deep`, and with `regards.tenant`. Returns once the
/// broker has confirmed it.
pub fn publish_nested(login: &Login<'_>, exchange: &str, tenant: &str, nested: Nested, body: &[u8]) {
    let properties = properties(tenant, &[], &nested.header());
    publish_raw(login, exchange, &[RawMessage { routing_key: b"", properties, body }]);
}

/// Publishes messages unchanged. Returns once the broker has confirmed each of them.
pub fn publish_raw(login: &Login<'_>, exchange: &str, messages: &[RawMessage<'_>]) {
    let mut broker = Broker::open(login);
    for message in messages {
        let exchange = short(exchange.as_bytes());
        let publish = [&[0, 60, 0, 40, 0, 0][..], &exchange, &short(message.routing_key), &[0]].concat();
        broker.send(METHOD, 1, &publish);
        let size = u64::try_from(message.body.len()).expect("a length").to_be_bytes();
        broker.send(HEADER, 1, &[&[0, 60, 0, 0][..], &size, &message.properties].concat());
        broker.send(BODY, 1, message.body);
        broker.expect(60, 80, "basic.ack");
    }
    broker.send(METHOD, 0, &[&[0, 10, 0, 50, 0, 200][..], &short(b"done"), &[0, 0, 0, 0]].concat());
    broker.expect(10, 51, "connection.close-ok");
}

/// Flags and properties of a persistent message: a content type, the header `regards.tenant`, more headers, and the
/// properties in `others` (flag bit and text), which follow the delivery mode in AMQP's order.
pub fn properties(tenant: &str, others: &[(u16, &[u8])], headers: &[u8]) -> Vec<u8> {
    let content_type = others.iter().find(|(bit, _)| *bit == 15).map_or(&b"application/json"[..], |(_, text)| *text);
    let flags = others.iter().fold(CONTENT_TYPE | HEADERS | DELIVERY_MODE, |flags, (bit, _)| flags | 1 << bit);
    let tenant = [&short(b"regards.tenant")[..], b"S", &long(tenant.as_bytes())].concat();
    let table = long(&[&tenant[..], headers].concat());
    let others = others.iter().filter(|(bit, _)| *bit < 12).flat_map(|(_, text)| short(text));
    [&flags.to_be_bytes()[..], &short(content_type), &table, &[PERSISTENT], &others.collect::<Vec<_>>()].concat()
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
        let start_ok =
            [&[0, 10, 0, 11][..], &long(b""), &short(b"PLAIN"), &long(response.as_bytes()), &short(b"en_US")];
        broker.send(METHOD, 0, &start_ok.concat());
        broker.expect(10, 30, "connection.tune");
        let channels_frame_and_heartbeat = [&1_u16.to_be_bytes()[..], &FRAME_MAX.to_be_bytes(), &[0, 0]].concat();
        broker.send(METHOD, 0, &[&[0, 10, 0, 31][..], &channels_frame_and_heartbeat].concat());
        broker.send(METHOD, 0, &[&[0, 10, 0, 40][..], &short(login.vhost.as_bytes()), &short(b""), &[0]].concat());
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

pub fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short string");
    [&[length][..], text].concat()
}

/// Encodes a long string or a table.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&size_of_bytes(bytes)[..], bytes].concat()
}

fn size_of_bytes(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("it fits a frame").to_be_bytes()
}
