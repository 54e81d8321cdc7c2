//! The variables of an expression as cel's values: the event's fields, `headers` and `properties`.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator as CelIterator, Sizer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, LIST_TYPE, MAP_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::context::VariableResolver;

use super::exact_number::{CONVERTER, ExactNumber, NumberConverter};
use super::patterns::Patterns;
use super::types::unexpected;
use crate::event::json_value::{JsonNumber, JsonValue, parse};
use crate::event::schema::EventSchema;
use crate::event::{AmqpNumber, EventView, Header, HeaderValue};

/// Loops (`all`, `exists`, `map` …) over longer lists and maps fail: this bounds the cost of an evaluation.
pub(super) const MAX_ELEMENTS: usize = 1000;

type Boxed = Box<dyn Val>;

/// The variables of one evaluation. Maps are converted when they are first used.
pub(super) struct Variables<'a> {
    view: EventView<'a>,
    patterns: &'a Patterns,
    extra: OnceLock<EventMap>,
    headers: OnceLock<EventMap>,
    properties: OnceLock<EventMap>,
}

impl<'a> Variables<'a> {
    pub(super) fn of(view: EventView<'a>, patterns: &'a Patterns) -> Self {
        let [extra, headers, properties] = [const { OnceLock::new() }; 3];
        Self { view, patterns, extra, headers, properties }
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let EventView { event, message, .. } = self.view;
        if let Some(field) = EventSchema::Event.field(name) {
            return Some(match field.of(&self.view) {
                Some(Cow::Borrowed(text)) => CowVal::owned(CelString::from(text)),
                Some(Cow::Owned(text)) => CowVal::owned(CelString::from(text)),
                None => CowVal::owned(CelNull),
            });
        }
        let members = match name {
            "extra" => self.extra.get_or_init(|| {
                let members = event.extra.iter();
                members.map(|(name, raw)| (name.clone(), of_json(raw.get()))).collect()
            }),
            "headers" => self.headers.get_or_init(|| of_table(&message.properties.headers)),
            "properties" => self.properties.get_or_init(|| {
                let members = message.properties.present();
                members.map(|(name, value)| (name.to_owned(), of_header(&value))).collect()
            }),
            "warnings" => {
                let texts = event.warnings.iter().map(|text| Box::new(CelString::from(text.as_str())) as Box<dyn Val>);
                return Some(CowVal::owned(CelList::from(texts.collect::<Vec<_>>())));
            }
            CONVERTER => return Some(CowVal::owned(NumberConverter)),
            _ => return self.patterns.get(name).map(|pattern| CowVal::Borrowed(pattern)),
        };
        Some(CowVal::Borrowed(members))
    }
}

