//! When a route matches.

use super::Glob;
use crate::event::{Event, Expression, ExpressionError, Scope};

/// All that is given must match; nothing given matches everything.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// One of the globs of each field has to match; null matches no glob.
    pub fields: Vec<(Field, Vec<Glob>)>,
    /// None of these blocks may match.
    pub not: Vec<Condition>,
    /// `if:`, which has to be true.
    pub expression: Option<Expression>,
}

/// The fields that a condition can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    Tenant,
    Status,
    Outcome,
    Type,
    Source,
    Session,
    ProductId,
    CorrelationId,
}

impl Condition {
    /// Whether that event is meant; its `if:` is evaluated where all else matches. Blocks in blocks are as deep as the file
    /// that was parsed into them.
    pub fn matches(&self, scope: Scope<'_>) -> Result<bool, ExpressionError> {
        let event = scope.event;
        let is_one = |(field, globs): &(Field, Vec<Glob>)| {
            field.of(event).is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
        };
        if !self.fields.iter().all(is_one) {
            return Ok(false);
        }
        for block in &self.not {
            if block.matches(scope)? {
                return Ok(false);
            }
        }
        self.expression.as_ref().map_or(Ok(true), |expression| expression.holds(scope))
    }
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Tenant,
        Self::Status,
        Self::Outcome,
        Self::Type,
        Self::Source,
        Self::Session,
        Self::ProductId,
        Self::CorrelationId,
    ];

    /// Its name, in the event and under `when:`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::Type => "type",
            Self::Source => "source",
            Self::Session => "session",
            Self::ProductId => "productId",
            Self::CorrelationId => "correlationId",
        }
    }

    /// Its value in that event; none is null.
    #[must_use]
    pub fn of(self, event: &Event) -> Option<&str> {
        match self {
            Self::Tenant => Some(&event.tenant),
            Self::Status => Some(event.status),
            Self::Outcome => Some(event.outcome.as_str()),
            Self::Type => Some(event.kind),
            Self::Source => Some(event.source.as_str()),
            Self::Session => event.session.as_deref(),
            Self::ProductId => event.product_id.as_deref(),
            Self::CorrelationId => Some(&event.correlation_id),
        }
    }
}
