//! lapin's own parser is the measure: after the guard, it accepts whatever `RabbitMQ` forwards.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use proptest::prelude::*;

use super::*;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind][..], &channel.to_be_bytes(), &size, payload, &[0xCE]].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn deliver(channel: u16, tag: u64, routing_key: &[u8]) -> Vec<u8> {
    let arguments = [&short(b"ctag")[..], &tag.to_be_bytes(), &[0], &short(b"e\xff"), &short(routing_key)].concat();
    frame(METHOD, channel, &[&[0, 60, 0, 60][..], &arguments].concat())
}

fn content_header(channel: u16, flags: u16, properties: &[u8]) -> Vec<u8> {
    let fixed = [&[0, 60, 0, 0][..], &7_u64.to_be_bytes(), &flags.to_be_bytes()].concat();
    frame(HEADER, channel, &[&fixed[..], properties].concat())
}

/// The guard's output when the bytes arrive in pieces of these sizes, over and over, and are read into a buffer of another size.
fn through(guard: &mut Guard, bytes: &[u8], pieces: &[usize], buffer: usize) -> Vec<u8> {
    let (mut rest, mut sizes) = (bytes, pieces.iter().cycle());
    let mut buffer = vec![0; buffer];
    let mut out = Vec::new();
    loop {
        let polled = guard.poll_read(&mut buffer, |to| {
            let length = (*sizes.next().unwrap()).min(to.len()).min(rest.len());
            let (now, later) = rest.split_at(length);
            to[..length].copy_from_slice(now);
            rest = later;
            Poll::Ready(Ok(length))
        });
        match polled {
            Poll::Ready(Ok(0)) => return out,
            Poll::Ready(Ok(length)) => out.extend_from_slice(&buffer[..length]),
            other => panic!("{other:?}"),
        }
    }
}

fn guarded(bytes: &[u8]) -> (Vec<u8>, Arc<EditLog>) {
    let edit_log = Arc::<EditLog>::default();
    (through(&mut Guard::new(Arc::clone(&edit_log)), bytes, &[4_096], 65_536), edit_log)
}

fn parsed(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).unwrap_or_else(|error| panic!("lapin would refuse it: {error:?}"));
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn properties(bytes: &[u8]) -> BasicProperties {
    parsed(bytes)
        .into_iter()
        .find_map(|frame| match frame {
            AMQPFrame::Header(_, header) => Some(header.properties),
            _ => None,
        })
        .expect("a content header")
}

/// Whether the frames would end lapin's connection without the guard.
fn is_refused(bytes: &[u8]) -> bool {
    parse_frame(bytes).is_err()
}

#[test]
fn each_property_that_is_not_utf8_is_replaced_and_recorded() {
    let names = [
        (15, "content_type"),
        (14, "content_encoding"),
        (10, "correlation_id"),
        (9, "reply_to"),
        (8, "expiration"),
        (7, "message_id"),
        (5, "type"),
        (4, "user_id"),
        (3, "app_id"),
        (2, "cluster_id"),
    ];
    for (bit, name) in names {
        let poisoned = content_header(1, 1 << bit, &short(b"caf\xe9 \xc3\xa9"));
        assert!(is_refused(&poisoned), "{name}");
        let (out, edit_log) = guarded(&[deliver(1, 42, b"key"), poisoned].concat());
        let properties = properties(&out);
        assert!(format!("{properties:?}").contains("caf? é"), "{name}: {properties:?}");
        let edits = edit_log.take(1, 42).expect(name);
        assert!(edits.has_property(name));
        assert_eq!(&*edits.listed()[0].original, b"caf\xe9 \xc3\xa9");
        assert_eq!(edit_log.size(), (0, 0));
    }
}

