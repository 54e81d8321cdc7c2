//! Globs: `*` matches any text, `?` any one character.

/// A pattern for a whole text. There are no classes and no escapes, so every text is a valid pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pattern: String,
    wild: bool,
}

impl Glob {
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned(), wild: pattern.contains(['*', '?']) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Without wildcards, the pattern matches one text only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.wild
    }

    /// Whether the whole of `text` matches. Time is bounded by the product of both lengths.
    ///
    /// It backtracks to the last `*` only: this one can match every text that an earlier one could match instead.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if !self.wild {
            return self.pattern == text;
        }
        let mut pattern = self.pattern.chars();
        let mut rest = text.chars();
        // Where to backtrack to: the pattern after the last `*`, and the text that this `*` has not consumed.
        let mut last_star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            match (pattern.next(), ahead.next()) {
                (None, None) => return true,
                (Some('*'), _) => last_star = Some((pattern.clone(), rest.clone())),
                (Some('?'), Some(_)) => rest = ahead,
                (Some(wanted), Some(found)) if wanted == found => rest = ahead,
                _ => {
                    let Some((after, taken)) = &mut last_star else { return false };
                    if taken.next().is_none() {
                        return false;
                    }
                    pattern = after.clone();
                    rest = taken.clone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_glob_matches_the_whole_text() {
        for (pattern, text, matches) in [
            ("esa", "esa", true),
            ("esa", "esa-2", false),
            ("esa", "ESA", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("cnes-*", "cnes-a", true),
            ("cnes-*", "cnes-", true),
            ("cnes-*", "cnes", false),
            ("*-a", "cnes-a", true),
            ("*-a", "cnes-ab", false),
            ("c?es", "cnes", true),
            ("c?es", "ces", false),
            ("?", "é", true),
            ("??", "é", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*a*a*a*", "aa", false),
            ("**", "x", true),
            ("[ab]", "a", false),
            ("[ab]", "[ab]", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_pattern_with_much_backtracking_ends_in_time() {
        let text = "a".repeat(20_000);
        assert!(!Glob::new(&format!("{}b", "*a".repeat(200))).matches(&text));
    }

    /// A simple and slow implementation to compare with.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
            ['?', rest @ ..] => !text.is_empty() && by_definition(rest, &text[1..]),
            [wanted, rest @ ..] => text.first() == Some(wanted) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn globs_match_like_a_simple_implementation(pattern in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
            let (p, t): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(Glob::new(&pattern).matches(&text), by_definition(&p, &t));
        }
    }
}
