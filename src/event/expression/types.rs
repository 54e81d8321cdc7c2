//! The types of expressions and functions, as far as they are known before there is an event.

use std::fmt;

use cel::ExecutionError;
use cel::common::value::Val;

/// The type of an expression's result.
#[derive(Debug, Clone)]
pub(super) struct ExprType {
    pub(super) kind: ExprKind,
    /// The value can be null, or this is unknown.
    pub(super) nullable: bool,
    /// The expression as it would be written, if it is a name or a member.
    pub(super) name: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ExprKind {
    /// Unknown before there is an event.
    Any,
    Null,
    Bool,
    Integer,
    Unsigned,
    Double,
    Text,
    List(Box<ExprKind>),
    /// `extra`, `headers` and map literals.
    Map,
    /// `properties`: a map with members of its own.
    Properties,
}

impl ExprType {
    pub(super) fn of(kind: ExprKind) -> Self {
        Self { kind, nullable: false, name: None }
    }

    /// The type of a value that is unknown before there is an event, or that had an error already.
    pub(super) fn any() -> Self {
        Self::of(ExprKind::Any)
    }
}

impl ExprKind {
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Integer | Self::Unsigned | Self::Double)
    }

    /// The type of the elements that `all`, `exists`, `map` … iterate over.
    pub(super) fn element(&self) -> Option<ExprType> {
        match self {
            Self::List(element) => {
                Some(ExprType { nullable: **element == Self::Any, ..ExprType::of((**element).clone()) })
            }
            Self::Map | Self::Properties => Some(ExprType::of(Self::Text)),
            Self::Any => Some(ExprType { nullable: true, ..ExprType::any() }),
            _ => None,
        }
    }

    /// Whether values of the two kinds can be equal. Null can equal anything.
    pub(super) fn can_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(one), Self::List(other)) => one.can_equal(other),
            (one, other) => one == other || (one.is_number() && other.is_number()),
        }
    }

    /// Whether `<` can compare values of the two kinds.
    pub(super) fn can_compare(&self, other: &Self) -> bool {
        let comparable = |kind: &Self| matches!(kind, Self::Any | Self::Null | Self::Text) || kind.is_number();
        comparable(self) && comparable(other) && self.can_equal(other)
    }
}

impl fmt::Display for ExprKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "of unknown type",
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

/// A function, or a method of text.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// The types of the parameters, without the text before the dot of a method.
    pub(super) parameters: &'static [ParamType],
    /// The number of required parameters.
    pub(super) required: usize,
    pub(super) returns: ExprKind,
}

#[derive(Clone, Copy)]
pub(super) enum ParamType {
    Text,
    Integer,
    TextOrNumber,
    TextOrBool,
    Scalar,
    Sized,
}

impl ParamType {
    pub(super) fn accepts(self, kind: &ExprKind) -> bool {
        use ExprKind::{Any, Bool, Integer, List, Map, Properties, Text};
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

impl fmt::Display for ParamType {
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

const fn function(name: &'static str, parameters: &'static [ParamType], returns: ExprKind) -> Function {
    Function { name, parameters, required: parameters.len(), returns }
}

/// The functions: `size(x)`. All are pure.
pub(super) static FUNCTIONS: [Function; 6] = [
    function("size", &[ParamType::Sized], ExprKind::Integer),
    function("string", &[ParamType::Scalar], ExprKind::Text),
    function("int", &[ParamType::TextOrNumber], ExprKind::Integer),
    function("uint", &[ParamType::TextOrNumber], ExprKind::Unsigned),
    function("double", &[ParamType::TextOrNumber], ExprKind::Double),
    function("bool", &[ParamType::TextOrBool], ExprKind::Bool),
];

/// The methods of text: `x.contains("…")`. `matches` is checked separately.
pub(super) static METHODS: [Function; 8] = [
    function("contains", &[ParamType::Text], ExprKind::Bool),
    function("startsWith", &[ParamType::Text], ExprKind::Bool),
    function("endsWith", &[ParamType::Text], ExprKind::Bool),
    function("lowerAscii", &[], ExprKind::Text),
    function("upperAscii", &[], ExprKind::Text),
    function("trim", &[], ExprKind::Text),
    Function {
        name: "indexOf",
        parameters: &[ParamType::Text, ParamType::Integer],
        required: 1,
        returns: ExprKind::Integer,
    },
    Function {
        name: "substring",
        parameters: &[ParamType::Integer, ParamType::Integer],
        required: 1,
        returns: ExprKind::Text,
    },
];

pub(super) fn unexpected(value: &dyn Val, want: &str) -> ExecutionError {
    ExecutionError::UnexpectedType { got: value.get_type().name().to_owned(), want: want.to_owned() }
}
