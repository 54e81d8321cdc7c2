//! Whatever a broker sends: no content header that went through the guard is refused by lapin's parser, no byte is lost, and it makes no
//! difference in which pieces it came.
#![no_main]

use std::sync::Arc;
use std::task::Poll;

use amq_protocol::frame::parse_frame;
use libfuzzer_sys::fuzz_target;
use regards_relay::amqp::guard::Guard;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else { return };
    let out = through(data, usize::from(piece).max(1));
    assert!(data.len() >= out.len());
    assert_eq!(out, through(data, 1 << 20));
    // As a content header's flags and properties.
    let size = u32::try_from(data.len() + 12).expect("a short input");
    let frame = [&[2, 0, 1][..], &size.to_be_bytes(), &[0, 60, 0, 0], &[0; 8], data, &[0xCE]].concat();
    if data.len() >= 2 && frame.len() <= 128 * 1024 {
        let out = through(&frame, usize::from(piece).max(1));
        assert_eq!(out.len(), frame.len());
        assert!(parse_frame(&out[..]).is_ok());
    }
});

/// What goes on when it comes in pieces of that size.
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
