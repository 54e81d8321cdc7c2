use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::event::{Expression, Outcome, Properties, SourceName};

fn event() -> Event {
    Event {
        id: uuid::Uuid::nil(),
        kind: "fr.cnes.regards.lta.submission.response",
        source: SourceName::new("regards"),
        tenant: "cnes-a".into(),
        status: "ERROR",
        outcome: Outcome::Failed,
        correlation_id: "c-1".to_owned(),
        product_id: Some("p-1".to_owned()),
        session: None,
        expires: None,
        message: None,
        time: None,
        extra: BTreeMap::new(),
        warnings: Vec::new(),
    }
}

fn message() -> Message {
    let properties = Properties::default();
    Message { source: SourceName::new("regards"), body: Bytes::new(), properties, redelivered: false }
}

fn when(fields: &[(Field, &[&str])]) -> Condition {
    let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(pattern)).collect();
    let fields = fields.iter().map(|(field, patterns)| (*field, globs(patterns))).collect();
    Condition { fields, ..Condition::default() }
}

fn not(mut condition: Condition, blocks: Vec<Condition>) -> Condition {
    condition.not = blocks;
    condition
}

fn matches(condition: &Condition) -> bool {
    condition.matches(EventView::of(&event(), &message())).unwrap()
}

#[test]
fn all_fields_must_match_and_one_glob_of_each() {
    assert!(matches(&Condition::default()));
    assert!(matches(&when(&[(Field::Tenant, &["esa", "cnes-*"]), (Field::Outcome, &["failed", "rejected"])])));
    assert!(!matches(&when(&[(Field::Tenant, &["esa", "cnes-*"]), (Field::Outcome, &["accepted"])])));
    assert!(!matches(&when(&[(Field::Tenant, &[])])));
}

#[test]
fn each_field_has_its_name() {
    for (field, value) in [
        (Field::Tenant, "cnes-a"),
        (Field::Status, "ERROR"),
        (Field::Outcome, "failed"),
        (Field::Type, "fr.cnes.regards.lta.submission.response"),
        (Field::Source, "regards"),
        (Field::ProductId, "p-1"),
        (Field::CorrelationId, "c-1"),
    ] {
        assert!(matches(&when(&[(field, &[value])])), "{}", field.as_str());
        assert!(!matches(&when(&[(field, &["other"])])), "{}", field.as_str());
    }
}

#[test]
fn null_matches_no_glob() {
    assert!(!matches(&when(&[(Field::Session, &["*"])])));
    assert!(matches(&not(Condition::default(), vec![when(&[(Field::Session, &["test-*"])])])));
}

#[test]
fn a_not_block_negates_the_whole_block() {
    let block = when(&[(Field::Tenant, &["cnes-a"]), (Field::Status, &["GRANTED"])]);
    assert!(matches(&not(Condition::default(), vec![block])));
    let block = when(&[(Field::Tenant, &["cnes-a"]), (Field::Status, &["ERROR"])]);
    assert!(!matches(&not(Condition::default(), vec![block.clone()])));
    assert!(matches(&not(Condition::default(), vec![not(Condition::default(), vec![block])])));
}

fn route(when: Condition, to: &[usize], is_final: bool) -> Route {
    Route {
        name: RouteName::new("r"),
        when,
        to: to.iter().map(|sink| SinkIndex(*sink)).collect(),
        transform: None,
        is_final,
    }
}

fn plan(routes: Vec<Route>, unrouted: Unrouted) -> Plan {
    Rules::new(routes, unrouted).plan(&event(), &message())
}

fn no() -> Condition {
    when(&[(Field::Tenant, &["nobody"])])
}

#[test]
fn all_matching_routes_apply_from_the_top() {
    let routes = vec![
        route(Condition::default(), &[2, 0], false),
        route(no(), &[3], false),
        route(Condition::default(), &[1], false),
    ];
    let plan = plan(routes, Unrouted::Drop);
    assert_eq!(plan.matched, [0, 2]);
    assert_eq!(plan.deliveries, [(SinkIndex(2), Some(0)), (SinkIndex(0), Some(0)), (SinkIndex(1), Some(2))]);
    assert!(!plan.unrouted);
}

#[test]
fn a_sink_named_twice_gets_the_event_once_by_the_first_route() {
    let routes = vec![route(Condition::default(), &[1, 1], false), route(Condition::default(), &[0, 1], false)];
    let plan = plan(routes, Unrouted::Drop);
    assert_eq!(plan.deliveries, [(SinkIndex(1), Some(0)), (SinkIndex(0), Some(1))]);
}

#[test]
fn a_final_route_ends_the_search_only_when_it_matches() {
    let routes = vec![
        route(no(), &[0], true),
        route(Condition::default(), &[1], true),
        route(Condition::default(), &[2], false),
    ];
    let plan = plan(routes, Unrouted::Drop);
    assert_eq!(plan.matched, [1]);
    assert_eq!(plan.deliveries, [(SinkIndex(1), Some(1))]);
}

#[test]
fn a_route_without_sinks_drops_the_event() {
    let plan = plan(vec![route(Condition::default(), &[], false)], Unrouted::Sinks(vec![SinkIndex(0)]));
    assert_eq!(plan, Plan { matched: vec![0], ..Plan::default() });
}

#[test]
fn an_event_without_a_matching_route_is_unrouted() {
    for unrouted in [Unrouted::Drop, Unrouted::DeadLetter] {
        let plan = plan(vec![route(no(), &[0], false)], unrouted);
        assert_eq!(plan, Plan { unrouted: true, ..Plan::default() });
    }
    let plan = plan(vec![], Unrouted::Sinks(vec![SinkIndex(1), SinkIndex(1), SinkIndex(0)]));
    assert_eq!(plan.deliveries, [(SinkIndex(1), None), (SinkIndex(0), None)]);
    assert!(plan.unrouted);
}

