//! Words in messages: quoting text of the file, lists, and the known word similar to an unknown one.

/// Longer texts are cut, in characters.
pub const MAX_QUOTED: usize = 60;
/// The largest number of known words that are compared with an unknown one.
const MAX_CANDIDATES: usize = 1_000;

/// A text of the file for a message: cut where it is long, control characters escaped.
pub fn clean(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        short.push('…');
    }
    short.replace("\\\"", "\"").replace("\\'", "'")
}

/// The words in a sentence, each quoted: `a`, `b`, `c`.
pub fn list<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// The known word that is similar to this one, if there is one.
#[must_use]
pub fn similar<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // No known word is that long: comparing would only take time.
    if word.len() > 200 {
        return None;
    }
    let simple = |text: &str| text.to_lowercase().replace(['-', '.', ' '], "_");
    let word = simple(word);
    known
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|candidate| (strsim::osa_distance(&word, &simple(candidate)), candidate))
        // In a word of two letters, one wrong letter is too much.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(word.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A sentence about an unknown name: the known ones, and a similar one if there is one. `what` is the kind of thing.
#[must_use]
pub fn unknown_name(what: &str, name: &str, known: &[&str]) -> String {
    let meant = similar(name, known.iter().copied());
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
    if known.is_empty() {
        return format!("there is no {what} {name}");
    }
    format!("there is no {what} {name}; there are {}{meant}", known.join(", "))
}

/// A description as a part of a sentence: it begins in lower case.
pub fn lower(about: &str) -> String {
    let about = about.trim();
    // An abbreviation stays one.
    if about.chars().nth(1).is_some_and(char::is_uppercase) {
        return about.to_owned();
    }
    let mut letters = about.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
