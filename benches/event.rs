//! The way of one event without any broker: from the message to the plan and to the bytes that a sink sends.

#![allow(missing_docs, clippy::expect_used, reason = "what criterion makes has no documents, and a benchmark may fail")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use regards_relay::event::{
    Carrier, Event, Expects, Family, Format, HeaderValue, Message, Properties, Reading, Scope, SourceName, Template,
    Validation,
};
use regards_relay::rules::{Condition, Field, Glob, Route, RouteName, Rules, SinkIndex, Unrouted};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The tenant that the message is of.
const TENANT: &str = "tenant-0";
const ROUTES: [usize; 3] = [1, 100, 10_000];

/// A typical response, as `rs-lta-manager` publishes it.
fn message() -> Message {
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("UTF-8".to_owned()),
        correlation_id: Some("request-1681461977".to_owned()),
        delivery_mode: Some(2),
        priority: Some(1),
        timestamp: Some(1_681_461_977),
        app_id: Some("rs-lta-manager".to_owned()),
        headers: vec![("regards.tenant".to_owned(), HeaderValue::Text(TENANT.to_owned()))],
        ..Properties::default()
    };
    let body = br#"{"correlationId":"request-1681461977","productId":"SWOT_L2_HR_PIXC_001_001_001L","responseStatus":"SUCCESS","expires":"2023-05-14T08:46:17.000Z","session":"2023-04-14","message":"The product is stored"}"#;
    Message { source: SourceName::new("regards"), body: body.as_slice().into(), properties, redelivered: false }
}

fn reading() -> Reading {
    let family = Family::named("lta").expect("a family");
    Reading { expects: Expects::One(family), validation: Validation::Lenient, tenant: None, max_body: 1024 * 1024 }
}

/// One route a tenant, that of the message in the middle.
fn rules(count: usize) -> Rules {
    let route = |number: usize| {
        let tenant = vec![Glob::new(&format!("tenant-{}", (number + count - count / 2) % count))];
        let when = Condition { fields: vec![(Field::Tenant, tenant)], ..Condition::default() };
        Route {
            name: RouteName::new(&format!("route-{number}")),
            when,
            to: vec![SinkIndex(0)],
            transform: None,
            is_final: false,
        }
    };
    Rules::new((0..count).map(route).collect(), Unrouted::DeadLetter)
}

fn decode(c: &mut Criterion) {
    let (message, reading) = (message(), reading());
    c.bench_function("decode", |b| b.iter(|| Event::read(black_box(&message), &reading)));
}

fn route(c: &mut Criterion) {
    let message = message();
    let event = Event::read(&message, &reading()).expect("an event");
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
    let event = Event::read(&message, &reading()).expect("an event");
    let topic = Template::compile("regards.{{ tenant }}.{{ status | lower }}").expect("a template");
    let scope = Scope::of(&event, &message);
    c.bench_function("render", |b| b.iter(|| topic.render_address(black_box(scope))));
}

fn encode(c: &mut Criterion) {
    let message = message();
    let event = Event::read(&message, &reading()).expect("an event");
    c.bench_function("encode", |b| {
        b.iter(|| Format::Normalized.encode(Scope::of(black_box(&event), &message), Carrier::Kafka));
    });
}

/// Decode, normalize, route, encode.
fn whole(c: &mut Criterion) {
    let (message, reading, rules) = (message(), reading(), rules(1));
    c.bench_function("whole", |b| {
        b.iter(|| {
            let event = Event::read(black_box(&message), &reading).expect("an event");
            let plan = rules.plan(&event, &message);
            (plan, Format::Normalized.encode(Scope::of(&event, &message), Carrier::Kafka).expect("bytes"))
        });
    });
}

criterion_group!(benches, decode, route, render, encode, whole);
criterion_main!(benches);
