//! The way of one event without any broker: from the message to the plan and to the bytes that a sink sends.

#![allow(missing_docs, clippy::expect_used, reason = "what criterion makes has no documents, and a benchmark may fail")]

mod typical;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use regards_relay::event::{Carrier, Event, Format, Scope, Template};
use typical::{message, options, rules};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUTES: [usize; 3] = [1, 100, 10_000];

fn decode(c: &mut Criterion) {
    let (message, options) = (message(), options());
    c.bench_function("decode", |b| b.iter(|| Event::decode(black_box(&message), &options)));
}

fn route(c: &mut Criterion) {
    let message = message();
    let event = Event::decode(&message, &options()).expect("an event");
    let mut group = c.benchmark_group("route");
    for count in ROUTES {
        let rules = rules(count);
        assert_eq!(rules.plan(&event, &message).matched, [count / 2], "one route matches");
        group
            .bench_function(BenchmarkId::from_parameter(count), |b| b.iter(|| rules.plan(black_box(&event), &message)));
    }
    group.finish();
}

fn render(c: &mut Criterion) {
    let message = message();
    let event = Event::decode(&message, &options()).expect("an event");
    let topic = Template::compile("regards.{{ tenant }}.{{ status | lower }}").expect("a template");
    let scope = Scope::of(&event, &message);
    c.bench_function("render", |b| b.iter(|| topic.render_address(black_box(scope))));
}

fn encode(c: &mut Criterion) {
    let message = message();
    let event = Event::decode(&message, &options()).expect("an event");
    c.bench_function("encode", |b| {
        b.iter(|| Format::Normalized.encode(Scope::of(black_box(&event), &message), Carrier::Kafka));
    });
}

/// Decode, normalize, route, encode.
fn whole(c: &mut Criterion) {
    let (message, options, rules) = (message(), options(), rules(1));
    c.bench_function("whole", |b| {
        b.iter(|| {
            let event = Event::decode(black_box(&message), &options).expect("an event");
            let plan = rules.plan(&event, &message);
            (plan, Format::Normalized.encode(Scope::of(&event, &message), Carrier::Kafka).expect("bytes"))
        });
    });
}

criterion_group!(benches, decode, route, render, encode, whole);
criterion_main!(benches);