#[test]
fn names_of_headers_are_replaced_at_any_depth() {
    let inner = [&short(b"in\xfe")[..], b"V"].concat();
    let array = [&b"F"[..], &long(&inner)].concat();
    let table = [&short(b"\xff")[..], b"A", &long(&array)].concat();
    let poisoned = content_header(1, 1 << 13, &long(&table));
    assert!(is_refused(&poisoned));
    let (out, edit_log) = guarded(&[deliver(1, 1, b""), poisoned].concat());
    let properties = properties(&out);
    let AMQPValue::FieldArray(array) = &properties.headers().as_ref().unwrap().inner()["?"] else { panic!() };
    let AMQPValue::FieldTable(table) = &array.as_slice()[0] else { panic!() };
    assert_eq!(table.inner()["in?"], AMQPValue::Void);
    let edits = edit_log.take(1, 1).unwrap();
    let names: Vec<_> = edits.listed().iter().map(|edit| (edit.location, &*edit.original)).collect();
    assert_eq!(names, [(TextLocation::HeaderName, &b"\xff"[..]), (TextLocation::HeaderName, &b"in\xfe"[..])]);
}

#[test]
fn methods_that_quote_data_of_other_clients_are_edited() {
    let closing = |class: u8, method: u8| {
        let text = [&[0, class, 0, method, 1, 144][..], &short("é".repeat(127).as_bytes()), &[0, 0, 0, 0]].concat();
        let cut = [&text[..4], &[1, 144, 254], &text[7..7 + 253], b"\xc3", &text[text.len() - 4..]].concat();
        frame(METHOD, 1, &cut)
    };
    let returned = [&[0, 60, 0, 50, 1, 56][..], &short(b"NO_ROUTE"), &short(b"\xff"), &short(b"\xff\xff")].concat();
    let got = [&[0, 60, 0, 71][..], &9_u64.to_be_bytes(), &[0], &short(b"\xff"), &short(b"\xff"), &[0; 4]].concat();
    let cases = [
        deliver(3, 1, b"\xff\xfe"),
        frame(METHOD, 3, &returned),
        frame(METHOD, 3, &got),
        closing(20, 40),
        closing(10, 50),
    ];
    for case in cases {
        assert!(is_refused(&case), "{case:?}");
        let (out, _) = guarded(&case);
        assert_eq!(parsed(&out).len(), 1);
    }
    let (out, edit_log) = guarded(&[frame(METHOD, 3, &got), content_header(3, 1 << 7, &short(b"\xff"))].concat());
    assert!(matches!(&parsed(&out)[0], AMQPFrame::Method(3, AMQPClass::Basic(basic::AMQPMethod::GetOk(_)))));
    assert!(edit_log.take(3, 9).unwrap().has_property("message_id"), "so do the ones of basic.get");
}

/// Arrays within arrays and tables within tables: the types, and what precedes each level.
const NESTED: [(u8, &[u8]); 2] = [(b'A', b""), (b'F', b"\0")];

/// A header `deep` with this number of levels of one type.
fn nested((kind, name): (u8, &[u8]), levels: usize) -> Vec<u8> {
    let level = name.len() + 5;
    let levels: Vec<u8> = (0..levels)
        .rev()
        .flat_map(|inside| {
            let length = u32::try_from(inside * level).unwrap().to_be_bytes();
            [&[kind][..], &length, if inside > 0 { name } else { b"" }].concat()
        })
        .collect();
    content_header(1, 1 << 13, &long(&[&short(b"deep")[..], &levels].concat()))
}

/// The number of levels in the header `deep`.
fn depth(properties: &BasicProperties) -> usize {
    let mut depth = 0;
    let mut value = properties.headers().as_ref().unwrap().inner().get("deep");
    while let Some(nested @ (AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_))) = value {
        depth += 1;
        value = match nested {
            AMQPValue::FieldArray(array) => array.as_slice().first(),
            AMQPValue::FieldTable(table) => table.inner().values().next(),
            _ => None,
        };
    }
    depth
}

#[test]
fn deeper_nesting_becomes_a_byte_array() {
    for kind in NESTED {
        for (levels, is_too_deep) in [(MAX_DEPTH, false), (MAX_DEPTH + 1, true), (21_000, true)] {
            let (out, edit_log) = guarded(&[deliver(1, 5, b""), nested(kind, levels)].concat());
            assert_eq!(depth(&properties(&out)), levels.min(MAX_DEPTH));
            assert_eq!(edit_log.take(1, 5).is_some_and(|edits| edits.is_too_deep()), is_too_deep, "{levels}");
        }
    }
}

