//! A schema that can't be compiled.

/// Why a schema can't be used, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", self.place())]
pub struct SchemaError {
    /// The file, where a schema has several.
    pub file: Option<String>,
    /// The line and the column from 1, where they are known.
    pub at: Option<(usize, usize)>,
    pub detail: String,
}

impl SchemaError {
    #[must_use]
    pub fn of(detail: String) -> Self {
        Self { file: None, at: None, detail }
    }

    pub(super) fn of_json(error: &serde_json::Error) -> Self {
        let shown = error.to_string();
        // The place is told before it.
        let detail = shown.split(" at line ").next().unwrap_or_default();
        let at = (error.line() > 0).then(|| (error.line(), error.column()));
        Self { file: None, at, detail: format!("this is not JSON: {detail}") }
    }

    fn place(&self) -> String {
        let at = self.at.map(|(line, column)| format!("line {line}, column {column}"));
        let places: Vec<String> = self.file.iter().cloned().chain(at).collect();
        if places.is_empty() { String::new() } else { format!("{}: ", places.join(", ")) }
    }
}