/// A plan made without the index: every route is evaluated.
fn by_definition(routes: &[Route], event: &Event) -> (Vec<usize>, Vec<usize>) {
    let (mut matched, mut failed) = (Vec::new(), Vec::new());
    for (place, route) in routes.iter().enumerate() {
        match route.when.matches(EventView::of(event, &message())) {
            Ok(true) => {
                matched.push(place);
                if route.is_final {
                    break;
                }
            }
            Ok(false) => {}
            Err(_) => failed.push(place),
        }
    }
    (matched, failed)
}

/// Conditions on the indexed fields and on another one, with literals and globs.
fn any_condition() -> impl Strategy<Value = Condition> {
    let globs = |values: &'static [&'static str]| {
        proptest::option::weighted(0.7, proptest::collection::vec(proptest::sample::select(values), 0..4))
    };
    let tenants = globs(&["cnes-a", "esa", "cnes-*", "*", "nobody"]);
    let statuses = globs(&["ERROR", "GRANTED", "DENIED", "E*"]);
    let products = globs(&["p-1", "p-2", "p-?"]);
    let block = (tenants.clone(), statuses.clone())
        .prop_map(|(tenants, statuses)| condition_of(&[(Field::Tenant, tenants), (Field::Status, statuses)]));
    // The first is true for some events; the second fails for all, as `session` is null.
    let expressions = proptest::sample::select(&["tenant.endsWith('-a')", "session.size() == 1"][..]);
    let rest = (proptest::option::weighted(0.2, block), proptest::option::weighted(0.2, expressions));
    (tenants, statuses, products, rest).prop_map(|(tenants, statuses, products, (block, expression))| {
        let fields = [(Field::Status, statuses), (Field::ProductId, products), (Field::Tenant, tenants)];
        let mut condition = not(condition_of(&fields), block.into_iter().collect());
        condition.expression = expression.map(self::expression);
        condition
    })
}

fn condition_of(fields: &[(Field, Option<Vec<&str>>)]) -> Condition {
    let given: Vec<_> = fields.iter().filter_map(|(field, globs)| Some((*field, globs.as_deref()?))).collect();
    when(&given)
}

proptest! {
    #[test]
    fn the_index_finds_the_same_routes_as_a_full_search(
        routes in proptest::collection::vec((any_condition(), proptest::bool::weighted(0.1)), 0..20),
        tenant in proptest::sample::select(&["cnes-a", "cnes-b", "esa", "nobody", "unheard-of"][..]),
        status in proptest::sample::select(&["ERROR", "GRANTED", "SUCCESS"][..]),
    ) {
        let event = Event { tenant: tenant.into(), status, ..event() };
        let routes: Vec<Route> = routes.into_iter().map(|(when, is_final)| route(when, &[0], is_final)).collect();
        let expected = by_definition(&routes, &event);
        let plan = Rules::new(routes, Unrouted::Drop).plan(&event, &message());
        let failed = plan.failed.into_iter().map(|(place, _)| place).collect();
        prop_assert_eq!((plan.matched, failed), expected);
    }
}

fn expression(source: &str) -> Expression {
    Expression::condition(source).expect("a condition").expression
}

#[test]
fn a_failed_condition_is_an_error_only_if_no_other_route_matches() {
    let fails = || Condition { expression: Some(expression("session.size() == 1")), ..when(&[]) };
    let failing = |is_final| route(fails(), &[0], is_final);
    let rules = |routes| Rules::new(routes, Unrouted::Sinks(vec![SinkIndex(9)]));
    let error = |rules: &Rules| {
        let plan = rules.plan(&event(), &message());
        assert!(!plan.unrouted, "a failed route is not unrouted");
        (plan.deliveries.clone(), plan.rule_error(rules))
    };
    let (deliveries, why) = error(&rules(vec![failing(true)]));
    assert_eq!(deliveries, []);
    assert!(why.unwrap().starts_with("`if:` of the route "));
    let other = route(Condition::default(), &[1], false);
    assert_eq!(error(&rules(vec![failing(true), other])), (vec![(SinkIndex(1), Some(1))], None), "final or not");
    let elsewhere = route(Condition { fields: when(&[(Field::Tenant, &["esa"])]).fields, ..fails() }, &[0], false);
    let plan = rules(vec![elsewhere]).plan(&event(), &message());
    assert!(plan.unrouted && plan.failed.is_empty(), "`if:` is not evaluated if another part doesn't match");
    let not = route(not(Condition::default(), vec![fails()]), &[0], false);
    assert!(error(&rules(vec![not])).1.is_some(), "an error within `not:` is no match either");
}

#[test]
fn a_route_with_many_tenants_and_statuses_is_found_by_each() {
    let many = |stem: &str| (0..1_000).map(|n| Glob::new(&format!("{stem}-{n}"))).chain([Glob::new(stem)]).collect();
    let when = |tenants, statuses| Condition {
        fields: vec![(Field::Tenant, many(tenants)), (Field::Status, many(statuses))],
        ..Condition::default()
    };
    let routes = [("cnes-a", "ERROR"), ("cnes-a", "other"), ("other", "ERROR")];
    let routes = routes.map(|(tenants, statuses)| route(when(tenants, statuses), &[0], false));
    assert_eq!(plan(routes.into(), Unrouted::Drop).matched, [0]);
}