#[test]
fn the_deepest_nesting_that_passes_needs_no_large_stack() {
    for kind in NESTED {
        let (out, _) = guarded(&[deliver(1, 5, b""), nested(kind, 21_000)].concat());
        // Three quarters of a thread's default stack: lapin's own calls need far less than the rest.
        let parsing = std::thread::Builder::new().stack_size(3 << 19).spawn(move || {
            let deepest = properties(&out);
            let copy = deepest.clone();
            assert_eq!(copy, deepest);
            assert_eq!(depth(&copy), MAX_DEPTH);
            crate::amqp::values::decode_properties(&copy, None).headers_too_deep
        });
        assert!(parsing.unwrap().join().unwrap());
    }
}

#[test]
fn an_invalid_table_becomes_a_byte_array_and_its_neighbours_stay() {
    // An unknown type in a table, after a name that was already replaced.
    let odd = [&short(b"\xff")[..], b"V", &short(b"odd"), b"Q?"].concat();
    let table = [&short(b"odd")[..], b"F", &long(&odd), &short(b"good"), b"V"].concat();
    let odd_header = content_header(1, 1 << 13, &long(&table));
    assert!(is_refused(&odd_header));
    let (out, edit_log) = guarded(&[deliver(1, 1, b""), odd_header].concat());
    let properties = properties(&out);
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers["odd"], AMQPValue::ByteArray(odd.into()));
    assert_eq!(headers["good"], AMQPValue::Void);
    let edits = edit_log.take(1, 1).unwrap();
    assert!(edits.has_unreadable_value() && edits.listed().is_empty());
}

#[test]
fn a_message_that_is_returned_or_not_announced_leaves_no_edits() {
    let returned = [&[0, 60, 0, 50, 1, 56][..], &short(b""), &short(b""), &short(b"")].concat();
    let poisoned = || content_header(1, 1 << 7, &short(b"\xff"));
    let (out, edit_log) = guarded(&[frame(METHOD, 1, &returned), poisoned(), poisoned()].concat());
    assert_eq!((parsed(&out).len(), edit_log.size()), (3, (0, 0)));
}

#[test]
fn a_channel_that_is_opened_again_has_no_earlier_edits() {
    let poisoned = || content_header(1, 1 << 7, &short(b"\xff"));
    let opened = frame(METHOD, 1, &[0, 20, 0, 11, 0, 0, 0, 0]);
    let other = [deliver(2, 1, b""), content_header(2, 1 << 7, &short(b"\xff"))].concat();
    let (_, edit_log) = guarded(&[deliver(1, 1, b""), poisoned(), other, opened].concat());
    assert_eq!(edit_log.take(1, 1), None);
    assert!(edit_log.take(2, 1).is_some());
    assert_eq!(edit_log.size(), (0, 0));
}

#[test]
fn the_edit_log_is_bounded_in_messages_and_bytes() {
    let many: Vec<u8> = (0..20).flat_map(|_| [&short(&[0xff; 255])[..], b"V"].concat()).collect();
    let poisoned = content_header(1, 1 << 13, &long(&many));
    let edit_log = Arc::<EditLog>::default();
    let mut guard = Guard::new(Arc::clone(&edit_log));
    let messages = 70_000;
    for tag in 0..messages {
        through(&mut guard, &[deliver(1, tag, b""), poisoned.clone()].concat(), &[10_000], 10_000);
    }
    let (length, bytes) = edit_log.size();
    assert_eq!(length, 65_536);
    assert!(bytes <= 4 << 20, "{bytes}");
    assert_eq!(edit_log.take(1, 0), None, "the oldest are dropped");
    let last = edit_log.take(1, messages - 1).expect("the newest isn't");
    assert_eq!((last.listed().len(), last.unlisted()), (0, 20), "only their number is kept");
}

#[test]
fn other_protocols_pass_unchanged() {
    for other in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x15\x03\x03\x00\x02\x02\x46", b"AMQP\x00\x00\x09\x01"] {
        assert_eq!(guarded(other).0, other);
    }
    let huge = frame(HEADER, 1, &vec![0; MAX_FRAME as usize]);
    assert_eq!(guarded(&huge).0, huge, "lapin refuses a frame that is larger than agreed");
}

