//! A simple tokenizer, to find names in a template without minijinja.

/// The words and signs inside `{{ }}` and `{% %}`. A string literal is the token `""`.
pub(super) struct Tokens<'a> {
    rest: &'a str,
    inside: bool,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(source: &'a str) -> Self {
        Self { rest: source, inside: false }
    }

    /// The length of the `{% raw %}` block that starts here, up to its `endraw`.
    fn raw_block(&self) -> Option<usize> {
        let block = self.rest.strip_prefix("{%")?.trim_start_matches(['-', '+', ' ', '\t', '\n', '\r']);
        block.starts_with("raw").then(|| self.rest.find("endraw")).flatten()
    }

    fn take(&mut self, bytes: usize) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if !self.inside {
            loop {
                let start =
                    self.rest.find("{{").into_iter().chain(self.rest.find("{%")).chain(self.rest.find("{#")).min()?;
                self.take(start)?;
                if !self.rest.starts_with("{#") {
                    break;
                }
                let end = self.rest.find("#}")? + 2;
                self.take(end)?;
            }
            if let Some(raw) = self.raw_block() {
                self.take(raw)?;
                return self.next();
            }
            self.inside = true;
            // Together with the sign for white space control, which is no minus.
            let is_signed = self.rest.get(2..).is_some_and(|rest| rest.starts_with(['-', '+']));
            return self.take(2 + usize::from(is_signed));
        }
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        let sign = usize::from(matches!(first, '-' | '+'));
        if self.rest.get(sign..).is_some_and(|rest| rest.starts_with("}}") || rest.starts_with("%}")) {
            self.inside = false;
            return self.take(2 + sign);
        }
        if first == '"' || first == '\'' {
            let mut escaped = false;
            let end = self.rest.char_indices().skip(1).find(|(_, char)| {
                let ends = *char == first && !escaped;
                escaped = *char == '\\' && !escaped;
                ends
            });
            let end = end.map_or(self.rest.len(), |(at, _)| at + 1);
            return self.take(end).map(|_| "\"\"");
        }
        if first.is_alphanumeric() || first == '_' {
            let end = self.rest.find(|char: char| !(char.is_alphanumeric() || char == '_')).unwrap_or(self.rest.len());
            return self.take(end);
        }
        self.take(first.len_utf8())
    }
}
