//! Types of expressions, as far as they are known before there is an event.

use std::fmt;

/// What an expression gives.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) kind: Kind,
    /// It can be null, for all that is known.
    pub(super) nullable: bool,
    /// Where it is a name, or a member by a fixed name: that, as it would be written.
    pub(super) name: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Known when the event comes.
    Any,
    Null,
    Bool,
    Integer,
    Unsigned,
    Double,
    Text,
    List(Box<Kind>),
    /// `extra`, `headers`, and maps that are written.
    Map,
    /// `properties`: a map with members of its own.
    Properties,
}

impl Typed {
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, nullable: false, name: None }
    }

    /// What nothing more is said about: it was wrong already, or is known only when the event comes.
    pub(super) fn any() -> Self {
        Self::of(Kind::Any)
    }
}

impl Kind {
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Integer | Self::Unsigned | Self::Double)
    }

    /// What `all`, `exists`, `map` … go through of it.
    pub(super) fn element(&self) -> Option<Typed> {
        match self {
            Self::List(element) => Some(Typed { nullable: **element == Self::Any, ..Typed::of((**element).clone()) }),
            Self::Map | Self::Properties => Some(Typed::of(Self::Text)),
            Self::Any => Some(Typed { nullable: true, ..Typed::any() }),
            _ => None,
        }
    }

    /// Whether a value of the one could be equal to one of the other; null aside.
    pub(super) fn can_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(one), Self::List(other)) => one.can_equal(other),
            (one, other) => one == other || (one.is_number() && other.is_number()),
        }
    }

    /// Whether `<` can tell which of them comes first.
    pub(super) fn can_compare(&self, other: &Self) -> bool {
        let comparable = |kind: &Self| matches!(kind, Self::Any | Self::Null | Self::Text) || kind.is_number();
        comparable(self) && comparable(other) && self.can_equal(other)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "known only when the event comes",
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Integer => "a whole number",
            Self::Unsigned => "a whole number without a sign",
            Self::Double => "a number with a fraction",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Map | Self::Properties => "a map",
        })
    }
}

/// A function, or a method of a text.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// What it takes, the text that it is a method of left out.
    pub(super) takes: &'static [Takes],
    /// So many of them have to be there.
    pub(super) at_least: usize,
    pub(super) gives: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Takes {
    Text,
    Integer,
    TextOrNumber,
    TextOrBool,
    Scalar,
    Sized,
}

impl Takes {
    pub(super) fn takes(self, kind: &Kind) -> bool {
        use Kind::{Any, Bool, Integer, List, Map, Properties, Text};
        *kind == Any
            || match self {
                Self::Text => *kind == Text,
                Self::Integer => *kind == Integer,
                Self::TextOrNumber => *kind == Text || kind.is_number(),
                Self::TextOrBool => matches!(kind, Text | Bool),
                Self::Scalar => matches!(kind, Text | Bool) || kind.is_number(),
                Self::Sized => matches!(kind, Text | List(_) | Map | Properties),
            }
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Integer => "a whole number",
            Self::TextOrNumber => "text or a number",
            Self::TextOrBool => "text, or true or false",
            Self::Scalar => "text, a number, or true or false",
            Self::Sized => "text, a list or a map",
        })
    }
}

const fn function(name: &'static str, takes: &'static [Takes], gives: Kind) -> Function {
    Function { name, takes, at_least: takes.len(), gives }
}

/// Those that are called alone: `size(x)`. Each gives the same for the same.
pub(super) static FUNCTIONS: [Function; 6] = [
    function("size", &[Takes::Sized], Kind::Integer),
    function("string", &[Takes::Scalar], Kind::Text),
    function("int", &[Takes::TextOrNumber], Kind::Integer),
    function("uint", &[Takes::TextOrNumber], Kind::Unsigned),
    function("double", &[Takes::TextOrNumber], Kind::Double),
    function("bool", &[Takes::TextOrBool], Kind::Bool),
];

/// Those that are called on a text: `x.contains("…")`; `matches` has a rule of its own.
pub(super) static METHODS: [Function; 8] = [
    function("contains", &[Takes::Text], Kind::Bool),
    function("startsWith", &[Takes::Text], Kind::Bool),
    function("endsWith", &[Takes::Text], Kind::Bool),
    function("lowerAscii", &[], Kind::Text),
    function("upperAscii", &[], Kind::Text),
    function("trim", &[], Kind::Text),
    Function { name: "indexOf", takes: &[Takes::Text, Takes::Integer], at_least: 1, gives: Kind::Integer },
    Function { name: "substring", takes: &[Takes::Integer, Takes::Integer], at_least: 1, gives: Kind::Text },
];
