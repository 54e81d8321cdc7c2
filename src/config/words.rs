//! Words in messages: what of the file can be repeated, lists, and the word that was most likely meant.

/// Longer texts are cut.
pub(super) const MAX_QUOTED: usize = 60;
/// No more known words than these are compared with an unknown one.
const MAX_CANDIDATES: usize = 1_000;

/// A text that came from the file, short enough for a message and without control characters.
pub(super) fn clean(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        short.push('…');
    }
    short.replace("\\\"", "\"").replace("\\'", "'")
}

/// Words in a sentence: `a`, `b`, `c`.
pub(super) fn list<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// The known word that was most likely meant.
#[must_use]
pub fn similar<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // Longer than any name with a slip in it: comparing would only take time.
    if word.len() > 200 {
        return None;
    }
    let simple = |text: &str| text.to_lowercase().replace(['-', '.', ' '], "_");
    let word = simple(word);
    known
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|candidate| (strsim::osa_distance(&word, &simple(candidate)), candidate))
        // Of two letters, one is half a word.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(word.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// That a name is unknown, which ones are known, and which was most likely meant; `what` is the kind of thing.
#[must_use]
pub fn unknown_name(what: &str, name: &str, known: &[&str]) -> String {
    let meant = similar(name, known.iter().copied());
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
    if known.is_empty() {
        return format!("there is no {what} {name}");
    }
    format!("there is no {what} {name}; there are {}{meant}", known.join(", "))
}

/// The first line of a documentation, within a sentence.
pub(super) fn lower(about: &str) -> String {
    let about = about.trim();
    // An abbreviation stays one.
    if about.chars().nth(1).is_some_and(char::is_uppercase) {
        return about.to_owned();
    }
    let mut letters = about.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