/// A field value with its type, as `RabbitMQ` accepts it: with any bytes in names.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let tagged = |kind: u8, bytes: Vec<u8>| [&[kind][..], &bytes].concat();
    let fixed = prop_oneof![
        Just((b'V', 0)),
        prop_oneof![Just(b't'), Just(b'b'), Just(b'B')].prop_map(|kind| (kind, 1)),
        prop_oneof![Just(b's'), Just(b'u')].prop_map(|kind| (kind, 2)),
        prop_oneof![Just(b'I'), Just(b'i'), Just(b'f')].prop_map(|kind| (kind, 4)),
        Just((b'D', 5)),
        prop_oneof![Just(b'l'), Just(b'd'), Just(b'T')].prop_map(|kind| (kind, 8)),
    ];
    let leaf = prop_oneof![
        (fixed, any::<[u8; 8]>()).prop_map(move |((kind, length), bytes)| tagged(kind, bytes[..length].to_vec())),
        (prop_oneof![Just(b'S'), Just(b'x')], any_bytes()).prop_map(move |(kind, bytes)| tagged(kind, long(&bytes))),
    ];
    let shallow = leaf.prop_recursive(5, 32, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(move |values| tagged(b'A', long(&values.concat()))),
            prop::collection::vec((any_bytes(), inner), 0..3)
                .prop_map(move |fields| tagged(b'F', long(&fields_of(&fields)))),
        ]
    });
    let levels = prop_oneof![4 => Just(0), 1 => 0_usize..2 * MAX_DEPTH];
    (shallow, levels).prop_map(move |(value, levels)| (0..levels).fold(value, |inner, _| tagged(b'A', long(&inner))))
}

fn fields_of(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [short(name), value.clone()].concat()).collect()
}

/// A content header as `RabbitMQ` would forward it.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let text = || prop_oneof!["[a-z]{0,5}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..=255)];
    let fields = prop::collection::vec((text(), value()), 0..4);
    (any::<u16>(), prop::collection::vec(text(), 10), fields, any::<u64>()).prop_map(|(flags, texts, fields, time)| {
        let mut texts = texts.iter();
        let mut properties = Vec::new();
        for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
            match bit {
                13 => properties.extend(long(&fields_of(&fields))),
                11 | 12 => properties.push(bit),
                6 => properties.extend(time.to_be_bytes()),
                _ => properties.extend(short(texts.next().unwrap())),
            }
        }
        content_header(1, flags, &properties)
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    (any::<u64>(), prop::collection::vec(any::<u8>(), 0..=255), header(), body)
        .prop_map(|(tag, key, header, body)| [deliver(1, tag, &key), header, frame(BODY, 1, &body)].concat())
}

proptest! {
    #[test]
    fn lapin_accepts_whatever_rabbitmq_forwards(
        messages in prop::collection::vec(message(), 1..4),
        pieces in prop::collection::vec(1_usize..200, 1..8),
        buffer in 1_usize..300,
    ) {
        let bytes = messages.concat();
        let out = through(&mut Guard::new(Arc::default()), &bytes, &pieces, buffer);
        prop_assert_eq!(out.len(), bytes.len());
        prop_assert_eq!(&guarded(&bytes).0, &out, "however it comes");
        prop_assert_eq!(parsed(&out).len(), 3 * messages.len());
        // A second pass changes nothing.
        prop_assert_eq!(guarded(&out).0, out);
    }

    #[test]
    fn frames_that_lapin_accepts_are_unchanged(header in header()) {
        let (out, edit_log) = guarded(&[deliver(1, 1, b""), header.clone()].concat());
        let edits = edit_log.take(1, 1);
        // Without the guard, the parser would need a large stack for it.
        if !edits.as_ref().is_some_and(MessageEdits::is_too_deep) {
            prop_assert_eq!(edits.is_some(), is_refused(&header));
            prop_assert_eq!(edits.is_some(), !out.ends_with(&header));
        }
    }

    #[test]
    fn lapin_accepts_any_content_header(flags in any::<u16>(), properties in prop::collection::vec(any::<u8>(), 0..600)) {
        let bytes = [deliver(1, 1, b""), content_header(1, flags, &properties)].concat();
        let (out, _) = guarded(&bytes);
        prop_assert_eq!(out.len(), bytes.len());
        prop_assert_eq!(parsed(&out).len(), 2);
    }
}