fn of_table(table: &[Header]) -> EventMap {
    let mut values = BTreeMap::new();
    for (name, value) in table {
        // If several headers have one name, the first one is used, as everywhere.
        values.entry(name.as_str()).or_insert_with(|| of_header(value));
    }
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_header(value: &HeaderValue) -> Boxed {
    match value {
        HeaderValue::Null => Box::new(CelNull),
        HeaderValue::Bool(value) => Box::new(CelBool::from(*value)),
        HeaderValue::Integer(value) => of_integer(*value),
        HeaderValue::Float(value) => Box::new(CelDouble::from(*value)),
        HeaderValue::Number(AmqpNumber::Float(value)) => Box::new(CelDouble::from(f64::from(*value))),
        HeaderValue::Number(number) => of_parsed(JsonValue::Number(&number.to_string())),
        HeaderValue::Timestamp(seconds) => of_unsigned(*seconds),
        HeaderValue::Text(text) => of_text(text.clone()),
        HeaderValue::Binary(bytes) | HeaderValue::BinaryText(bytes) => of_text(STANDARD.encode(bytes)),
        HeaderValue::Array(values) => of_list(values.iter().map(of_header).collect()),
        HeaderValue::Table(table) => Box::new(of_table(table)),
    }
}

fn of_text(text: String) -> Boxed {
    Box::new(CelString::from(text))
}

fn of_integer(value: i64) -> Boxed {
    Box::new(CelInt::from(value))
}

fn of_unsigned(value: u64) -> Boxed {
    i64::try_from(value).map_or_else(|_| Box::new(CelUInt::from(value)) as Boxed, of_integer)
}

fn of_list(values: Vec<Boxed>) -> Boxed {
    let is_long = values.len() > MAX_ELEMENTS;
    let list = CelList::from(values);
    if is_long { Box::new(LongList(Arc::new(list))) } else { Box::new(list) }
}

fn of_json(json: &str) -> Boxed {
    of_parsed(parse(json))
}

fn of_parsed(parsed: JsonValue<'_>) -> Boxed {
    match parsed {
        JsonValue::Null => Box::new(CelNull),
        JsonValue::Bool(value) => Box::new(CelBool::from(value)),
        JsonValue::Text(text) => of_text(text.into_owned()),
        JsonValue::Number(raw) => match JsonNumber::of(raw) {
            JsonNumber::Double(value) => Box::new(CelDouble::from(value)),
            JsonNumber::Integer(value) => match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => of_integer(value),
                (_, Ok(value)) => of_unsigned(value),
                _ => Box::new(ExactNumber(raw.into())),
            },
            JsonNumber::Exact(raw) => Box::new(ExactNumber(raw.into())),
        },
        JsonValue::List(items) => of_list(items.into_iter().map(of_parsed).collect()),
        JsonValue::Map(members) => {
            let members: BTreeMap<_, _> =
                members.into_iter().map(|(name, value)| (name.into_owned(), of_parsed(value))).collect();
            Box::new(members.into_iter().collect::<EventMap>())
        }
    }
}

/// A map in which a missing member is null.
#[derive(Debug, Clone)]
pub(super) struct EventMap(Arc<Vec<(CelString<'static>, Boxed)>>);

static NULL: CelNull = CelNull;

impl FromIterator<(String, Boxed)> for EventMap {
    /// The members must be sorted by name.
    fn from_iter<I: IntoIterator<Item = (String, Boxed)>>(members: I) -> Self {
        Self(Arc::new(members.into_iter().map(|(name, value)| (CelString::from(name), value)).collect()))
    }
}

impl EventMap {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &dyn Val)> {
        self.0.iter().map(|(name, value)| (name.inner(), &**value))
    }

    fn member(&self, name: &dyn Val) -> Result<&(dyn Val + 'static), ExecutionError> {
        let name = name.downcast_ref::<CelString<'_>>().ok_or_else(|| unexpected(name, "text"))?.inner();
        let found = self.0.binary_search_by(|(known, _)| known.inner().cmp(name)).ok();
        Ok(found.and_then(|place| self.0.get(place)).map_or(&NULL, |(_, value)| &**value))
    }
}

impl Val for EventMap {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)> {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)> {
        (self.0.len() <= MAX_ELEMENTS).then_some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| {
            self.0.len() == other.0.len()
                && self.iter().zip(other.iter()).all(|(one, other)| one.0 == other.0 && one.1.equals(other.1))
        })
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for EventMap {}

impl Indexer for EventMap {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError> {
        self.member(name).map(CowVal::Borrowed)
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        self.member(name).map(Val::clone_as_boxed)
    }
}

impl Container for EventMap {
    /// Whether the map has that member, and it is not null.
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        self.member(name).map(|value| !NULL.equals(value))
    }
}

impl Sizer for EventMap {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.0.len()).unwrap_or(i64::MAX))
    }
}

impl Iterable for EventMap {
    fn iter<'b, 'v>(&'b self) -> Box<dyn CelIterator<'b, 'v> + 'b> {
        Box::new(Names(self.0.iter()))
    }
}

struct Names<'b>(std::slice::Iter<'b, (CelString<'static>, Boxed)>);

impl<'b, 'v> CelIterator<'b, 'v> for Names<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|(name, _)| name as _)
    }
}

/// A list that is too long for loops; all other operations work.
#[derive(Debug, Clone)]
pub(super) struct LongList(pub(super) Arc<CelList<'static>>);

impl Val for LongList {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &LIST_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)> {
        self.0.as_indexer()
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.0.as_container()
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.0.as_sizer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| self.0.equals(&*other.0))
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for LongList {}
