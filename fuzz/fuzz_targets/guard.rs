//! Whatever a broker sends, lapin's parser accepts each content header and delivery that went through the guard. No byte is lost,
//! and the result doesn't depend on the pieces in which the bytes arrive.
#![no_main]

use std::sync::Arc;
use std::task::Poll;

use amq_protocol::frame::parse_frame;
use libfuzzer_sys::fuzz_target;
use regards_relay::amqp::guard::Guard;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else { return };
    let piece = usize::from(piece).max(1);
    let out = through(data, piece);
    assert!(data.len() >= out.len());
    assert_eq!(out, through(data, 1 << 20));
    // The input as flags and properties of a content header.
    if data.len() >= 2 {
        assert_accepted(&frame(2, &[&[0, 60, 0, 0][..], &[0; 8], data].concat()), piece);
    }
    // The input as exchange and routing key of a delivery.
    let (exchange, rest) = data.split_at(data.len().min(LONGEST_SHORT));
    let (key, _) = rest.split_at(rest.len().min(LONGEST_SHORT));
    let arguments = [&short(b"consumer")[..], &[0; 8], &[0], &short(exchange), &short(key)].concat();
    assert_accepted(&frame(1, &[&[0, 60, 0, 60][..], &arguments].concat()), piece);
});

/// The longest short string of AMQP, in bytes.
const LONGEST_SHORT: usize = 255;
const LONGEST_FRAME: usize = 128 * 1024;

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short string")][..], text].concat()
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a short input").to_be_bytes();
    [&[kind, 0, 1][..], &size, payload, &[0xCE]].concat()
}

/// Asserts that lapin's parser accepts the guard's output.
fn assert_accepted(frame: &[u8], piece: usize) {
    if frame.len() <= LONGEST_FRAME {
        let out = through(frame, piece);
        assert_eq!(out.len(), frame.len());
        assert!(parse_frame(&out[..]).is_ok());
    }
}

/// The guard's output for input in pieces of that size.
fn through(mut data: &[u8], piece: usize) -> Vec<u8> {
    let mut guard = Guard::new(Arc::default());
    let (mut out, mut buffer) = (Vec::new(), vec![0; 4_096]);
    loop {
        let polled = guard.poll_read(&mut buffer, |to| {
            let (now, later) = data.split_at(piece.min(to.len()).min(data.len()));
            to[..now.len()].copy_from_slice(now);
            data = later;
            Poll::Ready(Ok(now.len()))
        });
        match polled {
            Poll::Ready(Ok(0)) => return out,
            Poll::Ready(Ok(length)) => out.extend_from_slice(&buffer[..length]),
            other => panic!("{other:?}"),
        }
    }
}
